//! `vm`: boots the appliance in virtual machines and shows the results.

mod show_cluster;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use appliance_vm::cluster::{journal, journal_of};
use appliance_vm::drive::{ConfigDrive, DEFAULTS, user_data};
use appliance_vm::image::Image;
use appliance_vm::machine::{Clock, Machine, MachineSpec};
use appliance_vm::stages::Stages;
use clap::{Parser, Subcommand};

/// How long the bring-up may take. This limit only ends one that hangs; it measures nothing.
const BRING_UP: Duration = Duration::from_secs(1500);

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
    /// Make a cluster of one VM, show its status and pods, reboot it, show that nothing changed
    Demo {
        /// Appliance to boot
        #[arg(long, default_value = "out/appliance")]
        appliance: PathBuf,
        /// Directory of the images
        #[arg(long, default_value = "out/vm")]
        cache: PathBuf,
        /// Keep the VM's disk and console log in this directory
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Boot the tutorial's three VMs on one network and show the result of each (needs root)
    Cluster(show_cluster::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Image { cache } => Image::ensure(&cache).map(drop),
        Command::Demo {
            appliance,
            cache,
            keep,
        } => demo(&appliance, &cache, keep.as_deref()),
        Command::Cluster(arguments) => show_cluster::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(appliance: &Path, cache: &Path, keep: Option<&Path>) -> Result<()> {
    let mut stages = Stages::new("demo");
    let began = stages.began();
    let image = stages.run("VM image", || Image::ensure(cache))?;
    let config_drive = ConfigDrive::of_tutorial(2, "single", &user_data(appliance, DEFAULTS)?);
    let spec = MachineSpec {
        image: &image,
        server: &config_drive,
        clock: Clock::OfTheWall,
        has_config_drive: true,
        port: None,
        appliance,
        beside: None,
        keep,
    };
    let mut machine = stages.run("boot, until cloud-init has the volume", || {
        let mut machine = Machine::boot(&spec)?;
        machine.wait_for_agent(|machine| show_console(machine, began))?;
        wait_for_unit(&mut machine, began, "ActiveState", |state| {
            state != "inactive"
        })?;
        Ok(machine)
    })?;
    stages.run("bring-up", || bring_up(&mut machine, began))?;
    stages.run("add-ons, until their pods run", || {
        pods(&mut machine, began)
    })?;
    stages.run("appliance status, inside the VM", || status(&mut machine))?;
    stages.run("reboot of the same disk", || {
        machine.reboot(|machine| show_console(machine, began))?;
        bring_up(&mut machine, began)
    })?;
    stages.run("what the second boot changed", || second_boot(&mut machine))?;
    stages.run("appliance status, after the reboot", || {
        status(&mut machine)
    })
}

/// Shows the important lines of the console.
fn show_console(machine: &mut Machine, began: Instant) {
    const TELLING: [&str; 5] = [
        "Linux version",
        "Reached target",
        "cloud-init",
        "appliance",
        "] Started",
    ];
    for line in machine.console() {
        let line = line.trim();
        if TELLING.iter().any(|word| line.contains(word)) {
            Stages::note(began, line);
        }
    }
}

fn unit_property(machine: &mut Machine, property: &str) -> Option<String> {
    let shown = machine.shell(&format!(
        "systemctl show --property={property} appliance-install.service"
    ));
    Some(shown.ok()?.split_once('=')?.1.trim().to_owned())
}

fn wait_for_unit(
    machine: &mut Machine,
    began: Instant,
    property: &str,
    is_it: impl Fn(&str) -> bool,
) -> Result<String> {
    let meanwhile = |machine: &mut Machine| show_console(machine, began);
    machine.wait_for(
        "the next state of appliance-install.service",
        BRING_UP,
        meanwhile,
        |machine| unit_property(machine, property).filter(|value| is_it(value)),
    )
}

/// Waits until the unit of this boot has ended; its output is on the console.
fn bring_up(machine: &mut Machine, began: Instant) -> Result<()> {
    let ended = |state: &str| matches!(state, "active" | "failed");
    let state = wait_for_unit(machine, began, "ActiveState", ended)?;
    show_console(machine, began);
    if state == "active" {
        return Ok(());
    }
    let journal = machine.shell("journalctl -b --no-pager -u appliance-install.service")?;
    anyhow::bail!("appliance-install.service failed:\n{journal}")
}

/// Waits until every add-on is available, and shows the pods.
fn pods(machine: &mut Machine, began: Instant) -> Result<()> {
    let meanwhile = |machine: &mut Machine| show_console(machine, began);
    machine.wait_for(
        "the add-ons are available",
        BRING_UP,
        meanwhile,
        |machine| {
            let said = journal_of(machine, "appliance-addons").ok()?;
            let available =
                |line: &&str| line.starts_with("all ") && line.ends_with(" are available");
            said.lines().any(|line| available(&line)).then_some(())
        },
    )?;
    let show = "HOME=/root kubectl get nodes,pods --all-namespaces -o wide";
    println!("{}", machine.shell(show)?);
    Ok(())
}

fn second_boot(machine: &mut Machine) -> Result<()> {
    let journal = journal(machine)?;
    let said = journal
        .lines()
        .find(|line| line.contains("nothing to change"));
    println!(
        "{}",
        said.with_context(|| format!("the second boot changed something:\n{journal}"))?
    );
    Ok(())
}

fn status(machine: &mut Machine) -> Result<()> {
    let output = machine.run(&["/usr/local/bin/appliance", "status"])?;
    println!("{}{}", output.stdout, output.stderr);
    ensure!(
        output.code == 0,
        "appliance status exited with {}",
        output.code
    );
    Ok(())
}
