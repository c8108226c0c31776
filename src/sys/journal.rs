//! Whether messages go to the journal.

use std::{env, io};

use rustix::fs::fstat;

/// Whether standard error is the journal: systemd names the device and the inode of the journal's socket in
/// `JOURNAL_STREAM` (systemd.exec(5)).
pub fn is_standard_error() -> bool {
    let Ok(named) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(io::stderr()).is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
}
