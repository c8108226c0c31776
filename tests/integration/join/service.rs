//! The exchange without faults, and the limits of the service.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use appliance::components::{self, KUBELET_CLIENT};
use appliance::formats;
use appliance::join::late::GRACE;
use appliance::join::message::{HELLO, MAX_REQUEST, Reason, Refusal, SERVICE_NAME};
use appliance::join::nodes::Presence;
use appliance::join::trust::FirstSeen;
use appliance::nodespec::Ipip;
use appliance::nodespec::token::{Bytes32, Token};
use appliance::paths;
use appliance::pki::inspect;
use appliance::pki::issue::Signer;
use appliance::sys::tls::Identity;
use rcgen::{CertificateSigningRequestParams, KeyPair};
use reqwest::blocking::Client;
use time::{Duration as Days, OffsetDateTime};

use super::bed::{Bed, MASTER, Node, WORKER, authority, record, renewing, told};

#[test]
fn a_worker_gets_certificates_that_openssl_takes_for_what_they_are() {
    let bed = Bed::new();
    let node = Node::new("server01");
    let joined = bed.join(&node).unwrap();
    assert_eq!(joined.authority, bed.authority);
    assert_eq!(joined.ipip, Some(Ipip::Off));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), &joined.authority).unwrap();
    let requests = components::worker("server01", WORKER);
    assert_eq!(requests.len(), joined.certificates.len());
    for (request, pem) in requests.iter().zip(&joined.certificates) {
        std::fs::write(dir.path().join("leaf.pem"), pem).unwrap();
        let purpose = if request.usage.is_server() {
            "sslserver"
        } else {
            "sslclient"
        };
        let verified = Command::new("openssl")
            .args([
                "verify", "-CAfile", "ca.pem", "-purpose", purpose, "leaf.pem",
            ])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(verified.status.success(), "{}: {verified:?}", request.name);
    }
    let record = &bed.nodes().all().unwrap()["server01"];
    assert_eq!((record.address, &record.token), (WORKER, bed.token.id()));
}

#[test]
fn who_comes_again_with_the_same_key_is_not_counted_twice() {
    let bed = Bed::new();
    let node = Node::new("server01");
    bed.join(&node).unwrap();
    bed.join(&node).unwrap();
    assert_eq!(bed.tokens().all().unwrap()[bed.token.id()].used, 1);
    bed.join(&Node::new("server03")).unwrap();
    assert_eq!(bed.tokens().all().unwrap()[bed.token.id()].used, 2);
}

#[test]
fn a_token_serves_no_more_workers_than_it_may() {
    let bed = Bed::new();
    let once = Token::generate().unwrap();
    let record = appliance::records::tokens::TokenRecord {
        uses: Some(1),
        ..record(&once)
    };
    bed.tokens().add(once.id(), &record).unwrap();
    let first = Node::new("server01");
    first.join(&once, bed.port, None).unwrap();
    // The answer to it may have been lost.
    first.join(&once, bed.port, None).unwrap();
    let (error, transient) = told(
        Node::new("server03")
            .join(&once, bed.port, None)
            .unwrap_err(),
    );
    assert!(
        error.contains("was used as often as it may be") && !transient,
        "{error}"
    );
}

#[test]
fn the_service_ends_with_the_last_token_and_renewals_go_on() {
    let bed = Bed::new();
    let node = Node::new("server01");
    node.keep(&bed.join(&node).unwrap());
    bed.tokens()
        .revoke(bed.token.id(), OffsetDateTime::now_utc())
        .unwrap();
    let start = Instant::now();
    while bed.is_joining() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the service still runs without a valid token"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(TcpStream::connect((MASTER, bed.port)).is_err());
    renew(&bed, &node).unwrap();
}

fn renew(bed: &Bed, node: &Node) -> Result<(), String> {
    node.renew(bed).map(drop).map_err(|failure| told(failure).0)
}

#[test]
fn a_node_renews_with_its_certificate_until_another_machine_has_its_name() {
    let bed = Bed::new();
    let node = Node::new("server01");
    node.keep(&bed.join(&node).unwrap());
    renew(&bed, &node).unwrap();
    // The cluster does not know server01, so the machine at the same address may use the name
    // again.
    bed.join(&Node::new("server01")).unwrap();
    let error = renew(&bed, &node).unwrap_err();
    assert!(
        error.contains("another machine has the name server01"),
        "{error}"
    );
    bed.nodes().release("server01").unwrap();
    let error = renew(&bed, &node).unwrap_err();
    assert!(
        error.contains("did not join here") && error.contains("mv /etc/kubernetes/ca "),
        "{error}"
    );
}

