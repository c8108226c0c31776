//! A cluster of two VMs with tunnels between its nodes and a dashboard: what a NetworkPolicy cuts, what a
//! worker's certificates open, and reboots.
//!
//! `make e2e-tunnels` runs it; APPLIANCE names the appliance to boot, KEEP a directory for disks, console logs
//! and captured packets. The stand-ins for Calico have no policies.

use appliance_vm::genuine;
use appliance_vm::machine::Machine;

use crate::at_work;
use crate::port_security;
use crate::rotations::{self, stored_secrets};
use crate::site::{SMALL, Site};
use crate::vms::{Bed, address};

/// The port of the tutorial's api-gateway in its pod.
const GATEWAY: u16 = 8080;
/// Lets nothing into the pods of the namespace `default`.
const NOTHING: &str = r#"{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
    "metadata": {"name": "nothing", "namespace": "default"}, "spec": {"podSelector": {}}}"#;
/// Lets everything into them.
const EVERYTHING: &str = r#"{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
    "metadata": {"name": "everything", "namespace": "default"},
    "spec": {"podSelector": {}, "ingress": [{}]}}"#;

#[test]
#[ignore = "boots virtual machines; make e2e-tunnels runs it"]
fn a_cluster_with_tunnels_is_protected_and_outlives_reboots() {
    let site = &SMALL;
    let mut bed = site.bed(|token| {
        format!(
            "  master: {}\n  join: {{token: {token}}}\n  dashboard: on\n",
            address(site.master),
        )
    });
    bed.switch_on(&site.nodes());
    bed.wait_for_bring_up();
    bed.wait_until_healthy();
    at_work::every_node_knows_its_peers(site, &mut bed);
    port_security::pods_are_reached_on_untouched_ports(site, &mut bed);
    port_security::each_cause_is_named(site, &mut bed);
    the_cluster_works(site, &mut bed);
    if genuine::is_genuine() {
        a_policy_cuts_and_another_lets_through(site, &mut bed);
        secrets_are_encrypted_in_etcd(site, &mut bed);
        a_workers_requests_in_the_api_get_little(site, &mut bed);
    }
    a_workers_certificates_open_little(site, &mut bed);
    at_work::every_node_outlives_a_reboot(site, &mut bed, the_cluster_works);
    rotations::the_authorities_are_replaced(&mut bed, &site.keys());
    at_work::pods_start_again(site, &mut bed);
    the_cluster_works(site, &mut bed);
    at_work::every_check_passes(site, &mut bed);
    at_work::a_second_run_changes_nothing(site, &mut bed);
    println!("kept: {}", bed.keep.display());
}

fn the_cluster_works(site: &Site, bed: &mut Bed) {
    let master = site.master;
    bed.wait_at(master, "the pod of the gateway answers", |machine| {
        reaches_gateway(machine)
    });
    at_work::the_services_are_reached_from_outside(site, bed);
    let dashboard = "HOME=/root kubectl get --raw \
        /api/v1/namespaces/kube-system/services/https:kubernetes-dashboard:/proxy/";
    bed.wait_at(master, "the dashboard answers", |machine| {
        machine
            .shell(dashboard)
            .is_ok_and(|page| page.contains('<'))
    });
}

/// Whether the master reaches the pod of api-gateway, which is on the worker, at its own address.
fn reaches_gateway(machine: &mut Machine) -> bool {
    let ask = format!(
        "export HOME=/root; pod=$(kubectl get pods -l app=api-gateway -o jsonpath='{{.items[0].status.podIP}}'); \
         timeout 5 bash -c \"exec 3<>/dev/tcp/$pod/{GATEWAY}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; head -c 1 <&3\""
    );
    machine.shell(&ask).is_ok_and(|byte| byte == "H")
}

fn a_policy_cuts_and_another_lets_through(site: &Site, bed: &mut Bed) {
    let master = site.master;
    for (policy, reached) in [(NOTHING, false), (EVERYTHING, true)] {
        bed.shell(
            master,
            &format!("echo '{policy}' | HOME=/root kubectl apply -f -"),
        );
        let what = format!("the pod is reached: {reached}");
        bed.wait_at(master, &what, |machine| reaches_gateway(machine) == reached);
        bed.say(&what);
    }
    bed.shell(
        master,
        "HOME=/root kubectl delete networkpolicy nothing everything",
    );
}

/// The stand-in for the API server does not encrypt.
fn secrets_are_encrypted_in_etcd(site: &Site, bed: &mut Bed) {
    let secrets = stored_secrets(bed, site.master);
    let keys = secrets.matches("/registry/secrets/").count();
    let encrypted = secrets.matches("k8s:enc:aescbc:v1:key1:").count();
    assert!(keys > 10 && encrypted == keys, "{encrypted} of {keys}");
    assert!(!secrets.contains("ca.crt"));
    bed.say(&format!(
        "{encrypted} of {keys} secrets are encrypted in etcd"
    ));
}

