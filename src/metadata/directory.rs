//! The files of a config drive in a directory: a mounted drive, or a copy of one given with
//! `--metadata-dir`. The content is hostile until checked: no symbolic link is followed and no
//! file is read beyond its limit.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use serde::Deserialize;

use super::model::{Metadata, VendorFormat};
use super::openstack::{
    self, META_DATA, NETWORK_DATA, RawFile, RawFiles, SIZE_LIMIT, USER_DATA, VENDOR_DATA,
    VENDOR_DATA_2,
};
use crate::sys::read::regular;

/// Where the files are on a config drive; `latest` is the newest format the cloud knows.
const LATEST: [&str; 2] = ["openstack", "latest"];
/// Where EC2's format is on a config drive.
const EC2_LATEST: [&str; 2] = ["ec2", "latest"];
const EC2_META_DATA: &str = "meta-data.json";

/// The one key of EC2's format that OpenStack's own lacks.
#[derive(Deserialize)]
struct Ec2MetaData {
    #[serde(rename = "public-ipv4")]
    public_ipv4: Option<String>,
}

/// Reads the metadata in `dir`, which the operator named: the root of a config drive or its
/// `openstack/latest`.
///
/// # Errors
/// If there is no such directory, it holds no `meta_data.json` at either place, or a file is a
/// symbolic link, not a regular file, bigger than [`SIZE_LIMIT`], or not valid for
/// [`openstack::parse`].
pub fn read(dir: &Path) -> Result<Metadata> {
    let source = format!("metadata directory {}", dir.display());
    let root = Folder::open(dir).with_context(|| source.clone())?;
    let mut files = latest(&root).with_context(|| source.clone())?;
    if files.is_none() {
        files = read_files(&root, "").with_context(|| source.clone())?;
    }
    let files = files.with_context(|| {
        format!(
            "{source}: has neither openstack/latest/{META_DATA} nor {META_DATA}; \
             name the root of a config drive, or its openstack/latest"
        )
    })?;
    openstack::parse(&source, &files)
}

/// Reads the metadata of the config drive that is mounted at `root`. Errors call it `source`.
///
/// # Errors
/// As [`read`], but the files must be in `openstack/latest`.
pub fn read_drive(source: &str, root: &Path) -> Result<Metadata> {
    let files = Folder::open(root)
        .and_then(|root| latest(&root))
        .with_context(|| source.to_owned())?
        .with_context(|| {
            format!(
                "{source}: openstack/latest/{META_DATA} is missing, so this is not a config drive \
                 of OpenStack; detach it, or give the metadata with `--metadata-dir DIR`"
            )
        })?;
    openstack::parse(source, &files)
}

fn latest(root: &Folder) -> Result<Option<RawFiles>> {
    let Some(latest) = root.descend(LATEST)? else {
        return Ok(None);
    };
    let files = read_files(&latest, &(LATEST.join("/") + "/"))?;
    let Some(files) = files else {
        return Ok(None);
    };
    let public_ipv4 = public_ipv4(root)?;
    Ok(Some(RawFiles {
        public_ipv4,
        ..files
    }))
}

fn read_files(folder: &Folder, prefix: &str) -> Result<Option<RawFiles>> {
    let read = |name: &str| -> Result<Option<RawFile>> {
        let name_in_errors = format!("{prefix}{name}");
        let content = folder
            .file(name, SIZE_LIMIT)
            .with_context(|| name_in_errors.clone())?;
        Ok(content.map(|content| RawFile {
            name: name_in_errors,
            content,
        }))
    };
    let Some(meta_data) = read(META_DATA)? else {
        return Ok(None);
    };
    let mut vendor_data = Vec::new();
    for (format, name) in [
        (VendorFormat::Second, VENDOR_DATA_2),
        (VendorFormat::First, VENDOR_DATA),
    ] {
        vendor_data.extend(read(name)?.map(|file| (format, file)));
    }
    Ok(Some(RawFiles {
        meta_data,
        network_data: read(NETWORK_DATA)?,
        user_data: read(USER_DATA)?,
        vendor_data,
        public_ipv4: None,
    }))
}

/// The floating IP. It is empty on a drive unless the server had one before it was built.
fn public_ipv4(root: &Folder) -> Result<Option<RawFile>> {
    let name = format!("{}/{EC2_META_DATA}", EC2_LATEST.join("/"));
    let Some(latest) = root.descend(EC2_LATEST)? else {
        return Ok(None);
    };
    let file = latest.file(EC2_META_DATA, SIZE_LIMIT);
    let Some(content) = file.with_context(|| name.clone())? else {
        return Ok(None);
    };
    let data: Ec2MetaData = serde_json::from_slice(&content)
        .map_err(|e| {
            anyhow!(
                "line {} column {}: not in EC2's format",
                e.line(),
                e.column()
            )
        })
        .with_context(|| name.clone())?;
    Ok(data.public_ipv4.map(|address| RawFile {
        name: format!("{name}: `public-ipv4`"),
        content: address.into_bytes(),
    }))
}

/// An open directory. Its entries are opened one level at a time, and never through a link.
struct Folder(OwnedFd);