#[test]
fn a_copy_of_a_machine_renews_nothing_and_does_not_join() {
    let bed = Bed::new();
    let node = Node::new("server01");
    node.keep(&bed.join(&node).unwrap());
    let mut record = bed.nodes().all().unwrap().remove("server01").unwrap();
    assert!(record.machine.is_some());
    // The machine that joined was another one, at another address.
    record.address = Ipv4Addr::new(192, 168, 1, 101);
    record.machine = Some(Bytes32([7; 32]));
    bed.nodes().note("server01", &record).unwrap();
    let refused = "a copy of server01 at 192.168.1.101";
    let error = renew(&bed, &node).unwrap_err();
    assert!(error.contains(refused), "{error}");
    let (error, transient) = told(bed.join(&node).unwrap_err());
    assert!(error.contains(refused) && !transient, "{error}");
    assert_eq!(bed.nodes().all().unwrap()["server01"], record);
    // The same machine with another address says so by itself.
    record.machine = None;
    bed.nodes().note("server01", &record).unwrap();
    let error = renew(&bed, &node).unwrap_err();
    assert!(error.contains("set `address`"), "{error}");
}

#[test]
fn a_renewal_without_a_uuid_leaves_the_recorded_one() {
    let bed = Bed::new();
    let node = Node::new("server01");
    node.keep(&bed.join(&node).unwrap());
    let told = bed.nodes().all().unwrap()["server01"].machine;
    assert!(told.is_some());
    assert!(node.renews_from_there(bed.port, &bed.authority));
    assert_eq!(bed.nodes().all().unwrap()["server01"].machine, told);
}

/// The node's certificate kubelet-client, as if it had been issued at `then`.
fn issued_at(then: OffsetDateTime, authority: &(String, KeyPair), node: &Node) -> String {
    let held = node.held(None);
    let own = held.iter().find(|held| held.request.name == KUBELET_CLIENT);
    let own = own.unwrap();
    let csr = CertificateSigningRequestParams::from_pem(&own.signing_request().unwrap()).unwrap();
    let signer = Signer::new(&authority.0, &authority.1).unwrap();
    signer
        .certificate(own.request, &csr.public_key, then)
        .unwrap()
}

#[test]
fn a_node_that_was_off_when_its_certificate_ended_renews_with_it_for_some_time() {
    let now = OffsetDateTime::now_utc();
    let authority = authority(now - Days::days(1000));
    let copy = (
        authority.0.clone(),
        KeyPair::from_pem(&authority.1.serialize_pem()).unwrap(),
    );
    let bed = Bed::with_authority(copy, Presence::Absent);
    let node = Node::new("server01");
    node.keep(&bed.join(&node).unwrap());
    let ended_before = |days: i64| {
        let then = now - Days::days(365 + days);
        let pem = issued_at(then, &authority, &node);
        assert!(inspect::inspect(pem.as_bytes()).unwrap().not_after < now);
        let path = paths::certificate(KUBELET_CLIENT);
        node.files.put(&path, pem.as_bytes());
        renew(&bed, &node)
    };
    ended_before(10).unwrap();
    ended_before(GRACE.whole_days() - 1).unwrap();
    let error = ended_before(GRACE.whole_days() + 1).unwrap_err();
    assert!(error.contains("expired"), "{error}");
    bed.nodes().release("server01").unwrap();
    let error = ended_before(10).unwrap_err();
    assert!(error.contains("did not join here"), "{error}");
}

#[test]
fn without_a_nodes_certificate_nobody_renews_anything() {
    let bed = Bed::new();
    let client = renewing(&bed.authority, None, None);
    let url = format!("https://{SERVICE_NAME}:{}/v1/renew", bed.port + 1);
    assert!(
        client.post(&url).body("{}").send().is_err(),
        "no certificate"
    );
    let node = Node::new("server01");
    let joined = bed.join(&node).unwrap();
    node.keep(&joined);
    // kube-proxy's certificate is also from this cluster, but does not name a node.
    let held = node.held(None);
    let proxy = held
        .iter()
        .position(|held| held.request.name == "kube-proxy")
        .unwrap();
    let identity = Identity {
        certificate: joined.certificates[proxy].as_bytes(),
        key: held[proxy].key_pem.expose(),
    };
    let renewed = node
        .worker(bed.port, Some(&bed.authority))
        .renew(&identity, &held);
    let (error, _) = told(renewed.unwrap_err());
    assert!(
        error.contains("renewal needs the certificate kubelet-client"),
        "{error}"
    );
}

