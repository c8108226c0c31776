//! How a node asks whether it is its turn to get another bundle, and gets the appliance.
//!
//! The appliance is no secret. What the node runs is decided by the answer: the signer of a master signs it with the key of
//! the cluster's authority, for this node and this question. A worker, or the service on the network alone, can make no node
//! run a program.

use std::io::Read;

use anyhow::{Result, anyhow, ensure};
use rcgen::KeyPair;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::client::Worker;
use super::message::{FOLLOW, PROGRAM, SERVICE_NAME};
use super::program::PART;
use super::proof::Fields;
use super::rollout::{Rollout, Stage};
use super::signed::Signed;
use crate::digest::Sha256;
use crate::nodespec::token::Bytes32;
use crate::pki::signature::Signature;
use crate::pki::{inspect, key};
use crate::sys::http;
use crate::sys::retry::{Failure, permanent, transient};
use crate::sys::tls::Identity;

/// What a node reports about its upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reported {
    /// SHA-256 of the appliance.
    pub program: Sha256,
    /// How far the node is.
    pub stage: Stage,
    /// Why it failed.
    pub said: Option<String>,
}

/// A node's question whether it is its turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// What it reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Reported>,
    /// Its random bytes: the answer is for this question only.
    pub nonce: Bytes32,
    /// The time of its clock.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// The signature over all of this, with the key of its certificate kubelet-client.
    pub signature: Signature,
}

/// What a node is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// SHA-256 of the appliance.
    pub program: Sha256,
    /// Its size, in bytes.
    pub size: u64,
    /// How long the node may take until it is healthy, in seconds.
    pub limit: u64,
}

/// The answer to [`Follow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offered {
    /// What to run; `None` if it is not this node's turn.
    pub offer: Option<Offer>,
    /// The signature over the offer, the name of the node and its random bytes, with the key of the issuing authority.
    pub signature: Signature,
}

impl From<&Rollout> for Offer {
    fn from(plan: &Rollout) -> Offer {
        Offer {
            program: plan.program.clone(),
            size: plan.size,
            limit: plan.limit,
        }
    }
}

impl Signed for Follow {
    fn text(&self) -> Vec<u8> {
        question(self.report.as_ref(), &self.nonce, self.time)
    }

    fn time(&self) -> OffsetDateTime {
        self.time
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }
}

impl Follow {
    /// A question, signed with the key of the node's certificate kubelet-client.
    pub fn signed(key: &KeyPair, report: Option<Reported>, time: OffsetDateTime) -> Result<Follow> {
        let nonce = Bytes32::random()?;
        let signature = Signature::of(key, &question(report.as_ref(), &nonce, time))?;
        Ok(Follow {
            report,
            nonce,
            time,
            signature,
        })
    }
}

impl Offered {
    /// The answer to the node `name`, which sent `nonce`, signed with the key of the issuing authority.
    pub fn signed(
        key: &KeyPair,
        offer: Option<Offer>,
        name: &str,
        nonce: &Bytes32,
    ) -> Result<Offered> {
        let signature = Signature::of(key, &answer(offer.as_ref(), name, nonce))?;
        Ok(Offered { offer, signature })
    }

    /// The offer, if one of the authorities (PEM) that this node trusts signed it for the node `name`, which sent `nonce`.
    pub fn accepted(self, authorities: &str, name: &str, nonce: &Bytes32) -> Result<Option<Offer>> {
        let text = answer(self.offer.as_ref(), name, nonce);
        let all = inspect::certificates(authorities)?;
        ensure!(
            all.iter()
                .any(|(_, info)| self.signature.is_by(&info.public_key, &text)),
            "its answer is not signed by an authority that this node trusts; this node runs nothing of it"
        );
        Ok(self.offer)
    }
}

fn question(report: Option<&Reported>, nonce: &Bytes32, time: OffsetDateTime) -> Vec<u8> {
    let mut fields = Fields::new("appliance upgrade question v1");
    fields.add(&time.unix_timestamp_nanos().to_be_bytes());
    fields.add(&nonce.0);
    if let Some(report) = report {
        fields.add(report.program.as_str().as_bytes());
        fields.add(format!("{:?}", report.stage).as_bytes());
        fields.add(report.said.as_deref().unwrap_or_default().as_bytes());
    }
    fields.bytes()
}

