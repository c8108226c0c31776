//! Turns an OpenStack VM into a Kubernetes v1.9 node with no network beyond the cluster's own.
//!
//! Data flows one way: sources → [`metadata::model::Metadata`] → [`nodespec::NodeSpec`] → files and
//! certificates ([`desired::Desired`]) → [`plan::Plan`] → [`apply`] → [`status`].

// A closed pipe must not end the program in a panic: `sys::out` prints.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod addons;
pub mod apply;
pub mod backup;
pub mod balance;
pub mod bundle;
pub mod check;
pub mod cis;
pub mod cli;
pub mod clients;
pub mod commands;
pub mod components;
pub mod datastore;
pub mod desired;
pub mod digest;
pub mod doctor;
pub mod enroll;
pub mod formats;
pub mod image;
pub mod install;
pub mod join;
pub mod kubeconfig;
pub mod language;
pub mod maintenance;
pub mod metadata;
pub mod nodespec;
pub mod observe;
pub mod page;
pub mod paths;
pub mod pki;
pub mod plan;
pub mod preflight;
pub mod records;
pub mod removal;
pub mod render;
pub mod reset;
pub mod restore;
pub mod rotate;
pub mod status;
pub mod support;
pub mod sys;
pub mod timeline;
pub mod topics;
pub mod upgrade;
pub mod user_data;
pub mod verify;
pub mod workloads;
