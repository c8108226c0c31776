//! Reads members of published archives, without unpacking the rest to disk.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path};

use anyhow::{Context, Result, ensure};
use flate2::read::MultiGzDecoder;

use crate::sys::stream::Bounded;

/// The maximum size of one member, in bytes. No component and no layer comes near it.
pub const MAX_MEMBER: u64 = 4 * 1024 * 1024 * 1024;
/// The unpacked size that is always allowed, in bytes.
const BASE_LIMIT: u64 = 64 * 1024 * 1024;
/// How many times its own size a file may unpack to. Programs reach 5, text 20; gzip allows 1,000.
const MAX_RATIO: u64 = 100;
/// How many entries an archive, or all layers of an image, may have; and the bytes of their names.
const MAX_ENTRIES: usize = 400_000;
const MAX_NAMES: usize = 32 * 1024 * 1024;
/// How many names a message lists.
const MAX_LISTED: usize = 20;

/// The maximum unpacked size of a compressed file of `size` bytes.
pub fn unpacked_limit(size: u64) -> u64 {
    let limit = size.saturating_mul(MAX_RATIO).saturating_add(BASE_LIMIT);
    limit.min(MAX_MEMBER)
}

/// Reads the whole gzipped tar at `path`, and passes each of its members `wanted` to `take`: the name, the
/// size in bytes and the content. Fails if a path leads outside the archive, or if a wanted member is
/// missing, is a link, or appears twice.
pub fn visit(
    path: &Path,
    wanted: &[&str],
    mut take: impl FnMut(&str, u64, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let limit = unpacked_limit(file.metadata()?.len());
    let reader = MultiGzDecoder::new(BufReader::with_capacity(256 * 1024, file));
    let mut archive = tar::Archive::new(Bounded::new(reader, limit));
    let (mut names, mut inventory) = (Vec::new(), Inventory::default());
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = inside(&entry.path()?)?;
        inventory.count(&name)?;
        let is_file = entry.header().entry_type().is_file();
        if wanted.contains(&name.as_str()) {
            ensure!(is_file, "its member {name} is not a regular file");
            ensure!(!names.contains(&name), "it has the member {name} twice");
            let size = entry.size();
            ensure!(
                size <= limit,
                "its member {name} has {size} bytes, more than the limit of {limit}, so the archive is \
                 damaged or malicious; do not use it"
            );
            take(&name, size, &mut entry).with_context(|| name.clone())?;
        }
        if is_file {
            names.push(name);
        }
    }
    let missing: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|wanted| !names.iter().any(|name| name == wanted))
        .collect();
    ensure!(
        missing.is_empty(),
        "it has no member {}; it has {}; correct `member` or `source` in bundle.toml",
        missing.join(", "),
        list(names.into_iter())
    );
    Ok(())
}

/// Counts entries of archives, so that no archive takes all memory.
#[derive(Default)]
pub struct Inventory {
    entries: usize,
    names: usize,
}

impl Inventory {
    /// Counts an entry. Fails if there are too many.
    pub fn count(&mut self, name: &str) -> Result<()> {
        self.entries += 1;
        self.names += name.len();
        ensure!(
            self.entries <= MAX_ENTRIES && self.names <= MAX_NAMES,
            "it has more than {MAX_ENTRIES} entries, or names of more than {MAX_NAMES} bytes, so it is \
             damaged or malicious; do not use it"
        );
        Ok(())
    }
}

/// The name of a member, without `./`. Refuses one that leads outside its archive.
pub fn inside(path: &Path) -> Result<String> {
    let stays_inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    ensure!(
        stays_inside,
        "its member {path:?} leads outside the archive"
    );
    let parts = path.components();
    let parts = parts.filter(|part| matches!(part, Component::Normal(_)));
    let parts = parts.map(|part| part.as_os_str().to_string_lossy());
    Ok(parts.collect::<Vec<_>>().join("/"))
}

/// The names in one line, the first few if there are many.
pub fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    let shown = names[..names.len().min(MAX_LISTED)].join(", ");
    match names.len() - names.len().min(MAX_LISTED) {
        0 if names.is_empty() => "nothing".to_owned(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
