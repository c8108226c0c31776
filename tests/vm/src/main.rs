//! `vm`: boots the appliance in virtual machines and shows the results.

mod choose;
mod demo;
mod show_cluster;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use appliance_vm::choice::Choice;
use appliance_vm::image::Image;
use appliance_vm::standing::{REACH, Standing, Stopped};
use appliance_vm::{keeper, qemu, shell};
use clap::{Args, Parser, Subcommand};

/// Boots the appliance in QEMU, with OpenStack metadata and without access to the internet.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the base image from the distribution's packages, unless it is cached
    Image {
        /// Directory of the images
        #[arg(long, default_value = "out/vm")]
        cache: PathBuf,
    },
    /// Print how VMs run here: `kvm`, or `emulated`
    Accelerator {
        /// Directory of the images
        #[arg(long, default_value = "out/vm")]
        cache: PathBuf,
    },
    /// Make a cluster of one VM, show its status and pods, reboot it, show that nothing changed,
    /// and leave it on
    Demo(demo::Arguments),
    /// Decide which bundle to boot, and say why
    Choose(choose::Arguments),
    /// Print how to reach the VM that `demo` left on, and what runs in it
    Reach {
        /// File that `choose` wrote
        #[arg(long, value_name = "FILE", default_value = "out/choice")]
        choice: PathBuf,
    },
    /// Fail if a cluster of `demo` still runs
    Free(Place),
    /// Open a root shell inside the VM that `demo` left on, or run commands from standard input
    Shell {
        /// The directory of the VM
        #[command(flatten)]
        place: Place,
        /// Run this shell command instead, and exit with its code
        #[arg(short, long)]
        command: Option<String>,
    },
    /// Copy a file to /root inside the VM that `demo` left on
    Copy {
        /// The directory of the VM
        #[command(flatten)]
        place: Place,
        /// The file
        file: PathBuf,
    },
    /// Switch off the VM that `demo` left on, and remove its files
    Stop(Place),
    /// Boot the tutorial's three VMs on one network and show the result of each (needs root)
    Cluster(show_cluster::Arguments),
    /// Run QEMU until standard input ends without a request to stay
    #[command(hide = true)]
    Keep {
        /// Directory of the VM
        directory: PathBuf,
        /// QEMU and its arguments
        #[arg(last = true, required = true)]
        qemu: Vec<OsString>,
    },
}

/// The directory of the demonstration.
#[derive(Args)]
struct Place {
    /// Directory of the VM's files
    #[arg(long, value_name = "DIR", default_value = "out/demo")]
    directory: PathBuf,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Image { cache } => drop(Image::ensure(&cache)?),
        Command::Accelerator { cache } => {
            let image = Image::ensure(&cache)?;
            println!(
                "{}",
                if qemu::has_kvm(&image) {
                    "kvm"
                } else {
                    "emulated"
                }
            );
        }
        Command::Demo(arguments) => demo::run(&arguments)?,
        Command::Choose(arguments) => choose::run(arguments)?,
        Command::Reach { choice } => println!(
            "The cluster runs in a VM without a network to the outside.\n{REACH}\n{}",
            Choice::about_in(&choice)?
        ),
        Command::Free(place) => Standing::at(&place.directory).ensure_free()?,
        Command::Shell { place, command } => {
            let code = shell::run(&Standing::at(&place.directory), command.as_deref())?;
            return Ok(ExitCode::from(code));
        }
        Command::Copy { place, file } => {
            let to = shell::copy(&Standing::at(&place.directory), &file)?;
            println!("It is {to} inside the VM.");
        }
        Command::Stop(place) => println!(
            "{}",
            match Standing::at(&place.directory).stop()? {
                Stopped::Nothing => "No cluster of a demonstration runs here.",
                Stopped::Files =>
                    "The VM of the demonstration had ended already. Its files are removed.",
                Stopped::Machine =>
                    "The VM of the demonstration is switched off. Its files are removed.",
            }
        ),
        Command::Cluster(arguments) => show_cluster::run(&arguments)?,
        Command::Keep { directory, qemu } => keeper::keep(&directory, &qemu)?,
    }
    Ok(ExitCode::SUCCESS)
}
