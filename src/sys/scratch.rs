//! Files that only the running command needs; they vanish when it ends.

use std::env;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use super::atomic::parent;
use super::temporary::{self, Directory};

/// A file with that content for kubectl.
pub fn yaml(content: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = temporary::yaml_in(&env::temp_dir())?;
    file.write_all(content)?;
    Ok(file)
}

/// A file with that content for another program.
pub fn named(content: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = temporary::file_in(&env::temp_dir())?;
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
pub fn directory_beside(path: &Path) -> io::Result<Directory> {
    temporary::directory_in(parent(path))
}

/// A directory for much data, where the system keeps temporary files.
pub fn directory() -> io::Result<Directory> {
    temporary::directory_in(&env::temp_dir())
}
