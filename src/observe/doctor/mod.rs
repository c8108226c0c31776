//! Reads the facts that [`crate::doctor`] judges. Each part has a thread and a limit of time of its own: a part that
//! hangs, or fails, is named, and the others are judged. Writes nothing.

use core::net::Ipv4Addr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use time::OffsetDateTime;

use crate::doctor::facts::{Facts, KernelLog, Node, Runs, Unread};
use crate::language::{message, tr};
use crate::nodespec::hidden;
use crate::paths;
use crate::sys::process::Runner;
use crate::sys::root::Root;

mod cluster;
mod files;
mod kernel;
mod network;
mod node;
mod services;

/// How long one request may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a program may take that others answer, such as docker: on a busy machine, that takes seconds.
pub const PROGRAM: Duration = Duration::from_secs(15);
/// How long all of it may take. What has not ended by then is not judged.
const ALL: Duration = Duration::from_secs(40);

/// Puts what was read into the facts.
type Put = Box<dyn FnOnce(&mut Facts) + Send>;
/// Reads a part.
type Read<R> = fn(&Place<R>) -> Result<Put>;

/// The machine to look at. Every thread has its own.
#[derive(Clone)]
struct Place<R> {
    root: Root,
    runner: R,
    node: Option<Node>,
}

/// A part that every system has, and one that only a running system has.
const EVERYWHERE: bool = false;
const LIVE: bool = true;

/// Reads everything. Programs are run by `runner`, which should have a limit of time for each of them.
pub fn read<R: Runner + Clone + Send + Sync + 'static>(root: &Root, runner: &R) -> Facts {
    let mut facts = empty(root);
    node::read(root, &mut facts);
    let place = Place {
        root: root.clone(),
        runner: runner.clone(),
        node: facts.node.clone(),
    };
    let parts: [(&'static str, bool, Read<R>); 13] = [
        (message!("the machine"), EVERYWHERE, node::machine),
        (message!("certificates"), EVERYWHERE, files::certificates),
        (message!("the files of units"), EVERYWHERE, files::units),
        (message!("disks"), EVERYWHERE, files::disks),
        (message!("the kernel's log"), LIVE, kernel::log),
        (
            message!("the kernel's settings and addresses"),
            LIVE,
            kernel::settings,
        ),
        (message!("the installation at boot"), LIVE, node::boot),
        (message!("units"), LIVE, services::units),
        (message!("docker"), LIVE, services::docker),
        (message!("etcd"), LIVE, services::etcd),
        (message!("clocks"), LIVE, cluster::clocks),
        (message!("the object of the node"), LIVE, cluster::object),
        (message!("the network"), LIVE, network::all),
    ];
    let is_live = facts.live;
    let wanted = parts.into_iter().filter(|(_, live, _)| is_live || !live);
    let wanted: Vec<(&'static str, Read<R>)> = wanted.map(|(name, _, read)| (name, read)).collect();
    all(&mut facts, &place, &wanted, ALL);
    facts
}

/// Reads the parts at once, and waits until `limit` is over.
fn all<R: Clone + Send + 'static>(
    facts: &mut Facts,
    place: &Place<R>,
    parts: &[(&'static str, Read<R>)],
    limit: Duration,
) {
    let start = Instant::now();
    let (sender, receiver) = mpsc::channel();
    let mut waiting: Vec<&'static str> = Vec::new();
    for (name, read) in parts {
        let (sender, place, name, read) = (sender.clone(), place.clone(), *name, *read);
        // Nobody waits for this thread if it hangs: it ends with the program.
        let begun = thread::Builder::new().spawn(move || drop(sender.send((name, read(&place)))));
        match begun {
            Ok(_) => waiting.push(name),
            Err(error) => facts.unread.push(unread(name, &error.to_string())),
        }
    }
    // Else the channel would not end if a thread panics.
    drop(sender);
    while !waiting.is_empty() {
        let left = limit.saturating_sub(start.elapsed());
        let Ok((name, part)) = receiver.recv_timeout(left) else {
            break;
        };
        waiting.retain(|one| *one != name);
        match part {
            Ok(put) => put(facts),
            Err(error) => facts.unread.push(unread(name, &format!("{error:#}"))),
        }
    }
    let late = waiting.into_iter();
    facts
        .unread
        .extend(late.map(|name| unread(name, &tr!("it did not end within {} s", limit.as_secs()))));
}

fn unread(what: &str, why: &str) -> Unread {
    Unread {
        what: what.to_owned(),
        why: said(why),
    }
}

/// What a program or a file says, in one line and without secrets.
fn said(text: &str) -> String {
    hidden::lines(text).join(" ")
}

fn empty(root: &Root) -> Facts {
    Facts {
        now: OffsetDateTime::now_utc(),
        live: root.is_live(),
        node: None,
        begun: false,
        damaged: Vec::new(),
        runs: Runs::default(),
        machine: None,
        kernel: KernelLog::default(),
        addresses: None,
        switched_off: Vec::new(),
        bundle_lost: false,
        file_systems: Vec::new(),
        synchronized: None,
        offsets: Vec::new(),
        certificates: Vec::new(),
        units: std::collections::BTreeMap::new(),
        unit_files: Vec::new(),
        docker: None,
        docker_hangs: false,
        images_missing: Vec::new(),
        etcd: None,
        object: None,
        peers: Vec::new(),
        reached: Vec::new(),
        paths: Vec::new(),
        tunnels: Vec::new(),
        pod_mtu: None,
        own_mtu: None,
        install_log: Vec::new(),
        unread: Vec::new(),
    }
}

impl<R> Place<R> {
    /// The masters of the cluster, without this machine.
    fn masters(&self) -> Vec<Ipv4Addr> {
        self.node
            .as_ref()
            .map_or_else(Vec::new, |node| node.masters.clone())
    }
}

/// The text of a file; `None` if it does not exist or cannot be read.
fn text(root: &Root, path: &str) -> Option<String> {
    let bytes = root.read(path).ok()??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The address of the API server in a kubeconfig of this node.
fn server(root: &Root) -> Option<Ipv4Addr> {
    let configs = [
        paths::KUBELET_KUBECONFIG,
        paths::BOOTSTRAP_KUBECONFIG,
        paths::PROXY_KUBECONFIG,
    ];
    configs.iter().find_map(|path| {
        let text = text(root, path)?;
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("server:").map(str::to_owned))?;
        let (_, rest) = line.split_once("://")?;
        rest.split([':', '/', '"']).next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_part_that_hangs_or_fails_does_not_stop_the_others() {
        let root = Root::open(tempfile::tempdir().unwrap().path()).unwrap();
        let mut facts = empty(&root);
        let place = Place {
            root: root.clone(),
            runner: (),
            node: None,
        };
        let hangs: Read<()> = |_| loop {
            thread::park();
        };
        let fails: Read<()> = |_| anyhow::bail!("password=hunter2");
        let works: Read<()> = |_| Ok(Box::new(|facts| facts.begun = true));
        let parts = [("a", hangs), ("b", fails), ("c", works)];
        all(&mut facts, &place, &parts, Duration::from_secs(1));
        assert!(facts.begun);
        let told: Vec<&str> = facts.unread.iter().map(|one| one.what.as_str()).collect();
        assert_eq!(told, ["b", "a"]);
        assert!(!format!("{:?}", facts.unread).contains("hunter2"));
    }
}
