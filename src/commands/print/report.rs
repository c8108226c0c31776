//! The report on a node: a summary of about ten lines with all that is not as it should be, or everything.

use textwrap::core::display_width;

use super::table::Table;
use super::{backup, escaped, print_table, say_wrapped, short, table, told};
use crate::join::rollout::{Progress, Stage, Standing};
use crate::language::{message, tr, translated};
use crate::maintenance::mebibytes;
use crate::maintenance::storage::StorageReport;
use crate::observe::peers::PeerReport;
use crate::records::state::State;
use crate::status::{
    AddonReport, CertificateReport, Condition, ImageReport, Kind, MasterReport, NO_NODE,
    NodeReport, READY, Report, ServiceReport, is_master_fine, is_peer_fine,
};
use crate::sys::out::say;

/// Where the values of the summary begin.
const COLUMN: usize = 14;

/// Prints the report in about ten lines, and below them all that is not as it should be.
pub fn summary(report: &Report) {
    let Some(node) = begin(report) else { return };
    versions(node, report);
    parts(report);
    warnings(node, report);
    tables(report, |is_fine| !is_fine);
    end(node, report);
}

/// Prints all of the report.
pub fn whole(report: &Report) {
    let Some(node) = begin(report) else { return };
    versions(node, report);
    warnings(node, report);
    tables(report, |_| true);
    end(node, report);
}

/// The report in one line, for example at the end of a boot.
pub fn line(report: &Report) -> String {
    match (&report.node, &report.changing) {
        (Some(node), _) => format!(
            "{} {}, {}: {}",
            node.role, node.node, node.address, report.verdict.words
        ),
        (None, Some(run)) => tr!(
            "{}; a run is changing it: {}",
            report.verdict.words,
            run.words
        ),
        (None, None) => report.verdict.words.clone(),
    }
}

/// Prints what comes first. Returns the node, if this machine is one.
fn begin(report: &Report) -> Option<&State> {
    for told in [&report.interrupted, &report.upgrade].into_iter().flatten() {
        say!("{}", escaped(told));
    }
    if let Some(run) = &report.changing {
        match report.node.is_some() {
            true => say!(
                "{}",
                tr!(
                    "A run is changing this machine now: {}",
                    escaped(&run.words)
                )
            ),
            false => say!(
                "{}",
                tr!(
                    "this machine is not installed yet; a run is changing it: {}",
                    escaped(&run.words)
                )
            ),
        }
    } else if report.node.is_none() {
        say!(
            "{}",
            tr!("this machine is not installed; to make it a node, run `appliance install`")
        );
    }
    report.node.as_ref()
}

fn versions(node: &State, report: &Report) {
    let versions = tr!(
        "Kubernetes {}, bundle {} ({}), appliance {}, {}",
        node.kubernetes,
        node.bundle,
        short(&node.digest),
        report.appliance,
        node.profile
    );
    say_wrapped(&versions, "", 4);
}

fn warnings(node: &State, report: &Report) {
    let demonstration =
        &tr!("This is a demonstration: some components are stand-ins, not the real programs.");
    let simple = &tr!(
        "Profile simple has no TLS: anyone who reaches this machine over the network has \
                  full control of the cluster."
    );
    for (is_so, warning) in [
        (node.demonstration, demonstration),
        (report.certificates.is_empty(), simple),
    ] {
        if is_so {
            say_wrapped(warning, "", 4);
        }
    }
}

/// One line for each part of the node and of the cluster.
fn parts(report: &Report) {
    let part = |name: &str, text: String| {
        let name = translated(name);
        let gap = COLUMN.saturating_sub(display_width(&name));
        say_wrapped(&text, &format!("{name}{}", " ".repeat(gap)), COLUMN);
    };
    let (run, services) = count(&report.services, service_is_fine);
    let (loaded, images) = count(&report.images, image_is_fine);
    part(
        message!("services"),
        tr!(
            "{run} of {services} run; {loaded} of {images} images loaded",
            run,
            services,
            loaded,
            images
        ),
    );
    if !report.certificates.is_empty() {
        let ends = report.certificates.iter().map(|one| one.not_after.as_str());
        let first = ends.filter(|end| !end.is_empty()).min();
        let first = first.map_or(String::new(), |end| {
            tr!("; the first expires {}", told(end))
        });
        let (valid, all) = count(&report.certificates, certificate_is_fine);
        part(
            message!("certificates"),
            tr!("{valid} of {all} valid{first}", valid, all, first),
        );
    }
    let percent = |one: &StorageReport| one.used.saturating_mul(100) / one.size.max(1);
    if let Some(one) = report.storage.iter().max_by_key(|one| percent(one)) {
        let used = percent(one);
        part(
            message!("storage"),
            tr!(
                "{used} % of {} used, the fullest of {}",
                one.name,
                report.storage.len(),
                used
            ),
        );
    }
    if !report.peers.is_empty() {
        let (up, all) = count(&report.peers, is_peer_fine);
        part(
            message!("network"),
            tr!("{up} of {all} BGP sessions", up, all),
        );
    }
    let nodes = report.nodes.as_ref().map(|all| match &all.unknown {
        Some(_) => tr!("not known"),
        None => {
            let (ready, all) = count(&all.nodes, |node| node.ready);
            tr!("{ready} of {all} Ready", ready, all)
        }
    });
    let masters = report.masters.as_ref();
    let masters = masters.map(|all| {
        let (healthy, all) = count(&all.masters, is_master_fine);
        tr!("{healthy} of {all} masters healthy", healthy, all)
    });
    let both: Vec<String> = nodes.into_iter().chain(masters).collect();
    if !both.is_empty() {
        part(message!("nodes"), both.join("; "));
    }
    if !report.addons.is_empty() {
        let (available, all) = count(&report.addons, addon_is_fine);
        part(
            message!("add-ons"),
            tr!("{available} of {all} available", available, all),
        );
    }
    if let Some(last) = &report.backup {
        part(message!("last backup"), backup::last(last));
    }
}

