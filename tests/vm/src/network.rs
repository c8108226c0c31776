//! A tenant's network without internet access: a bridge in a separate network namespace, with DHCP,
//! the metadata service, and port security as in Neutron. Needs root.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::mem::ManuallyDrop;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use appliance_cloud::metadata::{Fault, Service};
use appliance_cloud::server::Server;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::container;
use crate::drive::ConfigDrive;

/// The start of the names of namespaces; the ID of the process that made one, and a number, follow.
const PREFIX: &str = "appliance-vm";
/// The network's own address, where DHCP answers.
const OWN_ADDRESS: &str = "192.168.1.2";
const METADATA_ADDRESS: &str = "169.254.169.254";
const MTU: &str = "1450";
/// The ranges of pods and services, which are the tutorial's.
pub const PODS_AND_SERVICES: [&str; 2] = ["172.20.0.0/16", "10.68.0.0/16"];
/// The rule for IP-in-IP between VMs.
const TUNNELS: [&str; 7] = ["FORWARD", "-p", "IPv4", "--ip-proto", "4", "-j", "DROP"];
/// How long the processes of a killed run may take to end. This limit only ends a run that hangs.
const ENDING: Duration = Duration::from_secs(10);
/// The pause between two checks whether they have ended.
const POLL: Duration = Duration::from_millis(50);

/// One network. Dropping it removes it.
pub struct Network {
    namespace: String,
    dhcp: Option<Child>,
    metadata: Option<Server>,
    directory: TempDir,
}

/// The connection of a VM to the network. As Neutron's, it lets the VM send only from its own MAC address
/// and IPv4 address, and from the addresses in its allowed address pairs, of which it has none at first.
#[derive(Clone, Debug)]
pub struct Port {
    namespace: String,
    tap: String,
    mac: String,
    /// The namespace of a container.
    inside: String,
}

impl Port {
    /// A program that runs in the network's namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// Where a container connects to the network: the name of its namespace, that of the bridge, the device on the
    /// bridge, and the MAC address.
    pub fn of_container(&self) -> [&str; 4] {
        [&self.inside, &self.namespace, &self.tap, &self.mac]
    }

    /// The network device as an argument of QEMU. No frame is larger than the MTU, as on a wire:
    /// with `vnet_hdr`, each frame in a capture would begin with a header that is not Ethernet's.
    pub fn netdev(&self, id: &str) -> String {
        let tap = &self.tap;
        format!("tap,id={id},ifname={tap},script=no,downscript=no,vnet_hdr=off")
    }

    /// Allows the VM to send from these ranges, too, as `openstack port set --allowed-address` does.
    pub fn allow(&self, ranges: &[&str]) -> Result<()> {
        self.change_pairs("-I", ranges)
    }

    /// Takes these ranges from it again.
    pub fn forbid(&self, ranges: &[&str]) -> Result<()> {
        self.change_pairs("-D", ranges)
    }

    fn change_pairs(&self, change: &str, ranges: &[&str]) -> Result<()> {
        ranges.iter().try_for_each(|range| {
            self.filter(&[change, &self.tap, "-p", "IPv4", "--ip-src", range, "-s"])
        })
    }

    /// Forbids all that is not from the VM's own addresses.
    fn secure(&self, address: &str) -> Result<()> {
        let (tap, mac) = (&self.tap, &self.mac);
        filter(&self.namespace, &["-N", tap])?;
        self.filter(&["-A", tap, "-p", "IPv4", "--ip-src", address, "-s"])?;
        self.filter(&["-A", tap, "-p", "ARP", "--arp-ip-src", address, "-s"])?;
        self.filter(&["-A", tap, "-p", "IPv6", "-s"])
            .with_context(|| format!("the port of {mac}"))?;
        filter(&self.namespace, &["-A", tap, "-j", "DROP"])?;
        filter(&self.namespace, &["-A", "FORWARD", "-i", tap, "-j", tap])
    }

    /// A rule that accepts, whose last condition is the MAC address.
    fn filter(&self, rule: &[&str]) -> Result<()> {
        let accept = [self.mac.as_str(), "-j", "ACCEPT"];
        filter(&self.namespace, &[rule, &accept].concat())
    }

    /// Disconnects the VM from the network, like a pulled cable.
    pub fn cut(&self) -> Result<()> {
        ip(&self.namespace, &["link", "set", &self.tap, "down"])
    }

    /// Connects the VM again.
    pub fn restore(&self) -> Result<()> {
        ip(&self.namespace, &["link", "set", &self.tap, "up"])
    }
}

impl Network {
    /// A network for `servers`: its DHCP knows the MAC address of each. Its metadata service knows each by its
    /// address, and takes anyone else for the first one.
    pub fn create(servers: &[&ConfigDrive]) -> Result<Network> {
        Network::with_late_metadata(servers, 0)
    }

