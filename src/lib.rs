//! Turns an OpenStack VM into a Kubernetes v1.9 node with no network beyond the cluster's own.
//!
//! Data flows one way: sources → [`metadata::Metadata`] → [`spec::NodeSpec`] → files and
//! certificates ([`desired::Desired`]) → [`plan::Plan`] → [`apply`] → [`verify`].

// A closed pipe must not end the program in a panic: `sys::out` prints.
#![warn(clippy::print_stdout, clippy::print_stderr)]

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
pub mod image;
pub mod join;
pub mod kubeconfig;
pub mod metadata;
pub mod pki;
pub mod plan;
pub mod preflight;
pub mod render;
pub mod spec;
pub mod sys;
pub mod topics;
pub mod user_data;
pub mod verify;
pub mod workloads;
