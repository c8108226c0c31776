//! The integration tests: one binary, one module for each part of the product.

// A test that cannot continue panics with the place.
#![allow(clippy::unwrap_used)]

mod addons;
mod at_work;
mod balance;
mod binary;
mod bundles;
mod carrier;
mod certs;
mod cli;
mod cloud_init;
mod config;
mod convert;
mod deliver;
mod deploy;
mod docker;
mod e2e;
mod etcd;
mod fetch;
mod golden;
mod ha;
mod harness;
mod help;
mod hostile;
mod install;
mod join;
mod kubeconfig;
mod layout;
mod man;
mod masters;
mod metadata;
mod no_gateway;
mod pack;
mod peers;
mod pki;
mod plan;
mod registry;
mod rendered;
mod service;
mod signature;
mod single;
mod site;
mod spec;
mod status;
mod systemd_229;
mod tools;
mod transfer;
mod units;
mod unpack;
mod user_data;
mod vm;
mod vms;
mod workloads;
mod workshop;
