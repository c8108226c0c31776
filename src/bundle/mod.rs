//! The bundle: what an appliance carries, how it is packed and how a node unpacks it.

pub mod definition;
pub mod manifest;
pub mod pack;
pub mod payload;
pub mod unpack;
