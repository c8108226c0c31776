//! Notes on this node what a run did ([`crate::records`]).

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use serde::Serialize;

use crate::observe::records::{self, started_with};
use crate::paths;
use crate::records::state::State;
use crate::sys::change::Change;
use crate::sys::root::Root;

/// Held while a record is read and written again: steps that run at once change the same records. Other processes do not:
/// this one has the lock of the machine.
static CHANGING: Mutex<()> = Mutex::new(());

/// Waits until no other step changes a record.
pub(super) fn changing() -> MutexGuard<'static, ()> {
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the state, unless it is the same already. Returns whether it wrote.
pub fn write_state(root: &Root, state: &State) -> Result<bool> {
    if records::state(root).ok().flatten().as_ref() == Some(state) {
        return Ok(false);
    }
    write_json(root, paths::STATE, state)?;
    Ok(true)
}

/// Removes the state and the records of started services: the next run installs the node from the
/// beginning.
pub fn forget(root: &Root) -> Result<()> {
    root.remove_file(paths::STARTED_WITH)?;
    root.remove_file(paths::STATE)
}

/// Records that `service` was started with inputs of the digest `inputs`.
pub fn note_started(root: &Root, service: &str, inputs: &str) -> Result<()> {
    let _alone = changing();
    let mut all = started_with(root)?;
    all.insert(service.to_owned(), inputs.to_owned());
    write_json(root, paths::STARTED_WITH, &all)
}

/// Forgets with which inputs these services were started.
pub fn forget_started<'a>(root: &Root, services: impl Iterator<Item = &'a str>) -> Result<()> {
    let before = started_with(root)?;
    let mut all = before.clone();
    services.for_each(|service| drop(all.remove(service)));
    match all == before {
        true => Ok(()),
        false => write_json(root, paths::STARTED_WITH, &all),
    }
}

/// Changes the list of the images that are being loaded.
pub fn note_loading(root: &Root, change: impl FnOnce(&mut BTreeSet<String>) -> bool) -> Result<()> {
    let _alone = changing();
    let mut loading = records::loading(root)?;
    if !change(&mut loading) {
        return Ok(());
    }
    match loading.is_empty() {
        true => root.remove_file(paths::LOADING),
        false => write_json(root, paths::LOADING, &loading),
    }
}

/// Leaves the file that keeps the services of a node from starting on a copy of its machine, or removes
/// it.
pub fn mark_copy(root: &Root, is_copy: bool) -> Result<()> {
    match is_copy {
        true => root.write(paths::COPY, b"", 0o644),
        false => root.remove_file(paths::COPY),
    }
}

/// Records which authorities this worker has taken whole: SHA-256 of the file, or another text before it takes new
/// ones.
pub fn note_taken(root: &Root, digest: &str) -> Result<()> {
    root.write(paths::TAKEN, digest.as_bytes(), 0o644)
}

/// Records since when all tokens of service accounts come with the new authorities, as text.
pub fn note_tokens(root: &Root, since: &str) -> Result<()> {
    root.write(paths::ROTATION_SINCE, since.as_bytes(), 0o644)
}

/// Writes a JSON document to `path`.
pub(super) fn write_json(root: &Root, path: &str, value: &impl Serialize) -> Result<()> {
    root.write(path, &json_of(value)?, 0o644)
}

/// A JSON document, as the records are written.
pub(super) fn json_of(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}
