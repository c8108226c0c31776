//! Gives each unpacked file its place as soon as it is whole, so that it can be used while the rest is unpacked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::bundle::manifest::{Manifest, Part};
use crate::sys::atomic::{create_directories, parent, sync_directory};

/// Is called with the path of each file that is in its place, below the bundle's directory.
pub type Tell<'a> = dyn Fn(&str) + Sync + 'a;

/// Moves files from the directory where they are unpacked to the one of the bundle.
pub struct Placing<'a> {
    from: &'a Path,
    to: &'a Path,
    tell: &'a Tell<'a>,
    /// How many parts of each file are still to come.
    open: Mutex<BTreeMap<&'a str, usize>>,
}

impl<'a> Placing<'a> {
    /// For the files of `manifest`. Those without content are placed at once.
    pub fn new(
        manifest: &'a Manifest,
        from: &'a Path,
        to: &'a Path,
        tell: &'a Tell<'a>,
    ) -> Result<Placing<'a>> {
        let components = manifest.components.iter();
        let mut open: BTreeMap<&str, usize> = components
            .map(|component| (component.path.as_str(), 0))
            .collect();
        let parts = manifest.packs.iter().flat_map(|pack| &pack.parts);
        for path in parts.flat_map(Part::paths) {
            *open.entry(path).or_default() += 1;
        }
        let placing = Placing {
            from,
            to,
            tell,
            open: Mutex::new(BTreeMap::new()),
        };
        let mut empty = open.iter().filter(|(_, parts)| **parts == 0);
        empty.try_for_each(|(path, _)| placing.place(path))?;
        Ok(Placing {
            open: Mutex::new(open),
            ..placing
        })
    }

    /// One more part of the file is written, and right.
    pub fn has_part(&self, path: &str) -> Result<()> {
        let is_whole = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let parts = open.get_mut(path).context("a part of no component")?;
            *parts -= 1;
            *parts == 0
        };
        match is_whole {
            true => self.place(path).with_context(|| path.to_owned()),
            false => Ok(()),
        }
    }

    /// A file has its name only when its content is on the disk.
    fn place(&self, path: &str) -> Result<()> {
        let (from, to) = (self.from.join(path), self.to.join(path));
        File::open(&from)?.sync_all()?;
        let directory = parent(&to);
        create_directories(directory)?;
        fs::rename(&from, &to)?;
        sync_directory(directory)?;
        (self.tell)(path);
        Ok(())
    }
}
