//! Turns an OpenStack VM into a Kubernetes v1.9 node with no network beyond the cluster's own.
//!
//! Data flows one way: sources → [`metadata::Metadata`] → [`nodespec::NodeSpec`] → files and
//! certificates ([`desired::Desired`]) → [`plan::Plan`] → [`apply`] → [`verify`].

pub mod access;
pub mod addons;
pub mod apply;
pub mod balance;
pub mod bundle;
pub mod check;
pub mod cli;
pub mod commands;
pub mod components;
pub mod desired;
pub mod digest;
pub mod image;
pub mod join;
pub mod metadata;
pub mod nodespec;
pub mod pki;
pub mod plan;
pub mod preflight;
pub mod render;
pub mod sys;
pub mod user_data;
pub mod verify;
pub mod workloads;
