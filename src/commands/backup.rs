//! `appliance backup`: backups of the cluster.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use time::OffsetDateTime;

use super::documents::backup::{BackedUp, BackupKey, Backups, KeptBackup, VerifiedBackup};
use super::token::master;
use super::{Outcome, files, print};
use crate::backup::check::check;
use crate::backup::place::Place;
use crate::backup::read::pass;
use crate::backup::seal::{Keys, Seal, new_key, secret_file};
use crate::backup::source::Backup;
use crate::backup::write::Source;
use crate::backup::{Target, make, names, note_failure};
use crate::cli::{
    Backup as Arguments, BackupCommand, Named, ObjectStore, Opening, Output, Waiting,
};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::objects::{Destination, Location, StoreSpec};
use crate::observe::records;
use crate::records::backup::Schedule;
use crate::sys::lock::{self, Lock};
use crate::sys::progress;
use crate::sys::root::Root;

/// Makes, checks or lists backups.
pub fn run(arguments: &Arguments, named: &Named) -> Result<Outcome> {
    let output = named.format();
    match &arguments.command {
        None => create(arguments, named, output),
        Some(BackupCommand::Verify {
            file,
            opening,
            store,
        }) => verify(&named_backup(file, store)?, opening, output),
        Some(BackupCommand::List { to, all, store }) => list(to.as_ref(), *all, store, output),
        Some(BackupCommand::Key { file }) => key(file, output),
    }
}

fn create(arguments: &Arguments, named: &Named, output: Output) -> Result<Outcome> {
    let root = master()?;
    let schedule = records::backup_schedule(&root)?.unwrap_or_default();
    if arguments.if_due {
        let now = OffsetDateTime::now_utc();
        if !schedule.is_due(records::backup(&root)?.as_ref(), now) {
            print::done(tr!("no backup is due"), output)?;
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
    let file = files::place(arguments.file.as_deref(), named)?;
    let document = backed_up(root, schedule, arguments, file.as_deref())?;
    print::result(named.format(), &document, print::backup::backed_up)?;
    Ok(Outcome::Done)
}

/// Makes a backup as the settings of this master say, before another command changes it.
///
/// # Errors
/// If there is none. The caller has changed nothing yet.
pub fn by_settings(root: &Root, waiting: Waiting) -> Result<()> {
    let schedule = records::backup_schedule(root)?.unwrap_or_default();
    let arguments = Arguments {
        waiting,
        ..Arguments::default()
    };
    let made = backed_up(root, &schedule, &arguments, None);
    let made = made.context(
        tr!("the backup before the upgrade failed, so nothing was changed; repair the cause, or add `--without-backup`"),
    )?;
    log::info!("{}", tr!("the backup is {}", made.file));
    Ok(())
}

fn backed_up(
    root: &Root,
    schedule: &Schedule,
    arguments: &Arguments,
    file: Option<&Path>,
) -> Result<BackedUp> {
    let seal = seal(arguments, schedule).map_err(Refused::because)?;
    let target = target(file, arguments, schedule)?;
    let state = records::state(root)?.context(tr!("this node's state was removed"))?;
    let address = state.own_address()?;
    let _lock = Lock::take(root, arguments.waiting.patience())?;
    lock::note(root, "backing up the cluster");
    let progress = progress::standard_error(&tr!("back up"), 0);
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
        let names = names(root, &state.node)?;
        removed = place.prune(&names, usize::try_from(keep)?, source.created)?;
    }
    Ok(BackedUp {
        file: stored.shown,
        bytes: stored.made.bytes,
        sha256: stored.made.sha256,
        manifest: stored.made.manifest,
        removed,
    })
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
        (Some(_), Some(_)) => bail!(Refused::new(tr!(
            "both a file and a directory are named; name one of them"
        ))),
        (Some(file), None) => {
            files::refuse_existing(file, arguments.force)?;
            Ok(Target::File(file.to_owned()))
        }
        (None, to) => Ok(Target::Place(place(
            to.as_ref(),
            &arguments.store,
            schedule,
        )?)),
    }
}

/// Where backups are: as the command line says, else the settings.
fn place(to: Option<&Destination>, store: &ObjectStore, schedule: &Schedule) -> Result<Place> {
    let to = match (to, &schedule.to) {
        (Some(to), _) => to.clone(),
        (None, Some(to)) => to.parse().map_err(|why: String| anyhow!("{to}: {why}"))?,
        (None, None) => bail!(Refused::new(tr!(
            "neither the command line nor the settings say where backups are; add `--to DIR`, `--to \
             s3://BUCKET/PREFIX`, or `--file FILE` for a new one"
        ))),
    };
    let s3 = reached(store, schedule.s3.as_ref())?;
    Ok(Place::open(&to, s3.as_ref())?)
}

/// How an object store is reached: as the command line says, else the settings. `None` if neither says anything.
fn reached(
    store: &ObjectStore,
    settings: Option<&StoreSpec>,
) -> Result<Option<StoreSpec>, Refused> {
    let endpoint = store
        .endpoint
        .clone()
        .or(settings.map(|said| said.endpoint.clone()));
    let credentials = store
        .credentials
        .clone()
        .or(settings.map(|said| said.credentials.clone()));
    let region = store
        .region
        .clone()
        .or(settings.map(|said| said.region.clone()));
    let ca = store
        .ca
        .clone()
        .or(settings.and_then(|said| said.ca.clone()));
    let lacking = |option| {
        Refused::new(tr!(
            "the object store is not described; add `{option}`",
            option
        ))
    };
    match (endpoint, credentials) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(lacking("--s3-endpoint https://HOST:PORT")),
        (Some(_), None) => Err(lacking("--s3-credentials FILE")),
        (Some(endpoint), Some(credentials)) => Ok(Some(StoreSpec {
            endpoint,
            region: region.unwrap_or_default(),
            credentials,
            ca,
        })),
    }
}

/// The backup that was named. If this machine is a master, its settings say how a bucket is reached.
pub fn named_backup(file: &Path, store: &ObjectStore) -> Result<Backup> {
    let root = Root::open("/".as_ref())?;
    let schedule = match Location::of_argument(file) {
        Some(_) => records::backup_schedule(&root)?.unwrap_or_default(),
        None => Schedule::default(),
    };
    let s3 = reached(store, schedule.s3.as_ref())?;
    Ok(Backup::of_argument(file, s3.as_ref())?)
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

fn verify(backup: &Backup, opening_with: &Opening, output: Output) -> Result<Outcome> {
    let keys = opening(opening_with)?;
    let place = || backup.to_string();
    let contents = backup.read(&keys, &mut pass)?;
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

fn list(
    to: Option<&Destination>,
    all: bool,
    store: &ObjectStore,
    output: Output,
) -> Result<Outcome> {
    let root = match all {
        true => Root::open("/".as_ref())?,
        false => master()?,
    };
    let schedule = records::backup_schedule(&root)?.unwrap_or_default();
    let place = place(to, store, &schedule)?;
    let kept = match all {
        true => place.list_all()?,
        false => {
            let state = records::state(&root)?.context(tr!("this node's state was removed"))?;
            place.list(&names(&root, &state.node)?)?
        }
    };
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
    if files::is_there(file) {
        bail!(Refused::new(tr!(
            "{} exists, and a key is never replaced: name another file",
            file.display()
        )));
    }
    let (text, recipient) = new_key();
    files::write_secret(file, &text, false)?;
    let document = BackupKey {
        file: file.display().to_string(),
        recipient,
    };
    print::result(output, &document, print::backup::key)?;
    Ok(Outcome::Done)
}
