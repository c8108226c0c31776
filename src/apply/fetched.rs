//! The appliance that a master sends to this node, part by part.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use anyhow::{Context, Result};

use crate::digest::Sha256;
use crate::paths::{FETCHED_DIR, FETCHED_PROGRAM};
use crate::sys::atomic::sync_directory;
use crate::sys::change::Change;
use crate::sys::root::Root;
use crate::sys::stream::sha256_of_file;

fn part_of(program: &Sha256) -> String {
    format!("{FETCHED_DIR}/{program}.part")
}

/// How many bytes of the appliance are here. Parts of others are removed.
pub fn size(root: &Root, program: &Sha256) -> Result<u64> {
    let part = part_of(program);
    root.create_dir(FETCHED_DIR, 0o700)?;
    for name in root.list(FETCHED_DIR)? {
        let path = format!("{FETCHED_DIR}/{name}");
        if path != part && path != FETCHED_PROGRAM {
            root.remove_tree(&path)?;
        }
    }
    let found = fs::metadata(root.resolve(&part)?);
    Ok(found.map_or(0, |found| found.len()))
}

/// Whether the whole appliance is here.
pub fn is_whole(root: &Root, program: &Sha256) -> Result<bool> {
    let path = root.resolve(FETCHED_PROGRAM)?;
    Ok(path.exists() && sha256_of_file(&path)? == *program)
}

/// Adds the next bytes.
pub fn append(root: &Root, program: &Sha256, bytes: &[u8]) -> Result<()> {
    let part = part_of(program);
    let mut options = OpenOptions::new();
    let options = options.create(true).append(true).mode(0o600);
    let mut file = options
        .open(root.resolve(&part)?)
        .with_context(|| part.clone())?;
    file.write_all(bytes).with_context(|| part)?;
    Ok(())
}

/// Gives the appliance its name, if all its bytes are right. Otherwise removes them, and returns false.
pub fn finish(root: &Root, program: &Sha256) -> Result<bool> {
    let part = part_of(program);
    let path = root.resolve(&part)?;
    if sha256_of_file(&path)? != *program {
        root.remove_file(&part)?;
        return Ok(false);
    }
    fs::set_permissions(&path, Permissions::from_mode(0o700))?;
    fs::File::open(&path)?.sync_all()?;
    fs::rename(&path, root.resolve(FETCHED_PROGRAM)?)?;
    sync_directory(&root.resolve(FETCHED_DIR)?)?;
    Ok(true)
}

/// Removes what was fetched.
pub fn forget(root: &Root) -> Result<()> {
    root.remove_tree(FETCHED_DIR)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_appliance_is_continued_where_it_stopped_and_runs_only_if_all_of_it_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let program = Sha256::of(b"appliance");
        assert_eq!(size(&root, &program).unwrap(), 0);
        append(&root, &program, b"appl").unwrap();
        assert_eq!(size(&root, &program).unwrap(), 4);
        append(&root, &program, b"iances").unwrap();
        assert!(!finish(&root, &program).unwrap());
        assert_eq!(size(&root, &program).unwrap(), 0);
        append(&root, &program, b"appliance").unwrap();
        assert!(finish(&root, &program).unwrap());
        assert!(is_whole(&root, &program).unwrap());
        assert!(!is_whole(&root, &Sha256::of(b"another")).unwrap());
        append(&root, &program, b"x").unwrap();
        assert_eq!(size(&root, &Sha256::of(b"another")).unwrap(), 0);
        assert!(
            !dir.path()
                .join(part_of(&program).trim_start_matches('/'))
                .exists()
        );
        forget(&root).unwrap();
        assert!(!root.exists(FETCHED_DIR).unwrap());
    }
}
