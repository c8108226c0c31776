//! Runs `ip`: Calico's interfaces, tunnel and routes.

use core::net::Ipv4Addr;
use std::ffi::OsStr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use procfs::process::{Process, all_processes};

use super::netfilter::program;
use crate::removal::{Route, Tunnel};
use crate::sys::process::{Command, Runner};
use crate::sys::root::Root;

/// The beginning of the names of Calico's interfaces.
const INTERFACES: &str = "cali";
/// The kinds of interfaces that can be Calico's: never a device.
const KINDS: [&str; 2] = ["veth", "dummy"];
/// The interface of Calico's tunnels.
const TUNNEL: &str = "tunl0";
/// The kind of routes that BIRD sets (rtnetlink(7), `RTPROT_BIRD`).
const BIRD: &str = "12";
/// The address of the gateway of each pod, which the unit of Calico routes to `lo`.
const GATEWAY: &str = "169.254.1.1";
/// Words before the address of a route that leads nowhere.
const NOWHERE: [&str; 4] = ["blackhole", "unreachable", "prohibit", "throw"];

/// Runs `ip`.
pub struct Links<'a> {
    runner: &'a dyn Runner,
    ip: String,
}

impl Links<'_> {
    /// `ip` of this machine; `None` without it.
    pub fn of<'a>(runner: &'a dyn Runner, root: &Root) -> Result<Option<Links<'a>>> {
        Ok(program(root, "ip")?.map(|ip| Links { runner, ip }))
    }

    /// Its output; empty if it fails, as for an interface that does not exist.
    fn shown(&self, arguments: &[&str]) -> Result<String> {
        let output = self.runner.run(&Command::new(&self.ip, arguments))?;
        Ok(match output.success() {
            true => output.stdout,
            false => String::new(),
        })
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let command = Command::new(&self.ip, arguments);
        self.runner.check(&command).map(drop)
    }

    fn of_kind(&self, kind: &str) -> Result<Vec<String>> {
        let shown = self.shown(&["-o", "link", "show", "type", kind])?;
        Ok(shown.lines().filter_map(interface).collect())
    }

    /// The names of Calico's interfaces.
    pub fn interfaces(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for kind in KINDS {
            all.extend(self.of_kind(kind)?);
        }
        all.retain(|name| name.starts_with(INTERFACES));
        Ok(all)
    }

    /// Removes those of these interfaces that are still there.
    pub fn remove_interfaces(&self, names: &[String]) -> Result<()> {
        for name in names {
            let removed = self.run(&["link", "delete", name]);
            // The end of a pod may have taken it along.
            if self.interfaces()?.contains(name) {
                removed?;
            }
        }
        Ok(())
    }

    /// Calico's traces on the interface of its tunnels: the addresses in `pods`, or all if that is not known; `None`
    /// if there are none. `loaded` tells whether the installation loaded its module.
    pub fn tunnel(&self, pods: Option<Ipv4Net>, loaded: bool) -> Result<Option<Tunnel>> {
        let link = self.shown(&["-o", "link", "show", "dev", TUNNEL])?;
        if link.is_empty() {
            return Ok(None);
        }
        let shown = self.shown(&["-o", "-4", "address", "show", "dev", TUNNEL])?;
        let all = shown.lines().filter_map(address);
        let is_calicos = |text: &String| {
            let own = text.split('/').next().and_then(|own| own.parse().ok());
            pods.is_none_or(|pods| own.is_some_and(|own: Ipv4Addr| pods.contains(&own)))
        };
        let (addresses, others): (Vec<String>, Vec<String>) = all.partition(is_calicos);
        // Its module takes all tunnels along.
        let is_used = !others.is_empty() || self.of_kind("ipip")?.iter().any(|name| name != TUNNEL);
        let unload = loaded && !is_used;
        let is_up = link.contains("UP") && !is_used;
        Ok((!addresses.is_empty() || is_up || unload).then_some(Tunnel { addresses, unload }))
    }

    /// Removes Calico's traces there.
    pub fn remove_tunnel(&self, tunnel: &Tunnel) -> Result<()> {
        for address in &tunnel.addresses {
            // One that is gone is no error.
            self.shown(&["address", "delete", address, "dev", TUNNEL])?;
        }
        self.shown(&["link", "set", TUNNEL, "down"])?;
        if tunnel.unload {
            let unload = Command::new("modprobe", &["-r", "ipip"]);
            let output = self.runner.run(&unload)?;
            if !output.success() {
                log::debug!("{unload}: {}", output.stderr.trim());
            }
        }
        Ok(())
    }

    /// The routes of the node: those of BIRD, and those of the units. If another BIRD runs on this machine, only its
    /// routes into `pods` are the node's.
    pub fn routes(&self, pods: Option<Ipv4Net>, services: Option<Ipv4Net>) -> Result<Vec<Route>> {
        let shown = self.shown(&["-4", "route", "show", "table", "all", "proto", BIRD])?;
        let only = pods.filter(|_| has_own_bird());
        let mut routes: Vec<Route> = shown.lines().filter_map(|line| route(line, only)).collect();
        for line in self.shown(&["-4", "route", "show", "dev", "lo"])?.lines() {
            let to = line.split_whitespace().next().unwrap_or_default();
            let is_services = services.is_some_and(|net| net.to_string() == to);
            if to == GATEWAY || is_services {
                let arguments = [to, "dev", "lo"].map(str::to_owned).into();
                routes.push(Route { arguments });
            }
        }
        Ok(routes)
    }

    /// Removes these routes. One that is gone is no error.
    pub fn remove_routes(&self, routes: &[Route]) -> Result<()> {
        for route in routes {
            let arguments = ["-4", "route", "delete"].into_iter();
            let arguments: Vec<&str> = arguments
                .chain(route.arguments.iter().map(String::as_str))
                .collect();
            let output = self.runner.run(&Command::new(&self.ip, &arguments))?;
            log::debug!("{}", output.stderr.trim());
        }
        Ok(())
    }
}

