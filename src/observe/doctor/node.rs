//! The records of the node, its settings, and what runs of this program left behind.

use core::net::Ipv4Addr;

use anyhow::Result;

use super::{Place, Put, said, server};
use crate::clients::{journal, systemd};
use crate::components::BOOT_UNIT;
use crate::doctor::facts::{Boot, Facts, Node};
use crate::language::tr;
use crate::nodespec::token::redacted;
use crate::nodespec::{Ipip, Profile, Role, ports};
use crate::observe::preflight::{self, Bundle, Subject};
use crate::observe::software::installed_manifest;
use crate::observe::{inputs, records};
use crate::paths;
use crate::preflight::facts::Wanted;
use crate::records::run::{APPLY, UPGRADE};
use crate::records::state::State;
use crate::sys::lock::Holder;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// How many lines of the journal of the installation are read.
const LINES: usize = 80;

/// Reads the records. They are files of this machine, so this needs no limit.
pub fn read(root: &Root, facts: &mut Facts) {
    let ipip = checked(root, facts, paths::CLUSTER, records::cluster(root)).flatten();
    let state = checked(root, facts, paths::STATE, records::state(root)).flatten();
    let run = checked(root, facts, paths::RUN, records::run(root)).flatten();
    let upgrade = checked(root, facts, paths::UPGRADE, records::upgrade(root)).flatten();
    checked(root, facts, paths::WRITTEN_RECORD, records::written(root));
    checked(root, facts, paths::MACHINE, records::machine(root));
    checked(root, facts, paths::IMAGES, records::images(root));
    checked(root, facts, paths::EXPECTED, records::expected(root));
    checked(
        root,
        facts,
        paths::STARTED_WITH,
        records::started_with(root),
    );
    settings(root, facts);
    facts.node = state.and_then(|state| {
        let node = node(
            root,
            &state,
            ipip.is_none_or(|record| record.ipip != Ipip::Off),
        );
        checked(root, facts, paths::STATE, node)
    });
    let is_there = |path: &str| root.exists(path).unwrap_or_default();
    facts.begun = records::is_node(root).unwrap_or(true) || is_there(paths::WRITTEN_RECORD);
    facts.bundle_lost =
        is_there(paths::CURRENT) && !root.is_dir(paths::CURRENT).unwrap_or_default();
    facts.runs.is_copy = is_there(paths::COPY);
    let holder = Holder::of(root);
    facts.runs.active = holder.as_ref().map(|holder| {
        let seconds = (facts.now - holder.since).whole_seconds();
        (redacted(&holder.to_string()), seconds)
    });
    let cut = run.filter(|run| !run.process.as_ref().is_some_and(records::lives));
    facts.runs.interrupted = cut.map(|run| {
        let again = match run.command.as_str() {
            // The program of the new version, or the file, is not known here.
            UPGRADE | APPLY => "rollback",
            // Users copy it, and the disk may be anybody's.
            command
                if command
                    .chars()
                    .all(|one| one.is_ascii_lowercase() || " -".contains(one)) =>
            {
                command
            }
            _ => "install",
        };
        (said(&run.told(facts.now)), format!("appliance {again}"))
    });
    facts.runs.upgrade = upgrade.and_then(|record| record.told());
}

/// What was read, or a note that the file is damaged.
fn checked<T>(root: &Root, facts: &mut Facts, path: &str, read: Result<T>) -> Option<T> {
    let why = match &read {
        Ok(_) if leads_nowhere(root, path) => tr!("it is a link that leads nowhere"),
        Ok(_) => return read.ok(),
        Err(error) => format!("{error:#}"),
    };
    let why = why.strip_prefix(&format!("{path}: ")).unwrap_or(&why);
    facts.damaged.push((path.to_owned(), said(why)));
    None
}

/// Whether there is a link whose target does not exist. To a reader it looks as if there were no file.
fn leads_nowhere(root: &Root, path: &str) -> bool {
    let is_link = root.exists(path).unwrap_or_default();
    is_link && matches!(root.mode(path), Ok(None))
}

fn settings(root: &Root, facts: &mut Facts) {
    let parsed = root.read(paths::CONFIG).and_then(|content| {
        let parsed = content.map(|content| inputs::parse_config(content, paths::CONFIG));
        parsed.transpose()
    });
    checked(root, facts, paths::CONFIG, parsed);
}

fn node(root: &Root, state: &State, tunnelled: bool) -> Result<Node> {
    let address: Option<Ipv4Addr> = state.address.parse().ok();
    let masters = state.masters.iter().map(|master| master.address);
    let shape = state.shape()?;
    let single = server(root).filter(|_| state.masters.is_empty() && !shape.role.is_master());
    let is_other = |one: &Ipv4Addr| Some(*one) != address && !one.is_loopback();
    Ok(Node {
        shape,
        name: state.node.clone(),
        address,
        masters: masters.chain(single).filter(is_other).collect(),
        tunnelled,
    })
}

/// What `appliance preflight` reads.
pub fn machine<R: Runner>(place: &Place<R>) -> Result<Put> {
    let node = place.node.as_ref();
    let wanted = Wanted {
        profile: node.map_or(Profile::WithCa, |node| node.shape.profile),
        ipip: match node.is_some_and(|node| node.tunnelled) {
            true => Ipip::Always,
            false => Ipip::Off,
        },
        address: node.and_then(|node| node.address),
        balancer: node
            .filter(|node| node.shape.balanced)
            .map(|_| ports::BALANCER),
        ..Wanted::without_settings(
            node.map_or(Role::Single, |node| node.shape.role),
            Vec::new(),
        )
    };
    // It tells whether docker is that of the bundle. What is wrong with it is told of the bundle.
    let state = records::state(&place.root).ok().flatten();
    let manifest = state.and_then(|state| installed_manifest(&place.root, &state).ok());
    let read = preflight::read(&Subject {
        root: &place.root,
        runner: &place.runner,
        bundle: manifest.as_ref().map(|manifest| Bundle {
            manifest,
            unpacked: true,
        }),
        wanted: &wanted,
    })?;
    Ok(Box::new(|facts| facts.machine = Some(read)))
}

/// How the installation at the last boot ended, and the end of its journal.
pub fn boot<R: Runner>(place: &Place<R>) -> Result<Put> {
    let log = journal::since_boot(&place.runner, BOOT_UNIT, LINES);
    let refused = systemd::was_refused(&place.runner, BOOT_UNIT)?;
    let units = systemd::show(&place.runner, &[BOOT_UNIT])?;
    let failed = units.values().any(|unit| unit.active_state == "failed");
    let boot = match (failed, refused) {
        (true, true) => Boot::Refused,
        (true, false) => Boot::Failed,
        (false, _) => Boot::Unknown,
    };
    Ok(Box::new(move |facts| {
        facts.runs.boot = boot;
        facts.install_log = log;
    }))
}
