//! `appliance image`.

use std::time::Duration;

use anyhow::Result;

use super::documents::{self, BuildStage};
use super::payload::keys;
use super::{Outcome, ask, files, man, print};
use crate::apply::leftovers;
use crate::bundle::payload::Payload;
use crate::check::is_sound;
use crate::cli::{Image, ImageBuild, ImageCheck, ImagePayload, ImagePrepare, Named, Output};
use crate::image::build::{Build, build};
use crate::image::checks::{self, Subject};
use crate::image::prepare::Preparation;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::observe::user::check_user;
use crate::sys::clock::span;
use crate::sys::interrupt::Interruption;
use crate::sys::lock::Lock;
use crate::sys::out::say;
use crate::sys::process::System;
use crate::sys::root::Root;

/// Makes or checks a golden image.
pub fn run(command: &Image, required_key: Option<&str>, named: &Named) -> Result<Outcome> {
    match command {
        Image::Build(arguments) => make(arguments, required_key, named),
        Image::Prepare(arguments) => prepare(arguments, required_key, named.format()),
        Image::Check(arguments) => check(arguments, named.format()),
    }
}

fn carried(arguments: &ImagePayload, required_key: Option<&str>) -> Result<Payload> {
    let payload = Payload::to_install(arguments.payload.as_deref())?;
    payload.refuse_changed()?;
    payload.check_signatures(&keys(&arguments.trust, required_key))?;
    Ok(payload)
}

fn make(arguments: &ImageBuild, required_key: Option<&str>, named: &Named) -> Result<Outcome> {
    let file = files::needed(arguments.file.as_deref(), named, "--file FILE")?;
    let payload = carried(&arguments.carried, required_key)?;
    let built = build(&Build {
        base: &arguments.base,
        output: &file,
        payload: &payload,
        manuals: &man::pages()?,
        means: arguments.attach,
        compress: arguments.compress,
        interruption: Interruption::watch("detaching the image")?,
    })?;
    let stage = |(stage, seconds)| BuildStage { stage, seconds };
    let document = documents::Built {
        file: file.display().to_string(),
        bytes: built.size,
        sha256: built.sha256,
        stages: built.stages.into_iter().map(stage).collect(),
        checks: built.checked,
    };
    print::result(named.format(), &document, told)?;
    Ok(Outcome::Done)
}

fn told(built: &documents::Built) {
    print::checks(&built.checks);
    let mut stages = print::table(&["STAGE", "TOOK"]);
    for stage in &built.stages {
        stages.add_row([stage.stage, &span(Duration::from_secs(stage.seconds))]);
    }
    print::print_table(&stages);
    say!(
        "{}",
        tr!(
            "\n{}: {} bytes, sha256 {}",
            built.file,
            built.bytes,
            built.sha256
        )
    );
}

fn prepare(
    arguments: &ImagePrepare,
    required_key: Option<&str>,
    output: Output,
) -> Result<Outcome> {
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_user(&root)?;
    let payload = carried(&arguments.carried, required_key)?;
    let manuals = man::pages()?;
    let preparation = Preparation {
        root: &root,
        runner: &System,
        payload: &payload,
        manuals: &manuals,
        announce: &|step| {
            log::info!("{step}");
            Ok(())
        },
    };
    let _lock = Lock::take(&root, arguments.waiting.patience())?;
    preparation.check()?;
    if root.is_live() && !arguments.yes {
        log::warn!(
            "{}",
            tr!(
                "This prepares the machine you are logged in to as an image. It removes its machine \
             ID, SSH keys, passwords, logs and shell histories.\nAfterwards you can log in only if \
             cloud-init adds your key again at the next boot."
            )
        );
        ask()?;
    }
    leftovers::remove(&root)?;
    preparation.run()?;
    let ready = &tr!(
        "the system is ready: shut it down now (`poweroff`), and make an image of its disk before it boots \
                 again"
    );
    print::done(ready, output)?;
    Ok(Outcome::Done)
}

fn check(arguments: &ImageCheck, output: Output) -> Result<Outcome> {
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_user(&root)?;
    let manifest = checks::manifest(&root)?;
    let checked = checks::all(&Subject {
        root: &root,
        runner: &System,
        manifest: manifest.as_ref(),
    });
    let outcome = match is_sound(&checked) {
        true => Outcome::Done,
        false => Outcome::Unsound,
    };
    print::checked(checked, output)?;
    Ok(outcome)
}
