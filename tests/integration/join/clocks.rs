//! Masters and workers whose clocks differ.

use appliance::join::nodes::Presence;
use appliance::nodespec::token::Token;
use appliance::records::tokens::TokenRecord;
use time::{Duration, OffsetDateTime};

use super::bed::{Bed, Node, authority, record, told};

/// Checks that an error names both clocks and the next step.
fn names_both_clocks(error: &str, ahead: Duration) {
    let now = OffsetDateTime::now_utc();
    for part in [
        format!("this machine's clock says {}", now.date()),
        (now + ahead).date().to_string(),
        "`timedatectl set-ntp true`".to_owned(),
    ] {
        assert!(error.contains(&part), "{part} is not in: {error}");
    }
}

#[test]
fn a_certificate_that_is_not_valid_yet_names_both_clocks() {
    let ahead = Duration::days(3);
    let made = authority(OffsetDateTime::now_utc());
    let bed = Bed::with_clock(made, Presence::Absent, ahead);
    let token = Token::generate().unwrap();
    let endless = TokenRecord {
        expires: None,
        ..record(&token)
    };
    bed.tokens().add(token.id(), &endless).unwrap();
    let joined = Node::new("server01").join(&token, bed.port, None);
    let (error, transient) = told(joined.unwrap_err());
    assert!(transient && error.contains("not yet valid"), "{error}");
    names_both_clocks(&error, ahead);
}

#[test]
fn a_renewal_at_a_master_whose_clock_is_ahead_names_both_clocks() {
    let (authority, key) = authority(OffsetDateTime::now_utc());
    let again = rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let bed = Bed::with_authority((authority.clone(), key), Presence::Absent);
    let node = Node::new("server01");
    node.keep(&bed.join(&node).unwrap());
    // Its certificate begins a day before its own time.
    let ahead = Duration::days(3);
    let bed = Bed::with_clock((authority, again), Presence::Absent, ahead);
    let (error, transient) = told(node.renew(&bed).unwrap_err());
    assert!(transient && error.contains("not valid yet"), "{error}");
    names_both_clocks(&error, ahead - Duration::days(1));
}
