//! Keeps what an upgrade replaces, before it begins, and gives the records back when the node returns to it
//! ([`crate::records::upgrade`]).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use time::OffsetDateTime;

use super::records::json_of;
use crate::digest::Sha256;
use crate::formats;
use crate::observe::records;
use crate::paths::{FORMER_DIR, PROGRAM, STARTED_WITH, STATE, UPGRADE, WRITTEN_RECORD};
use crate::plan::{Plan, Step, part_of};
use crate::records::state::State;
use crate::records::upgrade::{Former, KEPT_RECORDS, Stage, UpgradeRecord, Was};
use crate::records::written::{Written, WrittenFile};
use crate::sys::atomic;
use crate::sys::change::Change;
use crate::sys::root::Root;

/// The names of the directories of copies. A new upgrade takes the one that the record before it does not name.
const NAMES: [&str; 2] = ["a", "b"];

/// Keeps what `plan` changes on the node `from`, which becomes `to`, with new `settings` or with another bundle. A run
/// that was interrupted keeps what it has kept, and adds what is missing.
pub fn keep(
    root: &Root,
    (from, to): (&State, &State),
    settings: Option<&Sha256>,
    plan: &Plan,
) -> Result<UpgradeRecord> {
    let before = records::upgrade(root)?;
    let mut record = match &before {
        Some(record) if record.stage == Stage::UnderWay && record.leads_to(to, settings) => {
            record.clone()
        }
        _ => begin(root, (from, to), settings, before.as_ref())?,
    };
    record.to = to.clone();
    for step in &plan.steps {
        match step {
            Step::WriteFile { path, content, .. } => {
                let became = Sha256::of(content.bytes());
                keep_file(root, &mut record, path, became, step.is_of_identity())?;
            }
            Step::EditFile { path, lines, .. } => {
                keep_part(root, &mut record, path, lines)?;
            }
            // On the way back, the file itself gets what is in the copy.
            Step::KeepCopy { path, to, .. } => {
                let became = Sha256::of(&root.read(path)?.unwrap_or_default());
                keep_file(root, &mut record, to, became, false)?;
            }
            Step::SetLink(link) if !record.links.contains_key(&link.path) => {
                let target = root.link(&link.path)?;
                let target = target.map(|target| target.to_string_lossy().into_owned());
                record.links.insert(link.path.clone(), target);
            }
            _ => {}
        }
    }
    if before.as_ref() != Some(&record) {
        write(root, &record)?;
    }
    for name in NAMES.iter().filter(|name| **name != record.copies) {
        root.remove_tree(&format!("{FORMER_DIR}/{name}"))?;
    }
    Ok(record)
}

/// Begins a record: copies the records of the node, and its program if another bundle comes.
fn begin(
    root: &Root,
    (from, to): (&State, &State),
    settings: Option<&Sha256>,
    before: Option<&UpgradeRecord>,
) -> Result<UpgradeRecord> {
    let used = before.map(|record| record.copies.as_str());
    let free = NAMES.iter().find(|name| Some(**name) != used);
    let mut record = UpgradeRecord {
        from: from.clone(),
        to: to.clone(),
        settings: settings.cloned(),
        stage: Stage::UnderWay,
        begun: OffsetDateTime::now_utc(),
        copies: free.copied().unwrap_or(NAMES[0]).to_owned(),
        has_program: settings.is_none() && root.exists(PROGRAM)?,
        files: BTreeMap::new(),
        links: BTreeMap::new(),
    };
    let directory = record.directory();
    root.remove_tree(&directory)?;
    root.create_dir(FORMER_DIR, 0o700)?;
    root.create_dir(&directory, 0o700)?;
    for path in KEPT_RECORDS {
        if let Some(content) = root.read(path)? {
            root.write(&record.copy_of(path), &content, 0o600)?;
        }
    }
    if let Some(copy) = record.program() {
        atomic::copy(&root.resolve(PROGRAM)?, &root.resolve(&copy)?, 0o755)?;
    }
    record.has_program = root.exists(&record.copy_of(PROGRAM))?;
    Ok(record)
}

