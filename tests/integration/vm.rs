//! Real systemd, docker, cloud-init and etcd: a master that boots without a network.
//!
//! These tests boot virtual machines, which takes minutes; `make test-more` runs them, plain `cargo
//! test` does not.

use std::path::Path;
use std::time::Duration;

use appliance_vm::drive::{ConfigDrive, DEFAULTS, Format, user_data};
use appliance_vm::image::Image;
use appliance_vm::machine::{Clock, Machine, MachineSpec};
use serde_json::Value;

use crate::vms::{APPLIANCE, appliance, brought_up, is_healthy};

mod clock;

/// This limit only ends a bring-up that hangs.
const LIMIT: Duration = Duration::from_secs(1500);
/// How the tutorial calls etcdctl.
const ETCDCTL: &str = "ETCDCTL_API=3 etcdctl --endpoints=https://192.168.1.102:2379 \
                       --cacert=/etc/kubernetes/ca/ca.pem";
const ETCD_CERTIFICATE: &str =
    "--cert=/etc/kubernetes/ca/etcd/etcd.pem --key=/etc/kubernetes/ca/etcd/etcd-key.pem";

/// The services of a master, in starting order.
const SERVICES: [&str; 17] = [
    "appliance-machine",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "appliance-calico-datastore",
    "appliance-signer",
    "appliance-join",
    "appliance-renewals",
    "docker",
    "kube-calico",
    "appliance-addons",
    "appliance-images.timer",
    "appliance-verify.timer",
    "appliance-etcd.timer",
    "appliance-backup.timer",
    "appliance-renew.timer",
];

fn boot(change: impl Fn(&mut ConfigDrive)) -> Machine {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let image = Image::ensure(&project.join("out/vm")).unwrap();
    let appliance = appliance();
    let mut config_drive = ConfigDrive::master(&user_data(&appliance, DEFAULTS).unwrap());
    change(&mut config_drive);
    let spec = MachineSpec {
        image: &image,
        server: &config_drive,
        clock: Clock::OfTheWall,
        has_config_drive: true,
        port: None,
        appliance: &appliance,
        beside: None,
        keep: None,
    };
    let mut machine = Machine::boot(&spec).unwrap();
    machine.wait_for_agent(|_| {}).unwrap();
    machine
}

fn status(machine: &mut Machine) -> (i64, Value) {
    let output = machine
        .run(&[APPLIANCE, "status", "--output", "json"])
        .unwrap();
    (
        output.code,
        serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}")),
    )
}

fn services(report: &Value) -> Vec<&str> {
    let services = report["services"].as_array().unwrap();
    services
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect()
}

fn problems(report: &Value) -> Vec<String> {
    let parts = ["services", "images", "certificates"].into_iter();
    let all = parts.flat_map(|part| report[part].as_array().unwrap().clone());
    all.filter(|item| !item["problem"].is_null())
        .map(|item| item.to_string())
        .collect()
}

fn assert_healthy(machine: &mut Machine) -> Value {
    let (code, report) = status(machine);
    // A lone master has no node for the pods of its add-ons.
    assert_eq!((code, problems(&report)), (8, vec![]));
    assert!(is_healthy(&report), "{report:#}");
    report
}

/// Everything that would change if a service was restarted or a file written.
fn traces(machine: &mut Machine) -> String {
    machine
        .shell(
            "systemctl show --property=Id,ExecMainStartTimestampMonotonic etcd kube-apiserver \
             kube-controller-manager kube-scheduler kube-calico docker; \
             find /etc/kubernetes /etc/systemd/system /etc/hosts /etc/sysctl.d /opt/appliance /usr/local/bin \
             /var/lib/appliance -printf '%p %i %C@ %m\\n' | sort",
        )
        .unwrap()
}

#[test]
#[ignore = "boots a virtual machine; make test-more runs it"]
fn a_master_comes_up_by_itself_and_stays_as_it_is() {
    let mut machine = boot(|_| {});
    let said = brought_up(&mut machine, LIMIT);
    assert!(said.contains("server02 is a master of bundle"), "{said}");
    let report = assert_healthy(&mut machine);
    assert_eq!(report["node"]["address"], "192.168.1.102");
    assert_eq!(services(&report), SERVICES);
    let carried = machine
        .shell("/usr/local/bin/appliance bundle list --output json")
        .unwrap();
    let carried: Value = serde_json::from_str(&carried).unwrap();
    let carried = carried["components"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["kind"] == "image" && c["nodes"] != "workers");
    assert_eq!(report["images"].as_array().unwrap().len(), carried.count());

    the_tutorials_checks_work(&mut machine);
    etcd_asks_for_a_certificate(&mut machine);
    the_kernel_is_set_up(&mut machine);
    secrets_are_kept(&mut machine);
    a_second_run_changes_nothing(&mut machine);
    what_differs_is_found(&mut machine);
    a_stopped_service_is_told_and_mended(&mut machine);
    a_reboot_changes_nothing(&mut machine);
    a_copy_starts_no_service(&mut machine);
}