pub fn anonymous(from: Option<Ipv4Addr>) -> Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(FirstSeen::new(provider)))
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .local_address(from.map(IpAddr::V4))
        .build()
        .unwrap()
}

fn hello_url(bed: &Bed) -> String {
    format!("https://{MASTER}:{}{HELLO}", bed.port)
}

#[test]
fn ten_thousand_requests_from_one_address_keep_nobody_else_out() {
    let bed = Bed::new();
    let flood = anonymous(Some(Ipv4Addr::new(127, 0, 0, 9)));
    let mut turned_away = 0;
    for _ in 0..10_000 {
        // At first the service refuses with a reason, and then without an answer.
        let answer = flood.post(hello_url(&bed)).body("{}").send();
        turned_away += u32::from(answer.map_or(true, |answer| answer.status() == 429));
    }
    assert!(
        turned_away > 9_000,
        "{turned_away} of 10000 were turned away"
    );
    bed.join(&Node::new("server01")).unwrap();
}

#[test]
fn a_body_of_a_gigabyte_is_not_read() {
    let bed = Bed::new();
    let answer = anonymous(None)
        .post(hello_url(&bed))
        .header("content-length", 1_u64 << 30)
        .body(reqwest::blocking::Body::sized(
            std::io::repeat(b' '),
            1 << 30,
        ))
        .send();
    // It may have closed the connection before the answer could be read.
    if let Ok(answer) = answer {
        assert_eq!(answer.status(), 413);
    }
    let endless = Endless { sent: 0 };
    let answer = anonymous(None)
        .post(hello_url(&bed))
        .body(reqwest::blocking::Body::new(endless))
        .send();
    if let Ok(answer) = answer {
        assert_eq!(answer.status(), 413);
    }
    bed.join(&Node::new("server01")).unwrap();
}

/// A body without end, which fails the test if the service really reads it.
struct Endless {
    sent: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.sent += buffer.len();
        // Sockets buffer some megabytes.
        assert!(self.sent < 512 * MAX_REQUEST, "the service reads on and on");
        buffer.fill(b' ');
        Ok(buffer.len())
    }
}

#[test]
fn what_is_no_request_is_refused_in_words() {
    let bed = Bed::new();
    for (body, expected) in [
        ("", 400),
        ("[]", 400),
        ("{\"tokenId\": \"../../etc\"}", 400),
        ("\u{0}", 400),
    ] {
        let answer = anonymous(None)
            .post(hello_url(&bed))
            .body(body)
            .send()
            .unwrap();
        assert_eq!(answer.status(), expected, "{body:?}");
        assert!(answer.text().unwrap().contains("bad-request"), "{body:?}");
    }
    let mut plain = TcpStream::connect((MASTER, bed.port)).unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(
        !answer.starts_with(b"HTTP"),
        "it answers clients without TLS"
    );
}

#[test]
fn a_node_that_speaks_another_version_is_told_what_to_upgrade() {
    let bed = Bed::new();
    for version in [0, formats::JOIN.number + 1] {
        let url = format!("https://{MASTER}:{}/v{version}/hello", bed.port);
        let answer = anonymous(None).post(url).body("{}").send().unwrap();
        assert_eq!(answer.status(), 404);
        let refusal: Refusal = serde_json::from_str(&answer.text().unwrap()).unwrap();
        assert_eq!(refusal.reason, Reason::UnsupportedVersion);
        assert!(
            refusal.error.contains("upgrade the masters first"),
            "{refusal:?}"
        );
    }
    // Not a version at all.
    let url = format!("https://{MASTER}:{}/hello", bed.port);
    let answer = anonymous(None).post(url).body("{}").send().unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.text().unwrap()),
        (404, String::new())
    );
    // A message with a member that this version does not know.
    let answer = anonymous(None)
        .post(hello_url(&bed))
        .body(r#"{"newMember": 1}"#)
        .send();
    let said = answer.unwrap().text().unwrap();
    assert!(said.contains("upgrade the masters first"), "{said}");
}
