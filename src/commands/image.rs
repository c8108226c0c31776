//! `appliance image`.

use anyhow::Result;

use super::user::check_user;
use super::{Outcome, ask, payload, print};
use crate::bundle::payload::Payload;
use crate::check::is_sound;
use crate::cli::{Image, ImageBuild, ImageCheck, ImagePayload, ImagePrepare, Output};
use crate::image::build::{Build, build};
use crate::image::checks::{self, Subject};
use crate::image::prepare::Preparation;
use crate::nodespec::Refused;
use crate::sys::interrupt::Interruption;
use crate::sys::lock::Lock;
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
    let payload = payload::to_install(arguments.payload.as_deref())?;
    payload::check_signature(&payload, &arguments.trust, required_key)?;
    Ok(payload)
}

fn make(arguments: &ImageBuild, required_key: Option<&str>) -> Result<Outcome> {
    let payload = carried(&arguments.carried, required_key)?;
    let built = build(&Build {
        base: &arguments.base,
        output: &arguments.output,
        payload: &payload,
        carrier: arguments.carried.payload.as_deref(),
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
    println!(
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
    let preparation = Preparation {
        root: &root,
        runner: &System,
        payload: &payload,
        carrier: arguments.carried.payload.as_deref(),
        announce: &|step| {
            log::info!("{step}");
            Ok(())
        },
    };
    let _lock = Lock::take(&root)?;
    preparation.check()?;
    if root.is_live() && !arguments.yes {
        println!(
            "This makes an image of the machine you are on: its ID, SSH keys, passwords, logs and \
             histories go.\nNobody can log in afterwards unless cloud-init lets them in again."
        );
        ask()?;
    }
    preparation.run()?;
    log::info!("ready: switch it off before it boots again, and make the image of its disk");
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