/// The interface of a line of `ip -o link show`, such as `3: cali1@if2: <…>`.
fn interface(line: &str) -> Option<String> {
    let name = line.split_whitespace().nth(1)?.trim_end_matches(':');
    Some(name.split('@').next()?.to_owned())
}

/// The routes to pods through Calico's tunnel, each with the address of their node; none without a tunnel.
pub fn tunnelled(runner: &dyn Runner) -> Vec<(Ipv4Net, Ipv4Addr)> {
    let show = ["-4", "route", "show", "dev", TUNNEL];
    let output = runner.check(&Command::new("ip", &show));
    let output = output.map_or_else(|_| String::new(), |output| output.stdout);
    output.lines().filter_map(through).collect()
}

/// The range and the next node of a line such as `10.233.64.0/26 via 192.168.1.103 proto bird onlink`.
fn through(line: &str) -> Option<(Ipv4Net, Ipv4Addr)> {
    let mut words = line.split_whitespace();
    let range = range(words.next()?).ok()?;
    let gateway = words.skip_while(|word| *word != "via").nth(1)?;
    Some((range, gateway.parse().ok()?))
}

/// The address of a line of `ip -o address show`, such as `3: tunl0    inet 172.20.1.1/32 scope global tunl0`.
fn address(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip_while(|word| *word != "inet");
    words.nth(1).map(str::to_owned)
}

/// The route of a line of `ip route show`, if it leads into `only`.
fn route(line: &str, only: Option<Ipv4Net>) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let nowhere = words.first().filter(|word| NOWHERE.contains(word));
    let to = words.get(usize::from(nowhere.is_some()))?;
    let net = match to.contains('/') {
        true => to.parse().ok(),
        false => to.parse::<Ipv4Addr>().ok().map(Ipv4Net::from),
    };
    // The way to this machine is never Calico's.
    if *to == "default" {
        return None;
    }
    if only.is_some_and(|only| net.is_none_or(|net: Ipv4Net| !only.contains(&net))) {
        return None;
    }
    let table = words.windows(2).find(|pair| pair[0] == "table");
    let named = nowhere.into_iter().chain([to, &"proto", &BIRD]);
    let named = named.chain(table.into_iter().flatten());
    Some(Route {
        arguments: named.map(|word| (*word).to_owned()).collect(),
    })
}

/// Whether a BIRD runs that is not in a container: its routes are the operator's.
fn has_own_bird() -> bool {
    let mounts = |process: &Process| process.namespaces().ok()?.0.remove(OsStr::new("mnt"));
    let Some(own) = Process::myself().ok().and_then(|own| mounts(&own)) else {
        return false;
    };
    let is_bird = |process: &Process| {
        let name = process.stat().map(|stat| stat.comm).unwrap_or_default();
        matches!(&*name, "bird" | "bird6")
            && mounts(process).is_some_and(|found| found.identifier == own.identifier)
    };
    let all = all_processes().into_iter().flatten().flatten();
    all.into_iter().any(|process| is_bird(&process))
}

/// The address range in a record.
///
/// # Errors
/// If it is not one.
pub fn range(text: &str) -> Result<Ipv4Net> {
    text.parse()
        .with_context(|| format!("{text:?} is no address range"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_route_through_the_tunnel_names_its_node() {
        let line = "10.233.64.0/26 via 192.168.1.103 proto bird onlink ";
        let expected = (
            "10.233.64.0/26".parse().unwrap(),
            Ipv4Addr::new(192, 168, 1, 103),
        );
        assert_eq!(through(line), Some(expected));
        assert_eq!(through("10.233.65.0 scope link"), None);
    }

    #[test]
    fn lines_of_ip_are_read() {
        let link = "3: cali12345678901@if2: <BROADCAST,UP> mtu 1500 qdisc noqueue";
        assert_eq!(interface(link).unwrap(), "cali12345678901");
        let line = "9: tunl0    inet 172.20.3.192/32 scope global tunl0\\ valid_lft forever";
        assert_eq!(address(line).unwrap(), "172.20.3.192/32");
    }

    #[test]
    fn a_route_is_named_by_what_tells_it_from_others() {
        let words = |line, only| route(line, only).map(|route| route.to_string());
        let pods = Some(range("172.20.0.0/16").unwrap());
        assert_eq!(
            words("blackhole 172.20.1.0/26 proto bird ", pods).unwrap(),
            "blackhole 172.20.1.0/26 proto 12"
        );
        assert_eq!(
            words(
                "172.20.2.0/26 via 192.168.1.101 dev tunl0 proto bird onlink ",
                pods
            )
            .unwrap(),
            "172.20.2.0/26 proto 12"
        );
        let other = "10.9.0.7 via 192.168.1.1 dev eth0 table 7 proto bird";
        assert_eq!(words(other, None).unwrap(), "10.9.0.7 proto 12 table 7");
        // A BIRD of the operator has other routes.
        assert_eq!(words(other, pods), None);
        assert_eq!(
            words("default via 192.168.1.1 dev eth0 proto bird", None),
            None
        );
    }
}
