//! A machine that becomes a further master gets the keys that masters share; no other machine does.

use appliance::join::nodes::Presence;
use appliance::sys::retry::Failure;
use time::OffsetDateTime;

use super::bed::{Bed, Node, authority, master_keys, told};

fn refused(bed: &Bed, node: &Node) -> String {
    let worker = node.worker(bed.port, None);
    let failure = worker.join_as_master(&bed.token, &node.held(None));
    told(failure.expect_err("the keys of masters were given")).0
}

#[test]
fn a_master_of_the_inventory_gets_the_keys_that_masters_share() {
    let bed = Bed::new();
    let node = Node::master("server04");
    let worker = node.worker(bed.port, None);
    let joined = worker.join_as_master(&bed.token, &node.held(None)).unwrap();
    assert_eq!(joined.authority, bed.authority);
    assert_eq!(joined.keys, master_keys());
    // It was interrupted before it wrote them, and asks again.
    worker.join_as_master(&bed.token, &node.held(None)).unwrap();
    assert_eq!(bed.tokens().all().unwrap()[bed.token.id()].used, 1);
}

#[test]
fn a_token_does_not_make_a_master_of_a_machine_that_the_settings_do_not_name() {
    let bed = Bed::new();
    let error = refused(&bed, &Node::master("server05"));
    assert!(error.contains("is none of the cluster"), "{error}");
    // The right name, at the address of another master.
    let error = refused(&bed, &Node::master("server02"));
    assert!(error.contains("is the name of the master"), "{error}");
    assert_eq!(bed.tokens().all().unwrap()[bed.token.id()].used, 0);
}

#[test]
fn a_worker_has_no_name_of_the_api_server_in_any_spelling() {
    let bed = Bed::new();
    for name in [
        "kubernetes",
        "api.example.org",
        "localhost",
        "Kubernetes",
        "KUBERNETES",
        "kubernetes.",
        "*.example.org",
        "*",
        "system:node:server01",
        "kubernetes ",
        "192.168.1.102",
        "::ffff:192.168.1.102",
    ] {
        let refused = told(bed.join(&Node::new(name)).unwrap_err());
        println!("{name}: {}", refused.0);
        assert_eq!(
            bed.tokens().all().unwrap()[bed.token.id()].used,
            0,
            "{name}"
        );
    }
    let (error, transient) = told(bed.join(&Node::new("kubernetes")).unwrap_err());
    assert!(
        error.contains("is a name of the API server") && !transient,
        "{error}"
    );
}

#[test]
fn a_worker_has_no_masters_name() {
    let bed = Bed::new();
    let (error, transient) = told(bed.join(&Node::new("server04")).unwrap_err());
    assert!(
        error.contains("give the worker another") && !transient,
        "{error}"
    );
}

#[test]
fn a_masters_place_is_taken_only_when_it_is_gone() {
    let made = authority(OffsetDateTime::now_utc());
    let bed = Bed::with_authority(made, Presence::Ready);
    let node = Node::master("server04");
    let worker = node.worker(bed.port, None);
    let failure = worker.join_as_master(&bed.token, &node.held(None));
    assert!(
        matches!(failure, Err(Failure::Transient(..))),
        "{failure:?}"
    );
}