/// How many are as they should be, and how many there are.
fn count<T>(all: &[T], is_fine: impl Fn(&T) -> bool) -> (usize, usize) {
    (all.iter().filter(|one| is_fine(one)).count(), all.len())
}

fn service_is_fine(one: &ServiceReport) -> bool {
    one.problem.is_none()
}

fn image_is_fine(one: &ImageReport) -> bool {
    one.problem.is_none()
}

fn certificate_is_fine(one: &CertificateReport) -> bool {
    one.problem.is_none()
}

fn node_is_fine(one: &NodeReport) -> bool {
    one.state == READY
}

fn addon_is_fine(one: &AddonReport) -> bool {
    one.available
}

/// Prints a table of each part, with the rows that `is_shown` wants: it is told whether a row is as it should be.
fn tables(report: &Report, is_shown: impl Fn(bool) -> bool) {
    let wanted = Wanted(&is_shown);
    show(&services(wanted.of(&report.services, service_is_fine)));
    journals(report);
    show(&images(wanted.of(&report.images, image_is_fine)));
    show(&storage(report, &is_shown));
    show(&certificates(
        wanted.of(&report.certificates, certificate_is_fine),
    ));
    show(&peers(wanted.of(&report.peers, is_peer_fine)));
    if let Some(all) = &report.masters {
        show(&masters(wanted.of(&all.masters, is_master_fine)));
        if let Some(problem) = &all.problem {
            say!();
            say_wrapped(problem, "", 4);
        }
    }
    if let Some(all) = &report.nodes {
        show(&nodes(wanted.of(&all.nodes, node_is_fine)));
        if let Some(why) = &all.unknown {
            say!();
            say_wrapped(
                &tr!(
                    "The API server does not say which nodes are Ready: {why}",
                    why
                ),
                "",
                4,
            );
        }
    }
    show(&addons(wanted.of(&report.addons, addon_is_fine)));
    if let Some(progress) = &report.cluster {
        self::progress(progress);
    }
    if let Some(one) = &report.backup
        && is_shown(one.problem.is_none())
    {
        backup::status(one);
    }
    if let Some(boot) = &report.boot {
        say!();
        say_wrapped(boot, "", 4);
    }
}

/// Which rows are shown.
struct Wanted<'a>(&'a dyn Fn(bool) -> bool);

impl Wanted<'_> {
    fn of<'a, T>(&self, all: &'a [T], is_fine: fn(&T) -> bool) -> Vec<&'a T> {
        all.iter().filter(|one| (self.0)(is_fine(one))).collect()
    }
}

fn show(table: &Table) {
    if !table.is_empty() {
        print_table(table);
    }
}

/// How far the upgrade of the cluster is.
pub fn progress(progress: &Progress) {
    let to = progress.to.words();
    let rest = progress.nodes_at(&[Stage::Late, Stage::Granted, Stage::Begun]);
    let standing = match progress.standing {
        Standing::Done => tr!("every node has it"),
        Standing::Running => tr!("under way"),
        Standing::Paused => tr!("paused; to go on: `appliance upgrade --cluster`"),
        Standing::Aborted => tr!("aborted"),
    };
    say!(
        "{}",
        tr!("Upgrade of the cluster to {to}: {standing}", to, standing)
    );
    if !rest.is_empty() {
        say!("{}", tr!("  not done: {}", rest.join(", ")));
    }
    for name in progress.nodes_at(&[Stage::Failed]) {
        let said = progress
            .nodes
            .get(name)
            .and_then(|node| node.said.as_deref());
        say!(
            "{}",
            tr!(
                "  failed: {name}: {}",
                escaped(said.unwrap_or_default()),
                name
            )
        );
    }
}

/// The last lines: what this machine is, whether it can be used, and what to do.
fn end(node: &State, report: &Report) {
    say!();
    say_wrapped(&line(report), "", 4);
    if let Some(next) = next_step(node, report) {
        say_wrapped(&next, "", 4);
    }
}

