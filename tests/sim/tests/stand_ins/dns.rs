//! kube-dns, dnsmasq-nanny and sidecar, run like their pod runs them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

use crate::harness::{Running, command, eventually, flag, free_port, wait_for_status};
use crate::plane::Plane;

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    question.to_vec().unwrap()
}

fn found(answer: &[u8]) -> Vec<String> {
    let answer = Message::from_vec(answer).unwrap();
    answer
        .answers
        .iter()
        .map(|one| one.data.to_string())
        .collect()
}

fn by_packet(port: u16, name: &str, kind: RecordType) -> Vec<String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.send(&question(name, kind)).unwrap();
    let mut buffer = [0; 4096];
    match socket.recv(&mut buffer) {
        Ok(size) => found(&buffer[..size]),
        Err(_) => Vec::new(),
    }
}

fn by_connection(port: u16, name: &str, kind: RecordType) -> Vec<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect(address).unwrap();
    let question = question(name, kind);
    let length = u16::try_from(question.len()).unwrap().to_be_bytes();
    stream
        .write_all(&[&length[..], &question].concat())
        .unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    found(&answer)
}

/// Writes the token of the account `kube-dns` to its path in a pod.
fn account(plane: &Plane) -> PathBuf {
    let token = "get sa kube-dns -n kube-system -o jsonpath={.secrets[0].name}";
    eventually("a token for kube-dns", || {
        plane.kubectl(token).starts_with("kube-dns-token-")
    });
    let secret = plane.object(&format!("secret -n kube-system {}", plane.kubectl(token)));
    let account = plane.directory().join("account");
    fs::create_dir(&account).unwrap();
    for name in ["token", "ca.crt"] {
        let data = STANDARD
            .decode(secret["data"][name].as_str().unwrap())
            .unwrap();
        fs::write(account.join(name), data).unwrap();
    }
    account
}

/// Starts dnsmasq-nanny with the arguments of the manifest.
fn nanny(port: u16, dns: u16) -> Running {
    let mut flags: Vec<String> = ["-v=2", "-logtostderr", "-restartDnsmasq=true", "--", "-k"]
        .map(str::to_owned)
        .to_vec();
    flags.push(flag("cache-size", 1000));
    flags.push(flag("log-facility", "-"));
    flags.push(flag("port", port));
    for domain in ["cluster.local", "in-addr.arpa", "ip6.arpa"] {
        flags.push(flag("server", format!("/{domain}/127.0.0.1#{dns}")));
    }
    Running::start(command("dnsmasq-nanny").args(flags))
}

#[test]
fn kube_dns_answers_for_a_service_and_its_pods_are_told_healthy() {
    let plane = Plane::start();
    plane.manifests(
        "create",
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: kube-dns, namespace: kube-system}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.68.0.9, ports: \
         [{name: http, port: 80}]}\n",
    );
    let account = account(&plane);
    let (dns, health, cache, told) = (free_port(), free_port(), free_port(), free_port());
    let port = plane.cluster.server.rsplit(':').next().unwrap().to_owned();
    let _server = Running::start(
        command("kube-dns")
            .env("SIM_SERVICE_ACCOUNT", &account)
            .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            .env("KUBERNETES_SERVICE_PORT", port)
            .args([
                flag("domain", "cluster.local."),
                flag("dns-port", dns),
                flag("healthz-port", health),
                flag("config-dir", "/kube-dns-config"),
                flag("v", 2),
            ]),
    );
    wait_for_status(health, "/readiness", 200);
    let _cache = nanny(cache, dns);
    let web = "web.default.svc.cluster.local.";
    eventually("an answer", || {
        by_packet(cache, web, RecordType::A) == ["10.68.0.9"]
    });
    assert_eq!(by_connection(cache, web, RecordType::A), ["10.68.0.9"]);
    assert_eq!(
        by_packet(
            cache,
            "kubernetes.default.svc.cluster.local.",
            RecordType::A
        ),
        ["10.68.0.1"]
    );
    assert_eq!(
        by_packet(cache, &format!("_http._tcp.{web}"), RecordType::SRV),
        [format!("10 100 80 {web}")]
    );
    assert_eq!(
        by_packet(cache, "9.0.68.10.in-addr.arpa.", RecordType::PTR),
        [web]
    );
    assert!(by_packet(cache, "no.default.svc.cluster.local.", RecordType::A).is_empty());

    let probe = |label: &str, port: u16, name: &str| {
        flag("probe", format!("{label},127.0.0.1:{port},{name},1,A"))
    };
    let _sidecar = Running::start(command("sidecar").args([
        "--logtostderr".to_owned(),
        probe("kubedns", dns, "kubernetes.default.svc.cluster.local"),
        probe("dnsmasq", cache, "kubernetes.default.svc.cluster.local"),
        probe("lost", cache, "no.default.svc.cluster.local"),
        flag("prometheus-port", told),
    ]));
    wait_for_status(told, "/healthcheck/kubedns", 200);
    wait_for_status(told, "/healthcheck/dnsmasq", 200);
    wait_for_status(told, "/healthcheck/lost", 503);
    assert!(wait_for_status(told, "/metrics", 200).contains("kubedns_probe_dnsmasq"));
    // A deleted service gets no more answers.
    plane.kubectl("delete svc web");
    eventually("no answer", || {
        by_packet(cache, web, RecordType::A).is_empty()
    });
}