impl Folder {
    /// Opens the directory itself. The operator named it, so it may be a symbolic link.
    fn open(path: &Path) -> Result<Self> {
        match openat(
            AT_FDCWD,
            path,
            OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        ) {
            Ok(fd) => Ok(Self(fd)),
            Err(Errno::ENOENT) => bail!("no such directory"),
            Err(Errno::ENOTDIR) => bail!("not a directory"),
            Err(e) => Err(e).context("cannot open it"),
        }
    }

    /// The directory of that path below this one, if there is one.
    fn descend(&self, path: [&str; 2]) -> Result<Option<Self>> {
        match self.folder(path[0])? {
            Some(folder) => folder.folder(path[1]),
            None => Ok(None),
        }
    }

    /// The directory of that name in this one, if there is one.
    fn folder(&self, name: &str) -> Result<Option<Self>> {
        let fd = self
            .entry(name, OFlag::O_DIRECTORY)
            .with_context(|| name.to_owned())?;
        Ok(fd.map(Self))
    }

    /// The bytes of the file of that name in this directory, if there is one.
    fn file(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        // Opening a named pipe without O_NONBLOCK would wait for a writer.
        let Some(fd) = self.entry(name, OFlag::O_NONBLOCK)? else {
            return Ok(None);
        };
        regular(File::from(fd), limit).map(Some)
    }

    fn entry(&self, name: &str, flags: OFlag) -> Result<Option<OwnedFd>> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.0, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ELOOP) => {
                bail!(
                    "a symbolic link, which is not followed here; replace it by a copy of the file"
                )
            }
            Err(Errno::ENOTDIR) => bail!("not a directory (a symbolic link is not followed here)"),
            Err(e) => Err(e).context("cannot open it"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    const META: &str = r#"{"uuid": "u", "name": "n", "hostname": "n.novalocal"}"#;

    /// A directory laid out like a config drive, and its `openstack/latest`.
    fn drive() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let latest = dir.path().join("openstack/latest");
        fs::create_dir_all(&latest).unwrap();
        (dir, latest)
    }

    fn error(dir: &Path) -> String {
        format!("{:#}", read(dir).unwrap_err())
    }

    #[test]
    fn reads_from_the_root_and_from_latest() {
        let (dir, latest) = drive();
        fs::write(latest.join(META_DATA), META).unwrap();
        assert_eq!(read(dir.path()).unwrap().name, "n");
        let metadata = read(&latest).unwrap();
        assert_eq!(
            metadata.source,
            format!("metadata directory {}", latest.display())
        );
        assert_eq!(metadata.interfaces, []);
    }

    #[test]
    fn a_missing_directory_is_named() {
        assert_eq!(
            error(Path::new("/nonexistent/md")),
            "metadata directory /nonexistent/md: no such directory"
        );
    }

    #[test]
    fn a_directory_without_metadata_says_what_was_looked_for() {
        let (dir, _latest) = drive();
        let error = error(dir.path());
        assert!(
            error.contains("neither openstack/latest/meta_data.json nor meta_data.json"),
            "{error}"
        );
    }

    #[test]
    fn a_symbolic_link_is_refused_as_file_and_as_directory() {
        let (dir, latest) = drive();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(META_DATA), META).unwrap();
        symlink(elsewhere.path().join(META_DATA), latest.join(META_DATA)).unwrap();
        let message = error(dir.path());
        assert!(
            message.contains("openstack/latest/meta_data.json: a symbolic link"),
            "{message}"
        );

        fs::remove_dir_all(&latest).unwrap();
        symlink(elsewhere.path(), &latest).unwrap();
        let message = error(dir.path());
        assert!(
            message.contains("latest: not a directory (a symbolic link"),
            "{message}"
        );
    }

    #[test]
    fn a_named_pipe_is_refused_without_waiting() {
        let (dir, latest) = drive();
        nix::unistd::mkfifo(&latest.join(META_DATA), Mode::S_IRWXU).unwrap();
        assert!(error(dir.path()).ends_with("meta_data.json: not a regular file"));
    }

    #[test]
    fn a_huge_file_is_refused_by_its_size() {
        let (dir, latest) = drive();
        // Sparse: if it were read to its end, this test would need a TiB of memory.
        File::create(latest.join(META_DATA))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let message = error(dir.path());
        assert!(
            message.ends_with("meta_data.json: 1099511627776 bytes; at most 1048576 are allowed"),
            "{message}"
        );
    }

    #[test]
    fn a_file_at_the_limit_is_read() {
        let (dir, latest) = drive();
        let mut padded = META.to_owned();
        padded.extend(std::iter::repeat_n(
            ' ',
            usize::try_from(SIZE_LIMIT).unwrap() - META.len(),
        ));
        fs::write(latest.join(META_DATA), &padded).unwrap();
        assert_eq!(read(dir.path()).unwrap().uuid, "u");
        padded.push(' ');
        fs::write(latest.join(META_DATA), &padded).unwrap();
        assert!(error(dir.path()).contains("1048577 bytes"));
    }

    #[test]
    fn a_drive_without_its_file_is_an_error_naming_the_drive() {
        let (dir, _latest) = drive();
        fs::write(dir.path().join(META_DATA), META).unwrap();
        let error = read_drive("config drive /dev/sr0", dir.path())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("config drive /dev/sr0: openstack/latest/meta_data.json is missing")
        );
    }
}
