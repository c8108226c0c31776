//! Turns an OpenStack VM into a Kubernetes v1.9 node with no network beyond the cluster's own.
//!
//! Data flows one way: sources → [`metadata::Metadata`] → node specification → files and
//! certificate requests → plan → apply → verify.

pub mod bundle;
pub mod metadata;
pub mod pki;
pub mod sys;
