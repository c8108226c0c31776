//! kube-apiserver: authentication, authorization, and the flags that it refuses.

use std::fs;
use std::path::Path;

use crate::harness::{Cluster, Running, command, file, flag, free_port, run, said};
use crate::pki::Authority;

#[test]
fn serves_an_administrator_and_ends_when_told() {
    let cluster = Cluster::start();
    let policy = cluster.directory.path().join("policy.yaml");
    let log = cluster.directory.path().join("audit.log");
    fs::write(
        &policy,
        "apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules:\n- level: Metadata\n",
    )
    .unwrap();
    let mut server = cluster.apiserver(&[
        file("audit-policy-file", &policy),
        file("audit-log-path", &log),
    ]);
    let admin = cluster.kubeconfig("admin", "system:masters");

    let health = cluster.kubectl(&admin, &["get", "--raw", "/healthz"]);
    assert!(health.status.success(), "{}", said(&health));
    assert_eq!(health.stdout, b"ok");
    let version = said(&cluster.kubectl(&admin, &["version"]));
    assert!(version.contains("Server Version: v1.9.0"), "{version}");
    let components = said(&cluster.kubectl(&admin, &["get", "cs"]));
    let etcd = components.lines().find(|line| line.starts_with("etcd-0"));
    assert!(
        etcd.is_some_and(|line| line.contains(" Healthy ")),
        "{components}"
    );
    let audited = fs::read_to_string(&log).unwrap();
    let event: serde_json::Value = serde_json::from_str(audited.lines().next().unwrap()).unwrap();
    assert_eq!(event["user"]["username"], "admin");
    assert_eq!(event["requestURI"], "/healthz");

    assert!(server.stop(), "SIGTERM must end it with exit code 0");
}

#[test]
fn turns_away_whoever_it_does_not_know() {
    let cluster = Cluster::start();
    let tokens = cluster.directory.path().join("token.csv");
    fs::write(
        &tokens,
        "good,kubelet-bootstrap,10001,\"system:kubelet-bootstrap\"\n",
    )
    .unwrap();
    let _server = cluster.apiserver(&[file("token-auth-file", &tokens)]);
    let foreign = Authority::new(&cluster.directory.path().join("foreign"));
    let own_ca = cluster.authority.certificate();
    let asks =
        |kubeconfig: &Path, path: &str| said(&cluster.kubectl(kubeconfig, &["get", "--raw", path]));

    let stranger = foreign.kubeconfig(&cluster.server, &own_ca, ("admin", "system:masters"));
    let refused = asks(&stranger, "/healthz");
    assert!(
        refused.contains("The connection to the server"),
        "{refused}"
    );
    let deceived = cluster.authority.kubeconfig(
        &cluster.server,
        &foreign.certificate(),
        ("deceived", "system:masters"),
    );
    assert!(asks(&deceived, "/healthz").contains("certificate"));

    let bad = cluster.authority.token_kubeconfig(&cluster.server, "bad");
    assert!(asks(&bad, "/healthz").contains("Unauthorized"));
    let nobody = cluster.authority.token_kubeconfig(&cluster.server, "");
    assert!(asks(&nobody, "/healthz").contains("Unauthorized"));
    let good = cluster.authority.token_kubeconfig(&cluster.server, "good");
    assert_eq!(asks(&good, "/healthz"), "ok");
    let refused = asks(&good, "/api/v1/nodes");
    assert!(
        refused.contains("(Forbidden): nodes is forbidden"),
        "{refused}"
    );
    assert!(refused.contains("kubelet-bootstrap"), "{refused}");
}

#[test]
fn an_etcd_that_refuses_its_certificate_keeps_it_from_serving() {
    let cluster = Cluster::start();
    let foreign = Authority::new(&cluster.directory.path().join("foreign"));
    let stranger = foreign.issue("kubernetes", "k8s");
    let mut flags = cluster.apiserver_flags();
    flags.push(file("etcd-certfile", &stranger.certificate));
    flags.push(file("etcd-keyfile", &stranger.key));
    let server = Running::start(command("kube-apiserver").args(flags));
    server.wait_for("etcd: etcd 127.0.0.1");
    let admin = cluster.kubeconfig("admin", "system:masters");
    assert!(!cluster.kubectl(&admin, &["get", "nodes"]).status.success());
}

/// Each of these is added to valid flags; later values win.
#[test]
fn refuses_flags_the_real_one_would_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let pair = authority.issue("kubernetes", "k8s");
    let other = authority.issue("other", "k8s");
    let good = [
        flag("etcd-servers", "http://127.0.0.1:1"),
        file("tls-cert-file", &pair.certificate),
        file("tls-private-key-file", &pair.key),
    ];
    for (bad, code, expected) in [
        (flag("etcd-server", "x"), 2, "unknown flag: --etcd-server"),
        ("stray".to_owned(), 2, "\"stray\""),
        (flag("secure-port", "x"), 2, "--secure-port"),
        (
            flag("service-cluster-ip-range", "10.68.0.0"),
            2,
            "invalid CIDR",
        ),
        (
            flag("service-cluster-ip-range", "10.0.0.0/8"),
            1,
            "too large",
        ),
        (
            flag("service-node-port-range", "20000:40000"),
            2,
            "port range",
        ),
        (flag("authorization-mode", "Rbac"), 1, "\"Rbac\""),
        (flag("admission-control", "Everything"), 1, "\"Everything\""),
        (
            flag("etcd-servers", ""),
            1,
            "--etcd-servers must be specified",
        ),
        (flag("etcd-servers", "http://etcd:2379"), 1, "IP address"),
        (
            flag("client-ca-file", "/nonexistent/ca"),
            1,
            "--client-ca-file: /nonexistent/ca",
        ),
        (file("client-ca-file", &pair.key), 1, "holds no certificate"),
        (
            file("tls-private-key-file", &other.key),
            1,
            "is not the key of",
        ),
        (
            file("service-account-key-file", &pair.key),
            1,
            "does not contain any valid",
        ),
        (
            file("audit-policy-file", &pair.key),
            1,
            "--audit-policy-file",
        ),
    ] {
        let mut flags = good.to_vec();
        flags.push(bad.clone());
        let output = run("kube-apiserver", &flags);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{bad}: {text}");
        assert!(text.contains(expected), "{bad}: {text}");
    }
}

#[test]
fn serves_without_tls_where_no_certificate_is_given() {
    let cluster = Cluster::start();
    let port = free_port();
    let client = cluster.authority.issue("kubernetes", "k8s");
    let _server = cluster.ready_apiserver(&[
        flag("insecure-port", port),
        flag("etcd-servers", &cluster.etcd),
        file("etcd-cafile", &cluster.authority.certificate()),
        file("etcd-certfile", &client.certificate),
        file("etcd-keyfile", &client.key),
    ]);
    let server = format!("--server=http://127.0.0.1:{port}");
    let nodes = run("kubectl", &["get".into(), "nodes".into(), server]);
    assert!(
        said(&nodes).contains("No resources found"),
        "{}",
        said(&nodes)
    );
}

#[test]
fn tells_its_version_and_what_it_is() {
    for program in ["kube-apiserver", "kubelet", "kubectl", "pause"] {
        let output = run(program, &["--version".to_owned()]);
        assert_eq!(
            said(&output),
            format!("Kubernetes v1.9.0 (appliance test stand-in; not the real {program})\n")
        );
    }
}
