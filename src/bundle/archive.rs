//! Reads single members of upstream archives, without unpacking the rest to disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;

use crate::digest::Sha256;
use crate::sys::stream::{Bounded, Hashing};

/// The unpacked size that is always allowed, in bytes.
const BASE_LIMIT: u64 = 64 * 1024 * 1024;
/// How many times its own size a file may unpack to. Programs reach 5, text 20; gzip allows 1,000.
const MAX_RATIO: u64 = 100;

/// The maximum unpacked size of a compressed file of `size` bytes.
pub fn unpacked_limit(size: u64) -> u64 {
    size.saturating_mul(MAX_RATIO).saturating_add(BASE_LIMIT)
}

type Reader = Bounded<MultiGzDecoder<BufReader<File>>>;

fn open(path: &Path) -> Result<tar::Archive<Reader>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let limit = unpacked_limit(file.metadata()?.len());
    let reader = MultiGzDecoder::new(BufReader::with_capacity(256 * 1024, file));
    Ok(tar::Archive::new(Bounded::new(reader, limit)))
}

/// Reads the whole gzipped tar at `path` and returns the digests of its members `wanted`. If none is
/// wanted, the file need not be an archive. Fails if a path leads outside the archive, or if a wanted
/// member is missing, is a link, or is there twice.
pub fn inspect(path: &Path, wanted: &[&str]) -> Result<BTreeMap<String, Sha256>> {
    let mut found = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    for entry in open(path)?.entries()? {
        let mut entry = entry?;
        let name = member_name(&entry)?;
        if !wanted.contains(&name.as_str()) {
            continue;
        }
        ensure!(
            entry.header().entry_type().is_file(),
            "its member {name} is not a regular file"
        );
        let mut reader = Hashing::new(&mut entry);
        io::copy(&mut reader, &mut io::sink())?;
        let (_, sha256) = reader.finish();
        ensure!(
            found.insert(name.clone(), sha256).is_none(),
            "it has the member {name} twice"
        );
    }
    let missing: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|name| !found.contains_key(*name))
        .collect();
    ensure!(
        missing.is_empty(),
        "it has no member {}; correct `member` or `source` in bundle.toml",
        missing.join(", ")
    );
    Ok(found)
}

/// Passes the bytes of the member `wanted` of the gzipped tar at `path`, and their number, to `take`.
pub fn read_member<T>(
    path: &Path,
    wanted: &str,
    take: impl FnOnce(u64, &mut dyn Read) -> Result<T>,
) -> Result<T> {
    for entry in open(path)?.entries()? {
        let mut entry = entry?;
        if member_name(&entry)? == wanted && entry.header().entry_type().is_file() {
            return take(entry.size(), &mut entry);
        }
    }
    bail!("it has no member {wanted}")
}

fn member_name(entry: &tar::Entry<'_, Reader>) -> Result<String> {
    let path = entry.path()?;
    let stays_inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    ensure!(
        stays_inside,
        "its member {path:?} leads outside the archive"
    );
    let name = path.to_string_lossy();
    Ok(name.trim_start_matches("./").to_owned())
}
