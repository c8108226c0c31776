//! How often a token serves, whatever happens at the same time.

use std::net::Ipv4Addr;
use std::thread;

use appliance::join::message::Reason;
use appliance::join::tokens::Tokens;
use appliance::nodespec::token::Token;
use appliance::sys::retry::Failure;
use time::OffsetDateTime;

use super::bed::{Bed, Node, relay, told};
use super::faults::{Direct, NOW, asker, reason, requests};

/// Joins, and tries again after a failure that may pass. Returns the refusal.
fn joins(node: &Node, token: &Token, port: u16) -> Result<(), String> {
    for _ in 0..100 {
        match node.join(token, port, None) {
            Ok(_) => return Ok(()),
            Err(Failure::Transient(..)) => {}
            Err(refused) => return Err(told(refused).0),
        }
    }
    panic!("{}: no answer in 100 attempts", node.name)
}

#[test]
fn of_fifty_workers_at_once_exactly_as_many_join_as_the_token_may_serve() {
    const USES: u32 = 10;
    let bed = Bed::new();
    let token = bed.add_token(USES);
    let addresses: Vec<Ipv4Addr> = (1..=50)
        .map(|last| Ipv4Addr::new(127, 0, 50, last))
        .collect();
    relay(&addresses, bed.port);
    let outcomes: Vec<Result<(), String>> = thread::scope(|scope| {
        let join = |address: &Ipv4Addr| {
            let name: &'static str = format!("worker{}", address.octets()[3]).leak();
            let (node, token, port) = (Node::at(name, *address), &token, bed.port);
            scope.spawn(move || joins(&node, token, port))
        };
        let all: Vec<_> = addresses.iter().map(join).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let joined = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(joined, USES as usize, "{outcomes:?}");
    for why in outcomes.into_iter().filter_map(Result::err) {
        assert!(why.contains("was used as often as it may be"), "{why}");
    }
    assert_eq!(bed.tokens().all().unwrap()[token.id()].used, USES);
    assert_eq!(bed.nodes().all().unwrap().len(), USES as usize);
}

#[test]
fn a_token_that_is_revoked_during_a_join_lets_nobody_in() {
    let bed = Direct::new();
    let (mut gate, asker) = (bed.gate(), asker());
    let hello = bed.hello();
    let welcome = gate.hello(&asker, hello.clone(), NOW).unwrap().unwrap();
    let tokens = Tokens::new(bed.dir.path());
    // As `appliance token revoke` does, in another process.
    assert!(tokens.revoke(bed.token.id(), NOW).unwrap());
    let join = bed.prove(&hello, &welcome, requests(&Node::new("server01")));
    assert_eq!(reason(gate.join(&asker, &join, NOW)), Reason::RevokedToken);
    assert_eq!(tokens.all().unwrap()[bed.token.id()].used, 0);
    let nodes = appliance::join::nodes::Nodes::new(bed.dir.path());
    assert!(nodes.all().unwrap().is_empty());
}

#[test]
fn a_node_that_knocks_learns_whether_it_could_join_and_uses_nothing_up() {
    let bed = Bed::new();
    let token = bed.add_token(1);
    let node = Node::new("server01");
    for trusted in [None, Some(&bed.authority[..])] {
        node.worker(bed.port, trusted).knock(&token).unwrap();
    }
    assert_eq!(bed.tokens().all().unwrap()[token.id()].used, 0);
    bed.tokens()
        .revoke(token.id(), OffsetDateTime::now_utc())
        .unwrap();
    let refused = node.worker(bed.port, None).knock(&token).unwrap_err();
    assert!(told(refused).0.contains("was revoked"));
    let unknown = Token::generate().unwrap();
    assert!(node.worker(bed.port, None).knock(&unknown).is_err());
}
