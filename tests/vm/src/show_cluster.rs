//! `vm cluster`: the tutorial's three VMs on one network, and the result of each.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use appliance_vm::cluster::{Cluster, ClusterSpec, TUTORIAL, UNIT, journal, reaches, unit_state};
use appliance_vm::drive::{CPUS, DEFAULTS, user_data};
use appliance_vm::image::Image;
use appliance_vm::machine::{Clock, Machine};
use appliance_vm::stages::Stages;
use clap::Args;
use serde_json::Value;

/// How many last lines of a unit's journal to show.
const LAST: usize = 15;
/// A port without a listener: a VM that can be reached refuses the connection.
const CLOSED_PORT: u16 = 9;
/// Addresses that must not be reachable: the first addresses of the documentation's networks.
const OUTSIDE: [&str; 2] = ["192.0.2.1", "203.0.113.1"];

/// The inputs of the three VMs.
#[derive(Args)]
pub struct Arguments {
    /// Appliance to boot
    #[arg(long, default_value = "out/appliance")]
    appliance: PathBuf,
    /// User-data of all three VMs [default: one without a join token]
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// Memory of each VM
    #[arg(long, value_name = "MIB", default_value_t = 1792)]
    memory: u32,
    /// Directory of the images
    #[arg(long, default_value = "out/vm")]
    cache: PathBuf,
    /// Keep the VMs' disks, console logs and captured packets below this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Boots the VMs and shows the result of each.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut stages = Stages::new("cluster");
    let outcome = show(&mut stages, arguments);
    stages.print();
    outcome
}

fn show(stages: &mut Stages, arguments: &Arguments) -> Result<()> {
    let text = match &arguments.user_data {
        Some(file) => fs::read_to_string(file)
            .with_context(|| format!("cannot read the user-data {}", file.display()))?,
        None => user_data(&arguments.appliance, DEFAULTS)?,
    };
    let temporary = tempfile::tempdir()?;
    let keep = arguments.keep.as_deref().unwrap_or(temporary.path());
    let image = stages.run("VM image", || Image::ensure(&arguments.cache))?;
    let spec = ClusterSpec {
        servers: &TUTORIAL,
        image: &image,
        appliance: &arguments.appliance,
        beside: None,
        user_data: &text,
        memory: arguments.memory,
        cpus: CPUS,
        clock: Clock::OfTheWall,
        keep,
    };
    let mut cluster = stages.run("boot of three VMs, until their agents answer", || {
        Cluster::boot(&spec, note)
    })?;
    let namespace = cluster.network().namespace().to_owned();
    let outcome = stages
        .run("source of each VM's metadata", || origins(&mut cluster))
        .and_then(|()| {
            stages.run("network: the VMs reach only each other", || {
                neighbours(&mut cluster)
            })
        })
        .and_then(|()| {
            stages.run("bring-up, until it has ended on each", || {
                bring_up(&mut cluster)
            })
        });
    stages.run("switch off, remove the network", || {
        drop(cluster);
        let left = Path::new("/run/netns").join(&namespace);
        ensure!(
            !left.exists(),
            "{} is still there; run: ip netns delete {namespace}",
            left.display()
        );
        Ok(())
    })?;
    outcome
}

/// Shows the important lines of the consoles.
fn note(name: &str, since: Duration, line: &str) {
    const TELLING: [&str; 4] = ["Linux version", "cloud-init", "appliance", "Failed"];
    if TELLING.iter().any(|word| line.contains(word)) {
        println!("{:>5} s  {name}  {}", since.as_secs(), line.trim());
    }
}

/// Shows the source of each VM's metadata, as soon as cloud-init has found it.
fn origins(cluster: &mut Cluster) -> Result<()> {
    let mut rows = Vec::new();
    cluster.wait_for_all("cloud-init has metadata", note, |name, machine| {
        let Ok(text) = machine.shell("cat /run/cloud-init/instance-data.json") else {
            return Ok(false);
        };
        let found: Value = serde_json::from_str(&text)?;
        let found = |key: &str| found["v1"][key].as_str().unwrap_or("?").to_owned();
        rows.push(format!(
            "{name}  {}  {}  {}",
            found("instance_id"),
            found("platform"),
            found("subplatform")
        ));
        Ok(true)
    })?;
    rows.sort();
    println!("{}", rows.join("\n"));
    Ok(())
}

/// Waits until the VMs reach each other; fails if one reaches anything else.
fn neighbours(cluster: &mut Cluster) -> Result<()> {
    let servers = cluster.members.iter();
    let addresses: Vec<String> = servers.map(|member| member.address().to_owned()).collect();
    cluster.wait_for_all("the VMs reach each other", note, |_, machine| {
        for address in &addresses {
            if !reaches(machine, address, CLOSED_PORT)? {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    for name in cluster.names() {
        let machine = cluster.machine(&name)?;
        for address in OUTSIDE {
            ensure!(
                !reaches(machine, address, 80)?,
                "{name} reaches {address}: look at the routes of the network's namespace"
            );
        }
        let routes = machine.shell("ip -4 route")?;
        println!(
            "{name} reaches {}; its routes:\n{routes}",
            addresses.join(", ")
        );
    }
    Ok(())
}

/// Waits until the bring-up has ended on each VM, and shows the result.
fn bring_up(cluster: &mut Cluster) -> Result<()> {
    let waited = cluster.wait_for_all("appliance-install.service has ended", note, |_, machine| {
        has_ended(machine)
    });
    let mut failed = Vec::new();
    for name in cluster.names() {
        let state = report(&name, cluster.machine(&name)?)?;
        if state != "active" {
            failed.push(format!("{name} is {state}"));
        }
    }
    waited?;
    if !failed.is_empty() {
        bail!(
            "not every VM has become a node: {}; the reasons are in the journals above",
            failed.join(", ")
        );
    }
    Ok(())
}

/// Whether the unit has ended, or will never start again.
fn has_ended(machine: &mut Machine) -> Result<bool> {
    // Check in this order: cloud-init starts the unit as its last action.
    let is_last = machine
        .run(&["/bin/ls", "/run/cloud-init/result.json"])?
        .code
        == 0;
    Ok(match unit_state(machine).as_deref() {
        Some("active" | "failed") => true,
        Some("inactive") => is_last,
        _ => false,
    })
}

/// Shows the result of a VM's bring-up, and the node's status.
fn report(name: &str, machine: &mut Machine) -> Result<String> {
    let state = unit_state(machine).unwrap_or_else(|| "unknown".to_owned());
    println!("\n{name}: {UNIT} is {state}; its journal ends:");
    let said = journal(machine)?;
    let lines: Vec<&str> = said.lines().collect();
    for line in &lines[lines.len().saturating_sub(LAST)..] {
        println!("  {line}");
    }
    match machine.run(&["/usr/local/bin/appliance", "status"]) {
        Ok(output) => println!("{}{}", output.stdout, output.stderr),
        Err(error) => println!("no status: {error:#}"),
    }
    Ok(state)
}
