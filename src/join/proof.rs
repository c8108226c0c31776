//! The proofs of both sides that they know the token. Pure.
//!
//! Both proofs cover all messages between the two sides, and the master's certificate in this TLS
//! connection. A machine that intercepts the connection has to use another certificate, so it
//! cannot forward either proof.

use core::net::Ipv4Addr;

use ring::hmac;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::message::CertificateSigningRequest;
use crate::nodespec::token::{Bytes32, KEY_BYTES, Token, TokenId, Verifier};

/// The facts of an exchange that both sides know before the proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript<'a> {
    /// The ID of the token.
    pub token: &'a TokenId,
    /// The node name that the worker requests.
    pub node_name: &'a str,
    /// The worker's address.
    pub node_address: Ipv4Addr,
    /// The worker's nonce.
    pub worker_nonce: &'a Bytes32,
    /// The master's nonce.
    pub master_nonce: &'a Bytes32,
    /// The CA certificates, as the master sent them.
    pub authority: &'a str,
    /// The server certificate in this TLS connection, in DER.
    pub server_certificate: &'a [u8],
}

/// What the worker's proof covers in addition.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The certificates it requests.
    pub requests: &'a [CertificateSigningRequest],
    /// The public key for which to seal the keys of masters, if it requests them.
    pub master: Option<&'a Bytes32>,
    /// SHA-256 of the UUID of its machine, if it sends that.
    pub machine: Option<&'a Bytes32>,
}

/// The bytes to authenticate. Each field has its length, so that different lists always give
/// different bytes.
pub(super) struct Fields(Vec<u8>);

impl Fields {
    /// The fields of a statement of this kind.
    pub(super) fn new(kind: &str) -> Fields {
        let mut fields = Fields(Vec::new());
        fields.add(kind.as_bytes());
        fields
    }

    /// The bytes of all fields.
    pub(super) fn bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn add(&mut self, field: &[u8]) {
        self.0.extend((field.len() as u64).to_be_bytes());
        self.0.extend(field);
    }
}

impl Transcript<'_> {
    fn fields(&self, side: &str) -> Fields {
        let mut fields = Fields::new("appliance join v1");
        fields.add(side.as_bytes());
        fields.add(self.token.to_string().as_bytes());
        fields.add(self.node_name.as_bytes());
        fields.add(&self.node_address.octets());
        fields.add(&self.worker_nonce.0);
        fields.add(&self.master_nonce.0);
        fields.add(&Sha256::digest(self.authority));
        fields.add(&Sha256::digest(self.server_certificate));
        fields
    }

    fn worker_fields(&self, asked: &Asked<'_>) -> Fields {
        let mut fields = self.fields("worker");
        fields.add(asked.master.map_or(&[], |key| &key.0));
        fields.add(asked.machine.map_or(&[], |machine| &machine.0));
        for request in asked.requests {
            fields.add(request.name.as_bytes());
            fields.add(request.csr.as_bytes());
        }
        fields
    }
}

fn hmac(key: &[u8], fields: &Fields) -> Bytes32 {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &fields.0);
    let mut bytes = [0; KEY_BYTES];
    bytes.copy_from_slice(tag.as_ref());
    Bytes32(bytes)
}

fn xor(a: &[u8; KEY_BYTES], b: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    std::array::from_fn(|i| a[i] ^ b[i])
}

impl Verifier {
    /// The master's proof.
    pub fn prove(&self, transcript: &Transcript<'_>) -> Bytes32 {
        hmac(&self.master_key.0, &transcript.fields("master"))
    }

    /// Verifies the proof of a worker for these requests. Returns the token's key for workers if
    /// the sender has the token's secret.
    pub fn accepts(
        &self,
        transcript: &Transcript<'_>,
        asked: &Asked<'_>,
        proof: &Bytes32,
    ) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        let signature = hmac(&self.stored_key.0, &transcript.worker_fields(asked));
        let key = Zeroizing::new(xor(&proof.0, &signature.0));
        let is_it = Bytes32(Sha256::digest(*key).into()).is(&self.stored_key);
        is_it.then_some(key)
    }
}