fn answer(offer: Option<&Offer>, name: &str, nonce: &Bytes32) -> Vec<u8> {
    let mut fields = Fields::new("appliance upgrade v1");
    fields.add(name.as_bytes());
    fields.add(&nonce.0);
    if let Some(offer) = offer {
        fields.add(offer.program.as_str().as_bytes());
        fields.add(&offer.size.to_be_bytes());
        fields.add(&offer.limit.to_be_bytes());
    }
    fields.bytes()
}

impl Worker<'_> {
    /// Asks whether it is this node's turn, and reports. It authenticates with the certificate in `identity`.
    pub fn follow(
        &self,
        identity: &Identity<'_>,
        report: Option<Reported>,
    ) -> Result<Option<Offer>, Failure> {
        let client = self.known_master(identity)?;
        let key = key::read(identity.key).map_err(permanent)?;
        let question =
            Follow::signed(&key, report, OffsetDateTime::now_utc()).map_err(permanent)?;
        let offered: Offered = self.ask(&client, FOLLOW, &question)?;
        let trusted = self.trusted.unwrap_or_default();
        let accepted = offered.accepted(trusted, self.name, &question.nonce);
        accepted.map_err(|error| permanent(error.context(self.to_string())))
    }

    /// The bytes of the appliance from the byte `from` on, at most [`PART`]. It authenticates with any certificate of
    /// the cluster.
    ///
    /// # Errors
    /// Permanent if this master has another appliance.
    pub fn part(
        &self,
        identity: &Identity<'_>,
        program: &Sha256,
        from: u64,
    ) -> Result<Vec<u8>, Failure> {
        let client = self.known_master(identity)?;
        let url = format!(
            "https://{SERVICE_NAME}:{}{PROGRAM}/{program}/{from}",
            self.port + 1
        );
        let response = client.get(url).send();
        let response = response
            .map_err(|error| transient(http::root_cause(&error).context(self.to_string())))?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Err(permanent(anyhow!("{self} has another appliance")));
        }
        if status != StatusCode::OK {
            return Err(transient(anyhow!("{self} answers {status}")));
        }
        let mut bytes = Vec::new();
        response
            .take(PART)
            .read_to_end(&mut bytes)
            .map_err(|error| transient(anyhow::Error::from(error).context(self.to_string())))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn only_an_authority_of_the_cluster_makes_a_node_run_a_program_and_only_this_node_now() {
        let key = KeyPair::generate().unwrap();
        let pem = CertificateParams::default()
            .self_signed(&key)
            .unwrap()
            .pem();
        let offer = Offer {
            program: Sha256::of(b"appliance"),
            size: 9,
            limit: 600,
        };
        let nonce = Bytes32::random().unwrap();
        let offered = |key: &KeyPair, name: &str, nonce: &Bytes32| {
            Offered::signed(key, Some(offer.clone()), name, nonce).unwrap()
        };
        let accepted = offered(&key, "server03", &nonce).accepted(&pem, "server03", &nonce);
        assert_eq!(accepted.unwrap().as_ref(), Some(&offer));
        let stranger = KeyPair::generate().unwrap();
        let other = Bytes32::random().unwrap();
        for wrong in [
            offered(&stranger, "server03", &nonce),
            offered(&key, "server01", &nonce),
            offered(&key, "server03", &other),
            Offered {
                offer: Some(Offer {
                    program: Sha256::of(b"another"),
                    ..offer.clone()
                }),
                ..offered(&key, "server03", &nonce)
            },
            Offered {
                offer: None,
                ..offered(&key, "server03", &nonce)
            },
        ] {
            assert!(wrong.accepted(&pem, "server03", &nonce).is_err());
        }
    }

    #[test]
    fn what_a_node_reports_is_signed_as_a_whole() {
        let key = KeyPair::generate().unwrap();
        let report = Reported {
            program: Sha256::of(b"appliance"),
            stage: Stage::Done,
            said: None,
        };
        let follow = Follow::signed(&key, Some(report.clone()), OffsetDateTime::now_utc()).unwrap();
        let public = rcgen::PublicKeyData::subject_public_key_info(&key);
        assert!(follow.signature.is_by(&public, &follow.text()));
        let changed = Follow {
            report: Some(Reported {
                stage: Stage::Failed,
                ..report
            }),
            ..follow
        };
        assert!(!changed.signature.is_by(&public, &changed.text()));
    }
}
