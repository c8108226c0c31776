//! Golden images: systems that carry the unpacked appliance, and no traces of the machine on which
//! they were made. Every VM that boots one becomes a node according to its OpenStack metadata.
//!
//! [`build`] copies a distribution's image and attaches the copy ([`attach`]). [`prepare`] changes
//! a root directory, of this machine or of an image. [`traces`] lists what an image must not
//! contain, and [`checks`] verifies an image.

pub mod attach;
pub mod base;
pub mod build;
pub mod checks;
pub mod partitions;
pub mod prepare;
pub mod traces;

/// The content of the unit of the first boot.
pub const UNIT_TEXT: &str = include_str!("../../cloud-init/appliance-install.service");
/// The link that enables it.
pub const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/appliance-install.service";