impl Token {
    /// The worker's proof, for exactly these requests.
    pub fn prove(&self, transcript: &Transcript<'_>, asked: &Asked<'_>) -> Bytes32 {
        let key = self.worker_key();
        let stored: [u8; KEY_BYTES] = Sha256::digest(*key).into();
        let signature = hmac(&stored, &transcript.worker_fields(asked));
        Bytes32(xor(&key, &signature.0))
    }

    /// Whether `proof` comes from a master that knows this token.
    pub fn accepts(&self, transcript: &Transcript<'_>, proof: &Bytes32) -> bool {
        self.verifier().prove(transcript).is(proof)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Exchange {
        token: Token,
        nonces: [Bytes32; 2],
        requests: Vec<CertificateSigningRequest>,
    }

    fn exchange() -> Exchange {
        Exchange {
            token: Token::generate().unwrap(),
            nonces: [Bytes32::random().unwrap(), Bytes32::random().unwrap()],
            requests: vec![CertificateSigningRequest {
                name: "kubelet".to_owned(),
                csr: "-----BEGIN".to_owned(),
            }],
        }
    }

    impl Exchange {
        fn asked(&self) -> Asked<'_> {
            Asked {
                requests: &self.requests,
                master: None,
                machine: None,
            }
        }

        fn transcript(&self) -> Transcript<'_> {
            Transcript {
                token: self.token.id(),
                node_name: "server01",
                node_address: Ipv4Addr::new(192, 168, 1, 101),
                worker_nonce: &self.nonces[0],
                master_nonce: &self.nonces[1],
                authority: "a certificate",
                server_certificate: b"another",
            }
        }
    }

    #[test]
    fn both_sides_believe_each_other() {
        let exchange = exchange();
        let (transcript, verifier) = (exchange.transcript(), exchange.token.verifier());
        assert!(
            exchange
                .token
                .accepts(&transcript, &verifier.prove(&transcript))
        );
        let proof = exchange.token.prove(&transcript, &exchange.asked());
        let key = verifier.accepts(&transcript, &exchange.asked(), &proof);
        assert_eq!(key, Some(exchange.token.worker_key()));
    }

    #[test]
    fn a_proof_holds_for_nothing_but_what_was_said() {
        let exchange = exchange();
        let (said, verifier) = (exchange.transcript(), exchange.token.verifier());
        let proof = exchange.token.prove(&said, &exchange.asked());
        let masters = verifier.prove(&said);
        let other_nonce = Bytes32::random().unwrap();
        let other_token = Token::generate().unwrap();
        let address = Ipv4Addr::new(192, 168, 1, 103);
        #[rustfmt::skip]
        let others = [
            Transcript { token: other_token.id(), ..said.clone() },
            Transcript { node_name: "server02", ..said.clone() },
            Transcript { node_address: address, ..said.clone() },
            Transcript { worker_nonce: &other_nonce, ..said.clone() },
            Transcript { master_nonce: &other_nonce, ..said.clone() },
            Transcript { authority: "a certificate of his own", ..said.clone() },
            Transcript { server_certificate: b"his own", ..said.clone() },
        ];
        for other in others {
            assert!(
                verifier
                    .accepts(&other, &exchange.asked(), &proof)
                    .is_none(),
                "{other:?}"
            );
            assert!(!exchange.token.accepts(&other, &masters), "{other:?}");
        }
        let nothing = Asked {
            requests: &[],
            ..exchange.asked()
        };
        let keys_too = Asked {
            master: Some(&other_nonce),
            ..exchange.asked()
        };
        assert!(verifier.accepts(&said, &nothing, &proof).is_none());
        assert!(verifier.accepts(&said, &keys_too, &proof).is_none());
        let elsewhere = Asked {
            machine: Some(&other_nonce),
            ..exchange.asked()
        };
        assert!(verifier.accepts(&said, &elsewhere, &proof).is_none());
    }

    #[test]
    fn neither_sides_proof_serves_as_the_others_nor_with_another_token() {
        let exchange = exchange();
        let (said, verifier) = (exchange.transcript(), exchange.token.verifier());
        let masters = verifier.prove(&said);
        assert!(
            verifier
                .accepts(&said, &exchange.asked(), &masters)
                .is_none()
        );
        let stranger = Token::generate().unwrap();
        assert!(!stranger.accepts(&said, &masters));
        let proof = stranger.prove(&said, &exchange.asked());
        assert!(verifier.accepts(&said, &exchange.asked(), &proof).is_none());
    }
}
