//! Notes what a run writes ([`crate::records::written`]): before it writes, and when all is written. So a run that
//! was cut does not take its own files for those of someone else.

use anyhow::Result;

use super::records::{forget_started, json_of};
use crate::desired::Content;
use crate::digest::Sha256;
use crate::observe::records;
use crate::paths;
use crate::plan::{Plan, Step};
use crate::records::written::{Written, WrittenFile};
use crate::sys::change::Change;
use crate::sys::root::Root;

/// Notes that a run begins to carry out `plan`. A service that it restarts counts as not started: its files may be
/// right before it runs with them.
pub fn begin(root: &Root, plan: &Plan) -> Result<()> {
    let restarted = plan.steps.iter().filter_map(|step| match step {
        Step::Start {
            service,
            restart: true,
        } => Some(service.name),
        _ => None,
    });
    forget_started(root, restarted)?;
    change(root, plan, |record, step| match step {
        Step::KeepCopy { to, .. } => drop(record.kept.insert(to.clone())),
        _ => {
            if let Some((path, file)) = file_of(step) {
                record.begin(path, file);
            }
        }
    })
}

/// Notes that `plan` is carried out.
pub fn settle(root: &Root, plan: &Plan) -> Result<()> {
    change(root, plan, |record, step| match step {
        Step::RemoveFile(path) => drop(record.files.remove(*path)),
        _ => {
            if let Some((path, file)) = file_of(step) {
                record.settle(path, file);
            }
        }
    })
}

/// Notes the files that are as `record` says: an earlier part of the run may have written them. Reads only files of
/// which something else is noted.
pub fn note_present(root: &Root, record: &Written) -> Result<()> {
    let before = records::written(root)?;
    let mut noted = before.clone().unwrap_or_default();
    let is_new = |path: &str, file: &WrittenFile| noted.files.get(path) != Some(file);
    let files = record.files.iter();
    let files: Vec<_> = files
        .filter(|(path, file)| file.mode.is_some() && is_new(path, file))
        .collect();
    for (path, file) in files {
        let present = root.read(path)?;
        if present.is_some_and(|content| file.sha256.contains(&Sha256::of(&content))) {
            noted.settle(path, file.clone());
        }
    }
    write(root, before.as_ref(), &noted).map(drop)
}

/// Notes that the node is installed with all of `record`. Returns whether the record changed.
pub fn note(root: &Root, record: &Written) -> Result<bool> {
    let before = records::written(root)?;
    let record = record
        .clone()
        .with_kept(&before.clone().unwrap_or_default());
    write(root, before.as_ref(), &record)
}

fn change(root: &Root, plan: &Plan, note: impl Fn(&mut Written, &Step)) -> Result<()> {
    let before = records::written(root)?;
    let mut record = before.clone().unwrap_or_default();
    plan.steps.iter().for_each(|step| note(&mut record, step));
    if record == Written::default() {
        return Ok(());
    }
    write(root, before.as_ref(), &record).map(drop)
}

/// Only root reads it: a password in a file could be guessed from the digest of the file.
fn write(root: &Root, before: Option<&Written>, record: &Written) -> Result<bool> {
    if before == Some(record) {
        return Ok(false);
    }
    root.write(paths::WRITTEN_RECORD, &json_of(record)?, 0o600)?;
    Ok(true)
}

/// The path of the file that a step writes, and its record. The settings are the operator's: a reset leaves them.
fn file_of(step: &Step) -> Option<(&str, WrittenFile)> {
    match step {
        Step::WriteFile { path, .. } if path == paths::CONFIG => None,
        Step::WriteFile {
            path,
            mode,
            content,
            ..
        } => Some((path, whole(*mode, content))),
        Step::EditFile { path, lines, .. } => {
            Some((path, WrittenFile::part(Sha256::of(lines.as_bytes()))))
        }
        _ => None,
    }
}

fn whole(mode: u32, content: &Content) -> WrittenFile {
    WrittenFile::whole(mode, Sha256::of(content.bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::records::note_started;
    use super::*;
    use crate::desired::{ProgramOf, RunningService};

    /// A cut between the file and the restart: the next run has to restart it, too.
    #[test]
    fn a_service_that_is_to_be_restarted_counts_as_not_started_until_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        for name in ["etcd", "kubelet", "docker"] {
            note_started(&root, name, "inputs").unwrap();
        }
        let start = |name, restart| Step::Start {
            service: RunningService {
                name,
                program: ProgramOf::Machine,
                needs_images: false,
                image: None,
                may_end: false,
                files: Vec::new(),
                inputs: "inputs".to_owned(),
            },
            restart,
        };
        let steps = vec![start("etcd", true), start("kubelet", false)];
        begin(&root, &Plan { steps }).unwrap();
        let started: Vec<String> = records::started_with(&root).unwrap().into_keys().collect();
        assert_eq!(started, ["docker", "kubelet"]);
    }
}
