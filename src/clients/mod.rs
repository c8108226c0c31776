//! The programs and servers that a node talks to, for those who read it and those who change it.

pub mod accounts;
pub mod api;
pub mod bird;
pub mod calicoctl;
pub mod docker;
pub mod etcd;
pub mod for_people;
pub mod iptables;
pub mod journal;
pub mod kernel;
pub mod kubectl;
pub mod links;
pub mod mtls;
pub mod netfilter;
pub mod objects;
pub mod own_node;
pub mod systemd;
