//! A tenant's network with no way out: a bridge in a network namespace of its own, with what a
//! cloud has there, DHCP and the metadata service. Needs root.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use appliance_cloud::metadata::Service;
use appliance_cloud::server::Server;
use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

use crate::drive::ConfigDrive;

/// What the names of namespaces begin with; the process that made one follows.
const PREFIX: &str = "appliance-vm";
/// The network's own address, where DHCP is.
const OWN_ADDRESS: &str = "192.168.1.2";
const METADATA_ADDRESS: &str = "169.254.169.254";
const MTU: &str = "1450";

/// One network. Dropping it removes it.
pub struct Network {
    namespace: String,
    dhcp: Child,
    metadata: Option<Server>,
    _directory: TempDir,
}

/// Where a VM is plugged in.
#[derive(Clone, Debug)]
pub struct Port {
    namespace: String,
    tap: String,
}

impl Port {
    /// A program that runs in the network's namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// QEMU's description of it.
    pub fn netdev(&self, id: &str) -> String {
        format!("tap,id={id},ifname={},script=no,downscript=no", self.tap)
    }

    /// Cuts the VM off, as if its cable was pulled.
    pub fn cut(&self) -> Result<()> {
        ip(&self.namespace, &["link", "set", &self.tap, "down"])
    }

    /// Connects it again.
    pub fn restore(&self) -> Result<()> {
        ip(&self.namespace, &["link", "set", &self.tap, "up"])
    }
}

impl Network {
    /// A network for `servers`, whose DHCP knows each by its MAC address, and whose metadata
    /// service speaks for `served`.
    pub fn create(servers: &[&ConfigDrive], served: &ConfigDrive) -> Result<Network> {
        remove_leftovers()?;
        let namespace = format!("{PREFIX}-{}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &namespace]))?;
        Network::set_up(&namespace, servers, served).inspect_err(|_| {
            // The error that counts is the one there is already.
            let _ = remove(&namespace);
        })
    }

    fn set_up(namespace: &str, servers: &[&ConfigDrive], served: &ConfigDrive) -> Result<Network> {
        let bridge = ["link", "add", "cloud", "type", "bridge"];
        ip(namespace, &bridge)?;
        for address in [
            &format!("{OWN_ADDRESS}/24"),
            &format!("{METADATA_ADDRESS}/32"),
        ] {
            ip(namespace, &["address", "add", address, "dev", "cloud"])?;
        }
        ip(namespace, &["link", "set", "lo", "up"])?;
        ip(namespace, &["link", "set", "cloud", "mtu", MTU, "up"])?;
        let directory = tempfile::tempdir()?;
        served.write_tree(directory.path())?;
        Ok(Network {
            namespace: namespace.to_owned(),
            dhcp: dhcp(namespace, servers)?,
            metadata: Some(metadata(namespace, directory.path())?),
            _directory: directory,
        })
    }

    /// Plugs a VM in.
    pub fn plug(&self, server: &ConfigDrive) -> Result<Port> {
        let tap = format!("tap-{}", server.name);
        let namespace = &self.namespace;
        ip(namespace, &["tuntap", "add", "dev", &tap, "mode", "tap"])?;
        ip(
            namespace,
            &["link", "set", &tap, "mtu", MTU, "master", "cloud", "up"],
        )?;
        Ok(Port {
            namespace: namespace.clone(),
            tap,
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The server ends by a connection to itself, which nobody outside may see.
        let metadata = self.metadata.take();
        let _ = inside(&self.namespace, || drop(metadata));
        // What cannot be removed now is removed by the next run.
        let _ = self.dhcp.kill();
        let _ = self.dhcp.wait();
        let _ = remove(&self.namespace);
    }
}

/// Serves DHCP as Neutron does: an address for each MAC address it knows, the MTU, and a route to
/// the metadata service; no way out.
fn dhcp(namespace: &str, servers: &[&ConfigDrive]) -> Result<Child> {
    let mut dnsmasq = Command::new("ip");
    dnsmasq
        .args([
            "netns",
            "exec",
            namespace,
            "dnsmasq",
            "--keep-in-foreground",
        ])
        .args([
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--pid-file=",
        ])
        .args([
            "--leasefile-ro",
            "--no-ping",
            "--dhcp-authoritative",
            "--log-facility=-",
        ])
        .args(["--interface=cloud", "--bind-interfaces"])
        .args(["--dhcp-range=192.168.1.0,static,255.255.255.0,1h"])
        .args([
            format!("--dhcp-option=option:mtu,{MTU}").as_str(),
            "--dhcp-option=option:router",
        ])
        .arg(format!(
            "--dhcp-option=option:classless-static-route,{METADATA_ADDRESS}/32,{OWN_ADDRESS}"
        ))
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    for server in servers {
        dnsmasq.arg(format!("--dhcp-host={},{}", server.mac, server.address));
    }
    let mut child = dnsmasq
        .spawn()
        .context("dnsmasq (Debian package dnsmasq-base)")?;
    let said = child.stderr.take().context("dnsmasq's output")?;
    let mut lines = BufReader::new(said).lines();
    let mut heard = String::new();
    loop {
        let Some(Ok(line)) = lines.next() else {
            child.wait()?;
            bail!("dnsmasq does not serve: {heard}");
        };
        if line.contains("DHCP, static leases only") {
            break;
        }
        heard += &line;
    }
    // Nobody reads on; its later lines must not fill the pipe.
    thread::spawn(move || lines.for_each(drop));
    Ok(child)
}

/// Serves the metadata in `directory` at the usual address inside the namespace.
fn metadata(namespace: &str, directory: &Path) -> Result<Server> {
    // A listener stays in the namespace of the thread that made it.
    let listener = inside(namespace, || TcpListener::bind((METADATA_ADDRESS, 80)))??;
    let service = Service::new(directory)?;
    Ok(Server::start_at(listener, move |request| {
        service.answer(request)
    }))
}

/// Does `work` on a thread inside the namespace.
fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = Path::new("/run/netns").join(namespace);
    let entered = || -> Result<T> {
        setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    };
    thread::scope(|scope| {
        let done = scope.spawn(entered).join();
        done.ok().context("the thread inside the network")?
    })
}

fn ip(namespace: &str, arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(["-n", namespace]).args(arguments))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("ip (Debian package iproute2)")?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn remove(namespace: &str) -> Result<()> {
    run(Command::new("ip").args(["netns", "delete", namespace]))
}

/// Removes the namespaces of runs that were killed.
fn remove_leftovers() -> Result<()> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Ok(());
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('-'));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            remove(&name)?;
        }
    }
    Ok(())
}
