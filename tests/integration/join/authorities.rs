//! Which authorities a node takes from whoever answers in the place of a master.

use anyhow::Result;
use appliance::join::message::Trusted;
use appliance::join::nodes::Presence;
use appliance::nodespec::token::Bytes32;
use appliance::sys::tls::Identity;
use rcgen::KeyPair;
use time::{Duration, OffsetDateTime};

use super::bed::{Bed, Node, authority, told};

/// A list of authorities for `server01`, signed with `key`; and whether the node that trusts `own` takes it.
fn takes(own: &str, sent: &str, key: &KeyPair) -> Result<String> {
    let nonce = Bytes32([7; 32]);
    let trusted = Trusted::signed(key, sent.to_owned(), "server01", &nonce).unwrap();
    trusted.accepted(own, "server01", &nonce)
}

#[test]
fn a_node_takes_only_authorities_that_its_newest_one_signed() {
    let now = OffsetDateTime::now_utc();
    let (old, new) = (authority(now - Duration::hours(1)), authority(now));
    let (evil, more) = (authority(now), authority(now));
    let server = KeyPair::generate().unwrap();
    let list =
        |all: &[&(String, KeyPair)]| -> String { all.iter().map(|one| one.0.as_str()).collect() };
    let (only_old, both) = (list(&[&old]), list(&[&old, &new]));
    let (anew, only_new) = (list(&[&new, &old]), list(&[&new]));
    // A rotation, step by step; and the next one, for a node that did not drop the old authority in time.
    for (own, sent, key) in [
        (&only_old, &both, &old.1),
        (&both, &both, &old.1),
        (&both, &anew, &new.1),
        (&anew, &only_new, &new.1),
        (&anew, &list(&[&new, &more]), &new.1),
    ] {
        assert_eq!(takes(own, sent, key).unwrap(), *sent);
    }
    // A server of the cluster; the key that the rotation replaces; two at once; none.
    for (own, sent, key) in [
        (&only_old, &list(&[&old, &evil]), &server),
        (&only_old, &list(&[&old, &evil]), &evil.1),
        (&both, &list(&[&old, &new, &evil]), &old.1),
        (&both, &list(&[&old, &evil]), &old.1),
        (&both, &only_old, &old.1),
        (&anew, &both, &old.1),
        (&anew, &only_old, &old.1),
        (&only_new, &anew, &old.1),
        (&only_old, &list(&[&old, &evil, &more]), &old.1),
        (&only_old, &String::new(), &old.1),
    ] {
        assert!(takes(own, sent, key).is_err());
    }
    // An answer to another node, or to another question.
    let (nonce, other) = (Bytes32([7; 32]), Bytes32([8; 32]));
    let signed = || Trusted::signed(&old.1, both.clone(), "server01", &nonce).unwrap();
    assert!(signed().accepted(&only_old, "server01", &nonce).is_ok());
    assert!(signed().accepted(&only_old, "server03", &nonce).is_err());
    assert!(signed().accepted(&only_old, "server01", &other).is_err());
}

#[test]
fn a_copy_of_the_replaced_key_gives_no_node_another_authority() {
    let now = OffsetDateTime::now_utc();
    let (old, new) = (authority(now - Duration::hours(1)), authority(now));
    let stolen = KeyPair::from_pem(&old.1.serialize_pem()).unwrap();
    let node = Node::new("server01");
    let absent = Presence::Absent;
    let first = Bed::with_authority((old.0.clone(), old.1), absent);
    node.keep(&first.join(&node).unwrap());
    let record = first.nodes().all().unwrap().remove("server01").unwrap();
    let evil = authority(now);
    let bed = Bed::with_authority((format!("{}{}", old.0, evil.0), stolen), absent);
    bed.nodes().note("server01", &record).unwrap();
    let [certificate, key] = &node.own();
    let identity = Identity { certificate, key };
    let both = format!("{}{}", old.0, new.0);
    let asked = node.worker(bed.port, Some(&both)).trust(&identity, None);
    let (error, _) = told(asked.unwrap_err());
    assert!(
        error.contains("not signed by the newest authority"),
        "{error}"
    );
}

/// Every node of a cluster may have its token, and so may an attacker.
#[test]
fn who_has_the_token_gives_no_node_that_joins_again_another_authority() {
    let now = OffsetDateTime::now_utc();
    let (old, new, evil) = (
        authority(now - Duration::hours(1)),
        authority(now),
        authority(now),
    );
    let node = Node::new("server01");
    let joins = |sent: &str, key: &KeyPair, own: &str| {
        let key = KeyPair::from_pem(&key.serialize_pem()).unwrap();
        let bed = Bed::with_authority((sent.to_owned(), key), Presence::Absent);
        node.join(&bed.token, bed.port, Some(own))
    };
    // The attacker's own, before and behind that of the cluster; with the key of a replaced one.
    let (both, own) = (format!("{}{}", old.0, new.0), &old.0);
    for (sent, key, own) in [
        (format!("{}{own}", evil.0), &evil.1, own),
        (format!("{}{}{own}", evil.0, new.0), &evil.1, own),
        (format!("{}{}", old.0, evil.0), &old.1, &both),
    ] {
        let (error, transient) = told(joins(&sent, key, own).unwrap_err());
        assert!(
            error.contains("not signed by the newest authority") && !transient,
            "{error}"
        );
    }
    // Its own alone, and a rotation.
    for sent in [own, &both] {
        assert_eq!(joins(sent, &old.1, own).unwrap().authority, *sent);
    }
    let anew = format!("{}{}", new.0, old.0);
    assert_eq!(joins(&anew, &new.1, &both).unwrap().authority, anew);
}
