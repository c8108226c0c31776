//! The base image of the virtual machines.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A disk with a distribution, and the kernel to boot it.
#[derive(Clone, Debug)]
pub struct Image {
    dir: PathBuf,
    /// The golden image, if it is one.
    golden: Option<PathBuf>,
}

impl Image {
    /// The image below the directory `cache`. If it does not exist yet, it is made from the
    /// distribution's packages: this takes minutes, and needs root and the distribution's archive.
    pub fn ensure(cache: &Path) -> Result<Image> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("image.sh");
        let output = Command::new(&script)
            .arg(cache)
            // debootstrap takes this variable for parts of the distribution.
            .env_remove("COMPONENTS")
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| script.display().to_string())?;
        ensure!(output.status.success(), "{} failed", script.display());
        let dir = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        Ok(Image {
            dir: dir.canonicalize()?,
            golden: None,
        })
    }

    /// An image of which nothing exists yet.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Image {
        Image {
            dir: PathBuf::from("/nonexistent"),
            golden: None,
        }
    }

    /// The golden image at `disk`, which was made from this one and boots with its kernel.
    pub fn golden(&self, disk: &Path) -> Result<Image> {
        Ok(Image {
            golden: Some(disk.canonicalize()?),
            ..self.clone()
        })
    }

    /// Whether it contains the appliance, so that no volume needs to provide it.
    pub fn is_golden(&self) -> bool {
        self.golden.is_some()
    }

    /// The disk, which is never written to.
    pub fn disk(&self) -> PathBuf {
        let own = || self.dir.join("root.img");
        self.golden.clone().unwrap_or_else(own)
    }

    /// The format of the disk, by its name in QEMU.
    pub fn format(&self) -> &'static str {
        if self.is_golden() { "qcow2" } else { "raw" }
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The initial RAM file system of the kernel.
    pub fn initrd(&self) -> PathBuf {
        self.dir.join("initrd.img")
    }
}
