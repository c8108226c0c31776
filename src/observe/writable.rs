//! What keeps files from being written, found before the first write: attributes, mounts, read-only
//! file systems.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::language::tr;
use crate::nodespec::Refused;
use crate::paths::PROGRAM;
use crate::plan::{Plan, Step};
use crate::sys::attribute::Attribute;
use crate::sys::mount;
use crate::sys::root::Root;

/// Refuses a machine on which a file or a link of the plan cannot be written, and lists each reason
/// with the next step. Each of them is written as a new one that takes the name.
pub fn check(root: &Root, plan: &Plan) -> Result<()> {
    let mounts = mount::points()?;
    let mut directories = BTreeSet::new();
    let mut problems = Vec::new();
    for step in &plan.steps {
        let directory = match step {
            Step::WriteFile { path, .. }
            | Step::EditFile { path, .. }
            | Step::KeepCopy { to: path, .. } => {
                let target = root.resolve(path)?;
                problems.extend(of_file(path, &target, &mounts)?);
                target.parent().unwrap_or(&target).to_owned()
            }
            Step::InstallProgram => {
                let target = root.resolve(PROGRAM)?;
                problems.extend(of_file(PROGRAM, &target, &mounts)?);
                target.parent().unwrap_or(&target).to_owned()
            }
            Step::SetLink(link) => {
                let (directory, _) = link.path.rsplit_once('/').unwrap_or_default();
                root.resolve(&format!("{directory}/"))?
            }
            _ => continue,
        };
        let existing = directory.ancestors().find(|path| path.exists());
        let existing = existing.context(tr!("no directory exists"))?;
        if directories.insert(existing.to_owned()) {
            problems.extend(of_directory(existing)?);
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Refused { problems }.into())
    }
}

/// Why no new file can take the name of `target`, to which the path `name` leads.
fn of_file(name: &str, target: &Path, mounts: &BTreeSet<PathBuf>) -> Result<Option<String>> {
    let shown = target.display();
    let who = if target.ends_with(name.trim_start_matches('/')) {
        shown.to_string()
    } else {
        tr!("{shown} (where {name} leads)", shown, name)
    };
    if mounts.contains(target) {
        return Ok(Some(tr!(
            "{who} is a mount point, so it cannot be replaced; unmount it with `umount {shown}`, \
             remove the mount from its source (/etc/fstab, a mount unit, or the container's \
             settings), and run this again",
            who,
            shown
        )));
    }
    Ok(Attribute::of(target)?.map(|attribute| immovable(attribute, &who, target)))
}

fn of_directory(directory: &Path) -> Result<Option<String>> {
    let shown = directory.display();
    let stat = statvfs(directory)
        .with_context(|| tr!("cannot inspect the file system of {shown}", shown))?;
    if stat.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(Some(tr!(
            "{shown} is on a read-only file system; make it writable with `mount -o remount,rw \
             $(findmnt -no TARGET -T {shown})`, correct its options in /etc/fstab, and run this again",
            shown
        )));
    }
    let who = tr!("directory {shown}", shown);
    Ok(Attribute::of(directory)?.map(|attribute| immovable(attribute, &who, directory)))
}

fn immovable(attribute: Attribute, who: &str, path: &Path) -> String {
    let (name, letter) = match attribute {
        Attribute::Immutable => ("immutable", 'i'),
        Attribute::AppendOnly => ("append-only", 'a'),
    };
    let path = path.display();
    tr!(
        "{who} has the attribute `{letter}` ({name}), so not even root can change it; remove the \
         attribute with `chattr -{letter} {path}`, and run this again",
        who,
        letter,
        name,
        path
    )
}
