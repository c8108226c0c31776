//! Invalid tokens, masters that are not what they seem, and machines with the name of another.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use appliance::join::gate::{Ask, Asker, Gate};
use appliance::join::message::{CertificateSigningRequest, Hello, Join, Reason, Refusal, Welcome};
use appliance::join::nodes::{Nodes, Presence};
use appliance::join::proof::{Asked, Transcript};
use appliance::join::tokens::Tokens;
use appliance::nodespec::token::{Bytes32, Token};
use appliance::records::tokens::TokenRecord;
use time::{Duration, OffsetDateTime};

use super::bed::{Bed, MASTER, Node, WORKER, authority, cluster, record, told};

#[test]
fn a_token_that_does_not_count_is_told_with_the_next_step() {
    let bed = Bed::new();
    let node = Node::new("server01");
    let refused = |token: &Token, why: &str| {
        let (error, transient) = told(node.join(token, bed.port, None).unwrap_err());
        assert!(error.contains(why) && !transient, "{error}");
        let secret = token.expose();
        assert!(
            !error.contains(secret.split('.').next_back().unwrap()),
            "{error}"
        );
    };
    refused(
        &Token::generate().unwrap(),
        "is not known here; `appliance token list`",
    );
    let (expired, revoked) = (Token::generate().unwrap(), Token::generate().unwrap());
    let now = OffsetDateTime::now_utc();
    let ended = TokenRecord {
        expires: Some(now - Duration::seconds(1)),
        ..record(&expired)
    };
    bed.tokens().add(expired.id(), &ended).unwrap();
    refused(&expired, "has expired; make another");
    bed.tokens().add(revoked.id(), &record(&revoked)).unwrap();
    bed.tokens().revoke(revoked.id(), now).unwrap();
    refused(&revoked, "was revoked; make another");
    let other_secret = Token::generate().unwrap();
    let secret = other_secret.expose();
    let mistyped = format!("{}.{}", bed.token.id(), secret.split_once('.').unwrap().1);
    refused(
        &mistyped.parse().unwrap(),
        "does not prove that it knows token",
    );
    assert!(bed.nodes().all().unwrap().is_empty());
}

/// A gate without a network, and the messages that go through it.
pub struct Direct {
    pub dir: tempfile::TempDir,
    pub token: Token,
}

pub const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const SERVER: &[u8] = b"the service's certificate";

impl Direct {
    pub fn new() -> Direct {
        let bed = Direct {
            dir: tempfile::tempdir().unwrap(),
            token: Token::generate().unwrap(),
        };
        let endless = TokenRecord {
            expires: None,
            created: NOW,
            ..record(&bed.token)
        };
        Tokens::new(bed.dir.path())
            .add(bed.token.id(), &endless)
            .unwrap();
        bed
    }

    pub fn gate(&self) -> Gate<'static> {
        let dir = self.dir.path();
        let ask = Ask {
            node: &|_| Ok(Presence::Absent),
            master: &|_| Ok(Presence::Absent),
        };
        Gate::new(
            cluster(authority(NOW)),
            Tokens::new(dir),
            Nodes::new(dir),
            ask,
        )
    }

    pub fn hello(&self) -> Hello {
        hello(&self.token, "server01")
    }

    pub fn prove(&self, hello: &Hello, welcome: &Welcome, requests: Requests) -> Join {
        prove(&self.token, hello, welcome, requests)
    }
}

/// The first message of the node `name`.
pub fn hello(token: &Token, name: &str) -> Hello {
    Hello {
        token_id: token.id().clone(),
        node_name: name.to_owned(),
        node_address: WORKER,
        nonce: Bytes32::random().unwrap(),
        trusts: false,
    }
}

/// Its second message, in the connection of [`asker`].
pub fn prove(token: &Token, hello: &Hello, welcome: &Welcome, requests: Requests) -> Join {
    let transcript = Transcript {
        token: &hello.token_id,
        node_name: &hello.node_name,
        node_address: hello.node_address,
        worker_nonce: &hello.nonce,
        master_nonce: &welcome.nonce,
        authority: &welcome.authority,
        server_certificate: SERVER,
    };
    Join {
        session: welcome.session,
        proof: token.prove(
            &transcript,
            &Asked {
                requests: &requests,
                master: None,
                machine: None,
            },
        ),
        requests,
        master: None,
        machine: None,
    }
}

