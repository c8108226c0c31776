//! The output of backups.

use indicatif::HumanBytes;

use super::{print_table, table};
use crate::commands::documents::backup::{BackedUp, BackupKey, Backups, VerifiedBackup};
use crate::language::{tr, translated};
use crate::records::backup::Manifest;
use crate::status::BackupReport;
use crate::sys::clock::moment;
use crate::sys::out::say;
use crate::sys::progress::escaped;

/// Prints where a new backup is.
pub fn backed_up(document: &BackedUp) {
    for old in &document.removed {
        log::info!("{}", tr!("removed the backup {old}", old));
    }
    log::info!(
        "{}",
        tr!(
            "backed up the cluster, as it was at {}, etcd's revision {}: {}, SHA-256 {}",
            moment(document.manifest.created),
            document.manifest.revision,
            HumanBytes(document.bytes),
            document.sha256
        )
    );
    say!("{}", document.file);
}

/// Prints what is in a backup, and what was checked.
pub fn verified(document: &VerifiedBackup) {
    manifest(&document.manifest);
    let checks = document.checks.iter().map(|check| translated(check));
    say!(
        "{}",
        tr!(
            "{} files and parts have their sums; these fit: {}",
            document.manifest.members.len(),
            checks.collect::<Vec<_>>().join(", ")
        )
    );
    say!("{}", tr!("{} is whole", document.file));
}

/// Prints what a backup is of.
pub fn manifest(manifest: &Manifest) {
    let master = &manifest.master;
    let mut rows = table(&["BACKUP", ""]);
    for (name, value) in [
        (tr!("made at"), moment(manifest.created)),
        (
            tr!("by"),
            format!("{} ({}), {}", master.node, master.address, master.role),
        ),
        ("Kubernetes".to_owned(), master.kubernetes.clone()),
        (
            "etcd".to_owned(),
            tr!("{}, revision {}", manifest.etcd, manifest.revision),
        ),
        (
            tr!("bundle"),
            format!("{}, {}", master.bundle, master.digest),
        ),
        (tr!("cluster"), manifest.authority.join(", ")),
    ] {
        rows.add_row([&name, &escaped(&value)]);
    }
    print_table(&rows);
}

/// How old the last backup is, in a few words.
pub fn last(report: &BackupReport) -> String {
    match (&report.problem, &report.last) {
        (Some(_), _) => tr!("too old: see below"),
        (None, Some(last)) => format!("{}, {}", moment(last.created), last.place),
        (None, None) => tr!("none yet; the timer makes the first one within an hour"),
    }
}

/// Prints how old the last backup is.
pub fn status(report: &BackupReport) {
    match (&report.problem, &report.last) {
        (Some(problem), _) => say!("\n{problem}"),
        (None, Some(last)) => say!(
            "{}",
            tr!("\nlast backup: {}, {}", moment(last.created), last.place)
        ),
        (None, None) => {
            say!(
                "{}",
                tr!("\nno backup was made yet; the timer makes the first one within an hour")
            );
        }
    }
}

/// Prints a list of backups.
pub fn listed(document: &Backups) {
    if document.backups.is_empty() {
        say!("{}", tr!("this master has no backup in {}", document.place));
        return;
    }
    let mut rows = table(&["CREATED", "SIZE", "FILE"]);
    for backup in &document.backups {
        rows.add_row([
            moment(backup.created),
            HumanBytes(backup.bytes).to_string(),
            escaped(&backup.file),
        ]);
    }
    print_table(&rows);
}

/// Prints the recipient of a new key.
pub fn key(document: &BackupKey) {
    log::info!(
        "{}",
        tr!(
            "wrote {}; keep it where no node is, and a copy elsewhere: without it, no backup for this recipient opens",
            document.file
        )
    );
    say!("{}", document.recipient);
}
