//! The programs of a node: the kubelet and calico/node.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use crate::harness::{
    Cluster, Running, command, eventually, file, flag, free_port, said, wait_for_status,
};

/// A server that answers like docker to the kubelet's request for its info.
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
