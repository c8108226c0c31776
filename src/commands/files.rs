//! Files that a command writes for its user. Some of them have secrets.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::Named;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::sys::out;

/// The file or directory that the user named: with its own option, or with `-o` as in earlier versions; `None` if
/// with neither. Refuses both.
pub fn place(given: Option<&Path>, named: &Named) -> Result<Option<PathBuf>, Refused> {
    match (given, named.place()) {
        (Some(one), Some(other)) => Err(Refused::new(tr!(
            "both {} and {} are named as output; name one of them",
            one.display(),
            other.display()
        ))),
        (given, before) => Ok(given.or(before).map(Path::to_owned)),
    }
}

/// As [`place`], where the command cannot do without: `option` is the one to add.
pub fn needed(given: Option<&Path>, named: &Named, option: &str) -> Result<PathBuf, Refused> {
    let place = place(given, named)?;
    place.ok_or_else(|| {
        Refused::new(tr!(
            "nothing says where to write to; add `{option}`",
            option
        ))
    })
}

/// Whether writing to `path` would replace a file. A device or a pipe has no content of its own.
pub fn is_there(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|existing| existing.is_file())
}

/// Refuses to replace an existing file, unless with `force`.
pub fn refuse_existing(path: &Path, force: bool) -> Result<(), Refused> {
    if !force && is_there(path) {
        return Err(Refused::new(tr!(
            "{} exists; use --force to replace it, or another file",
            path.display()
        )));
    }
    Ok(())
}

/// Writes the file, readable by its owner only. Does not replace an existing file, except with `force`.
pub fn write_secret(path: &Path, text: &str, force: bool) -> Result<()> {
    refuse_existing(path, force)?;
    out::file(path, 0o600, text.as_bytes())
}
