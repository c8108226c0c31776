//! The files of a config drive in a directory: a mounted drive, or a copy of one given with
//! `--metadata-dir`. The content is hostile until checked: a symbolic link is followed only within
//! the drive, and no file is read beyond its limit.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

use serde::Deserialize;

use super::json;
use super::model::{Metadata, VendorFormat};
use super::openstack::{
    self, META_DATA, NETWORK_DATA, RawFile, RawFiles, SIZE_LIMIT, USER_DATA, VENDOR_DATA,
    VENDOR_DATA_2,
};
use crate::language::tr;
use crate::sys::read::regular;

/// Where the files are on a config drive: below `latest`, else below the newest format that the
/// drive has. These are all formats of Nova (`nova/api/metadata/base.py`), the newest first.
const FORMATS: [&str; 11] = [
    "openstack/latest",
    "openstack/2025-04-04",
    "openstack/2020-10-14",
    "openstack/2018-08-27",
    "openstack/2017-02-22",
    "openstack/2016-10-06",
    "openstack/2016-06-30",
    "openstack/2015-10-15",
    "openstack/2013-10-17",
    "openstack/2013-04-04",
    "openstack/2012-08-10",
];
/// Where EC2's format is on a config drive.
const EC2_META_DATA: &str = "ec2/latest/meta-data.json";
/// The maximum number of symbolic links in one path, as in Linux.
const MAX_LINKS: usize = 40;

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
    let source = tr!("metadata directory {}", dir.display());
    let root = Folder::open(dir).with_context(|| source.clone())?;
    let mut files = newest(&root).with_context(|| source.clone())?;
    if files.is_none() {
        files = read_files(&root, "").with_context(|| source.clone())?;
    }
    let files = files.with_context(|| {
        tr!(
            "{source}: has neither openstack/latest/{META_DATA} nor {META_DATA}; \
             name the root of a config drive, or its openstack/latest",
            source,
            META_DATA
        )
    })?;
    openstack::parse(&source, &files)
}

/// Reads the metadata of the config drive that is mounted at `root`. Errors call it `source`.
///
/// # Errors
/// As [`read`], but the files must be below `openstack`.
pub fn read_drive(source: &str, root: &Path) -> Result<Metadata> {
    let files = Folder::open(root)
        .and_then(|root| newest(&root))
        .with_context(|| source.to_owned())?
        .with_context(|| {
            tr!(
                "{source}: openstack/latest/{META_DATA} is missing, so this is not a config drive \
                 of OpenStack; detach it, or give the metadata with `--metadata-dir DIR`",
                source,
                META_DATA
            )
        })?;
    openstack::parse(source, &files)
}

/// The files of the newest format on the drive, with the floating IP.
fn newest(root: &Folder) -> Result<Option<RawFiles>> {
    for format in FORMATS {
        let Some(mut files) = read_files(root, &format!("{format}/"))? else {
            continue;
        };
        match public_ipv4(root) {
            Ok(address) => files.public_ipv4 = address,
            Err(error) => files.passed_over.push(passed_over(&error)),
        }
        return Ok(Some(files));
    }
    Ok(None)
}

fn passed_over(error: &anyhow::Error) -> String {
    tr!(
        "{error}; it is passed over",
        error = format_args!("{error:#}")
    )
}

/// The files below `prefix`. Vendor-data that cannot be read is passed over.
fn read_files(root: &Folder, prefix: &str) -> Result<Option<RawFiles>> {
    let read = |name: &str| -> Result<Option<RawFile>> {
        let name = format!("{prefix}{name}");
        let content = root.file(&name).with_context(|| name.clone())?;
        Ok(content.map(|content| RawFile { name, content }))
    };
    let Some(meta_data) = read(META_DATA)? else {
        return Ok(None);
    };
    let (mut vendor_data, mut unread) = (Vec::new(), Vec::new());
    for (format, name) in [
        (VendorFormat::Second, VENDOR_DATA_2),
        (VendorFormat::First, VENDOR_DATA),
    ] {
        match read(name) {
            Ok(file) => vendor_data.extend(file.map(|file| (format, file))),
            Err(error) => unread.push(passed_over(&error)),
        }
    }
    Ok(Some(RawFiles {
        meta_data,
        network_data: read(NETWORK_DATA)?,
        user_data: read(USER_DATA)?,
        vendor_data,
        public_ipv4: None,
        passed_over: unread,
    }))
}

/// The floating IP. It is empty on a drive unless the server had one before it was built.
fn public_ipv4(root: &Folder) -> Result<Option<RawFile>> {
    let name = EC2_META_DATA;
    let Some(content) = root.file(name).context(name)? else {
        return Ok(None);
    };
    let data: Ec2MetaData = json::read(&content, |data| serde_json::from_slice(data))
        .map_err(|e| {
            anyhow!(tr!(
                "line {} column {}: not in EC2's format",
                e.line(),
                e.column()
            ))
        })
        .context(name)?;
    Ok(data.public_ipv4.map(|address| RawFile {
        name: format!("{name}: `public-ipv4`"),
        content: address.into_bytes(),
    }))
}