fn the_tutorials_checks_work(machine: &mut Machine) {
    let components = machine
        .shell("HOME=/root kubectl get componentstatus")
        .unwrap();
    for name in ["scheduler", "controller-manager", "etcd-0"] {
        let line = components.lines().find(|line| line.starts_with(name));
        assert!(
            line.is_some_and(|line| line.contains("Healthy")),
            "{name}: {components}"
        );
    }
    let health = machine
        .shell(&format!(
            "{ETCDCTL} {ETCD_CERTIFICATE} endpoint health 2>&1"
        ))
        .unwrap();
    assert!(health.contains("is healthy"), "{health}");
    let containers = machine
        .shell("docker ps --format '{{.Names}} {{.Image}}'")
        .unwrap();
    assert!(
        containers.contains("calico-node quay.io/calico/node:v2.6.2"),
        "{containers}"
    );
    let calico = machine.shell("calicoctl node status").unwrap();
    assert!(calico.contains("Calico process is running"), "{calico}");
}

fn etcd_asks_for_a_certificate(machine: &mut Machine) {
    let without = machine
        .run(&["/bin/sh", "-c", &format!("{ETCDCTL} get x")])
        .unwrap();
    assert_ne!(without.code, 0, "etcd answers anyone: {without:?}");
}

fn the_kernel_is_set_up(machine: &mut Machine) {
    let forward = machine.shell("iptables -S FORWARD").unwrap();
    assert!(forward.starts_with("-P FORWARD ACCEPT"), "{forward}");
    for (key, value) in [
        ("net.ipv4.ip_forward", "1"),
        ("net.bridge.bridge-nf-call-iptables", "1"),
        ("net.ipv4.conf.all.rp_filter", "1"),
        ("net.ipv4.ip_local_reserved_ports", "20000-40000"),
    ] {
        assert_eq!(
            machine.shell(&format!("sysctl -n {key}")).unwrap().trim(),
            value,
            "{key}"
        );
    }
}

fn secrets_are_kept(machine: &mut Machine) {
    let readable = "find /etc/kubernetes \\( -name '*-key.pem' -o -name token.csv -o -name '*.kubeconfig' \\) \
                    -not -perm 0600";
    assert_eq!(machine.shell(readable).unwrap(), "");
    for place in [
        "journalctl -b --no-pager",
        "ps -eo args",
        "cat /etc/systemd/system/*.service",
    ] {
        // The pattern does not match itself: the guest agent logs the commands that it runs.
        let counts = machine.shell(&format!(
            "{place} > /tmp/said; cut -d, -f1 /etc/kubernetes/ca/kubernetes/token.csv | \
             grep -c -F -f - /tmp/said; grep -c 'PRIVATE KE[Y]' /tmp/said; rm /tmp/said"
        ));
        assert_eq!(counts.unwrap(), "0\n0\n", "{place}");
    }
}

fn a_second_run_changes_nothing(machine: &mut Machine) {
    let before = traces(machine);
    let again = machine
        .run(&["/usr/local/bin/appliance", "install"])
        .unwrap();
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stderr.contains("nothing to change"), "{again:?}");
    assert_eq!(traces(machine), before);
}

fn verified(machine: &mut Machine) -> (i64, Value) {
    let output = machine.run(&[APPLIANCE, "verify", "-o", "json"]).unwrap();
    let report = serde_json::from_str(&output.stdout);
    (output.code, report.unwrap_or_else(|_| panic!("{output:?}")))
}

fn what_differs_is_found(machine: &mut Machine) {
    const KEY: &str = "net.ipv4.ip_local_reserved_ports";
    let (code, report) = verified(machine);
    assert_eq!((code, &report["differences"]), (0, &Value::Array(vec![])));
    machine.shell(&format!("sysctl -w {KEY}=")).unwrap();
    let (code, report) = verified(machine);
    assert_eq!(code, 7, "{report}");
    assert_eq!(
        report["differences"].as_array().unwrap().len(),
        1,
        "{report}"
    );
    assert_eq!(report["differences"][0]["name"], KEY);
    let line = machine
        .shell("systemctl start appliance-verify || journalctl -o cat -u appliance-verify")
        .unwrap();
    assert!(
        line.contains(&format!("differ from what was installed: sysctl {KEY}")),
        "{line}"
    );
    let fix = report["differences"][0]["fix"].as_str().unwrap();
    machine.shell(fix).unwrap();
    assert_eq!(verified(machine).0, 0);
}

