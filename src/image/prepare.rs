//! Prepares the system below a root directory as an image: of this machine, of a mounted image, or
//! of any directory. It first checks everything; then it makes changes.

use anyhow::Result;

use super::checks::{self, Subject};
use super::traces;
use super::{ENABLED, UNIT_TEXT};
use crate::bundle::payload::Payload;
use crate::bundle::{repack, unpack};
use crate::check::Verdict;
use crate::clients::docker::Docker;
use crate::components::BOOT_UNIT;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::observe::images;
use crate::observe::software::docker_source;
use crate::paths::{self, CURRENT};
use crate::preflight::{RESERVE, mebibytes};
use crate::sys::change::Change;
use crate::sys::process::{Command, Runner};
use crate::sys::root::Root;
use crate::sys::{host, progress};

/// The inputs of a preparation.
pub struct Preparation<'a> {
    /// The system.
    pub root: &'a Root,
    /// How to run programs, if the system is the running one.
    pub runner: &'a dyn Runner,
    /// The payload that it carries.
    pub payload: &'a Payload,
    /// The program's manual pages: the name of each file, and its content.
    pub manuals: &'a [(String, Vec<u8>)],
    /// Called before each step. An error ends the preparation there.
    pub announce: &'a dyn Fn(&str) -> Result<()>,
}

impl Preparation<'_> {
    /// Refuses a system that cannot become an image, and lists every reason. Changes nothing.
    pub fn check(&self) -> Result<()> {
        let subject = Subject {
            root: self.root,
            runner: self.runner,
            manifest: Some(self.payload.manifest()),
        };
        let mut problems: Vec<String> = checks::base(&subject)
            .into_iter()
            .filter_map(|checked| match checked.verdict {
                Verdict::Failed { found, hint } => {
                    Some(format!("{}: {found}; {hint}", checked.check))
                }
                _ => None,
            })
            .collect();
        problems.extend(self.lack_of_room()?);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Refused { problems }.into())
        }
    }

    /// The space for the unpacked bundle, and for the program with its payload, in bytes.
    pub fn needed(payload: &Payload) -> Result<u64> {
        Ok(payload.manifest().unpacked_size() + std::fs::metadata(payload.file())?.len())
    }

    fn lack_of_room(&self) -> Result<Option<String>> {
        if self.is_unpacked()? {
            return Ok(None);
        }
        let needed = Preparation::needed(self.payload)?;
        let free = host::file_system(&self.root.resolve(paths::BUNDLES)?)?.free;
        Ok((needed + RESERVE > free).then(|| {
            tr!(
                "disk space: the system has {} MiB free, but the bundle needs {} MiB and {} MiB to \
                 spare; enlarge its disk first (for an image: `qemu-img resize`, then growpart and \
                 resize2fs inside it; for a VM: a bigger flavor)",
                free / (1024 * 1024),
                mebibytes(needed),
                mebibytes(RESERVE)
            )
        }))
    }

    fn is_unpacked(&self) -> Result<bool> {
        Ok(unpack::is_complete(
            &self.root.resolve(paths::BUNDLES)?,
            self.payload,
        ))
    }

    /// Installs what an image needs, and removes what it must not contain. An interrupted run can
    /// be repeated.
    pub fn run(&self) -> Result<()> {
        self.unpack()?;
        self.load_images()?;
        (self.announce)("install the program and the unit of the first boot")?;
        self.install_program()?;
        self.install_manuals()?;
        self.root
            .write(&paths::unit(BOOT_UNIT), UNIT_TEXT.as_bytes(), 0o644)?;
        self.root.set_link(ENABLED, &paths::unit(BOOT_UNIT))?;
        (self.announce)("remove every trace of this machine")?;
        if self.root.is_live() {
            self.settle();
        }
        traces::clean(self.root, |trace, found| {
            log::debug!("{}: {}", trace.name, found.path);
        })
    }

    fn unpack(&self) -> Result<()> {
        let digest = self.payload.digest().as_str();
        if !self.is_unpacked()? {
            (self.announce)("unpack the bundle")?;
            self.root.create_dir(paths::BUNDLES, 0o755)?;
            let total = self.payload.manifest().unpacked_size();
            let progress = progress::standard_error(&tr!("unpack"), total);
            unpack::unpack(
                self.payload,
                &self.root.resolve(paths::BUNDLES)?,
                &*progress,
            )?;
        }
        self.root.set_link(CURRENT, digest)
    }

    /// Loads the images if docker runs. Otherwise the images stay unpacked, and the first boot
    /// loads them.
    fn load_images(&self) -> Result<()> {
        let manifest = self.payload.manifest();
        let docker = Docker::of(docker_source(self.root, Some(manifest))?);
        if !self.root.is_live() || !docker.is_running(self.runner) {
            log::info!("docker does not run here; the first boot loads the images");
            return Ok(());
        }
        let references = manifest.named_images().map(|(name, _)| name.to_owned());
        let present = images::ids(self.root, self.runner, &docker, references)?;
        for (reference, image) in manifest.named_images() {
            if present.get(reference) == image.image_id.as_ref() {
                continue;
            }
            (self.announce)(&tr!("load image {reference}", reference))?;
            let tarball = self.root.resolve(&format!("{CURRENT}/{}", image.path))?;
            docker.load(self.runner, &tarball)?;
            docker.flush(self.runner)?;
        }
        Ok(())
    }

    /// Installs the program with its payload, which the first boot needs to know the bundle.
    fn install_program(&self) -> Result<()> {
        repack::install(self.payload, &self.root.resolve(paths::PROGRAM)?)
    }

    fn install_manuals(&self) -> Result<()> {
        for (name, page) in self.manuals {
            let path = format!("{}/{name}", paths::MANUALS);
            if self.root.read(&path)?.as_ref() != Some(page) {
                self.root.write(&path, page, 0o644)?;
            }
        }
        Ok(())
    }

    /// Stops services that would write traces again when they stop after the cleaning.
    fn settle(&self) {
        let stop = Command::new("systemctl", &["stop", "systemd-random-seed.service"]);
        if let Err(error) = self.runner.check(&stop) {
            log::debug!("{error:#}");
        }
    }
}
