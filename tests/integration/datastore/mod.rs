//! Calico's data in a real etcd, as nodes reach it: the certificates of a worker open Calico's keys at the
//! server of the data, and nothing of etcd itself.

mod load;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use appliance::components::{self, AUTHORITY, DATASTORE, DATASTORE_CLIENT, ETCD_AUTHORITY};
use appliance::nodespec::settings::Settings;
use appliance::pki::{self, Existing, Issued, Pki, PkiRequest};
use appliance::sys::http;
use appliance::sys::tls::Identity;
use reqwest::blocking::{Client, Response};
use time::OffsetDateTime;

use crate::rendered::spec;

/// How long a server may take to start.
const START: u32 = 300;

/// What a master has.
struct Master<'a>(&'a Pki);

impl Existing for Master<'_> {
    fn read(&self, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let authority = &self.0.authority;
        Ok(match path {
            _ if path == authority.certificate_path => {
                Some(authority.certificate_pem.clone().into_bytes())
            }
            _ if path == authority.key_path => {
                let key = authority.key_pem.as_ref();
                key.map(|key| key.expose().to_vec())
            }
            _ => None,
        })
    }
}

struct Nothing;

impl Existing for Nothing {
    fn read(&self, _: &str) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

/// A master with etcd and the server of Calico's data, and the certificates of a worker.
struct Bed {
    dir: tempfile::TempDir,
    master: Pki,
    worker: Pki,
    etcd: u16,
    peers: u16,
    datastore: u16,
    runs: Vec<Child>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        for child in &mut self.runs {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port of this machine that nobody uses now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl Bed {
    fn new() -> Bed {
        let now = OffsetDateTime::now_utc();
        let request = components::pki_request(&spec(("master", "with-ca"), Settings::default()));
        let master = pki::resolve(&request.unwrap(), &Nothing, now).unwrap();
        let request = PkiRequest {
            authority: components::cluster_authority(),
            etcd: None,
            certificates: components::worker("server01", "192.168.1.101".parse().unwrap()),
            service_account: components::service_account(),
        };
        let worker = pki::resolve(&request, &Master(&master), now).unwrap();
        let mut bed = Bed {
            dir: tempfile::tempdir().unwrap(),
            master,
            worker,
            etcd: free_port(),
            peers: free_port(),
            datastore: free_port(),
            runs: Vec::new(),
        };
        for issued in bed.master.issued().chain(&bed.worker.certificates) {
            bed.write(issued);
        }
        bed.start_etcd();
        bed.start_datastore();
        bed
    }

    /// Writes a certificate and its key to `NAME.pem` and `NAME-key.pem`.
    fn write(&self, issued: &Issued) {
        let [certificate, key] = self.files(&issued.name);
        fs::write(certificate, &issued.certificate_pem).unwrap();
        if let Some(pem) = &issued.key_pem {
            fs::write(key, pem.expose()).unwrap();
        }
    }

    fn files(&self, name: &str) -> [PathBuf; 2] {
        ["", "-key"].map(|kind| self.dir.path().join(format!("{name}{kind}.pem")))
    }

    fn start_etcd(&mut self) {
        let (clients, peers) = (self.etcd, self.peers);
        let [certificate, key] = self.files("etcd");
        let [authority, _] = self.files(ETCD_AUTHORITY);
        let child = Command::new("etcd")
            .args(["--name=server02", "--enable-v2=true", "--client-cert-auth"])
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .arg(format!("--listen-client-urls=https://127.0.0.1:{clients}"))
            .arg(format!(
                "--advertise-client-urls=https://127.0.0.1:{clients}"
            ))
            .arg(format!("--listen-peer-urls=https://127.0.0.1:{peers}"))
            .arg(format!(
                "--initial-advertise-peer-urls=https://127.0.0.1:{peers}"
            ))
            .arg(format!(
                "--initial-cluster=server02=https://127.0.0.1:{peers}"
            ))
            .arg("--peer-client-cert-auth")
            .args([Path::new("--trusted-ca-file"), &authority])
            .args([Path::new("--peer-trusted-ca-file"), &authority])
            .args([Path::new("--cert-file"), &certificate])
            .args([Path::new("--key-file"), &key])
            .args([Path::new("--peer-cert-file"), &certificate])
            .args([Path::new("--peer-key-file"), &key])
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd (Debian package etcd-server)");
        self.runs.push(child);
        let client = self.client("etcd", ETCD_AUTHORITY);
        wait_for(|| client.get(self.url(self.etcd, "/health")).send());
    }

    fn start_datastore(&mut self) {
        for name in [AUTHORITY, ETCD_AUTHORITY, DATASTORE, DATASTORE_CLIENT] {
            assert!(self.files(name)[0].exists(), "{name}");
        }
        let child = Command::new(env!("CARGO_BIN_EXE_appliance"))
            .arg("datastore")
            .arg(format!("--listen=127.0.0.1:{}", self.datastore))
            .arg(format!("--etcd=https://127.0.0.1:{}", self.etcd))
            .arg("--identity")
            .arg(self.dir.path())
            .arg("--pods=172.20.0.0/16")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.runs.push(child);
        wait_for(|| self.calico("/health"));
    }

    /// A client with the certificate of that name, which trusts that authority.
    fn client(&self, name: &str, authority: &str) -> Client {
        let [certificate, key] = self.files(name).map(|path| fs::read(path).unwrap());
        let identity = Identity {
            certificate: &certificate,
            key: &key,
        };
        let authority = fs::read(&self.files(authority)[0]).unwrap();
        http::client(&authority, Some(&identity), Duration::from_secs(20)).unwrap()
    }

    fn url(&self, port: u16, path: &str) -> String {
        format!("https://127.0.0.1:{port}{path}")
    }

    /// What Calico on a node gets at that path.
    fn calico(&self, path: &str) -> reqwest::Result<Response> {
        let client = self.client("calico", AUTHORITY);
        client.get(self.url(self.datastore, path)).send()
    }

    /// What the server of Calico's data answers to Calico at this address, for bytes as they are.
    fn said_to(&self, address: &str, request: &str) -> String {
        let [certificate, key] = self.files("calico");
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-bind", &format!("{address}:0")])
            .args(["-connect", &format!("127.0.0.1:{}", self.datastore)])
            .arg("-CAfile")
            .arg(&self.files(AUTHORITY)[0])
            .args([Path::new("-cert"), &certificate])
            .args([Path::new("-key"), &key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = client.stdin.take().unwrap();
        // The server may have closed the connection.
        let _ = input.write_all(request.as_bytes());
        let output = client.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What etcdctl says with the certificate of that name.
    fn etcdctl(&self, name: &str, arguments: &[&str]) -> (bool, String) {
        let [certificate, key] = self.files(name);
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg("--command-timeout=2s")
            .arg(format!("--endpoints={}", self.url(self.etcd, "")))
            .arg("--cacert")
            .arg(&self.files(AUTHORITY)[0])
            .args([Path::new("--cert"), &certificate])
            .args([Path::new("--key"), &key])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text)
    }
}

fn wait_for(ask: impl Fn() -> reqwest::Result<Response>) {
    for _ in 0..START {
        if ask().is_ok_and(|response| response.status().is_success()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("a server does not start: {:?}", ask());
}

#[test]
fn calico_reads_writes_and_watches_its_keys() {
    let bed = Bed::new();
    let client = bed.client("calico", AUTHORITY);
    let key = bed.url(bed.datastore, "/v2/keys/calico/v1/host/server01/bird_ip");
    let put = client.put(&key).body("value=192.168.1.101");
    let put = put.header("content-type", "application/x-www-form-urlencoded");
    let put = put.send().unwrap();
    assert_eq!(put.status(), 201);
    let index: u64 = put.headers()["x-etcd-index"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();

    let text = client
        .get(format!("{key}?quorum=true"))
        .send()
        .unwrap()
        .text();
    assert!(text.unwrap().contains("192.168.1.101"));
    let watch = client.get(format!("{key}?wait=true&waitIndex={}", index + 1));
    // The head of the answer comes before anything changes.
    let watched = watch.send().unwrap();
    assert_eq!(watched.status(), 200);
    assert_eq!(client.delete(&key).send().unwrap().status(), 200);
    let event = watched.text().unwrap();
    assert!(event.contains(r#""action":"delete""#), "{event}");
    let gone = client.get(&key).send().unwrap();
    assert_eq!(gone.status(), 404);
    assert!(gone.text().unwrap().contains(r#""errorCode":100"#));
}

#[test]
fn a_worker_reaches_nothing_of_etcd_but_calicos_keys() {
    let bed = Bed::new();
    let (done, _) = bed.etcdctl(
        "kube-apiserver-etcd-client",
        &["put", "/registry/secrets/a", "b"],
    );
    assert!(done);
    for issued in &bed.worker.certificates {
        let name = issued.name.as_str();
        for arguments in [
            &["get", "/registry/secrets/a"] as &[&str],
            &["put", "/registry/clusterrolebindings/mine", "me"],
            &[
                "member",
                "add",
                "server09",
                "--peer-urls=https://192.0.2.9:2380",
            ],
        ] {
            let (done, said) = bed.etcdctl(name, arguments);
            assert!(!done && said.is_empty(), "{name} {arguments:?}: {said}");
        }
        let client = bed.client(name, AUTHORITY);
        for (port, path) in [
            (bed.etcd, "/v2/keys/?recursive=true"),
            (bed.etcd, "/v2/keys/calico"),
            (bed.etcd, "/v2/members"),
            (bed.peers, "/members"),
            (bed.peers, "/version"),
            (bed.peers, "/raft/probing"),
        ] {
            let answer = client.get(bed.url(port, path)).send();
            assert!(answer.is_err(), "{name} {path}: {answer:?}");
        }
    }
    let (_, kept) = bed.etcdctl("etcd", &["get", "/registry", "--prefix", "--keys-only"]);
    assert_eq!(kept.trim(), "/registry/secrets/a");
}

/// What confd would copy into the configuration of BIRD, and programs that Felix would run.
#[test]
fn a_worker_writes_nothing_that_runs_on_other_nodes() {
    let bed = Bed::new();
    let client = bed.client("calico", AUTHORITY);
    let put = |path: &str, value: &str| {
        let url = bed.url(bed.datastore, &format!("/v2/keys/calico/{path}"));
        let put = client.put(url).body(format!("value={value}"));
        let put = put.header("content-type", "application/x-www-form-urlencoded");
        put.send().unwrap().status()
    };
    assert_eq!(put("bgp/v1/host/server01/ip_addr_v4", "192.168.1.101"), 201);
    for (path, value) in [
        ("bgp/v1/global/custom_filters/v4/a", "a"),
        ("bgp/v1/host/server02/as_num", "1%3B%0Alog+%22/a%22+all"),
        (
            "ipam/v2/host/a/ipv4/block/10.1.0.0-26%20blackhole%3B%0A",
            "",
        ),
        ("v1/config/DataplaneDriver", "/var/log/calico/a"),
        // Routes on another node, without BGP.
        (
            "v1/host/server02/workload/k8s/a/endpoint/eth0",
            "{\"ipv4_nets\":[\"192.168.1.102/32\"]}",
        ),
        ("v1/host/server02/config/IpInIpTunnelAddr", "192.168.1.102"),
        (
            "v1/ipam/v4/pool/192.168.1.0-24",
            "{\"cidr\":\"192.168.1.0/24\"}",
        ),
    ] {
        assert_eq!(put(path, value), 403, "{path}");
    }
    let all = bed.url(bed.datastore, "/v2/keys/calico?recursive=true");
    assert_eq!(client.delete(&all).send().unwrap().status(), 403);
    let kept = client.get(&all).send().unwrap().text().unwrap();
    assert_eq!(kept.matches("value").count(), 1, "{kept}");
}

/// etcd keeps all values of API v2 in memory.
#[test]
fn a_worker_does_not_fill_etcd() {
    let bed = Bed::new();
    let client = bed.client("calico", AUTHORITY);
    let label = "a".repeat(30_000);
    let value = format!("value={{\"labels\":{{\"a\":\"{label}\"}}}}");
    let put = |number: u32| {
        let path = format!("/v2/keys/calico/v1/host/server01/workload/a/{number}/endpoint/eth0");
        let put = client
            .put(bed.url(bed.datastore, &path))
            .body(value.clone());
        let put = put.header("content-type", "application/x-www-form-urlencoded");
        put.send().unwrap().status()
    };
    assert_eq!(put(0), 201);
    let refused = (1..10_000).find(|number| put(*number) == 503);
    assert!(refused.is_some());
}

#[test]
fn the_server_of_calicos_data_lets_through_calico_and_its_keys_only() {
    let bed = Bed::new();
    let calico = bed.client("calico", AUTHORITY);
    for path in [
        "/v2/keys/",
        "/v2/keys/appliance",
        "/v2/keys/calico%2F..%2Fappliance",
        "/v2/members",
        "/v3alpha/kv/range",
        "/v3/kv/range",
        "/metrics",
    ] {
        let url = bed.url(bed.datastore, path);
        for request in [calico.get(&url), calico.post(&url), calico.delete(&url)] {
            assert_eq!(request.send().unwrap().status(), 403, "{path}");
        }
    }
    for name in ["kubelet-client", "kube-proxy", "admin"] {
        let client = bed.client(name, AUTHORITY);
        let answer = client.get(bed.url(bed.datastore, "/v2/keys/calico")).send();
        assert_eq!(answer.unwrap().status(), 403, "{name}");
    }
    let [authority, _] = bed.files(AUTHORITY);
    let stranger = http::client(&fs::read(authority).unwrap(), None, Duration::from_secs(5));
    let answer = stranger
        .unwrap()
        .get(bed.url(bed.datastore, "/health"))
        .send();
    assert!(answer.is_err());
}

/// Clients that resolve paths themselves cannot send these.
#[test]
fn a_path_that_others_read_otherwise_leads_nowhere() {
    let bed = Bed::new();
    let ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        bed.said_to("127.0.0.1", &request)
    };
    assert!(ask("/v2/keys/calico").starts_with("HTTP/1.1 404"));
    for path in [
        r"/v2/keys/calico/..\appliance?recursive=true",
        r"/v2/keys/calico/..\..\members",
        r"/v2/keys/calico/..\..\..\metrics",
        r"/v2/keys/calico/%2e%2e\appliance",
        r"/v2/keys/calico\..\..\members",
        r"https://x/v2/keys/calico/..\..\members",
        "/v2/keys/calico/../../members",
        "/v2/keys/calico/%2e%2e/%2E%2e/members",
        "/v2/keys/calico/.%2e/../members",
        "https://x/v2/members",
    ] {
        let answer = ask(path);
        let refused = ["HTTP/1.1 403", "HTTP/1.1 400"];
        assert!(
            refused.iter().any(|word| answer.starts_with(word)),
            "{path}: {answer}"
        );
    }
}

#[test]
fn no_address_takes_the_connections_of_others() {
    let bed = Bed::new();
    let connect = |_| TcpStream::connect(("127.0.0.1", bed.datastore)).unwrap();
    let mut open: Vec<TcpStream> = (0..200).map(connect).collect();
    let health = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for address in ["127.0.0.9", "127.0.0.1"] {
        // Also at the address itself: connections without a handshake give way.
        let answer = bed.said_to(address, health);
        assert!(answer.starts_with("HTTP/1.1 200"), "{address}: {answer}");
    }
    // An address has 128 places; those that came first are closed.
    let is_closed = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0]);
        !matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    for stream in &mut open[..200 - 128] {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        assert!(
            !matches!(stream.read(&mut [0]), Ok(1..)),
            "it said something"
        );
    }
    assert!(open[..200 - 128].iter_mut().all(is_closed));
    assert!(!is_closed(&mut open[199]));
}

#[test]
fn an_etcd_that_is_gone_is_told_so_that_calico_asks_another_master() {
    let mut bed = Bed::new();
    let mut etcd = bed.runs.remove(0);
    etcd.kill().unwrap();
    etcd.wait().unwrap();
    assert_eq!(bed.calico("/v2/keys/calico").unwrap().status(), 503);
    assert_eq!(bed.calico("/health").unwrap().status(), 503);
}

#[test]
fn the_certificate_of_etcd_opens_nothing_of_the_cluster() {
    let bed = Bed::new();
    let [etcd, _] = bed.files("etcd");
    // A client sends the cross-certificate too: it must not make it one of the cluster's clients.
    let client = bed.client("etcd", AUTHORITY);
    let answer = client.get(bed.url(bed.datastore, "/health")).send();
    assert!(answer.is_err(), "{answer:?}");
    let chain = fs::read_to_string(etcd).unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    for (purpose, expected) in [("sslserver", true), ("sslclient", false)] {
        let [etcd, _] = bed.files("etcd");
        let verified = Command::new("openssl")
            .args(["verify", "-purpose", purpose, "-CAfile"])
            .arg(&bed.files(AUTHORITY)[0])
            .arg("-untrusted")
            .arg(&etcd)
            .arg(&etcd)
            .output()
            .unwrap();
        assert_eq!(verified.status.success(), expected, "{purpose}");
    }
}
