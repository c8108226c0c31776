//! How a worker becomes part of the cluster. `docs/join.md` describes the exchange and what it
//! withstands.
//!
//! On the master, two processes share the work. [`service`] speaks HTTPS with the world and knows
//! no secret but its TLS key; [`signer`] has the authority's key and listens on a local socket
//! only. Every decision is [`gate`]'s, in the signer.

pub mod client;
pub mod cluster;
pub mod csr;
pub mod gate;
pub mod master;
pub mod message;
pub mod nodes;
pub mod proof;
pub mod registry;
pub mod sealed;
pub mod service;
pub mod shared;
pub mod signer;
pub mod store;
pub mod tokens;
pub mod trust;
