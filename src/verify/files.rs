//! Files, directories and links, as they were written.

use anyhow::{Context, Result};

use super::{Found, Kind, Node, Wrong};
use crate::digest::Sha256;
use crate::language::tr;
use crate::plan::part_of;
use crate::records::written::{WrittenFile, WrittenLink, octal};
use crate::sys::root::Root;

/// Compares them. Nothing of their content is shown.
pub fn compare(node: &Node<'_>, found: &mut Found) {
    for (path, directory) in &node.record.directories {
        found.compared(
            Kind::Directory,
            path,
            of_directory(node.root, path, directory),
        );
    }
    for (path, file) in &node.record.files {
        found.compared(Kind::File, path, of_file(node.root, path, file));
    }
    for (path, link) in &node.record.links {
        found.compared(Kind::Link, path, of_link(node.root, path, link));
    }
}

fn of_directory(root: &Root, path: &str, mode: &str) -> Option<Wrong> {
    match root.is_dir(path) {
        Ok(true) => of_inode(root, path, mode),
        Ok(false) => Some(Wrong::installable(tr!("missing"))),
        Err(error) => Some(unreadable(&error, path)),
    }
}

/// What is wrong with the owner and the permission bits of a path.
fn of_inode(root: &Root, path: &str, mode: &str) -> Option<Wrong> {
    let inspected = match root.inspect(path) {
        Ok(Some(inspected)) => inspected,
        Ok(None) => return Some(Wrong::installable(tr!("missing"))),
        Err(error) => return Some(unreadable(&error, path)),
    };
    if octal(inspected.mode) != mode {
        return Some(Wrong::installable(tr!(
            "its mode is {present}, not {mode}",
            present = octal(inspected.mode),
            mode
        )));
    }
    (!inspected.is_own).then(|| {
        Wrong::new(
            tr!("it belongs to another user or group"),
            format!("chown root:root {path}"),
        )
    })
}

fn of_file(root: &Root, path: &str, file: &WrittenFile) -> Option<Wrong> {
    let content = match root.read(path) {
        Ok(Some(content)) => content,
        Ok(None) => return Some(Wrong::installable(tr!("missing"))),
        Err(error) => return Some(unreadable(&error, path)),
    };
    let Some(mode) = &file.mode else {
        return of_part(&content, file);
    };
    if !file.sha256.contains(&Sha256::of(&content)) {
        return Some(Wrong::installable(tr!("its content was changed")));
    }
    of_inode(root, path, mode)
}

fn of_part(content: &[u8], file: &WrittenFile) -> Option<Wrong> {
    let problem = match part_of(content) {
        None => tr!("this program's part is missing"),
        Some(part) if !file.sha256.contains(&Sha256::of(&part)) => {
            tr!("this program's part was changed")
        }
        Some(_) => return None,
    };
    Some(Wrong::installable(problem))
}

fn of_link(root: &Root, path: &str, link: &WrittenLink) -> Option<Wrong> {
    let target = || -> Result<String> {
        let target = root.link(path)?.with_context(|| tr!("missing"))?;
        Ok(target.to_string_lossy().into_owned())
    };
    if link.yields && root.exists(path).is_ok_and(|exists| exists) {
        return None;
    }
    match target() {
        Ok(target) if target == link.target => None,
        Ok(target) => Some(Wrong::installable(tr!(
            "it leads to {target}, not to {}",
            link.target,
            target
        ))),
        Err(error) => Some(Wrong::installable(format!("{error:#}"))),
    }
}

/// Something is in the way, for example a link to a device that masks a unit.
fn unreadable(error: &anyhow::Error, path: &str) -> Wrong {
    Wrong::new(
        format!("{error:#}"),
        format!("rm {path} && {}", super::INSTALL),
    )
}
