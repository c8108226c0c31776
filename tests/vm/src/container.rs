//! System containers instead of virtual machines: MACHINES=containers. They run on this machine's kernel, at its
//! speed, and have no hardware of their own: metadata comes from the service, packets of pods go without tunnels.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::drive::run;
use crate::image::Image;
use crate::machine::MachineSpec;

/// The disk of a container.
pub(crate) const DISK: &str = "disk.img";
/// The free space on a volume, in MiB.
const FREE: u64 = 64;

/// Whether machines are containers.
pub fn are_wanted() -> bool {
    std::env::var_os("MACHINES").is_some_and(|kind| kind == "containers")
}

/// Copies the disk of an image. A container mounts it, so that it has no format of QEMU.
pub(crate) fn copy(image: &Image, to: &Path) -> Result<()> {
    if image.format() == "raw" {
        let mut cp = Command::new("cp");
        cp.arg("--sparse=always").args([&image.disk(), to]);
        return run(&mut cp, "coreutils");
    }
    let mut convert = Command::new("qemu-img");
    convert
        .args(["convert", "-O", "raw"])
        .args([&image.disk(), to]);
    run(&mut convert, "qemu-utils")
}

/// Writes a volume with the files of `tree`, in a file system that every kernel has.
pub(crate) fn write_volume(tree: &Path, label: &str, volume: &Path) -> Result<()> {
    if volume.exists() {
        fs::remove_file(volume)?;
    }
    let mut bytes = 0;
    for entry in fs::read_dir(tree)? {
        bytes += entry?.metadata()?.len();
    }
    let mut mke2fs = Command::new("mke2fs");
    mke2fs
        .args(["-q", "-t", "ext4", "-L", label, "-d"])
        .args([tree, volume])
        .arg(format!("{}M", (bytes >> 20) * 9 / 8 + FREE));
    run(&mut mke2fs, "e2fsprogs")
}

/// Removes the cgroups of the containers of a network, which have ended.
pub(crate) fn remove_cgroups(network: &str) {
    // What cannot be removed is empty, and has a name that no other run uses.
    let _ = Command::new("find")
        .args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path"])
        .arg(format!("*/{network}-*"))
        .arg("-delete")
        .stderr(Stdio::null())
        .status();
}

/// The container with the files in `dir`, before it is started.
pub(crate) fn command(spec: &MachineSpec<'_>, dir: &Path) -> Result<Command> {
    let port = spec.port.context("a container needs a network")?;
    let [inside, bridge, device, mac] = port.of_container();
    let memory = spec.server.memory.to_string();
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("container.sh"));
    command
        .arg(dir)
        .args([inside, &memory, bridge, device, mac])
        .stdin(Stdio::null());
    Ok(command)
}
