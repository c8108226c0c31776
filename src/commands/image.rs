//! `appliance image`.

use anyhow::Result;

use super::payload::keys;
use super::{Outcome, ask, man, print};
use crate::apply::leftovers;
use crate::bundle::payload::Payload;
use crate::check::is_sound;
use crate::cli::{Image, ImageBuild, ImageCheck, ImagePayload, ImagePrepare, Output};
use crate::image::build::{Build, build};
use crate::image::checks::{self, Subject};
use crate::image::prepare::Preparation;
use crate::nodespec::Refused;
use crate::observe::user::check_user;
use crate::sys::interrupt::Interruption;
use crate::sys::lock::Lock;
use crate::sys::out::say;
use crate::sys::process::System;
use crate::sys::root::Root;

/// Makes or checks a golden image.
pub fn run(command: &Image, required_key: Option<&str>) -> Result<Outcome> {
    match command {
        Image::Build(arguments) => make(arguments, required_key),
        Image::Prepare(arguments) => prepare(arguments, required_key),
        Image::Check(arguments) => check(arguments),
    }
}

fn carried(arguments: &ImagePayload, required_key: Option<&str>) -> Result<Payload> {
    let payload = Payload::to_install(arguments.payload.as_deref())?;
    payload.refuse_changed()?;
    payload.check_signatures(&keys(&arguments.trust, required_key))?;
    Ok(payload)
}

fn make(arguments: &ImageBuild, required_key: Option<&str>) -> Result<Outcome> {
    let payload = carried(&arguments.carried, required_key)?;
    let built = build(&Build {
        base: &arguments.base,
        output: &arguments.output,
        payload: &payload,
        manuals: &man::pages()?,
        means: arguments.attach,
        compress: arguments.compress,
        interruption: Interruption::watch("detaching the image")?,
    })?;
    print::checked(&built.checked, Output::Text)?;
    let mut stages = print::table(&["SECONDS", "STAGE"]);
    for (name, seconds) in &built.stages {
        stages.add_row([&seconds.to_string(), *name]);
    }
    print::print_table(&stages);
    say!(
        "\n{}: {} bytes, sha256 {}",
        arguments.output.display(),
        built.size,
        built.sha256
    );
    Ok(Outcome::Done)
}

fn prepare(arguments: &ImagePrepare, required_key: Option<&str>) -> Result<Outcome> {
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
        say!(
            "This prepares the machine you are logged in to as an image. It removes its machine \
             ID, SSH keys, passwords, logs and shell histories.\nAfterwards you can log in only if \
             cloud-init adds your key again at the next boot."
        );
        ask()?;
    }
    leftovers::remove(&root)?;
    preparation.run()?;
    log::info!(
        "the system is ready: shut it down now (`poweroff`), and make an image of its disk before \
         it boots again"
    );
    Ok(Outcome::Done)
}

fn check(arguments: &ImageCheck) -> Result<Outcome> {
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_user(&root)?;
    let manifest = checks::manifest(&root)?;
    let checked = checks::all(&Subject {
        root: &root,
        runner: &System,
        manifest: manifest.as_ref(),
    });
    print::checked(&checked, arguments.output)?;
    Ok(if is_sound(&checked) {
        Outcome::Done
    } else {
        Outcome::Unsound
    })
}