/// An attacker who is root on a worker.
fn a_workers_certificates_open_little(site: &Site, bed: &mut Bed) {
    let name = site.workers[0];
    let master = address(site.master);
    let certificates = bed.shell(name, "ls -d /etc/kubernetes/ca/*/ | xargs -n 1 basename");
    for certificate in certificates.lines() {
        let ask = |port: u16, path: &str| {
            let dir = format!("/etc/kubernetes/ca/{certificate}/{certificate}");
            format!(
                "printf '%s HTTP/1.0\\r\\n\\r\\n' 'GET {path}' | timeout 20 openssl s_client -quiet \
                 -connect {master}:{port} -CAfile /etc/kubernetes/ca/ca.pem -cert {dir}.pem \
                 -key {dir}-key.pem 2>&1; true"
            )
        };
        for (port, path) in [(2379, "/v2/keys/"), (2379, "/health"), (2380, "/members")] {
            let said = bed.shell(name, &ask(port, path));
            assert!(
                said.contains("alert") && !said.contains("HTTP/1."),
                "{certificate} {port} {path}: {said}"
            );
        }
        // A certificate for servers only does not pass the handshake.
        let is_refused = |said: &str| said.contains(" 403 Forbidden") || said.contains("alert");
        let calico = bed.shell(name, &ask(2378, "/v2/keys/calico"));
        match certificate {
            "calico" => assert!(calico.contains(" 200 OK"), "{calico}"),
            _ => assert!(is_refused(&calico), "{certificate}: {calico}"),
        }
        let others = bed.shell(name, &ask(2378, "/v2/keys/calico/..%2f..%2fmembers"));
        assert!(is_refused(&others), "{certificate}: {others}");
    }
    let other = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "server99"}}"#;
    bed.shell(
        site.master,
        &format!("echo '{other}' | HOME=/root kubectl apply -f -"),
    );
    let kubelet = "HOME=/nonexistent kubectl --kubeconfig /etc/kubernetes/kubelet.kubeconfig";
    for attack in [
        "get secrets --all-namespaces",
        "get clusterrolebindings",
        "label node server99 stolen=yes",
        "delete node server99",
        "create clusterrolebinding mine --clusterrole=cluster-admin --group=system:nodes",
    ] {
        let output = bed
            .machine(name)
            .run(&["/bin/sh", "-c", &format!("{kubelet} {attack}")])
            .unwrap();
        println!("# {attack}\n{}{}", output.stdout, output.stderr);
        assert_ne!(output.code, 0, "{attack}");
    }
    let own = bed.shell(name, &format!("{kubelet} get node {name}"));
    assert!(own.contains(name), "{own}");
    bed.shell(site.master, "HOME=/root kubectl delete node server99");
}

/// An attacker who is root on a worker asks the API server for certificates of others.
fn a_workers_requests_in_the_api_get_little(site: &Site, bed: &mut Bed) {
    let name = site.workers[0];
    let kubelet = "HOME=/nonexistent kubectl --kubeconfig /etc/kubernetes/kubelet.kubeconfig";
    // The last one is the only one that the controller manager approves: when it has, it has seen the others.
    let own = format!("/O=system:nodes/CN=system:node:{name}");
    for (request, subject, names, usage) in [
        ("admin", "/O=system:masters/CN=admin", "", "client auth"),
        (
            "other",
            "/O=system:nodes/CN=system:node:server99",
            "",
            "client auth",
        ),
        ("server", &own, "DNS:kubernetes,IP:10.68.0.1", "server auth"),
        ("own", &own, "", "client auth"),
    ] {
        let names = match names {
            "" => String::new(),
            names => format!("-addext subjectAltName={names}"),
        };
        let made = format!(
            "openssl req -new -newkey rsa:2048 -nodes -keyout /dev/null -subj {subject} {names} 2>/dev/null \
             | base64 -w 0"
        );
        let made = bed.shell(name, &made);
        let object = format!(
            r#"{{"apiVersion": "certificates.k8s.io/v1beta1", "kind": "CertificateSigningRequest",
                "metadata": {{"name": "{request}"}}, "spec": {{"request": "{}",
                "usages": ["digital signature", "key encipherment", "{usage}"]}}}}"#,
            made.trim()
        );
        bed.shell(name, &format!("echo '{object}' | {kubelet} create -f -"));
    }
    let output = bed
        .machine(name)
        .run(&[
            "/bin/sh",
            "-c",
            &format!("{kubelet} certificate approve admin"),
        ])
        .unwrap();
    assert_ne!(output.code, 0, "{}", output.stdout);
    let state =
        |request: &str| format!("HOME=/root kubectl get csr {request} -o jsonpath='{{.status}}'");
    bed.wait_at(
        site.master,
        "a node gets a certificate of its own",
        |machine| {
            machine
                .shell(&state("own"))
                .is_ok_and(|status| status.contains("certificate:"))
        },
    );
    for request in ["admin", "other", "server"] {
        let status = bed.shell(site.master, &state(request));
        assert!(
            !status.contains("Approved") && !status.contains("certificate:"),
            "{request}: {status}"
        );
    }
    bed.shell(
        site.master,
        "HOME=/root kubectl delete csr admin other server own",
    );
}
