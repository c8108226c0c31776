//! The stand-ins against a real etcd, with certificates made for each test.

#![allow(clippy::unwrap_used)]

mod apiserver;
mod bootstrap;
mod calico;
mod cni;
mod components;
mod debian;
mod dns;
mod docker;
mod harness;
mod images;
mod lab;
mod node;
mod objects;
mod pki;
mod plane;
mod pods;
mod policies;
mod proxy;
mod web;
mod workloads;