pub type Requests = Vec<CertificateSigningRequest>;

pub fn asker() -> Asker<'static> {
    Asker {
        address: WORKER.into(),
        server_certificate: SERVER,
    }
}

pub fn requests(node: &Node) -> Requests {
    let held = node.held(None);
    let request = |held: &appliance::pki::Held<'_>| CertificateSigningRequest {
        name: held.request.name.to_owned(),
        csr: held.signing_request().unwrap(),
    };
    held.iter().map(request).collect()
}

pub fn reason<T: std::fmt::Debug>(outcome: anyhow::Result<Result<T, Refusal>>) -> Reason {
    outcome.unwrap().unwrap_err().reason
}

#[test]
fn what_was_heard_once_serves_nobody_again() {
    let bed = Direct::new();
    let (mut gate, asker) = (bed.gate(), asker());
    let hello = bed.hello();
    let welcome = gate.hello(&asker, hello.clone(), NOW).unwrap().unwrap();
    assert_eq!(
        reason(gate.hello(&asker, hello.clone(), NOW)),
        Reason::BadRequest
    );
    let join = bed.prove(&hello, &welcome, requests(&Node::new("server01")));
    gate.join(&asker, &join, NOW).unwrap().unwrap();
    assert_eq!(
        reason(gate.join(&asker, &join, NOW)),
        Reason::UnknownSession
    );
    // The same proof is not valid in another exchange.
    let again = gate.hello(&asker, bed.hello(), NOW).unwrap().unwrap();
    let replayed = Join {
        session: again.session,
        ..join
    };
    assert_eq!(
        reason(gate.join(&asker, &replayed, NOW)),
        Reason::WrongProof
    );
}

#[test]
fn an_exchange_ends_after_its_time_and_with_one_wrong_proof() {
    let bed = Direct::new();
    let (mut gate, asker) = (bed.gate(), asker());
    let hello = bed.hello();
    let welcome = gate.hello(&asker, hello.clone(), NOW).unwrap().unwrap();
    let join = bed.prove(&hello, &welcome, requests(&Node::new("server01")));
    let later = NOW + Duration::minutes(2);
    assert_eq!(
        reason(gate.join(&asker, &join, later)),
        Reason::UnknownSession
    );
    let hello = bed.hello();
    let welcome = gate.hello(&asker, hello.clone(), NOW).unwrap().unwrap();
    let join = bed.prove(&hello, &welcome, requests(&Node::new("server01")));
    let wrong = Join {
        proof: Bytes32::random().unwrap(),
        ..join.clone()
    };
    assert_eq!(reason(gate.join(&asker, &wrong, NOW)), Reason::WrongProof);
    assert_eq!(
        reason(gate.join(&asker, &join, NOW)),
        Reason::UnknownSession
    );
}

#[test]
fn a_proof_covers_the_requests_and_the_servers_certificate() {
    let bed = Direct::new();
    let (mut gate, asker) = (bed.gate(), asker());
    let begin = |gate: &mut Gate<'_>| {
        let hello = bed.hello();
        let welcome = gate.hello(&asker, hello.clone(), NOW).unwrap().unwrap();
        bed.prove(&hello, &welcome, requests(&Node::new("server01")))
    };
    let mut swapped = begin(&mut gate);
    swapped.requests = requests(&Node::new("server01"));
    assert_eq!(reason(gate.join(&asker, &swapped, NOW)), Reason::WrongProof);
    let join = begin(&mut gate);
    let elsewhere = Asker {
        server_certificate: b"another certificate",
        ..asker
    };
    assert_eq!(
        reason(gate.join(&elsewhere, &join, NOW)),
        Reason::WrongProof
    );
}

