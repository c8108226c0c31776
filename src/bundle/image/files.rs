//! Takes one file out of the file system that the layers of an image make together.
//!
//! A layer hides files of lower layers by whiteouts: `.wh.NAME` hides NAME, `.wh..wh..opq` hides all that
//! lower layers have in its directory (OCI image specification, "layer.md").

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context, Result, bail, ensure};

use super::layered::Layered;
use crate::bundle::archive::{
    Entry, Inventory, MAX_MEMBER, below_root, each_entry_with_seek, list,
};

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// How many links are followed before they are taken for a circle.
const MAX_LINKS: usize = 40;

/// Writes the file at `path` in the image to `output`. Links are followed inside the image only.
pub fn copy_file(image: &dyn Layered, path: &str, output: &mut dyn Write) -> Result<()> {
    let files = Files::read(image)?;
    let (layer, entry) = files.find(path)?;
    let mut archive = tar::Archive::new(image.layer(layer)?);
    let found = archive.entries_with_seek()?.nth(entry);
    let mut found = found.context("the layer changed while it was read")??;
    ensure!(
        found.size() <= MAX_MEMBER,
        "{path} has {} bytes, more than the limit of {MAX_MEMBER}",
        found.size()
    );
    io::copy(&mut found, output)?;
    Ok(())
}

/// What is at a path.
#[derive(Clone, Debug)]
enum Node {
    /// A file: the number of its layer, and that of its entry in the layer's tar.
    File(usize, usize),
    Directory,
    Link(String),
    /// A device, a socket, or a hard link without a target.
    Other,
}

/// All paths of an image, without a slash at the start.
#[derive(Default)]
struct Files(BTreeMap<String, Node>);

impl Files {
    fn read(image: &dyn Layered) -> Result<Files> {
        let mut files = Files::default();
        let mut inventory = Inventory::default();
        for layer in 0..image.config().diff_ids.len() {
            let diff_id = &image.config().diff_ids[layer];
            files
                .add(image, layer, &mut inventory)
                .with_context(|| format!("layer {diff_id}"))?;
        }
        Ok(files)
    }

    /// Puts a layer on top of those below.
    fn add(&mut self, image: &dyn Layered, layer: usize, inventory: &mut Inventory) -> Result<()> {
        let mut new: Vec<(String, Node)> = Vec::new();
        let mut number = 0;
        each_entry_with_seek(image.layer(layer)?, |entry| {
            let path = below_root(&entry.path()?)?;
            inventory.count(&path)?;
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == OPAQUE {
                self.hide_below(&self.real(directory));
            } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
                let hidden = joined(&self.real(directory), hidden);
                self.0.remove(&hidden);
                self.hide_below(&hidden);
            } else if !path.is_empty() {
                let node = node(entry, (layer, number), &new)?;
                new.push((path, node));
            }
            number += 1;
            Ok(())
        })?;
        for (path, node) in new {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let path = joined(&self.real(directory), name);
            if !matches!(node, Node::Directory) {
                self.hide_below(&path);
            }
            self.0.insert(path, node);
        }
        Ok(())
    }

    /// The directory at which a path leads, after its links. A directory that does not exist yet stays as
    /// it is.
    fn real(&self, directory: &str) -> String {
        match self.follow(directory) {
            Ok((real, None | Some(Node::Directory))) => real,
            _ => directory.to_owned(),
        }
    }

    fn hide_below(&mut self, directory: &str) {
        let start = joined(directory, "");
        let below = self.0.range(start.clone()..).map(|(path, _)| path);
        let below = below.take_while(|path| path.starts_with(&start));
        for path in below.cloned().collect::<Vec<_>>() {
            self.0.remove(&path);
        }
    }

    /// The layer and the entry of the file at `path`.
    fn find(&self, path: &str) -> Result<(usize, usize)> {
        match self.follow(path)? {
            (_, Some(Node::File(layer, entry))) => Ok((*layer, *entry)),
            (at, None) if !self.has_below(&at) => {
                let directory = at.rsplit_once('/').map_or("", |(directory, _)| directory);
                bail!(
                    "the image has no file {path}; /{directory} has {}",
                    list(self.names_in(directory))
                )
            }
            (at, None | Some(Node::Directory)) => bail!(
                "{path} is a directory in the image; it has {}",
                list(self.names_in(&at))
            ),
            _ => bail!("{path} is not a regular file in the image"),
        }
    }

    /// The path at which `path` leads after all links, and what is there. Fails if a link leads out of
    /// the image.
    fn follow(&self, path: &str) -> Result<(String, Option<&Node>)> {
        let mut left = parts(path);
        let mut at = String::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                ensure!(!at.is_empty(), "{path} leads out of the image by a link");
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            let next = joined(&at, &part);
            let Some(Node::Link(target)) = self.0.get(&next) else {
                at = next;
                continue;
            };
            links += 1;
            ensure!(links <= MAX_LINKS, "{path} is a circle of links");
            if target.starts_with('/') {
                at.clear();
            }
            left.extend(parts(target));
        }
        let node = self.0.get(&at);
        Ok((at, node))
    }

    fn has_below(&self, directory: &str) -> bool {
        let start = joined(directory, "");
        let mut below = self.0.range(start.clone()..);
        below
            .next()
            .is_some_and(|(path, _)| path.starts_with(&start))
    }

    fn names_in(&self, directory: &str) -> impl Iterator<Item = String> {
        let start = joined(directory, "");
        let below = self.0.range(start.clone()..);
        below
            .map(|(path, _)| path)
            .map_while(move |path| path.strip_prefix(&start))
            .filter(|rest| !rest.contains('/'))
            .map(str::to_owned)
    }
}

/// What the entry puts at its path. `before` are the entries of the layer before it.
fn node<R: io::Read>(
    entry: &Entry<'_, R>,
    place: (usize, usize),
    before: &[(String, Node)],
) -> Result<Node> {
    let kind = entry.header().entry_type();
    let target = || -> Result<String> {
        let target = entry.link_name()?.unwrap_or_default();
        Ok(target.to_string_lossy().into_owned())
    };
    Ok(if kind.is_dir() {
        Node::Directory
    } else if kind.is_symlink() {
        Node::Link(target()?)
    } else if kind.is_hard_link() {
        let target = below_root(target()?.as_ref())?;
        let same = before.iter().rev().find(|(path, _)| *path == target);
        same.map_or(Node::Other, |(_, node)| node.clone())
    } else if kind.is_file() {
        Node::File(place.0, place.1)
    } else {
        Node::Other
    })
}

fn joined(directory: &str, name: &str) -> String {
    match directory {
        "" => name.to_owned(),
        _ => format!("{directory}/{name}"),
    }
}

/// The parts of a path, the last one first.
fn parts(path: &str) -> Vec<String> {
    let parts = path.split('/').rev();
    let parts = parts.filter(|part| !part.is_empty() && *part != ".");
    parts.map(str::to_owned).collect()
}
