//! `appliance backup`: backups of the cluster.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use time::OffsetDateTime;

use super::documents::backup::{BackedUp, BackupKey, Backups, KeptBackup, VerifiedBackup};
use super::token::master;
use super::{Outcome, files, print};
use crate::backup::check::check;
use crate::backup::place::Place;
use crate::backup::read::{pass, read};
use crate::backup::seal::{Keys, Seal, new_key, secret_file};
use crate::backup::write::Source;
use crate::backup::{Target, make, names, note_failure};
use crate::cli::{Backup as Arguments, BackupCommand, Named, Opening, Output};
use crate::nodespec::Refused;
use crate::observe::records;
use crate::paths::STATE;
use crate::records::backup::Schedule;
use crate::records::state::REPAIR;
use crate::sys::lock::{self, Lock};
use crate::sys::progress;
use crate::sys::root::Root;

/// Makes, checks or lists backups.
pub fn run(arguments: &Arguments, named: &Named) -> Result<Outcome> {
    let output = named.format();
    match &arguments.command {
        None => create(arguments, named, output),
        Some(BackupCommand::Verify { file, opening }) => verify(file, opening, output),
        Some(BackupCommand::List { to }) => list(to.as_ref(), output),
        Some(BackupCommand::Key { file }) => key(file, output),
    }
}

fn create(arguments: &Arguments, named: &Named, output: Output) -> Result<Outcome> {
    let root = master()?;
    let schedule = records::backup_schedule(&root)?.unwrap_or_default();
    if arguments.if_due {
        let now = OffsetDateTime::now_utc();
        if !schedule.is_due(records::backup(&root)?.as_ref(), now) {
            print::done("no backup is due", output)?;
            return Ok(Outcome::Done);
        }
        let made = create_now(&root, &schedule, arguments, named);
        if let Err(error) = &made {
            note_failure(&root, now, &format!("{error:#}"))?;
        }
        return made;
    }
    create_now(&root, &schedule, arguments, named)
}

fn create_now(
    root: &Root,
    schedule: &Schedule,
    arguments: &Arguments,
    named: &Named,
) -> Result<Outcome> {
    let output = named.format();
    let seal = seal(arguments, schedule).map_err(Refused::because)?;
    let file = files::place(arguments.file.as_deref(), named)?;
    let target = target(file.as_deref(), arguments, schedule)?;
    let state = records::state(root)?.context("this node's state was removed")?;
    let address = state.address.parse();
    let address = address.with_context(|| format!("invalid `address` in {STATE}; {REPAIR}"))?;
    let _lock = Lock::take(root, arguments.waiting.patience())?;
    lock::note(root, "backing up the cluster");
    let progress = progress::standard_error("back up", 0);
    let source = Source {
        root,
        state: &state,
        address,
        created: OffsetDateTime::now_utc(),
        progress: &*progress,
    };
    let stored = make(&source, &seal, &target)?;
    let mut removed = Vec::new();
    if let (Target::Place(place), Some(keep), None) = (&target, schedule.keep, &arguments.to) {
        removed = place.prune(&names(root, &state.node)?, usize::try_from(keep)?)?;
    }
    let document = BackedUp {
        file: stored.shown,
        bytes: stored.made.bytes,
        sha256: stored.made.sha256,
        manifest: stored.made.manifest,
        removed,
    };
    print::result(output, &document, print::backup::backed_up)?;
    Ok(Outcome::Done)
}

/// For whom to encrypt: as the command line says, else the settings.
fn seal(arguments: &Arguments, schedule: &Schedule) -> Result<Seal> {
    let read = |path: &Path| secret_file(path).map(Some);
    match (&arguments.recipients[..], &arguments.passphrase_file) {
        ([], None) => {
            let path = schedule.passphrase_file.as_deref();
            let passphrase = path.map_or(Ok(None), |path| read(path.as_ref()))?;
            Seal::new(&schedule.recipients, passphrase.as_ref())
        }
        (recipients, path) => {
            let passphrase = path.as_deref().map_or(Ok(None), read)?;
            Seal::new(recipients, passphrase.as_ref())
        }
    }
}

fn target(file: Option<&Path>, arguments: &Arguments, schedule: &Schedule) -> Result<Target> {
    match (file, &arguments.to) {
        (Some(_), Some(_)) => bail!(Refused::new(
            "both a file and a directory are named; name one of them"
        )),
        (Some(file), None) => {
            files::refuse_existing(file, arguments.force)?;
            Ok(Target::File(file.to_owned()))
        }
        (None, to) => Ok(Target::Place(place(to.as_ref(), schedule)?)),
    }
}

/// Where backups are: as the command line says, else the settings.
fn place(to: Option<&Place>, schedule: &Schedule) -> Result<Place> {
    match (to, &schedule.to) {
        (Some(to), _) => Ok(to.clone()),
        (None, Some(to)) => to.parse().map_err(|why: String| anyhow!("{to}: {why}")),
        (None, None) => bail!(Refused::new("neither the command line nor the settings say where backups are; add `--to DIR`, or `--file FILE` \
                 for a new one"
                    .to_owned())),
    }
}

/// What opens a backup.
pub fn opening(arguments: &Opening) -> Result<Keys> {
    let read = |path: &Option<std::path::PathBuf>| path.as_deref().map(secret_file).transpose();
    let keys = || {
        let (identity, passphrase) = (
            read(&arguments.identity)?,
            read(&arguments.passphrase_file)?,
        );
        Keys::new(identity.as_ref(), passphrase.as_ref())
    };
    keys().map_err(|error| Refused::because(error).into())
}

/// The backup at `path`, to be read.
pub fn opened(path: &Path) -> Result<BufReader<File>> {
    let open = || {
        let file = File::open(path)?;
        match file.metadata()?.is_file() {
            true => Ok(BufReader::new(file)),
            false => Err(anyhow!("not a regular file")),
        }
    };
    open()
        .with_context(|| path.display().to_string())
        .map_err(|error| Refused::because(error).into())
}

fn verify(file: &Path, opening_with: &Opening, output: Output) -> Result<Outcome> {
    let keys = opening(opening_with)?;
    let place = || file.display().to_string();
    let contents = read(opened(file)?, &keys, &mut pass);
    let contents = contents.map_err(|error| Refused::because(error.context(place())))?;
    let checks = check(&contents).map_err(|error| Refused::because(error.context(place())))?;
    let document = VerifiedBackup {
        file: place(),
        keys: contents.keys.values.len(),
        manifest: contents.manifest,
        checks,
    };
    print::result(output, &document, print::backup::verified)?;
    Ok(Outcome::Done)
}

fn list(to: Option<&Place>, output: Output) -> Result<Outcome> {
    let root = master()?;
    let place = place(to, &records::backup_schedule(&root)?.unwrap_or_default())?;
    let state = records::state(&root)?.context("this node's state was removed")?;
    let kept = place.list(&names(&root, &state.node)?)?;
    let backups = kept.into_iter().map(|kept| KeptBackup {
        file: place.shown(&kept.name),
        created: kept.time,
        bytes: kept.bytes,
    });
    let document = Backups {
        place: place.to_string(),
        backups: backups.collect(),
    };
    print::result(output, &document, print::backup::listed)?;
    Ok(Outcome::Done)
}

fn key(file: &Path, output: Output) -> Result<Outcome> {
    let (text, recipient) = new_key();
    files::write_secret(file, &text, false)?;
    let document = BackupKey {
        file: file.display().to_string(),
        recipient,
    };
    print::result(output, &document, print::backup::key)?;
    Ok(Outcome::Done)
}
