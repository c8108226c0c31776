//! The bundle: what an appliance carries, how it is packed and how a node unpacks it.

pub mod manifest;
