//! What the process on the network can do with what it hears, and with its own certificate.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use appliance::join::gate::Gate;
use appliance::join::message::{
    CertificateSigningRequest, RENEW, Reason, Renew, SERVICE_NAME, Trust,
};
use appliance::join::signer::{self, Answer, Question};
use appliance::nodespec::token::Bytes32;
use appliance::paths;
use appliance::pki::{Existing, inspect};
use appliance::sys::http;
use appliance::sys::tls::Identity;
use pem::parse;
use rcgen::{CertificateParams, KeyPair};
use time::Duration as Span;

use super::bed::{Bed, MASTER, Node};
use super::faults::{Direct, NOW, asker, reason, requests};

/// A gate that server01 has joined, and its certificate kubelet-client in DER.
pub fn joined(bed: &Direct, node: &Node) -> (Gate<'static>, Vec<u8>) {
    let mut gate = bed.gate();
    let hello = bed.hello();
    let welcome = gate.hello(&asker(), hello.clone(), NOW).unwrap().unwrap();
    let join = bed.prove(&hello, &welcome, requests(node));
    let given = gate.join(&asker(), &join, NOW).unwrap().unwrap();
    let own = given
        .certificates
        .iter()
        .find(|given| given.name == "kubelet-client");
    let certificate = parse(&own.unwrap().pem).unwrap().into_contents();
    (gate, certificate)
}

pub fn key(node: &Node) -> KeyPair {
    let path = paths::key("kubelet-client");
    let pem = Existing::read(&node.files, &path).unwrap().unwrap();
    KeyPair::from_pem(str::from_utf8(&pem).unwrap()).unwrap()
}

/// The requests of `node` for all but kubelet-client, with other keys.
fn with_other_keys(node: &Node) -> Vec<CertificateSigningRequest> {
    let other = Node::new("server01");
    let mut mixed = requests(&other);
    for (own, request) in requests(node).into_iter().zip(&mut mixed) {
        if own.name == "kubelet-client" {
            *request = own;
        }
    }
    mixed
}

#[test]
fn who_saw_a_nodes_certificate_and_request_gets_no_certificates_for_other_keys() {
    let (bed, node) = (Direct::new(), Node::new("server01"));
    let (mut gate, certificate) = joined(&bed, &node);
    let heard = Renew::signed(&key(&node), requests(&node), None, NOW).unwrap();
    let mut renew = |renew: &Renew, now| gate.renew(&asker(), &certificate, renew, now);
    renew(&heard, NOW).unwrap().unwrap();

    let others = Renew {
        requests: with_other_keys(&node),
        ..heard.clone()
    };
    let elsewhere = Renew {
        machine: Some(Bytes32([7; 32])),
        ..heard.clone()
    };
    let later = Renew {
        time: NOW + Span::days(2),
        ..heard.clone()
    };
    let mut fewer = heard.clone();
    fewer.requests.pop();
    let stranger = KeyPair::generate().unwrap();
    let own = Renew::signed(&stranger, with_other_keys(&node), None, NOW).unwrap();
    for forged in [others, elsewhere, later, fewer, own] {
        assert_eq!(reason(renew(&forged, NOW)), Reason::NotYours, "{forged:?}");
    }
    // What was heard serves nobody for long.
    let refused = renew(&heard, NOW + Span::hours(25)).unwrap().unwrap_err();
    assert_eq!(refused.reason, Reason::Unavailable);
    assert!(
        refused.error.contains("the master's clock says"),
        "{refused:?}"
    );
}

#[test]
fn nobody_reports_for_a_node_that_it_has_taken_authorities() {
    let (bed, node) = (Direct::new(), Node::new("server01"));
    let (mut gate, certificate) = joined(&bed, &node);
    let own = Trust::signed(&key(&node), None, NOW).unwrap();
    let mut trust = |trust: &Trust| gate.trust(&asker(), &certificate, trust, NOW);
    trust(&own).unwrap().unwrap();
    let forged = Trust {
        taken: Some("the digest".to_owned()),
        ..own
    };
    assert_eq!(reason(trust(&forged)), Reason::NotYours);
}

#[test]
fn the_certificate_of_the_service_has_no_name_or_address_of_the_master() {
    let bed = Direct::new();
    let mut gate = bed.gate();
    let own = KeyPair::generate().unwrap();
    let csr = CertificateParams::default()
        .serialize_request(&own)
        .unwrap();
    let question = Question::Serve(csr.pem().unwrap());
    let answer = signer::answer(&mut gate, question, NOW).unwrap();
    let Answer::Serve(pem) = answer else {
        panic!("{answer:?}")
    };
    let info = inspect::inspect(pem.as_bytes()).unwrap();
    assert_eq!(info.sans(), [SERVICE_NAME]);
    assert!(info.server && !info.client);
}

#[test]
fn a_client_that_expects_the_masters_address_does_not_take_the_service_for_it() {
    let bed = Bed::new();
    let node = Node::new("server01");
    node.keep(&bed.join(&node).unwrap());
    node.renew(&bed).unwrap();
    let [certificate, key] = &node.own();
    let identity = Identity { certificate, key };
    let patience = Duration::from_secs(10);
    let client = http::client(bed.authority.as_bytes(), Some(&identity), patience).unwrap();
    let url = format!("https://{MASTER}:{}{RENEW}", bed.port + 1);
    let error = client.post(url).body("{}").send().unwrap_err();
    assert!(http::is_tls_refusal(&error), "{error:?}");
}

#[test]
fn a_question_that_comes_byte_by_byte_is_cut_off() {
    let bed = Bed::new();
    let node = Node::new("server01");
    // The signer answers.
    bed.join(&node).unwrap();
    let mut slow = UnixStream::connect(bed.path().join("socket")).unwrap();
    // Each byte comes soon enough; all of them would take days.
    let cut = (0..60).any(|_| {
        thread::sleep(Duration::from_millis(250));
        slow.write_all(b" ").is_err()
    });
    assert!(cut, "the signer waits without end");
    bed.join(&node).unwrap();
}
