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
use crate::backup::{Target, make, names};
use crate::cli::{Backup as Arguments, BackupCommand, Named, Opening, Output};
use crate::nodespec::Refused;
use crate::observe::records;
use crate::paths::STATE;
use crate::records::state::REPAIR;
use crate::sys::lock::{self, Lock};
use crate::sys::progress;

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
    let passphrase = arguments.passphrase_file.as_deref().map(secret_file);
    let passphrase = passphrase.transpose().map_err(Refused::because)?;
    let seal = Seal::new(&arguments.recipients, passphrase.as_ref()).map_err(Refused::because)?;
    let file = files::place(arguments.file.as_deref(), named)?;
    let target = target(file.as_deref(), arguments.to.as_ref(), arguments.force)?;
    let state = records::state(&root)?.context("this node's state was removed")?;
    let address = state.address.parse();
    let address = address.with_context(|| format!("invalid `address` in {STATE}; {REPAIR}"))?;
    let _lock = Lock::take(&root, arguments.waiting.patience())?;
    lock::note(&root, "backing up the cluster");
    let progress = progress::standard_error("back up", 0);
    let source = Source {
        root: &root,
        state: &state,
        address,
        created: OffsetDateTime::now_utc(),
        progress: &*progress,
    };
    let stored = make(&source, &seal, &target)?;
    let document = BackedUp {
        file: stored.shown,
        bytes: stored.made.bytes,
        sha256: stored.made.sha256,
        manifest: stored.made.manifest,
        removed: Vec::new(),
    };
    print::result(output, &document, print::backup::backed_up)?;
    Ok(Outcome::Done)
}

fn target(file: Option<&Path>, to: Option<&Place>, force: bool) -> Result<Target> {
    match (file, to) {
        (Some(_), Some(_)) => bail!(Refused {
            problems: vec!["both a file and a directory are named; name one of them".to_owned()],
        }),
        (Some(file), None) => {
            files::refuse_existing(file, force)?;
            Ok(Target::File(file.to_owned()))
        }
        (None, Some(to)) => Ok(Target::Place(to.clone())),
        (None, None) => bail!(Refused {
            problems: vec![
                "nothing says where to write to; add `--file FILE` or `--to DIR`".to_owned()
            ],
        }),
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
    let Some(place) = to else {
        bail!(Refused {
            problems: vec!["nothing says where the backups are; add `--to DIR`".to_owned()],
        });
    };
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