fn a_stopped_service_is_told_and_mended(machine: &mut Machine) {
    machine.shell("systemctl stop kube-scheduler").unwrap();
    let (code, report) = status(machine);
    assert_eq!(code, 3, "{report}");
    assert!(
        problems(&report)
            .iter()
            .any(|problem| problem.contains("kube-scheduler")),
        "{report}"
    );
    let again = machine
        .run(&["/usr/local/bin/appliance", "install"])
        .unwrap();
    assert_eq!(again.code, 0, "{again:?}");
    assert!(
        again.stderr.contains("[1/1] start kube-scheduler"),
        "{again:?}"
    );
}

fn a_reboot_changes_nothing(machine: &mut Machine) {
    const KEYS: &str = "find /etc/kubernetes /opt/appliance -type f -exec sha256sum {} + | sort";
    let before = machine.shell(KEYS).unwrap();
    machine.reboot(|_| {}).unwrap();
    let said = brought_up(machine, LIMIT);
    assert!(said.contains("nothing to change"), "{said}");
    assert_eq!(machine.shell(KEYS).unwrap(), before);
    assert_healthy(machine);
}

/// The machine is a copy if another one was recorded.
fn a_copy_starts_no_service(machine: &mut Machine) {
    const RECORD: &str = "/var/lib/appliance/machine.json";
    let other = r#"{"uuid": "0f5b0a1e-2a4c-4f0e-8d63-6d5a1c0e7f11", "address": "192.168.1.199"}"#;
    machine
        .shell(&format!("cp {RECORD} /root/ && echo '{other}' > {RECORD}"))
        .unwrap();
    machine.reboot(|_| {}).unwrap();
    let is_refused = |machine: &mut Machine| {
        let states = "systemctl is-failed appliance-machine appliance-install; true";
        let states = machine.shell(states);
        states
            .is_ok_and(|states| states == "failed\nfailed\n")
            .then_some(())
    };
    machine
        .wait_for("a copy is refused", LIMIT, |_| {}, is_refused)
        .unwrap();
    let (code, report) = status(machine);
    assert_eq!(code, 3, "{report}");
    for service in ["etcd", "kube-apiserver", "kube-scheduler", "kube-calico"] {
        let state = machine.shell(&format!("systemctl is-active {service}; true"));
        assert_eq!(state.unwrap(), "inactive\n", "{service}");
    }
    let refused = machine.run(&[APPLIANCE, "install"]).unwrap();
    assert_eq!(refused.code, 2, "{refused:?}");
    let why = "a copy of the node that was installed at 192.168.1.199";
    assert!(refused.stderr.contains(why), "{refused:?}");
    machine
        .shell(&format!("cp /root/machine.json {RECORD}"))
        .unwrap();
    machine.reboot(|_| {}).unwrap();
    let said = brought_up(machine, LIMIT);
    assert!(said.contains("nothing to change"), "{said}");
    assert_healthy(machine);
}

#[test]
#[ignore = "boots a virtual machine; make test-more runs it"]
fn one_vm_of_an_older_cloud_is_a_simple_cluster_and_then_one_with_certificates() {
    let mut machine = boot(|drive| {
        drive.format = Format::Vfat;
        drive.meta.insert("role".to_owned(), "single".to_owned());
        drive
            .meta
            .insert("appliance.profile".to_owned(), "simple".to_owned());
    });
    let said = brought_up(&mut machine, LIMIT);
    assert!(said.contains("anyone who reaches this machine"), "{said}");
    assert_healthy(&mut machine);
    assert_cluster_of_one(&mut machine);

    let converted = machine
        .run(&[APPLIANCE, "convert", "--profile", "with-ca", "--yes"])
        .unwrap();
    assert_eq!(converted.code, 0, "{converted:?}");
    assert!(
        converted
            .stdout
            .contains("remove everything in /var/lib/kubelet"),
        "{converted:?}"
    );
    assert_healthy(&mut machine);
    assert_cluster_of_one(&mut machine);
    machine
        .shell("ls -d /var/lib/etcd.simple-*/member")
        .unwrap();
    // The server's property is still simple, but nothing goes back to this profile by itself.
    let again = machine.run(&[APPLIANCE, "install"]).unwrap();
    assert_eq!(again.code, 2, "{again:?}");
    assert!(
        again
            .stderr
            .contains("a node with certificates cannot go back to profile simple"),
        "{again:?}"
    );
}

/// Its API answers, its parts are healthy, and its only node is ready.
fn assert_cluster_of_one(machine: &mut Machine) {
    let kubectl = |machine: &mut Machine, what: &str| {
        machine
            .shell(&format!("HOME=/root kubectl {what}"))
            .unwrap()
    };
    let components = kubectl(machine, "get componentstatus");
    assert!(
        components.contains("etcd-0") && !components.contains("Unhealthy"),
        "{components}"
    );
    machine
        .wait_for(
            "the node is ready",
            LIMIT,
            |_| {},
            |machine| {
                let nodes = kubectl(machine, "get nodes --no-headers");
                (nodes.contains("server02") && nodes.contains(" Ready ")).then_some(())
            },
        )
        .unwrap();
}