#[test]
fn a_worker_gets_neither_the_masters_names_nor_anothers() {
    let bed = Direct::new();
    let (mut gate, asker) = (bed.gate(), asker());
    let here = |name: &str| Hello {
        node_name: name.to_owned(),
        ..bed.hello()
    };
    assert_eq!(
        reason(gate.hello(&asker, here("server02"), NOW)),
        Reason::NotYours
    );
    // In the inventory it has another address.
    assert_eq!(
        reason(gate.hello(&asker, here("server09"), NOW)),
        Reason::NotYours
    );
    assert_eq!(
        reason(gate.hello(&asker, here("a\nb"), NOW)),
        Reason::BadRequest
    );
    let elsewhere = Hello {
        node_address: Ipv4Addr::new(192, 168, 1, 103),
        ..bed.hello()
    };
    assert_eq!(reason(gate.hello(&asker, elsewhere, NOW)), Reason::NotYours);
    let masters = Asker {
        address: MASTER.into(),
        ..asker
    };
    let at_the_masters = Hello {
        node_address: MASTER,
        ..bed.hello()
    };
    assert_eq!(
        reason(gate.hello(&masters, at_the_masters, NOW)),
        Reason::NotYours
    );
    // The exchange began as one node, and requests the certificate of another.
    let hello = bed.hello();
    let welcome = gate.hello(&asker, hello.clone(), NOW).unwrap().unwrap();
    let join = bed.prove(&hello, &welcome, requests(&Node::new("server03")));
    assert_eq!(
        reason(gate.join(&asker, &join, NOW)),
        Reason::BadCertificateRequest
    );
    assert!(Nodes::new(bed.dir.path()).all().unwrap().is_empty());
}

#[test]
fn exchanges_that_nobody_ends_do_not_pile_up() {
    let bed = Direct::new();
    let (mut gate, asker) = (bed.gate(), asker());
    let hello = bed.hello();
    let welcome = gate.hello(&asker, hello.clone(), NOW).unwrap().unwrap();
    for _ in 0..5_000 {
        gate.hello(&asker, bed.hello(), NOW).unwrap().unwrap();
    }
    // The oldest exchange was dropped; the newest still exists.
    let join = bed.prove(&hello, &welcome, requests(&Node::new("server01")));
    assert_eq!(
        reason(gate.join(&asker, &join, NOW)),
        Reason::UnknownSession
    );
    let hello = bed.hello();
    let welcome = gate.hello(&asker, hello.clone(), NOW).unwrap().unwrap();
    let join = bed.prove(&hello, &welcome, requests(&Node::new("server01")));
    gate.join(&asker, &join, NOW).unwrap().unwrap();
}

/// A token's identifier is not secret.
#[test]
fn who_begins_exchanges_without_end_drops_his_own_ones() {
    let bed = Direct::new();
    let mut gate = bed.gate();
    let hello = bed.hello();
    let welcome = gate.hello(&asker(), hello.clone(), NOW).unwrap().unwrap();
    for number in 0..8_000_u16 {
        let address = Ipv4Addr::new(127, 1, 0, (number % 17) as u8);
        let attacker = Asker {
            address: address.into(),
            ..asker()
        };
        let one = Hello {
            node_name: format!("evil{number}"),
            node_address: address,
            ..bed.hello()
        };
        gate.hello(&attacker, one, NOW).unwrap().unwrap();
    }
    let join = bed.prove(&hello, &welcome, requests(&Node::new("server01")));
    gate.join(&asker(), &join, NOW).unwrap().unwrap();
}

#[test]
fn a_name_in_use_is_waited_for() {
    let bed = Bed::with_authority(authority(OffsetDateTime::now_utc()), Presence::Ready);
    let (error, transient) = told(bed.join(&Node::new("server01")).unwrap_err());
    assert!(
        transient && error.contains("is in the cluster, and ready"),
        "{error}"
    );
    assert!(error.contains("kubectl delete node server01"), "{error}");
}

#[test]
fn a_master_that_was_rebuilt_is_not_trusted_and_named() {
    let bed = Bed::new();
    let (old, _) = authority(OffsetDateTime::now_utc());
    let joined = Node::new("server01").join(&bed.token, bed.port, Some(&old));
    let (error, transient) = told(joined.unwrap_err());
    assert!(
        !transient && error.contains("has another certificate authority"),
        "{error}"
    );
    assert!(error.contains("move /etc/kubernetes/ca away"), "{error}");
    assert!(
        bed.nodes().all().unwrap().is_empty(),
        "the master got the requests of the node"
    );
}

