//! The parts of a disk that may contain a root file system: its partitions, or the whole disk.

use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::language::tr;
use crate::sys::process::{Command, Runner};

/// A part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1; 0 is the whole disk.
    pub number: usize,
    /// Its start, in bytes.
    pub start: u64,
    /// Its size in bytes; `None` if it extends to the end of the disk.
    pub size: Option<u64>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => f.write_str(&tr!("the whole disk")),
            number => f.write_str(&tr!("partition {number}", number)),
        }
    }
}

/// The whole disk, if it has no partition table.
const WHOLE: Part = Part {
    number: 0,
    start: 0,
    size: None,
};

/// The output of `sfdisk --json` (util-linux 2.27 and later).
#[derive(Deserialize)]
struct Printed {
    partitiontable: Table,
}

#[derive(Deserialize)]
struct Table {
    /// Missing before util-linux 2.35.
    sectorsize: Option<u64>,
    #[serde(default)]
    partitions: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    start: u64,
    size: u64,
}

/// The parts of the disk at `path`, a device or a raw image. A disk without a partition table is
/// one part.
///
/// # Errors
/// If `sfdisk` cannot run, or if its output is invalid.
pub fn of(runner: &dyn Runner, path: &str) -> Result<Vec<Part>> {
    let output = runner.run(&Command::new("sfdisk", &["--json", path]))?;
    if !output.success() {
        log::debug!("{path}: {}", output.stderr.trim());
        return Ok(vec![WHOLE]);
    }
    parse(&output.stdout).with_context(|| {
        tr!(
            "cannot read the partition table of {path} (`sfdisk --json {path}`)",
            path
        )
    })
}

fn parse(text: &str) -> Result<Vec<Part>> {
    /// The sector size of nearly all disks.
    const SECTOR: u64 = 512;
    let table = serde_json::from_str::<Printed>(text)?.partitiontable;
    let sector = table.sectorsize.unwrap_or(SECTOR);
    let part = |(index, entry): (usize, &Entry)| {
        let bytes = |sectors: u64| sectors.checked_mul(sector);
        let part = Some(Part {
            number: index + 1,
            start: bytes(entry.start)?,
            size: Some(bytes(entry.size)?),
        });
        part.filter(|part| part.size > Some(0))
    };
    let parts: Option<Vec<Part>> = table.partitions.iter().enumerate().map(part).collect();
    parts.context(tr!("a partition is empty, or ends beyond any disk"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn partitions_are_found_in_bytes() {
        let text = r#"{"partitiontable": {"label": "gpt", "sectorsize": 512, "partitions": [
            {"node": "disk1", "start": 2048, "size": 4096}, {"node": "disk2", "start": 8192, "size": 16}]}}"#;
        let parts = parse(text).unwrap();
        assert_eq!(parts[0].start, 1024 * 1024);
        assert_eq!((parts[1].number, parts[1].size), (2, Some(8192)));
    }

    #[test]
    fn a_partition_beyond_all_disks_is_refused() {
        let text =
            r#"{"partitiontable": {"partitions": [{"start": 18446744073709551615, "size": 1}]}}"#;
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("beyond any disk"), "{error}");
        let text = r#"{"partitiontable": {"partitions": [{"start": 1, "size": 0}]}}"#;
        assert!(parse(text).is_err());
    }
}
