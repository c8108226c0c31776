//! Boots the appliance in QEMU virtual machines made from Debian packages: with an OpenStack config
//! drive, on an isolated network, observed through the QEMU guest agent.

pub mod agent;
pub mod choice;
pub mod cluster;
pub mod container;
pub mod drive;
pub mod genuine;
pub mod image;
pub mod keeper;
pub mod machine;
pub mod network;
pub mod qemu;
pub mod shell;
pub mod stages;
pub mod standing;
pub mod write_log;
