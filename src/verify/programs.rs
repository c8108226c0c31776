//! The files of the bundle, and this program.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, fadvise};

use super::{Found, Kind, Node, Wrong};
use crate::bundle::manifest::{Component, FILE_NAME, Manifest};
use crate::bundle::payload::Payload;
use crate::components::{self, Runs};
use crate::digest::Sha256;
use crate::language::tr;
use crate::paths::{BUNDLES, PROGRAM};
use crate::records::written::octal;
use crate::sys::stream::sha256_of;

/// Compares them, byte for byte.
pub fn compare(node: &Node<'_>, found: &mut Found) -> Result<()> {
    let directory = format!("{BUNDLES}/{}", node.state.digest);
    let path = format!("{directory}/{FILE_NAME}");
    match manifest(node, &path) {
        Err(error) => found.compared(
            Kind::Program,
            &path,
            Some(damaged(&format!("{error:#}"), &path)),
        ),
        Ok(manifest) => {
            found.compared(Kind::Program, &path, None);
            for component in &manifest.components {
                let path = format!("{directory}/{}", component.path);
                let wrong = of_component(node, component, &path)?;
                found.compared(Kind::Program, &path, wrong);
            }
        }
    }
    let wrong = of_program(node)?;
    found.compared(Kind::Program, PROGRAM, wrong);
    Ok(())
}

/// The manifest of the installed bundle. Its digest is the name of the bundle's directory.
fn manifest(node: &Node<'_>, path: &str) -> Result<Manifest> {
    let text = node.root.read(path)?.with_context(|| tr!("missing"))?;
    if Sha256::of(&text).as_str() != node.state.digest {
        bail!(tr!("its bytes are not those that were installed"));
    }
    Manifest::parse(&text)
}

/// A bundle without a manifest is unpacked again.
fn damaged(problem: &str, path: &str) -> Wrong {
    Wrong::new(problem, format!("rm -f {path} && {}", super::INSTALL))
}

fn of_component(node: &Node<'_>, component: &Component, path: &str) -> Result<Option<Wrong>> {
    let target = node.root.resolve(path)?;
    let problem = problem_of(&target, component).unwrap_or_else(|error| Some(format!("{error:#}")));
    let Some(problem) = problem else {
        return Ok(None);
    };
    // An installation looks at the size only, and a service still runs what it started with.
    let runs = components::services(node.shape)
        .into_iter()
        .find(|service| matches!(service.runs, Runs::Program(name) if name == component.name));
    let restart = runs.map_or(String::new(), |service| {
        format!(" && systemctl restart {}", service.name)
    });
    let fix = format!("rm -f {path} && {}{restart}", super::INSTALL);
    Ok(Some(Wrong::new(problem, fix)))
}

fn problem_of(target: &Path, component: &Component) -> Result<Option<String>> {
    let Ok(metadata) = fs::symlink_metadata(target) else {
        return Ok(Some(tr!("missing")));
    };
    let expected = component.kind.mode();
    let mode = metadata.mode() & 0o7777;
    Ok(if !metadata.is_file() {
        Some(tr!("not a regular file"))
    } else if metadata.len() != component.size {
        Some(tr!(
            "it has {} bytes, not {}",
            metadata.len(),
            component.size
        ))
    } else if mode != expected {
        Some(tr!(
            "its mode is {present}, not {mode}",
            present = octal(mode),
            mode = octal(expected)
        ))
    } else if metadata.uid() != nix::unistd::geteuid().as_raw() {
        Some(tr!("its owner is the user {}", metadata.uid()))
    } else if digest(target)? != component.sha256 {
        Some(tr!("its bytes are not those that were installed"))
    } else {
        None
    })
}

/// The digest of a file. The kernel need not keep its pages: nobody else reads most of these files, and what others
/// use should stay in memory.
fn digest(path: &Path) -> Result<Sha256> {
    let file = File::open(path)?;
    let digest = sha256_of(&file)?;
    forget(&file);
    Ok(digest)
}

fn forget(file: &File) {
    // A file system that cannot do this keeps the pages: no harm.
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}

/// This program carries the bundle, and a seal over every byte of both.
fn of_program(node: &Node<'_>) -> Result<Option<Wrong>> {
    let target = node.root.resolve(PROGRAM)?;
    let problem = match whole(&target) {
        Err(error) => format!("{error:#}"),
        Ok(payload) if payload.digest().as_str() != node.state.digest => {
            tr!("it carries another bundle than the one that was installed")
        }
        Ok(_) => return Ok(None),
    };
    // This program cannot repair itself: somebody has to bring a whole one.
    let problem = format!("{problem}; copy the appliance to this machine again, and run it there");
    Ok(Some(Wrong::new(problem, "./appliance install")))
}

fn whole(target: &Path) -> Result<Payload> {
    let payload = Payload::of_program(target)?.context("it carries no bundle")?;
    payload.check_whole()?;
    forget(&File::open(target)?);
    Ok(payload)
}
