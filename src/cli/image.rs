//! The command line of golden images.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Output, Trust};
use crate::image::attach::Means;

/// Golden images: the appliance in a distribution's image, once for all VMs.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Make an image of a distribution's, without booting it
    ///
    /// The base is copied, the copy is attached, prepared and checked, and gets its name when all of
    /// that went well; its sha256 is written beside it. Nothing of the base is run, and it is not
    /// changed. This needs root and qemu-utils.
    #[command(after_long_help = BUILD_EXAMPLES)]
    Build(ImageBuild),
    /// Make an image of this machine, or of a system below a directory
    ///
    /// Unpacks the bundle, loads its images into docker where that runs, installs the unit of the
    /// first boot, and removes every trace of this machine: its ID, SSH host keys and authorized
    /// keys, passwords, cloud-init's state, logs, histories and more. `appliance image check` lists
    /// all of it. A node of a cluster is refused, and nothing is changed then.
    #[command(after_long_help = PREPARE_EXAMPLES)]
    Prepare(ImagePrepare),
    /// Check what has to be in an image, and what must not be
    ///
    /// Changes nothing. Exit codes: 0 all is as it should be, 1 something is not.
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check(ImageCheck),
}

const BUILD_EXAMPLES: &str = "\
Examples:
  appliance image build --base debian-12-genericcloud-amd64.qcow2 -o golden.qcow2
  appliance image build --base ubuntu.img -o golden.qcow2 --compress
  sha256sum --check golden.qcow2.sha256

The base has to have cloud-init and, for nodes that run pods, apparmor, conntrack, ethtool, ipset,
iptables and socat; docker too, unless the bundle brings it. docs/images.md tells how to put them in.";

const PREPARE_EXAMPLES: &str = "\
Examples:
  appliance image prepare --yes && poweroff   in a VM that was made for it
  appliance image prepare --root /mnt         for an image that is mounted there";

const CHECK_EXAMPLES: &str = "\
Examples:
  appliance image check --root /mnt
  appliance image check --root /mnt -o json | jq '.checks[] | select(.result == \"failed\")'";

/// What an image is to carry.
#[derive(Args, Clone, Debug)]
pub struct ImagePayload {
    /// Use this payload, or that of this appliance, and not the one of this program
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,

    /// Whose signature the payload has to have
    #[command(flatten)]
    pub trust: Trust,
}

/// Arguments of `image build`.
#[derive(Args, Debug)]
pub struct ImageBuild {
    /// The distribution's cloud image, qcow2 or raw
    #[arg(long, value_name = "IMAGE")]
    pub base: PathBuf,

    /// The image to make, in the format qcow2; replaced if it is there
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// What it is to carry
    #[command(flatten)]
    pub carried: ImagePayload,

    /// How to attach the copy: nbd, loop or libguestfs [default: the first of these that works here]
    #[arg(long, value_name = "MEANS")]
    pub attach: Option<Means>,

    /// Compress the image: smaller to upload, slower to make
    #[arg(long)]
    pub compress: bool,
}

/// Arguments of `image prepare`.
#[derive(Args, Debug)]
pub struct ImagePrepare {
    /// Prepare the system below this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// What it is to carry
    #[command(flatten)]
    pub carried: ImagePayload,

    /// Do not ask before this machine's own traces are removed
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `image check`.
#[derive(Args, Debug)]
pub struct ImageCheck {
    /// Check the system below this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}