    /// Like [`Network::create`], but this many first requests to the metadata service get no
    /// answer.
    pub fn with_late_metadata(servers: &[&ConfigDrive], unanswered: usize) -> Result<Network> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        remove_leftovers()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("{PREFIX}-{}-{number}", std::process::id());
        let directory = tempfile::tempdir()?;
        run(Command::new("ip").args(["netns", "add", &namespace]))?;
        // From here on, dropping it removes the parts that exist so far.
        let mut network = Network {
            namespace,
            dhcp: None,
            metadata: None,
            directory,
        };
        network.set_up(servers, unanswered)?;
        Ok(network)
    }

    /// The name of its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn set_up(&mut self, servers: &[&ConfigDrive], unanswered: usize) -> Result<()> {
        let namespace = &self.namespace;
        // A new namespace copies the forwarding settings of the namespace that makes it.
        inside(namespace, || {
            fs::write("/proc/sys/net/ipv4/ip_forward", "0")
        })?
        .with_context(|| format!("forbid forwarding in the network namespace {namespace}"))?;
        ip(namespace, &["link", "add", "cloud", "type", "bridge"])?;
        for address in [
            &format!("{OWN_ADDRESS}/24"),
            &format!("{METADATA_ADDRESS}/32"),
        ] {
            ip(namespace, &["address", "add", address, "dev", "cloud"])?;
        }
        ip(namespace, &["link", "set", "lo", "up"])?;
        ip(namespace, &["link", "set", "cloud", "mtu", MTU, "up"])?;
        let mut child = start_dhcp(namespace, servers)?;
        let served = wait_for_dhcp(&mut child);
        self.dhcp = Some(child);
        served?;
        self.metadata = Some(metadata(
            namespace,
            self.directory.path(),
            servers,
            unanswered,
        )?);
        Ok(())
    }

    /// Connects a VM.
    pub fn plug(&self, server: &ConfigDrive) -> Result<Port> {
        let tap = format!("tap-{}", server.name);
        let namespace = &self.namespace;
        // A container makes its device itself, at each boot.
        if !container::are_wanted() {
            ip(namespace, &["tuntap", "add", "dev", &tap, "mode", "tap"])?;
            let connect = ["link", "set", &tap, "mtu", MTU, "master", "cloud", "up"];
            ip(namespace, &connect)?;
        }
        let port = Port {
            namespace: namespace.clone(),
            tap,
            mac: server.mac.clone(),
            inside: format!("{namespace}-{}", server.name),
        };
        port.secure(&server.address)?;
        // Containers have no tunnels.
        if container::are_wanted() {
            port.allow(&PODS_AND_SERVICES)?;
        }
        Ok(port)
    }

    /// Drops IP-in-IP (protocol 4) between all VMs, as security groups without a rule for it do.
    pub fn drop_tunnels(&self) -> Result<()> {
        filter(&self.namespace, &[&["-I"][..], &TUNNELS].concat())
    }

    /// Lets IP-in-IP pass again.
    pub fn pass_tunnels(&self) -> Result<()> {
        filter(&self.namespace, &[&["-D"][..], &TUNNELS].concat())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(server) = self.metadata.take() {
            // The server ends when a client connects to it, which only works inside its namespace.
            let server = ManuallyDrop::new(server);
            let end = move || drop(ManuallyDrop::into_inner(server));
            let _ = inside(&self.namespace, end);
        }
        // If something cannot be removed now, the next run removes it.
        if let Some(dhcp) = &mut self.dhcp {
            let _ = dhcp.kill();
            let _ = dhcp.wait();
        }
        let _ = remove(&self.namespace);
        if container::are_wanted() {
            container::remove_cgroups(&self.namespace);
        }
    }
}

/// Serves DHCP as Neutron does: an address for each MAC address in its list, the MTU, and a route
/// to the metadata service, but no default route.
fn start_dhcp(namespace: &str, servers: &[&ConfigDrive]) -> Result<Child> {
    let mut dnsmasq = Command::new("ip");
    dnsmasq
        .args(["netns", "exec", namespace, "dnsmasq"])
        .args(["--keep-in-foreground", "--log-facility=-"])
        .args(["--conf-file=/dev/null", "--port=0", "--user=root"])
        .args(["--pid-file=", "--leasefile-ro", "--no-ping"])
        .args(["--interface=cloud", "--bind-interfaces"])
        .arg("--dhcp-authoritative")
        .arg("--dhcp-range=192.168.1.0,static,255.255.255.0,1h")
        .arg(format!("--dhcp-option=option:mtu,{MTU}"))
        .arg("--dhcp-option=option:router")
        .arg(format!(
            "--dhcp-option=option:classless-static-route,{METADATA_ADDRESS}/32,{OWN_ADDRESS}"
        ))
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    for server in servers {
        dnsmasq.arg(format!("--dhcp-host={},{}", server.mac, server.address));
    }
    dnsmasq.spawn().context("ip (Debian package iproute2)")
}