/// An open directory. No path below it leads out of it.
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
            Err(Errno::ENOENT) => bail!(tr!("no such directory")),
            Err(Errno::ENOTDIR) => bail!(tr!("not a directory")),
            Err(e) => Err(e).context(tr!("cannot open it")),
        }
    }

    /// The bytes of the file at that path below this directory, if there is one.
    fn file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        match self.entry(path)? {
            Some(fd) => regular(File::from(fd), SIZE_LIMIT).map(Some),
            None => Ok(None),
        }
    }

    /// What is at that path. Symbolic links are followed as after a chroot into this directory, one
    /// component at a time.
    fn entry(&self, path: &str) -> Result<Option<OwnedFd>> {
        let mut pending = components_reversed(Path::new(path));
        let mut opened: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        // How many of the pending names are not from a link.
        let mut own = pending.len();
        while let Some(name) = pending.pop() {
            let is_own = pending.len() < own;
            own = own.min(pending.len());
            if name == ".." {
                opened.pop();
                continue;
            }
            let folder = opened.last().unwrap_or(&self.0);
            // Opening a named pipe without O_NONBLOCK would wait for a writer.
            let mut flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
            flags.set(OFlag::O_DIRECTORY, !pending.is_empty());
            match openat(folder, name.as_os_str(), flags, Mode::empty()) {
                Ok(fd) => opened.push(fd),
                Err(Errno::ENOENT) if is_own => return Ok(None),
                Err(Errno::ENOENT) => {
                    bail!(tr!("a symbolic link to a file that is not on this drive"))
                }
                Err(error @ (Errno::ELOOP | Errno::ENOTDIR)) => {
                    let Ok(target) = readlinkat(folder, name.as_os_str()) else {
                        bail!(tr!("cannot open it: {}", error.desc()));
                    };
                    links += 1;
                    ensure!(links <= MAX_LINKS, tr!("too many symbolic links"));
                    let target = Path::new(&target);
                    if target.is_absolute() {
                        opened.clear();
                    }
                    pending.extend(components_reversed(target));
                }
                Err(e) => return Err(e).context(tr!("cannot open it")),
            }
        }
        Ok(opened.pop())
    }
}

/// The names in a path, the last one first.
fn components_reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
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
    fn a_symbolic_link_that_leads_outside_is_refused_as_file_and_as_directory() {
        let (dir, latest) = drive();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(META_DATA), META).unwrap();
        let up = "../".repeat(20);
        for target in [
            elsewhere.path().join(META_DATA),
            Path::new(&format!("{up}{}/{META_DATA}", elsewhere.path().display())).to_owned(),
        ] {
            symlink(target, latest.join(META_DATA)).unwrap();
            let message = error(dir.path());
            assert!(
                message.contains("openstack/latest/meta_data.json: a symbolic link to a file that"),
                "{message}"
            );
            fs::remove_file(latest.join(META_DATA)).unwrap();
        }

        fs::remove_dir_all(&latest).unwrap();
        symlink(elsewhere.path(), &latest).unwrap();
        let message = error(dir.path());
        assert!(
            message.contains("meta_data.json: a symbolic link"),
            "{message}"
        );
    }

    #[test]
    fn a_symbolic_link_within_the_drive_is_followed() {
        let (dir, latest) = drive();
        fs::remove_dir(&latest).unwrap();
        let dated = dir.path().join("openstack/2018-08-27");
        fs::create_dir(&dated).unwrap();
        fs::create_dir(dir.path().join("content")).unwrap();
        fs::write(dir.path().join("content/0000"), META).unwrap();
        symlink("2018-08-27", &latest).unwrap();
        symlink("/content/0000", dated.join(META_DATA)).unwrap();
        assert_eq!(read(dir.path()).unwrap().name, "n");
        let endless = dated.join(USER_DATA);
        symlink(USER_DATA, endless).unwrap();
        let message = error(dir.path());
        assert!(
            message.ends_with("user_data: too many symbolic links"),
            "{message}"
        );
    }

    #[test]
    fn without_latest_the_newest_format_is_read() {
        let (dir, latest) = drive();
        for (format, name) in [
            ("2012-08-10", "old"),
            ("2016-10-06", "new"),
            ("content", "no"),
        ] {
            let folder = dir.path().join("openstack").join(format);
            fs::create_dir(&folder).unwrap();
            fs::write(
                folder.join(META_DATA),
                META.replace("\"n\"", &format!("\"{name}\"")),
            )
            .unwrap();
        }
        assert_eq!(read_drive("drive", dir.path()).unwrap().name, "new");
        fs::write(latest.join(META_DATA), META).unwrap();
        assert_eq!(read_drive("drive", dir.path()).unwrap().name, "n");
    }

    #[test]
    fn vendor_data_and_the_floating_ip_that_cannot_be_read_are_passed_over() {
        let (dir, latest) = drive();
        fs::write(latest.join(META_DATA), META).unwrap();
        fs::create_dir(latest.join(VENDOR_DATA_2)).unwrap();
        fs::create_dir_all(dir.path().join("ec2/latest")).unwrap();
        fs::write(dir.path().join(EC2_META_DATA), "{").unwrap();
        let warnings = read(dir.path()).unwrap().warnings;
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].contains("vendor_data2.json: not a regular file"),
            "{warnings:?}"
        );
        assert!(
            warnings[1].contains("ec2/latest/meta-data.json: line 1"),
            "{warnings:?}"
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
