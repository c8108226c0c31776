//! Attributes of files (chattr(1)) with which not even root can replace them.

use std::fs::{File, Metadata};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use rustix::fs::{IFlags, ioctl_getflags};

/// An attribute with which a file or a directory cannot be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `i`: nothing can change it.
    Immutable,
    /// `a`: content can only be added.
    AppendOnly,
}

impl Attribute {
    /// The attribute of the file or directory at `path`, if it has one of them. `None` also if
    /// nothing is at `path`, or if the file system has no attributes.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn of(path: &Path) -> Result<Option<Attribute>> {
        let is_plain = |found: Metadata| found.is_file() || found.is_dir();
        if !path.symlink_metadata().is_ok_and(is_plain) {
            return Ok(None);
        }
        let opened = File::options()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path);
        let file = opened.with_context(|| format!("cannot read {}", path.display()))?;
        let Ok(flags) = ioctl_getflags(&file) else {
            return Ok(None);
        };
        Ok(if flags.contains(IFlags::IMMUTABLE) {
            Some(Attribute::Immutable)
        } else if flags.contains(IFlags::APPEND) {
            Some(Attribute::AppendOnly)
        } else {
            None
        })
    }
}
