//! Files for the time a command runs: nobody else needs them, and they vanish with it.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

use tempfile::{NamedTempFile, TempDir};

use super::atomic::parent;

/// A file with that content and the end `suffix` to its name, for a program that reads it.
pub fn named(suffix: &str, content: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().suffix(suffix).tempfile()?;
    file.write_all(content)?;
    Ok(file)
}

/// A file without a name, to be read from its beginning.
pub fn unnamed(content: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// A directory beside `path`, on the same file system.
pub fn directory_beside(path: &Path) -> io::Result<TempDir> {
    tempfile::tempdir_in(parent(path))
}
