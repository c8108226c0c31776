//! What runs on a node: the kubelet and calico/node.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use crate::harness::{
    Cluster, Running, command, eventually, file, flag, free_port, said, wait_for_status,
};

/// Something that answers as docker does when the kubelet asks for its info.
pub fn docker(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            let info = "HTTP/1.0 200 OK\r\n\r\n{\"CgroupDriver\": \"cgroupfs\"}";
            stream.write_all(info.as_bytes()).unwrap();
        }
    });
}

#[test]
fn a_node_is_ready_once_its_network_is() {
    let cluster = Cluster::start();
    let _server = cluster.apiserver(&[]);
    let directory = cluster.directory.path();
    docker(&directory.join("docker.sock"));
    let plugins = directory.join("bin");
    let kubeconfig = cluster.kubeconfig("system:node:192.0.2.1", "system:nodes");
    let health = free_port();
    let start = || {
        let kubelet = Running::start(command("kubelet").args([
            file("kubeconfig", &kubeconfig),
            flag("hostname-override", "192.0.2.1"),
            flag(
                "docker-endpoint",
                format!("unix://{}", directory.join("docker.sock").display()),
            ),
            flag("network-plugin", "cni"),
            file("cni-conf-dir", directory),
            file("cni-bin-dir", &plugins),
            flag("address", "127.0.0.1"),
            flag("port", free_port()),
            flag("read-only-port", 0),
            flag("cadvisor-port", 0),
            flag("healthz-port", health),
            flag("fail-swap-on", false),
        ]));
        assert_eq!(wait_for_status(health, "/healthz", 200), "ok");
        kubelet
    };
    let admin = cluster.kubeconfig("admin", "system:masters");
    let until = |state: &str| {
        eventually(state, || {
            let nodes = said(&cluster.kubectl(&admin, &["get", "nodes", "--no-headers"]));
            let words: Vec<&str> = nodes.split_whitespace().collect();
            words.get(..2) == Some(&["192.0.2.1", state])
        });
    };
    let kubelet = start();
    until("NotReady");
    drop(kubelet);

    let made = command("sim").arg("components").arg(&plugins).status();
    assert!(made.unwrap().success());
    let conf = r#"{"name": "n", "type": "calico", "ipam": {"type": "calico-ipam"}}"#;
    fs::write(directory.join("10-calico.conf"), conf).unwrap();
    let _kubelet = start();
    until("Ready");
}

#[test]
fn calico_node_registers_and_calicoctl_sees_it() {
    let cluster = Cluster::start();
    let client = cluster.authority.issue("calico", "k8s");
    let run = cluster.directory.path().join("run");
    let port = free_port();
    let calicoctl = || {
        let mut calicoctl = command("calicoctl");
        calicoctl
            .args(["node", "status"])
            .env("SIM_CALICO_RUN", &run);
        calicoctl.output().unwrap()
    };
    assert_eq!(calicoctl().status.code(), Some(1));
    let mut node = Running::start(
        command("start_runit")
            .env("SIM_CALICO_RUN", &run)
            .env("NODENAME", "192.0.2.1")
            .env("IP", "192.0.2.1")
            .env("ETCD_ENDPOINTS", &cluster.etcd)
            .env("ETCD_CA_CERT_FILE", cluster.authority.certificate())
            .env("ETCD_CERT_FILE", &client.certificate)
            .env("ETCD_KEY_FILE", &client.key)
            .env("CALICO_IPV4POOL_CIDR", "172.20.0.0/16")
            .env("FELIX_HEALTHENABLED", "true")
            .env("FELIX_HEALTHPORT", port.to_string())
            .env("FELIX_IGNORELOOSERPF", "true"),
    );
    wait_for_status(port, "/liveness", 200);
    wait_for_status(port, "/readiness", 200);
    node.wait_for("started successfully");
    // The socket is there a moment after the line.
    eventually("calicoctl node status", || calicoctl().status.success());
    let text = said(&calicoctl());
    assert!(text.contains("Calico process is running."), "{text}");
    assert!(text.contains("No IPv4 peers found."), "{text}");
    assert!(node.stop());
    assert_eq!(calicoctl().status.code(), Some(1));
}

#[test]
fn calico_node_needs_the_files_of_an_https_etcd() {
    let output = command("start_runit")
        .env("IP", "192.0.2.1")
        .env("ETCD_ENDPOINTS", "https://127.0.0.1:1")
        .env("FELIX_IGNORELOOSERPF", "true")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("ETCD_CA_CERT_FILE"),
        "{}",
        said(&output)
    );
}