fn wait_for_dhcp(dnsmasq: &mut Child) -> Result<()> {
    let said = dnsmasq.stderr.take().context("dnsmasq's output")?;
    let mut lines = BufReader::new(said).lines();
    let mut heard = String::new();
    loop {
        let Some(Ok(line)) = lines.next() else {
            bail!("dnsmasq (Debian package dnsmasq-base) does not serve: {heard}");
        };
        if line.contains("DHCP, static leases only") {
            break;
        }
        heard += &line;
    }
    // Read the later output, too: otherwise it would fill the pipe.
    thread::spawn(move || lines.for_each(drop));
    Ok(())
}

/// Serves the metadata of the servers from below `directory`, at the usual address inside the namespace, after this
/// many requests without an answer.
fn metadata(
    namespace: &str,
    directory: &Path,
    servers: &[&ConfigDrive],
    unanswered: usize,
) -> Result<Server> {
    let mut services = Vec::new();
    for server in servers {
        let directory = directory.join(&server.name);
        server.write_tree(&directory)?;
        let service = Service::new(&directory)?.failing(Fault::Drop, "", unanswered);
        services.push((server.address.parse::<IpAddr>()?, service));
    }
    ensure!(!services.is_empty(), "the network has no servers");
    // A listener stays in the namespace of the thread that made it.
    let listener = inside(namespace, || TcpListener::bind((METADATA_ADDRESS, 80)))??;
    Ok(Server::start_at(listener, move |request| {
        let of_peer = |(address, _): &&(IpAddr, Service)| Some(*address) == request.peer;
        let (_, service) = services.iter().find(of_peer).unwrap_or(&services[0]);
        service.answer(request)
    }))
}

/// Runs `work` on a thread inside the namespace.
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
    run(Command::new("ip").args(["-n", namespace]).args(arguments)).map(drop)
}

/// Changes the rules for frames on the bridge.
fn filter(namespace: &str, rule: &[&str]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "ebtables-nft"]);
    run(command.args(rule)).map(drop).context(
        "port security (ebtables-nft of Debian's package iptables, and a kernel with nf_tables for \
         bridges)",
    )
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("ip (Debian package iproute2)")?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn remove(namespace: &str) -> Result<()> {
    run(Command::new("ip").args(["netns", "delete", namespace])).map(drop)
}

/// Removes the namespaces of killed runs, and ends the processes that still run in them.
fn remove_leftovers() -> Result<()> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Ok(());
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_leftover(&name, |process| Path::new("/proc").join(process).exists()) {
            let outcome = end_processes(&name).and_then(|()| remove(&name));
            // Another run that starts at the same time may have removed it first.
            if Path::new("/run/netns").join(&name).exists() {
                outcome?;
            }
        }
    }
    Ok(())
}

/// Whether this program made the namespace of that name, in a process that has ended.
fn is_leftover(namespace: &str, lives: impl Fn(&str) -> bool) -> bool {
    let Some(rest) = namespace.strip_prefix(PREFIX) else {
        return false;
    };
    let mut numbers = rest.split('-').skip(1);
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    numbers
        .next()
        .filter(is_number)
        .is_some_and(|process| rest.starts_with('-') && !lives(process))
}

/// Ends the VMs and the servers of a killed run in its namespace.
fn end_processes(namespace: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let processes = run(Command::new("ip").args(["netns", "pids", namespace]))?;
        if processes.trim().is_empty() {
            return Ok(());
        }
        ensure!(
            start.elapsed() < ENDING,
            "the network namespace {namespace} of an earlier run has processes that do not end: {}; \
             end them, then run: ip netns delete {namespace}",
            processes.split_whitespace().collect::<Vec<_>>().join(" ")
        );
        for process in processes.split_whitespace() {
            // It may have ended by itself in the meantime.
            let _ = kill(Pid::from_raw(process.parse()?), Signal::SIGKILL);
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::is_leftover;

    #[test]
    fn only_namespaces_of_our_own_dead_runs_are_left_over() {
        let dead = |_: &str| false;
        for name in ["appliance-vm-123-0", "appliance-vm-123"] {
            assert!(is_leftover(name, dead), "{name}");
            assert!(!is_leftover(name, |process| process == "123"), "{name}");
        }
        for name in [
            "appliance-vm",
            "appliance-vm-",
            "appliance-vm-x-1",
            "appliance-vm1-2",
            "cni-123",
        ] {
            assert!(!is_leftover(name, dead), "{name}");
        }
    }
}
