//! Reads members of published archives, without unpacking the rest to disk.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path};
use std::rc::Rc;

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
/// How long the headers of one entry may be, in bytes. A path has 4,096 bytes at most. The tar library
/// reads headers into memory, whatever length they state.
const MAX_HEADER: u64 = 1024 * 1024;
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
    let (mut names, mut inventory) = (Vec::new(), Inventory::default());
    each_entry(Bounded::new(reader, limit), |entry| {
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
            take(&name, size, entry).with_context(|| name.clone())?;
        }
        if is_file {
            names.push(name);
        }
        Ok(())
    })?;
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

/// An entry of a tar that [`each_entry`] or [`each_entry_with_seek`] reads.
pub type Entry<'a, R> = tar::Entry<'a, Headers<R>>;

/// Reads the whole tar, and passes each of its entries to `take`.
pub fn each_entry<R: Read>(
    input: R,
    mut take: impl FnMut(&mut Entry<'_, R>) -> Result<()>,
) -> Result<()> {
    let (headers, left) = Headers::new(input);
    let mut archive = tar::Archive::new(headers);
    each(archive.entries()?, &left, |entry| {
        take(entry)?;
        // The rest of the content is no header.
        io::copy(entry, &mut io::sink())?;
        Ok(())
    })
}

/// As [`each_entry`], but what `take` does not read is skipped.
pub fn each_entry_with_seek<R: Read + Seek>(
    input: R,
    take: impl FnMut(&mut Entry<'_, R>) -> Result<()>,
) -> Result<()> {
    let (headers, left) = Headers::new(input);
    let mut archive = tar::Archive::new(headers);
    each(archive.entries_with_seek()?, &left, take)
}

fn each<R: Read>(
    mut entries: tar::Entries<'_, Headers<R>>,
    left: &Cell<u64>,
    mut take: impl FnMut(&mut Entry<'_, R>) -> Result<()>,
) -> Result<()> {
    loop {
        left.set(MAX_HEADER);
        let Some(entry) = entries.next() else {
            return Ok(());
        };
        left.set(u64::MAX);
        let mut entry = entry?;
        // A few bytes stand for any number of zeros in it, which no limit of bytes counts.
        ensure!(
            !entry.header().entry_type().is_gnu_sparse(),
            "its entry {:?} is sparse; make it with `tar` without `--sparse`",
            entry.path()?
        );
        take(&mut entry)?;
    }
}

/// Fails when more bytes are read than are left.
pub struct Headers<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R> Headers<R> {
    fn new(inner: R) -> (Headers<R>, Rc<Cell<u64>>) {
        let left = Rc::new(Cell::new(MAX_HEADER));
        let headers = Headers {
            inner,
            left: Rc::clone(&left),
        };
        (headers, left)
    }
}

impl<R: Read> Read for Headers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "the header of an entry is longer than {MAX_HEADER} bytes, so it is damaged or \
                     malicious; do not use it"
                ),
            )
        })?;
        self.left.set(left);
        Ok(count)
    }
}

impl<R: Seek> Seek for Headers<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
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

/// The name of a member as docker takes it: the archive is the root of all paths (`Unpack` in docker's
/// `pkg/archive`). Refuses one that leads outside.
pub fn below_root(path: &Path) -> Result<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::ParentDir if parts.pop().is_none() => ensure!(
                path.is_absolute(),
                "its member {path:?} leads outside the archive"
            ),
            _ => {}
        }
    }
    Ok(parts.join("/"))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_header_that_would_take_all_memory_is_refused() {
        for kind in [
            tar::EntryType::GNULongName,
            tar::EntryType::GNULongLink,
            tar::EntryType::XHeader,
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(MAX_MEMBER);
            header.set_cksum();
            let start = header.as_bytes().as_slice();
            let error = each_entry(start.chain(io::repeat(b'a')), |_| Ok(())).unwrap_err();
            let text = format!("{error:#}");
            assert!(
                text.contains("header of an entry is longer"),
                "{kind:?}: {text}"
            );
        }
    }

    #[test]
    fn a_path_stays_below_the_root_or_is_refused() {
        let of = |path: &str| below_root(Path::new(path)).ok();
        for (path, expected) in [
            ("x/y", "x/y"),
            ("./x", "x"),
            ("/x", "x"),
            ("//x//y/", "x/y"),
            ("a/../x", "x"),
            ("/../x", "x"),
            ("/a/../../x", "x"),
            ("a/..", ""),
            ("/", ""),
        ] {
            assert_eq!(of(path).as_deref(), Some(expected), "{path}");
        }
        for path in ["..", "../x", "a/../../x", "./../x"] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn a_sparse_entry_is_refused() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_path("zeros").unwrap();
        header.set_size(0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(1 << 46);
        gnu.sparse[0].set_offset(1 << 46);
        gnu.sparse[0].set_length(0);
        header.set_cksum();
        let archive = [header.as_bytes().as_slice(), &[0; 1024]].concat();
        let error = each_entry(archive.as_slice(), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("is sparse"), "{error:#}");
    }

    #[test]
    fn content_may_be_longer_than_a_header() {
        let mut archive = tar::Builder::new(Vec::new());
        let content = vec![7; 3 * usize::try_from(MAX_HEADER).unwrap()];
        for name in ["a", "b"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            let data = content.as_slice();
            archive.append_data(&mut header, name, data).unwrap();
        }
        let archive = archive.into_inner().unwrap();
        let mut sizes = Vec::new();
        each_entry(archive.as_slice(), |entry| {
            sizes.push(entry.size());
            Ok(())
        })
        .unwrap();
        let mut names = Vec::new();
        each_entry_with_seek(io::Cursor::new(archive), |entry| {
            names.push(entry.path()?.display().to_string());
            Ok(())
        })
        .unwrap();
        assert_eq!(sizes, [content.len() as u64; 2]);
        assert_eq!(names, ["a", "b"]);
    }
}
