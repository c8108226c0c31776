//! `vm demo`: a cluster of one VM, from power-on to a cluster to work with.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use appliance_vm::cluster::{journal, journal_of};
use appliance_vm::drive::{ConfigDrive, DEFAULTS, user_data};
use appliance_vm::genuine;
use appliance_vm::image::Image;
use appliance_vm::machine::{Clock, Machine, MachineSpec};
use appliance_vm::stages::Stages;
use appliance_vm::standing::Standing;
use clap::Args;

/// How long the bring-up may take. This limit only ends one that hangs; it measures nothing.
const BRING_UP: Duration = Duration::from_secs(1500);

/// The inputs of the demonstration.
#[derive(Args)]
pub struct Arguments {
    /// Appliance to boot
    #[arg(long, default_value = "out/appliance")]
    appliance: PathBuf,
    /// Directory of the images
    #[arg(long, default_value = "out/vm")]
    cache: PathBuf,
    /// Directory of the VM's disk, console log and sockets
    #[arg(long, value_name = "DIR", default_value = "out/demo")]
    directory: PathBuf,
    /// Replace a cluster that an earlier demonstration left on
    #[arg(long)]
    replace: bool,
}

/// Runs the demonstration and leaves its VM on.
pub fn run(arguments: &Arguments) -> Result<()> {
    let vm = Standing::at(&arguments.directory);
    if arguments.replace {
        vm.stop()?;
    }
    vm.ensure_free()?;
    let _lock = vm.claim()?;
    show(arguments).with_context(|| {
        format!(
            "the demonstration failed and its VM is switched off; its console log is {}",
            vm.dir().join("console.log").display()
        )
    })
}

fn show(arguments: &Arguments) -> Result<()> {
    let mut stages = Stages::new("demo");
    let began = stages.began();
    let appliance = &arguments.appliance;
    let image = stages.run("VM image", || Image::ensure(&arguments.cache))?;
    let mut config_drive = ConfigDrive::of_tutorial(2, "single", &user_data(appliance, DEFAULTS)?);
    config_drive.memory = genuine::memory(config_drive.memory);
    let spec = MachineSpec {
        image: &image,
        server: &config_drive,
        clock: Clock::OfTheWall,
        has_config_drive: true,
        port: None,
        appliance,
        beside: None,
        keep: Some(&arguments.directory),
    };
    let mut machine = stages.run("boot, until cloud-init has the volume", || {
        let mut machine = Machine::boot_to_stay(&spec, &std::env::current_exe()?)?;
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
    })?;
    machine.leave_on()
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
        genuine::limit(BRING_UP),
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
        genuine::limit(BRING_UP),
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
    // After a boot, the pods may still start.
    ensure!(
        matches!(output.code, 0 | 8),
        "appliance status exited with {}",
        output.code
    );
    Ok(())
}