/// Keeps the file at `path`, which gets the content of the digest `became`.
fn keep_file(
    root: &Root,
    record: &mut UpgradeRecord,
    path: &str,
    became: Sha256,
    is_identity: bool,
) -> Result<()> {
    if let Some(kept) = record.files.get_mut(path) {
        kept.became = became;
        return Ok(());
    }
    let was = match root.read(path)? {
        None => Was::Nothing,
        Some(content) => {
            let copy = record.files.len().to_string();
            root.write(&record.copy(&copy), &content, 0o600)?;
            let mode = root.mode(path)?;
            let mode = mode.with_context(|| format!("{path} disappeared; run this again"))?;
            Was::File { copy, mode }
        }
    };
    let former = Former {
        was,
        became,
        is_identity,
    };
    record.files.insert(path.to_owned(), former);
    Ok(())
}

/// Keeps this program's part of the file at `path`, which becomes `lines`.
fn keep_part(root: &Root, record: &mut UpgradeRecord, path: &str, lines: &str) -> Result<()> {
    let became = Sha256::of(lines.as_bytes());
    if let Some(kept) = record.files.get_mut(path) {
        kept.became = became;
        return Ok(());
    }
    let part = root.read(path)?.as_deref().and_then(part_of);
    let former = Former {
        was: Was::Part(part.map(|part| String::from_utf8_lossy(&part).into_owned())),
        became,
        is_identity: false,
    };
    record.files.insert(path.to_owned(), former);
    Ok(())
}

fn write(root: &Root, record: &UpgradeRecord) -> Result<()> {
    // Digests of secret files are in it.
    root.write(UPGRADE, &json_of(record)?, 0o600)
}

/// Notes how far the upgrade is.
pub fn note(root: &Root, record: &UpgradeRecord, stage: Stage) -> Result<()> {
    match record.stage == stage {
        true => Ok(()),
        false => write(
            root,
            &UpgradeRecord {
                stage,
                ..record.clone()
            },
        ),
    }
}

/// Gives the node the records that it had before the upgrade. What is newer of keys and certificates stays, in the
/// record of what was written, too.
pub fn restore_records(root: &Root, record: &UpgradeRecord) -> Result<()> {
    let former = |path: &str| root.read(&record.copy_of(path));
    let now = records::written(root)?.unwrap_or_default();
    let written =
        records::json_at::<Written>(root, &record.copy_of(WRITTEN_RECORD), &formats::WRITTEN)?;
    if let Some(mut written) = written {
        let stays = |path: &&String| record.files.get(*path).is_some_and(|f| f.is_identity);
        let newer: Vec<(String, WrittenFile)> = record
            .files
            .keys()
            .filter(stays)
            .filter_map(|path| Some((path.clone(), now.files.get(path)?.clone())))
            .collect();
        written.files.extend(newer);
        for copy in now.kept {
            if root.exists(&copy)? {
                written.kept.insert(copy);
            }
        }
        root.write(WRITTEN_RECORD, &json_of(&written)?, 0o600)?;
    }
    if let Some(started) = former(STARTED_WITH)? {
        root.write(STARTED_WITH, &started, 0o644)?;
    }
    // Last: it says which bundle the node has.
    if let Some(state) = former(STATE)? {
        root.write(STATE, &state, 0o644)?;
    }
    Ok(())
}

/// Writes the former program to `target`, an absolute path on this machine, if there was one.
pub fn restore_program(root: &Root, record: &UpgradeRecord, target: &Path) -> Result<()> {
    match record.program() {
        Some(copy) => atomic::copy(&root.resolve(&copy)?, target, 0o755),
        None => Ok(()),
    }
}

/// Removes the copies and the record: the node went back.
pub fn forget(root: &Root, record: &UpgradeRecord) -> Result<()> {
    note(root, record, Stage::Back)?;
    root.remove_tree(FORMER_DIR)?;
    root.remove_file(UPGRADE)
}