/// What to do about a node or a cluster that is not healthy.
fn next_step(node: &State, report: &Report) -> Option<String> {
    const WATCH: &str = message!("watch it: `appliance status --watch`");
    if report.verdict.node.condition != Condition::Healthy {
        return Some(tr!(
            "Do what the rows above say; why: `appliance doctor`; then {WATCH}",
            WATCH = translated(WATCH)
        ));
    }
    let cluster = report.verdict.cluster.as_ref()?;
    let lacks_nodes = cluster
        .lacks
        .iter()
        .any(|lack| lack.kind == Kind::Cluster && lack.name == NO_NODE);
    match cluster.condition {
        Condition::Healthy => None,
        _ if lacks_nodes && node.role != "single" => Some(tr!(
            "Let a worker join: `appliance help join`; or let pods come again: `kubectl uncordon NAME`"
        )),
        Condition::NotYet => Some(tr!(
            "It goes on by itself; {WATCH}",
            WATCH = translated(WATCH)
        )),
        Condition::Degraded => Some(tr!(
            "Do what the rows above say; on a master, `appliance check` looks further"
        )),
    }
}

fn ok_or(problem: Option<&String>) -> String {
    problem.cloned().unwrap_or_else(|| tr!("ok"))
}

fn services(all: Vec<&ServiceReport>) -> Table {
    let mut table = table(&["SERVICE", "STATE", "HEALTH"]);
    for service in all {
        let running = service.state.strip_prefix("active (");
        let health = match &service.endpoint {
            Some(endpoint) if running.is_some() => {
                let found = ok_or(service.problem.as_ref());
                format!("{endpoint}: {found}")
            }
            _ => ok_or(service.problem.as_ref()),
        };
        let state = running.map_or(&*service.state, |running| running.trim_end_matches(')'));
        table.add_row([&service.name, state, &health]);
    }
    table
}

/// The last lines of the services that do not run.
fn journals(report: &Report) {
    for service in report
        .services
        .iter()
        .filter(|service| !service.journal.is_empty())
    {
        say!(
            "{}",
            tr!("\nThe last lines of `journalctl -u {}`:", service.name)
        );
        for line in &service.journal {
            say!("    {}", escaped(line));
        }
    }
}

fn storage(report: &Report, is_shown: &impl Fn(bool) -> bool) -> Table {
    let mut table = table(&["STORAGE", "USED", "OF", "STATE"]);
    let shown = report
        .storage
        .iter()
        .filter(|one| is_shown(one.problem.is_none()));
    for one in shown {
        table.add_row([
            one.name.as_str(),
            &mebibytes(one.used),
            &mebibytes(one.size),
            &ok_or(one.problem.as_ref()),
        ]);
    }
    table
}

fn images(all: Vec<&ImageReport>) -> Table {
    let mut table = table(&["IMAGE", "STATE"]);
    for image in all {
        let state = image.problem.clone().unwrap_or_else(|| tr!("loaded"));
        table.add_row([&image.reference, &state]);
    }
    table
}

fn certificates(all: Vec<&CertificateReport>) -> Table {
    let mut table = table(&["CERTIFICATE", "EXPIRES", "STATE"]);
    for certificate in all {
        table.add_row([
            &certificate.name,
            &told(&certificate.not_after),
            &ok_or(certificate.problem.as_ref()),
        ]);
    }
    table
}

/// The table of `calicoctl node status`, with a column for problems.
fn peers(all: Vec<&PeerReport>) -> Table {
    let mut table = table(&["BGP PEER", "TYPE", "STATE", "SINCE", "INFO", "PROBLEM"]);
    for PeerReport { peer, problem, .. } in all {
        table.add_row([
            peer.address.as_str(),
            peer.kind,
            &peer.state,
            &peer.since,
            &peer.info,
            problem.as_deref().unwrap_or("-"),
        ]);
    }
    table
}

fn masters(all: Vec<&MasterReport>) -> Table {
    let mut table = table(&["MASTER", "ADDRESS", "ETCD", "API SERVER", "PROBLEM"]);
    for master in all {
        let problem = master.problem.as_deref().unwrap_or("-");
        table.add_row([
            master.name.as_str(),
            &master.address.to_string(),
            &translated(&master.etcd),
            &translated(&master.api_server),
            problem,
        ]);
    }
    table
}

fn nodes(all: Vec<&NodeReport>) -> Table {
    let mut table = table(&["NODE", "STATE", "SINCE", "PROBLEM"]);
    for node in all {
        let since = node.since.as_deref().map_or("-".to_owned(), told);
        let said = [&node.message, &node.problem].into_iter().flatten();
        let said: Vec<&str> = said.map(String::as_str).collect();
        let said = match said.is_empty() {
            true => "-".to_owned(),
            false => said.join("; "),
        };
        table.add_row([node.name.as_str(), &node.state, &since, &said]);
    }
    table
}

fn addons(all: Vec<&AddonReport>) -> Table {
    let mut table = table(&["ADD-ON OR WORKLOAD", "STATE", "PROBLEM"]);
    for addon in all {
        let problem = addon.problem.as_deref().unwrap_or("-");
        table.add_row([addon.name.as_str(), &addon.state, problem]);
    }
    table
}
