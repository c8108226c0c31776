//! How a worker joins the cluster. `docs/join.md` describes the exchange and the attacks that it
//! resists.
//!
//! On the master, two processes share the work. [`service`] serves HTTPS to the network and has no
//! secret except its TLS key. [`signer`] has the CA's key and listens only on a local socket. It
//! makes every decision, in [`gate`].

pub mod client;
pub mod cluster;
pub mod csr;
pub mod follow;
pub mod followers;
pub mod gate;
pub mod late;
pub mod master;
pub mod message;
pub mod nodes;
pub mod program;
pub mod proof;
pub mod registry;
pub mod renewal;
pub mod rollout;
pub mod sealed;
pub mod service;
mod sessions;
pub mod shared;
pub mod signed;
pub mod signer;
pub mod store;
pub mod tokens;
pub mod trust;
pub mod turns;
