//! kube-controller-manager, kube-scheduler and kube-proxy: healthy only with a valid kubeconfig.

use std::path::Path;

use crate::harness::{
    Cluster, Running, command, file, flag, free_port, get, run, said, wait_for_status,
};
use crate::pki::Authority;

fn start(program: &str, port: u16, kubeconfig: &Path, more: &[String]) -> Running {
    let flags = [
        flag("address", "127.0.0.1"),
        flag("port", port),
        file("kubeconfig", kubeconfig),
    ];
    Running::start(command(program).args(flags).args(more))
}

#[test]
fn healthy_while_they_hold_their_lease() {
    let cluster = Cluster::start();
    let _server = cluster.apiserver(&[]);
    let ca = cluster.authority.certificate();
    let keys = cluster.authority.issue("kubernetes", "k8s");
    let kubeconfig = |name| cluster.kubeconfig(name, "k8s");
    let (manager_port, scheduler_port) = (free_port(), free_port());

    let mut manager = start(
        "kube-controller-manager",
        manager_port,
        &kubeconfig("system:kube-controller-manager"),
        &[
            file("root-ca-file", &ca),
            file("service-account-private-key-file", &keys.key),
            file("cluster-signing-cert-file", &keys.certificate),
            file("cluster-signing-key-file", &keys.key),
            flag("allocate-node-cidrs", true),
            flag("cluster-cidr", "172.20.0.0/16"),
        ],
    );
    assert_eq!(wait_for_status(manager_port, "/healthz", 200), "ok");
    let own = kubeconfig("system:kube-scheduler");
    let _scheduler = start("kube-scheduler", scheduler_port, &own, &[]);
    assert_eq!(wait_for_status(scheduler_port, "/healthz", 200), "ok");
    assert!(manager.stop());
}

#[test]
fn not_healthy_through_a_wrong_kubeconfig() {
    let cluster = Cluster::start();
    let _server = cluster.apiserver(&[]);
    let foreign = Authority::new(&cluster.directory.path().join("foreign"));
    let ca = cluster.authority.certificate();
    let name = "system:kube-scheduler";
    let stranger = foreign.kubeconfig(&cluster.server, &ca, (name, "k8s"));
    let deceived =
        cluster
            .authority
            .kubeconfig(&cluster.server, &foreign.certificate(), (name, "k8s"));
    let other = cluster.kubeconfig("kube-scheduler", "k8s");
    for kubeconfig in [stranger, deceived, other] {
        let port = free_port();
        let scheduler = start("kube-scheduler", port, &kubeconfig, &[]);
        scheduler.wait_for("lease kube-system/kube-scheduler: ");
        let (status, _) = get(port, "/healthz").unwrap();
        assert_eq!(status, 500, "{}", kubeconfig.display());
    }
}

#[test]
fn kube_proxy_is_not_healthy_as_somebody_else() {
    let cluster = Cluster::start();
    let _server = cluster.apiserver(&[]);
    let port = free_port();
    let proxy = Running::start(command("kube-proxy").args([
        flag("healthz-bind-address", "127.0.0.1"),
        flag("healthz-port", port),
        flag("hostname-override", "node-a"),
        flag("cluster-cidr", "172.20.0.0/16"),
        flag("proxy-mode", "iptables"),
        flag("conntrack-min", 0),
        flag("conntrack-max-per-core", 0),
        file("kubeconfig", &cluster.kubeconfig("kube-proxy", "k8s")),
    ]));
    proxy.wait_for("services: ");
    assert!(get(port, "/healthz").is_none());
}

#[test]
fn refuse_flags_the_real_ones_would_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let pair = authority.issue("a", "k8s");
    let other = authority.issue("b", "k8s");
    let manager = "kube-controller-manager";
    let master = flag("master", "http://127.0.0.1:1");
    for (program, flags, code, expected) in [
        (manager, vec![], 1, "neither --kubeconfig nor --master"),
        (
            "kube-scheduler",
            vec![],
            1,
            "neither --kubeconfig nor --master",
        ),
        (
            "kube-scheduler",
            vec![flag("cluster-cidr", "x")],
            2,
            "unknown flag",
        ),
        (
            manager,
            vec![flag("kubeconfig", "/nonexistent/k")],
            1,
            "/nonexistent/k",
        ),
        (
            manager,
            vec![master.clone(), flag("cluster-cidr", "172.20")],
            2,
            "CIDR",
        ),
        (
            manager,
            vec![master.clone(), flag("allocate-node-cidrs", true)],
            1,
            "--cluster-cidr",
        ),
        (
            manager,
            vec![
                master.clone(),
                file("cluster-signing-cert-file", &pair.certificate),
                file("cluster-signing-key-file", &other.key),
            ],
            1,
            "is not the key of",
        ),
        (
            manager,
            vec![
                master,
                file(
                    "service-account-private-key-file",
                    &authority.public_key("a"),
                ),
            ],
            1,
            "holds no private key",
        ),
    ] {
        let output = run(program, &flags);
        let text = said(&output);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{program} {flags:?}: {text}"
        );
        assert!(text.contains(expected), "{program} {flags:?}: {text}");
    }
}
