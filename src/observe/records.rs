//! Reads the records of earlier runs on this node ([`crate::records`]).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use procfs::process::Process;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use crate::formats::{self, Format};
use crate::language::tr;
use crate::paths;
use crate::records::authorities::AuthoritiesRecord;
use crate::records::backup::{FailedBackup, LastBackup, Schedule};
use crate::records::brought::Brought;
use crate::records::cluster::ClusterRecord;
use crate::records::expected::Expected;
use crate::records::images::NodeImage;
use crate::records::machine::MachineRecord;
use crate::records::restored::Restored;
use crate::records::run::{ProcessId, Run};
use crate::records::state::State;
use crate::records::timeline::Timeline;
use crate::records::upgrade::UpgradeRecord;
use crate::records::written::Written;
use crate::sys::root::Root;

/// Whether an installation has begun to start services here, or has succeeded.
pub fn is_node(root: &Root) -> Result<bool> {
    Ok(root.exists(paths::STATE)? || root.exists(paths::STARTED_WITH)?)
}

/// The state of an installed node; `None` before the first installation succeeded.
pub fn state(root: &Root) -> Result<Option<State>> {
    json(root, &formats::STATE)
}

/// For each service, the digest of its inputs at its last start.
pub fn started_with(root: &Root) -> Result<BTreeMap<String, String>> {
    Ok(json(root, &formats::STARTED)?.unwrap_or_default())
}

/// The images that docker needs on this node; none before it was installed.
pub fn images(root: &Root) -> Result<Vec<NodeImage>> {
    Ok(json(root, &formats::IMAGES)?.unwrap_or_default())
}

/// The identifiers of the images that are being loaded, or were when a run was cut.
pub fn loading(root: &Root) -> Result<BTreeSet<String>> {
    Ok(json(root, &formats::LOADING)?.unwrap_or_default())
}

/// What the installation wrote; `None` before the first one, or if an older version made it.
pub fn written(root: &Root) -> Result<Option<Written>> {
    json(root, &formats::WRITTEN)
}

/// The machine on which the node was installed; `None` before that.
pub fn machine(root: &Root) -> Result<Option<MachineRecord>> {
    json(root, &formats::MACHINE)
}

/// The authorities that this master had; `None` if it is none, or if an older version installed it.
pub fn authorities(root: &Root) -> Result<Option<AuthoritiesRecord>> {
    json(root, &formats::AUTHORITIES)
}

/// What the node keeps of its cluster; `None` on a machine that is not a node. Versions without this
/// record left the same value in the unit of calico-node.
pub fn cluster(root: &Root) -> Result<Option<ClusterRecord>> {
    if let Some(record) = json(root, &formats::CLUSTER)? {
        return Ok(Some(record));
    }
    let unit = root.read(&format!("{}/kube-calico.service", paths::UNITS_DIR))?;
    Ok(unit.and_then(|unit| ClusterRecord::of_unit(&String::from_utf8_lossy(&unit))))
}

/// What the installations brought to this machine; `None` before the first one, or if an older version made it.
pub fn brought(root: &Root) -> Result<Option<Brought>> {
    json(root, &formats::BROUGHT)
}

/// What this master notes of its last backup; `None` if it made none.
pub fn backup(root: &Root) -> Result<Option<LastBackup>> {
    json(root, &formats::LAST_BACKUP)
}

/// Why the last backup by the timer failed; `None` if it did not.
pub fn failed_backup(root: &Root) -> Result<Option<FailedBackup>> {
    json(root, &formats::FAILED_BACKUP)
}

/// How this master backs the cluster up, as its settings say; `None` if it is no master, or if an older version
/// installed it.
pub fn backup_schedule(root: &Root) -> Result<Option<Schedule>> {
    json(root, &formats::SCHEDULE)
}

/// When the schedule of backups was written.
pub fn scheduled_since(root: &Root) -> Result<Option<OffsetDateTime>> {
    let entry = root.entry(paths::BACKUP_SCHEDULE)?;
    let modified = entry.and_then(|entry| entry.modified().ok());
    Ok(modified.map(OffsetDateTime::from))
}

/// The last restoration from a backup on this machine; `None` if there was none.
pub fn restored(root: &Root) -> Result<Option<Restored>> {
    json(root, &formats::RESTORED)
}

/// The journal of a run that has not completed; `None` if there is none.
pub fn run(root: &Root) -> Result<Option<Run>> {
    json(root, &formats::RUN)
}

/// When the steps of the last bring-up began and ended; `None` if that was not recorded.
pub fn timeline(root: &Root) -> Result<Option<Timeline>> {
    json(root, &formats::TIMELINE)
}

/// The last upgrade; `None` if there was none, or if it was taken back.
pub fn upgrade(root: &Root) -> Result<Option<UpgradeRecord>> {
    json(root, &formats::UPGRADE)
}

/// This process, for the journal; `None` if the kernel does not show it.
pub fn this_process() -> Option<ProcessId> {
    process(&Process::myself().ok()?)
}

/// Whether the process that the journal names still runs.
pub fn lives(wanted: &ProcessId) -> bool {
    let found = Process::new(wanted.id)
        .ok()
        .and_then(|found| process(&found));
    found.as_ref() == Some(wanted)
}

fn process(found: &Process) -> Option<ProcessId> {
    let boot = procfs::sys::kernel::random::boot_id().ok()?;
    Some(ProcessId {
        id: found.pid,
        began: found.stat().ok()?.starttime,
        boot: boot.trim().to_owned(),
    })
}

/// The expected state of the cluster; `None` on a node that is not a master.
pub fn expected(root: &Root) -> Result<Option<Expected>> {
    json(root, &formats::EXPECTED)
}

/// Refuses a machine on which a newer version of the program left a record of any format: what changes the machine would
/// change it without knowing all of it.
///
/// # Errors
/// [`Refused`](crate::nodespec::Refused) with the version that knows the record.
pub fn refuse_newer(root: &Root) -> Result<()> {
    for format in formats::ALL {
        let Some(path) = format.file() else {
            continue;
        };
        if let Some(text) = root.read(&path)? {
            format.check(&text)?;
        }
    }
    Ok(())
}

/// The record of this format in its place; `None` if the file does not exist.
pub fn json<T: DeserializeOwned>(root: &Root, format: &Format) -> Result<Option<T>> {
    json_at(root, format.place, format)
}

/// The record of this format in the file at `path`, which may be a copy; `None` if the file does not exist.
///
/// # Errors
/// [`Refused`](crate::nodespec::Refused) if a newer version of the program wrote it.
pub fn json_at<T: DeserializeOwned>(root: &Root, path: &str, format: &Format) -> Result<Option<T>> {
    let Some(bytes) = root.read(path)? else {
        return Ok(None);
    };
    let damaged = || {
        tr!(
            "{path} is damaged; remove it (`rm {path}`) and run `appliance install`",
            path
        )
    };
    format.read(&bytes, damaged).map(Some)
}
