//! `appliance support-bundle`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use time::OffsetDateTime;

use super::documents::{Supported, Within};
use super::{Outcome, doctor, print, status, version};
use crate::cli::{Output, SupportBundle};
use crate::language::tr;
use crate::maintenance::etcd::Cluster;
use crate::nodespec::{Refused, Role};
use crate::observe::records;
use crate::observe::user::check_user;
use crate::support::{self, ANSWER, Text};
use crate::sys::parallel::within;
use crate::sys::process::Limited;
use crate::sys::root::Root;
use crate::sys::{host, out};

/// How long each of this program's own reports may take.
const REPORT: Duration = Duration::from_secs(60);

/// Collects, and writes the archive.
pub fn run(arguments: &SupportBundle, output: Output) -> Result<Outcome> {
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_user(&root)?;
    let now = OffsetDateTime::now_utc();
    let name = name(&root, now);
    let file = arguments
        .file
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    out::check(&file).map_err(Refused::because)?;
    log::info!(
        "{}",
        tr!(
            "read this node; what does not answer is left out, after {} s at most",
            REPORT.as_secs()
        )
    );
    let collected = support::collect(&root, &Limited(ANSWER), own(&root))?;
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let bytes = support::archive(&collected, &name, seconds)?;
    out::file(&file, 0o600, &bytes)?;
    let document = Supported {
        file: file.display().to_string(),
        bytes: bytes.len() as u64,
        inside: collected.entries.iter().map(Within::of).collect(),
        left_out: collected.left_out,
    };
    // Standard output may be the file.
    match is_file(&file) {
        true => print::result(output, &document, print::doctor::supported)?,
        false => log::info!(
            "{}",
            tr!("{} bytes were written to {}", document.bytes, document.file)
        ),
    }
    Ok(Outcome::Done)
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file())
}

/// The name of the archive: that of the node, and the time.
fn name(root: &Root, now: OffsetDateTime) -> String {
    let node = records::state(root).ok().flatten().map(|state| state.node);
    let node = node.or_else(|| host::hostname().ok().filter(|_| root.is_live()));
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let node: String = node
        .unwrap_or_default()
        .chars()
        .filter(is_plain)
        .take(64)
        .collect();
    let node = if node.is_empty() { "machine" } else { &node };
    let (date, time) = (now.date(), now.time());
    let date = date.to_string().replace('-', "");
    format!(
        "appliance-support-{node}-{date}-{:02}{:02}{:02}",
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// The reports of this program. One that hangs is left out.
fn own(root: &Root) -> Vec<Text> {
    let mut all = vec![document("version.json", version::document), {
        let root = root.clone();
        document("doctor.json", move || Ok(doctor::examined(&root)))
    }];
    if root.is_live() {
        let (here, there) = (root.clone(), root.clone());
        all.push(document("status.json", move || {
            status::report(&here, &Limited(ANSWER))
        }));
        if is_master(root) {
            all.push(document("etcd.json", move || {
                let state = records::state(&there)?.context(tr!("there is no node"))?;
                Cluster::of(&there, &state)?.report()
            }));
        }
    }
    all
}

fn is_master(root: &Root) -> bool {
    let state = records::state(root).ok().flatten();
    state.is_some_and(|state| state.role != Role::Worker.to_string())
}

fn document<T: Serialize>(name: &str, make: impl FnOnce() -> Result<T> + Send + 'static) -> Text {
    let made = within(REPORT, move || {
        let text = make().and_then(|document| Ok(serde_json::to_string_pretty(&document)?));
        text.map_err(|error| format!("{error:#}"))
    });
    let late = || Err(tr!("it did not end within {} s", REPORT.as_secs()));
    (name.to_owned(), made.unwrap_or_else(late))
}
