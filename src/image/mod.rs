//! Golden images: systems that carry the appliance unpacked, and nothing of the machine they were
//! made on. Every VM that boots one becomes a node by what OpenStack says of it.
//!
//! [`build`] copies a distribution's image and attaches the copy ([`attach`]); [`prepare`] changes
//! what is below a root directory, this machine's or that of an image; [`traces`] is what must not
//! be in one, [`checks`] what has to.

pub mod attach;
pub mod base;
pub mod build;
pub mod checks;
pub mod partitions;
pub mod prepare;
pub mod traces;

/// What is in the unit of the first boot.
pub const UNIT_TEXT: &str = include_str!("../../cloud-init/appliance-install.service");
/// Where a link to it enables it.
pub const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/appliance-install.service";
