//! Removes files and directories, but nothing that is mounted below them.

use anyhow::{Result, bail};

use crate::plan::without_part;
use crate::sys::change::Change;
use crate::sys::mount;
use crate::sys::root::Root;

/// Removes a directory with its content. A file system that is mounted below it is an error.
pub fn remove_tree(root: &Root, path: &str) -> Result<()> {
    // Nothing is mounted below a file, or below a link, which is not followed.
    if root.entry(path)?.is_some_and(|found| found.is_dir()) {
        refuse_mounts(root, path)?;
    }
    // If it is a mount point itself, it stays, empty.
    if mount::points()?.contains(&root.resolve(path)?) {
        return root.remove_content(path);
    }
    root.remove_tree(path)
}

/// Removes the content of a directory with data or keys. The directory may be a mount point, or a link to one.
pub fn remove_data(root: &Root, path: &str) -> Result<()> {
    refuse_mounts(root, path)?;
    root.remove_content(path)
}

fn refuse_mounts(root: &Root, path: &str) -> Result<()> {
    match mount::below(&root.resolve(path)?)?.first() {
        None => Ok(()),
        Some(point) => bail!(
            "{0} is mounted below {path}: it may hold data of others; unmount it (`umount {0}`), and run \
             `appliance reset` again",
            point.display()
        ),
    }
}

/// Removes this program's part of a file of others, as it is now.
pub fn remove_part(root: &Root, path: &str) -> Result<()> {
    let whole = root.read(path)?;
    match whole.as_deref().and_then(without_part) {
        Some(rest) => root.rewrite(path, &rest),
        None => Ok(()),
    }
}

/// Removes the directories that are empty, in this order.
pub fn remove_empty(root: &Root, paths: &[String]) -> Result<()> {
    for path in paths {
        root.remove_empty(path)?;
    }
    Ok(())
}
