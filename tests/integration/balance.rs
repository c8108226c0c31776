//! The forwarder to several API servers: TLS servers that are healthy or not, and clients.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use appliance::balance;
use appliance::sys::http;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::said;

/// A server that answers with its name while it is healthy.
struct ApiServer {
    address: SocketAddr,
    healthy: Arc<AtomicBool>,
    certificate: String,
}

impl ApiServer {
    fn start(name: &'static str) -> ApiServer {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let (tls, healthy) = (Arc::new(tls), Arc::new(AtomicBool::new(true)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let is_healthy = healthy.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(tls.clone()).unwrap();
                let stream = StreamOwned::new(connection, stream.unwrap());
                let is_healthy = is_healthy.clone();
                thread::spawn(move || answer(stream, name, &is_healthy));
            }
        });
        ApiServer {
            address,
            healthy,
            certificate,
        }
    }
}

fn answer(mut stream: StreamOwned<ServerConnection, TcpStream>, name: &str, healthy: &AtomicBool) {
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|read| read > 0) {
        let status = match healthy.load(Ordering::SeqCst) {
            true => "200 OK",
            false => "500 Internal Server Error",
        };
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{name}",
            name.len()
        );
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// A port that forwards to `servers`, and a client that trusts them.
fn balanced(servers: &[&ApiServer]) -> (SocketAddr, reqwest::blocking::Client) {
    let authorities: String = servers.iter().map(|s| s.certificate.as_str()).collect();
    let client = http::client(authorities.as_bytes(), None, Duration::from_secs(5)).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let place = listener.local_addr().unwrap();
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let own = client.clone();
    thread::spawn(move || balance::run(listener, &addresses, &own));
    (place, client)
}

/// The answer of a server; empty if the connection is closed before the answer.
fn ask(client: &reqwest::blocking::Client, place: SocketAddr) -> String {
    let response = client.get(format!("https://{place}/")).send();
    response
        .and_then(reqwest::blocking::Response::text)
        .unwrap_or_default()
}

/// The names of the servers that answer several new connections.
fn answering(place: SocketAddr, servers: &[&ApiServer]) -> Vec<String> {
    let authorities: String = servers.iter().map(|s| s.certificate.as_str()).collect();
    let name = |_| {
        let client = http::client(authorities.as_bytes(), None, Duration::from_secs(5)).unwrap();
        ask(&client, place)
    };
    let mut names: Vec<String> = (0..6).map(name).collect();
    names.sort();
    names.dedup();
    names
}

/// Waits for a condition that other threads make true.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..600 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("never: {what}");
}

#[test]
fn connections_go_to_servers_that_are_healthy_and_leave_those_that_are_not() {
    let (a, b) = (ApiServer::start("a"), ApiServer::start("b"));
    let (place, client) = balanced(&[&a, &b]);
    assert_eq!(answering(place, &[&a, &b]), ["a", "b"]);
    // A connection that stays open, and the name of its server.
    let (dead, living) = match ask(&client, place).as_str() {
        "a" => (&a, "b"),
        _ => (&b, "a"),
    };
    dead.healthy.store(false, Ordering::SeqCst);
    until("the open connection leads to the other one", || {
        ask(&client, place) == living
    });
    assert_eq!(answering(place, &[&a, &b]), [living]);
    dead.healthy.store(true, Ordering::SeqCst);
    until("both are used again", || {
        answering(place, &[&a, &b]).len() == 2
    });
}

/// If all servers answer slowly, connections are still forwarded.
#[test]
fn where_no_server_is_healthy_each_is_used_and_connections_stay() {
    let (a, b) = (ApiServer::start("a"), ApiServer::start("b"));
    b.healthy.store(false, Ordering::SeqCst);
    let (place, _) = balanced(&[&a, &b]);
    until("the healthy one is used alone", || {
        answering(place, &[&a, &b]) == ["a"]
    });
    let mut open = TcpStream::connect(place).unwrap();
    a.healthy.store(false, Ordering::SeqCst);
    until("both are used", || {
        answering(place, &[&a, &b]) == ["a", "b"]
    });
    open.set_nonblocking(true).unwrap();
    let read = open.read(&mut [0]);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_server_that_takes_no_connection_is_passed_over_at_once() {
    let living = ApiServer::start("living");
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dead = ApiServer {
        address: closed.local_addr().unwrap(),
        healthy: Arc::default(),
        certificate: String::new(),
    };
    drop(closed);
    let (place, _) = balanced(&[&dead, &living]);
    assert_eq!(answering(place, &[&living]), ["living"]);
}

#[test]
fn a_port_that_another_program_has_is_named_with_the_setting_that_changes_it() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("a.pem"), dir.path().join("a-key.pem"));
    let own_key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["calico".to_owned()]).unwrap();
    let pem = params.self_signed(&own_key).unwrap().pem();
    std::fs::write(&certificate, pem).unwrap();
    std::fs::write(&key, own_key.serialize_pem()).unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let place = taken.local_addr().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["balance", "--server=192.0.2.1:6443"])
        .arg(format!("--listen={place}"))
        .args(["--authority".as_ref(), certificate.as_os_str()])
        .args(["--certificate".as_ref(), certificate.as_os_str()])
        .args(["--key".as_ref(), key.as_os_str()])
        .output()
        .unwrap();
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for words in [&format!("listen at {place}"), "ss -ltnp", "balancerPort"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}
