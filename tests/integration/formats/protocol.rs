//! The join protocol: messages, proofs and signatures of its versions, as former programs sent them.

use std::collections::BTreeMap;
use std::fs;

use appliance::formats;
use appliance::join::follow::{Follow, Offer, Offered, Reported};
use appliance::join::message::{
    Certificate, CertificateSigningRequest, Certificates, Hello, Join, Reason, Refusal, Renew,
    Trust, Trusted, Welcome,
};
use appliance::join::proof::{Asked, Transcript};
use appliance::join::rollout::Stage;
use appliance::join::sealed::{MasterKeys, Sealed};
use appliance::join::signed::Signed;
use appliance::nodespec::Ipip;
use appliance::nodespec::token::{Bytes32, Token};
use appliance::pki::inspect;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::fixture;
use crate::join::bed::{WORKER, authority, master_keys};

/// One exchange of each kind between the node `server01` and its master, with all members that messages can have.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Recording {
    /// The token, with its secret.
    token: String,
    /// The authority that the node trusts, in PEM.
    own: String,
    /// The server certificate of the join service.
    server_certificate: String,
    hello: Value,
    welcome: Value,
    join: Value,
    certificates: Value,
    renew: Value,
    trust: Value,
    trusted: Value,
    follow: Value,
    offered: Value,
    master_keys: Value,
    /// For every reason of a refusal, its HTTP status.
    reasons: BTreeMap<String, u16>,
}

const NODE: &str = "server01";
const REASONS: [Reason; 13] = [
    Reason::BadRequest,
    Reason::UnknownToken,
    Reason::ExpiredToken,
    Reason::RevokedToken,
    Reason::UsedUpToken,
    Reason::WrongProof,
    Reason::UnknownSession,
    Reason::NotYours,
    Reason::NameTaken,
    Reason::BadCertificateRequest,
    Reason::TooManyRequests,
    Reason::Unavailable,
    Reason::UnsupportedVersion,
];

fn transcript<'a>(
    recording: &'a Recording,
    hello: &'a Hello,
    welcome: &'a Welcome,
) -> Transcript<'a> {
    Transcript {
        token: &hello.token_id,
        node_name: &hello.node_name,
        node_address: hello.node_address,
        worker_nonce: &hello.nonce,
        master_nonce: &welcome.nonce,
        authority: &welcome.authority,
        server_certificate: recording.server_certificate.as_bytes(),
    }
}

fn asked(join: &Join) -> Asked<'_> {
    Asked {
        requests: &join.requests,
        master: join.master.as_ref(),
        machine: join.machine.as_ref(),
    }
}

/// Records the exchanges of this version.
fn record() -> Recording {
    let now = OffsetDateTime::now_utc();
    let ((own, key), (next, _)) = (authority(now), authority(now));
    let token = Token::generate().unwrap();
    let bytes = |byte: u8| Bytes32([byte; 32]);
    let program = "ab".repeat(32).parse().unwrap();
    let both = format!("{next}{own}");
    let hello = Hello {
        token_id: token.id().clone(),
        node_name: NODE.to_owned(),
        node_address: WORKER,
        nonce: bytes(1),
        trusts: true,
    };
    let trusted = Trusted::signed(&key, both.clone(), NODE, &hello.nonce).unwrap();
    let mut welcome = Welcome {
        session: bytes(2),
        nonce: bytes(3),
        authority: both,
        signature: Some(trusted.signature),
        proof: bytes(0),
        time: now,
    };
    let requests = vec![CertificateSigningRequest {
        name: "kubelet".to_owned(),
        csr: "a request".to_owned(),
    }];
    let mut join = Join {
        session: welcome.session,
        proof: bytes(0),
        requests: requests.clone(),
        master: Some(bytes(4)),
        machine: Some(bytes(5)),
    };
    let mut recording = Recording {
        token: token.expose().to_string(),
        own,
        server_certificate: "the certificate".to_owned(),
        hello: as_sent(&hello),
        welcome: Value::Null,
        join: Value::Null,
        certificates: as_sent(&Certificates {
            certificates: vec![Certificate {
                name: "kubelet".to_owned(),
                pem: "a certificate".to_owned(),
            }],
            master: Some(Sealed {
                public_key: bytes(6),
                content: "c2VhbGVk".to_owned(),
            }),
            ipip: Some(Ipip::CrossSubnet),
        }),
        renew: as_sent(&Renew::signed(&key, requests, Some(bytes(7)), now).unwrap()),
        trust: as_sent(&Trust::signed(&key, Some("digest".to_owned()), now).unwrap()),
        trusted: Value::Null,
        follow: Value::Null,
        offered: Value::Null,
        master_keys: as_sent(&MasterKeys {
            verifying: Some("public keys".to_owned()),
            ..master_keys()
        }),
        reasons: reasons(),
    };
    let report = Reported {
        program,
        stage: Stage::Failed,
        said: Some("it failed".to_owned()),
    };
    let offer = Offer {
        program: report.program.clone(),
        size: 72_000_000,
        limit: 600,
    };
    let trust: Trust = received(&recording.trust);
    let follow = Follow::signed(&key, Some(report), now).unwrap();
    let trusted = Trusted::signed(&key, welcome.authority.clone(), NODE, &trust.nonce);
    recording.trusted = as_sent(&trusted.unwrap());
    recording.offered = as_sent(&Offered::signed(&key, Some(offer), NODE, &follow.nonce).unwrap());
    recording.follow = as_sent(&follow);
    let facts = transcript(&recording, &hello, &welcome);
    let proofs = (
        token.verifier().prove(&facts),
        token.prove(&facts, &asked(&join)),
    );
    (welcome.proof, join.proof) = proofs;
    recording.welcome = as_sent(&welcome);
    recording.join = as_sent(&join);
    recording
}

