//! What the installation wrote on a node. Pure.
//!
//! With this record, a later run knows that someone else changed a file, and `appliance verify` what a node should be
//! like, without its settings.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// The end of the name of a copy of a file that someone changed. No program that looks at the end of names reads a
/// file with this one: for systemd it is no unit, and for CNI no network.
pub const KEPT: &str = ".appliance-old";

/// What was written. Permission bits are in octal, such as `0644`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Written {
    /// Files.
    pub files: BTreeMap<String, WrittenFile>,
    /// Directories, with their permission bits.
    pub directories: BTreeMap<String, String>,
    /// Links, with their targets.
    pub links: BTreeMap<String, WrittenLink>,
    /// The kernel modules that the node needs.
    pub modules: BTreeSet<String>,
    /// The kernel settings that the node needs.
    pub sysctls: BTreeMap<String, String>,
    /// The system users that the node needs.
    pub users: BTreeSet<String>,
    /// The copies of files that someone changed.
    pub kept: BTreeSet<String>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct WrittenFile {
    /// Its permission bits; none if the file is of others, and only a part of it is this program's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// SHA-256 of its content, or of the lines of the part. While a run writes it: also of what it was before.
    pub sha256: BTreeSet<Sha256>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct WrittenLink {
    /// Its target.
    pub target: String,
    /// Whether anything else at its path is right, too: it is the operator's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub yields: bool,
}

impl WrittenFile {
    /// A whole file with these permission bits.
    pub fn whole(mode: u32, sha256: Sha256) -> WrittenFile {
        WrittenFile {
            mode: Some(octal(mode)),
            sha256: [sha256].into(),
        }
    }

    /// A part of a file of others.
    pub fn part(sha256: Sha256) -> WrittenFile {
        WrittenFile {
            mode: None,
            sha256: [sha256].into(),
        }
    }
}

impl Written {
    /// Notes that a run begins to write this file.
    pub fn begin(&mut self, path: &str, file: WrittenFile) {
        let old = self.files.get(path).map(|old| old.sha256.clone());
        let mut file = file;
        file.sha256.extend(old.unwrap_or_default());
        self.files.insert(path.to_owned(), file);
    }

    /// Notes that a file is written.
    pub fn settle(&mut self, path: &str, file: WrittenFile) {
        self.files.insert(path.to_owned(), file);
    }

    /// Whether a run that wrote files was interrupted: one of them may be the old or the new one.
    pub fn is_interrupted(&self) -> bool {
        self.files.values().any(|file| file.sha256.len() > 1)
    }

    /// Whether this program wrote the file at `path` with that content; `None` if it wrote no file there.
    pub fn wrote(&self, path: &str, sha256: &Sha256) -> Option<bool> {
        let file = self.files.get(path)?;
        Some(file.sha256.contains(sha256))
    }

    /// This record with the copies of another one.
    #[must_use]
    pub fn with_kept(mut self, other: &Written) -> Written {
        self.kept.extend(other.kept.iter().cloned());
        self
    }
}

/// Permission bits as people write them.
pub fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_being_written_may_be_the_old_or_the_new_one() {
        let [old, new, other] = [b"old", b"new", b"oth"].map(|text| Sha256::of(text));
        let mut record = Written::default();
        assert_eq!(record.wrote("/etc/a", &old), None);
        record.settle("/etc/a", WrittenFile::whole(0o644, old.clone()));
        record.begin("/etc/a", WrittenFile::whole(0o644, new.clone()));
        assert_eq!(record.wrote("/etc/a", &old), Some(true));
        assert_eq!(record.wrote("/etc/a", &new), Some(true));
        assert_eq!(record.wrote("/etc/a", &other), Some(false));
        assert!(record.is_interrupted());
        record.settle("/etc/a", WrittenFile::whole(0o644, new));
        assert!(!record.is_interrupted());
        assert_eq!(record.wrote("/etc/a", &old), Some(false));
    }
}
