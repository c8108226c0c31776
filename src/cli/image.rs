//! The command line of golden images.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Trust, Waiting, text};
use crate::image::attach::Means;

/// Golden images: the appliance in a distribution's image, once for all VMs.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Build an image from a distribution's cloud image, without booting it
    ///
    /// Copies the base, attaches the copy, prepares it and checks it. The output appears only if all
    /// of this succeeds; its SHA-256 checksum is written next to it. Runs nothing of the base and
    /// does not change it. Needs root and qemu-utils.
    #[command(after_long_help = text::image::BUILD)]
    Build(ImageBuild),
    /// Turn this machine, or the system below a directory, into an image
    ///
    /// Unpacks the bundle, loads its images if docker runs, installs the unit for the first boot and
    /// the manual pages, and removes every trace of this machine: its ID, SSH host keys and
    /// authorized keys, passwords, cloud-init's state, logs, shell histories and more. `appliance
    /// image check` lists all of them. Refuses a machine that is a node of a cluster.
    #[command(after_long_help = text::image::PREPARE)]
    Prepare(ImagePrepare),
    /// Check what an image must contain, and what it must not contain
    ///
    /// Changes nothing. Exit codes: 0 all checks passed, 1 a check failed.
    #[command(after_long_help = text::image::CHECK)]
    Check(ImageCheck),
}

/// The payload of an image.
#[derive(Args, Clone, Debug)]
pub struct ImagePayload {
    /// Use this payload or appliance, not the payload of this program
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,

    /// The key that must have signed the payload
    #[command(flatten)]
    pub trust: Trust,
}

/// Arguments of `image build`.
#[derive(Args, Debug)]
pub struct ImageBuild {
    /// The distribution's cloud image, qcow2 or raw
    #[arg(long, value_name = "IMAGE")]
    pub base: PathBuf,

    /// Image to write, in the format qcow2; an existing file is replaced
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The payload of the image
    #[command(flatten)]
    pub carried: ImagePayload,

    /// How to attach the copy: nbd, loop or libguestfs [default: the first that works]
    #[arg(long, value_name = "MEANS")]
    pub attach: Option<Means>,

    /// Compress the image: smaller to upload, slower to build
    #[arg(long)]
    pub compress: bool,
}

/// Arguments of `image prepare`.
#[derive(Args, Debug)]
pub struct ImagePrepare {
    /// Prepare the system below this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// The payload of the image
    #[command(flatten)]
    pub carried: ImagePayload,

    /// Do not ask before this machine's traces are removed
    #[arg(short, long)]
    pub yes: bool,

    /// What to do while another run changes this machine
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `image check`.
#[derive(Args, Debug)]
pub struct ImageCheck {
    /// Check the system below this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}