fn reasons() -> BTreeMap<String, u16> {
    let name = |reason: &Reason| as_sent(reason).as_str().unwrap().to_owned();
    REASONS
        .iter()
        .map(|reason| (name(reason), reason.status()))
        .collect()
}

fn as_sent(message: &impl Serialize) -> Value {
    serde_json::to_value(message).unwrap()
}

/// The message, which must be sent again as it was.
#[track_caller]
fn received<T: DeserializeOwned + Serialize>(sent: &Value) -> T {
    let message: T = serde_json::from_value(sent.clone()).unwrap();
    assert_eq!(as_sent(&message), *sent);
    message
}

/// The recording of that version of the protocol. `APPLIANCE_BLESS=1` writes one that is missing, and never another one.
fn recorded(version: u32) -> Recording {
    let path = fixture(&format!("{}-{version}.json", formats::JOIN.name));
    if !path.exists() && std::env::var_os("APPLIANCE_BLESS").is_some() {
        fs::write(
            &path,
            serde_json::to_string_pretty(&record()).unwrap() + "\n",
        )
        .unwrap();
    }
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn messages_of_the_first_version_are_read_and_their_proofs_hold() {
    let recording = recorded(1);
    let (hello, welcome): (Hello, Welcome) =
        (received(&recording.hello), received(&recording.welcome));
    let join: Join = received(&recording.join);
    let token: Token = recording.token.parse().unwrap();
    let facts = transcript(&recording, &hello, &welcome);
    assert!(token.accepts(&facts, &welcome.proof));
    let verifier = token.verifier();
    assert!(
        verifier
            .accepts(&facts, &asked(&join), &join.proof)
            .is_some()
    );
    received::<Certificates>(&recording.certificates);
    received::<MasterKeys>(&recording.master_keys);
    assert_eq!(recording.reasons, reasons());
}

#[test]
fn signatures_of_the_first_version_hold() {
    let recording = recorded(1);
    let key = inspect::inspect(recording.own.as_bytes())
        .unwrap()
        .public_key;
    let holds = |request: &dyn Signed| request.signature().is_by(&key, &request.text());
    let (trust, follow): (Trust, Follow) =
        (received(&recording.trust), received(&recording.follow));
    let renew: Renew = received(&recording.renew);
    assert!(holds(&renew) && holds(&trust) && holds(&follow));
    let trusted: Trusted = received(&recording.trusted);
    trusted
        .accepted(&recording.own, NODE, &trust.nonce)
        .unwrap();
    let offered: Offered = received(&recording.offered);
    let offer = offered
        .accepted(&recording.own, NODE, &follow.nonce)
        .unwrap();
    assert_eq!(offer.unwrap().limit, 600);
}

#[test]
fn a_reason_that_only_newer_masters_know_is_read() {
    let refusal: Refusal =
        serde_json::from_str(r#"{"reason": "full-moon", "error": "wait"}"#).unwrap();
    assert_eq!(refusal, Refusal::new(Reason::Other, "wait"));
}
