//! A backup to be read: a file, or an object in a store.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use super::place::Objects;
use super::read::{Contents, Take, read};
use super::seal::Keys;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::objects::{Location, StoreSpec};

/// How much is asked for at once, in bytes.
const BUFFER: usize = 256 * 1024;

/// A backup to be read.
#[derive(Clone, Debug)]
pub enum Backup {
    /// This file.
    File(PathBuf),
    /// The object of that name.
    Object(Objects, String),
}

impl fmt::Display for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backup::File(path) => path.display().fmt(f),
            Backup::Object(objects, name) => f.write_str(&objects.shown(name)),
        }
    }
}

impl Backup {
    /// The backup that an argument names: a path, or `s3://BUCKET/KEY` in a store that is reached as `s3` says.
    ///
    /// # Errors
    /// [`Refused`] if it names none, or if the store cannot be reached as that says.
    pub fn of_argument(argument: &Path, s3: Option<&StoreSpec>) -> Result<Backup, Refused> {
        let Some(location) = Location::of_argument(argument) else {
            return Ok(Backup::File(argument.to_owned()));
        };
        let location =
            location.map_err(|why| Refused::new(format!("{}: {why}", argument.display())))?;
        let (objects, name) = Objects::of_object(&location, s3)?;
        Ok(Backup::Object(objects, name))
    }

    /// Reads all of it, as [`read`] does. Nothing of it is kept on the disk.
    ///
    /// # Errors
    /// [`Refused`] if it is not whole, or if there is none. Any other error is one of `take`, or of the store: the backup
    /// may be good.
    pub fn read(&self, keys: &Keys, take: &mut Take<'_>) -> Result<Contents> {
        let whole = |contents: Result<Contents>| {
            contents.map_err(|error| match error.is::<Refused>() {
                true => Refused::because(error.context(self.to_string())).into(),
                false => error,
            })
        };
        match self {
            Backup::File(path) => {
                let file = file(path).with_context(|| self.to_string());
                let file = file.map_err(Refused::because)?;
                whole(read(BufReader::new(file), keys, take))
            }
            Backup::Object(objects, name) => {
                let failed = RefCell::new(None);
                let noting = Noting {
                    inner: objects.read(name)?,
                    failed: &failed,
                };
                let contents = read(BufReader::with_capacity(BUFFER, noting), keys, take);
                match failed.take() {
                    // What was not read is not damaged.
                    Some(error) => Err(anyhow!("{error}")),
                    None => whole(contents),
                }
            }
        }
    }
}

fn file(path: &Path) -> Result<File> {
    let file = File::open(path)?;
    ensure!(file.metadata()?.is_file(), tr!("not a regular file"));
    Ok(file)
}

/// Notes why reading failed.
struct Noting<'a, R> {
    inner: R,
    failed: &'a RefCell<Option<io::Error>>,
}

impl<R: Read> Read for Noting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            self.failed.borrow_mut().get_or_insert(error);
            kind.into()
        })
    }
}