#[test]
fn an_authority_that_is_not_yet_valid_is_said_and_waited_for() {
    let ahead = Duration::days(3);
    let made = authority(OffsetDateTime::now_utc() + ahead);
    let bed = Bed::with_clock(made, Presence::Absent, ahead);
    let (error, transient) = told(bed.join(&Node::new("server01")).unwrap_err());
    assert!(transient && error.contains("not yet valid"), "{error}");
    assert!(
        error.contains("this machine's clock says") && error.contains("timedatectl"),
        "{error}"
    );
}

/// A listener at the master's address that passes each connection to `serve`, with its number.
fn stand_in(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((MASTER, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream.unwrap(), number));
        }
    });
    port
}

/// Forwards everything both ways until one side ends, or `limit` bytes went to the client.
fn relay(client: &TcpStream, port: u16, limit: usize) {
    let server = TcpStream::connect((MASTER, port)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut &*client, &mut &server);
            let _ = server.shutdown(Shutdown::Both);
        });
        let _ = std::io::copy(&mut (&server).take(limit as u64), &mut &*client);
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
}

#[test]
fn a_network_cut_in_mid_exchange_leaves_nothing_half_done() {
    let bed = Bed::new();
    let (port, cuts) = (bed.port, Arc::new(AtomicUsize::new(0)));
    let counted = cuts.clone();
    // The exchange takes some 7 KiB; each attempt gets a little further than the one before.
    let through = stand_in(move |client, number| {
        counted.fetch_add(1, Ordering::SeqCst);
        relay(&client, port, 500 + 500 * number);
    });
    let node = Node::new("server01");
    let mut tries = 0;
    let joined = loop {
        tries += 1;
        match node.join(&bed.token, through, None) {
            Ok(joined) => break joined,
            Err(failure) => {
                let (error, transient) = told(failure);
                assert!(transient && tries < 60, "{error}");
            }
        }
        // The service accepts only this many requests from one address at a time.
        thread::sleep(std::time::Duration::from_millis(300));
    };
    assert!(tries > 2, "nothing was ever cut");
    assert_eq!(joined.authority, bed.authority);
    assert_eq!(bed.tokens().all().unwrap()[bed.token.id()].used, 1);
}

#[test]
fn two_masters_at_one_address_are_noticed() {
    let beds = [Bed::new(), Bed::new()];
    for bed in &beds {
        bed.tokens()
            .add(beds[0].token.id(), &record(&beds[0].token))
            .unwrap();
    }
    let ports = [beds[0].port, beds[1].port];
    let port = stand_in(move |client, number| relay(&client, ports[number % 2], usize::MAX));
    let joined = Node::new("server01").join(&beds[0].token, port, None);
    let (error, transient) = told(joined.unwrap_err());
    assert!(
        transient && error.contains("two machines use this address"),
        "{error}"
    );
}

#[test]
fn a_man_in_the_middle_learns_nothing_and_is_found_out() {
    let bed = Bed::new();
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (port, listening) = (bed.port, heard.clone());
    let between = stand_in(move |client, _| eavesdrop(client, port, &listening));
    let node = Node::new("server01");
    let (error, transient) = told(node.join(&bed.token, between, None).unwrap_err());
    assert!(
        !transient && error.contains("another machine intercepts the connection"),
        "{error}"
    );
    let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
    assert!(
        heard.contains("tokenId") && heard.contains("\"proof\""),
        "{heard}"
    );
    assert!(!heard.contains("CERTIFICATE REQUEST"), "{heard}");
    let secret = bed.token.expose();
    assert!(!heard.contains(secret.split_once('.').unwrap().1));
}

/// Uses TLS with both sides, with its own certificate for the worker, and records everything.
fn eavesdrop(client: TcpStream, port: u16, heard: &std::sync::Mutex<Vec<u8>>) {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.signing_key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
    let mut worker = rustls::StreamOwned::new(session, client);
    while let Some(request) = request(&mut worker) {
        heard.lock().unwrap().extend(&request.1);
        let url = format!("https://{MASTER}:{port}{}", request.0);
        let answer = super::service::anonymous(None)
            .post(url)
            .body(request.1)
            .send();
        let answer = answer.unwrap().bytes().unwrap();
        heard.lock().unwrap().extend(&answer);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        worker.write_all(head.as_bytes()).unwrap();
        worker.write_all(&answer).unwrap();
    }
}

/// The path and body of the next request.
fn request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1)?.lines().next()?;
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some((head.split(' ').nth(1)?.to_owned(), body))
}
