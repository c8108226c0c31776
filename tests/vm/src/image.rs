//! The base image of the virtual machines.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A disk with a distribution on it, and the kernel to boot it with.
#[derive(Clone, Debug)]
pub struct Image {
    dir: PathBuf,
}

impl Image {
    /// The image below the directory `cache`; made from the distribution's packages if it is
    /// not there yet, which takes minutes and needs root and the distribution's archive.
    pub fn ensure(cache: &Path) -> Result<Image> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("image.sh");
        let output = Command::new(&script)
            .arg(cache)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| script.display().to_string())?;
        ensure!(output.status.success(), "{} failed", script.display());
        let dir = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        Ok(Image {
            dir: dir.canonicalize()?,
        })
    }

    /// The disk, which is never written to.
    pub fn disk(&self) -> PathBuf {
        self.dir.join("root.img")
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The kernel's first file system.
    pub fn initrd(&self) -> PathBuf {
        self.dir.join("initrd.img")
    }
}
