//! `appliance apply`: new settings for an installed node.

use std::time::Duration;

use anyhow::Result;

use super::documents::Applied;
use super::inputs::sources;
use super::{Outcome, ask, check_node, check_questions, plan, print};
use crate::cli::{Apply as Arguments, Output};
use crate::install::{Machine, Request, prepare};
use crate::nodespec::Refused;
use crate::observe::inputs::Typed;
use crate::status::{Goal, Report};
use crate::sys::root::Root;
use crate::upgrade::{NewSettings, Upgrade, Wanted, settings, tidy};

/// Shows what the new settings change, asks, and gives them to the node.
pub fn run(arguments: &Arguments, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    check_questions(arguments.yes || arguments.dry_run, output)?;
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_node(&root)?;
    let new = NewSettings::read(&arguments.file)?;
    let machine = prepare(&request(arguments, &new, required_key))?;
    machine.warn_about_settings();
    let upgrade = Upgrade::of_settings(
        &machine,
        &new,
        Wanted {
            ignored: &arguments.ignore.checks,
            change: &[],
            force: arguments.force,
            without_backup: true,
            limit: arguments.limit,
            patience: arguments.waiting.patience(),
        },
    )?;
    let before = document(&machine, &upgrade, None)?;
    if output == Output::Text {
        print::upgrade::settings(&before);
    }
    if arguments.dry_run || !upgrade.is_needed {
        if !arguments.dry_run {
            tidy(&root, arguments.waiting.patience())?;
        }
        print::result(output, &before, |_| ())?;
        return Ok(match upgrade.is_needed {
            true => Outcome::Differs,
            false => Outcome::Done,
        });
    }
    if !arguments.yes {
        ask()?;
    }
    let status = upgrade.run()?;
    let outcome = Outcome::of(status.as_ref(), Goal::Node);
    let after = Applied {
        status,
        former: former(&root)?,
        ..before
    };
    print::result(output, &after, print::upgrade::applied)?;
    Ok(outcome)
}

/// The node as the file says. Options do not set anything: the next boot would not know them.
fn request<'a>(
    arguments: &'a Arguments,
    new: &NewSettings,
    required_key: Option<&'a str>,
) -> Request<'a> {
    Request {
        root: &arguments.root,
        payload: arguments.payload.as_deref(),
        keys: required_key.into_iter().collect(),
        typed: Typed {
            config: Some(arguments.file.clone()),
            content: Some(new.content.clone()),
            sources: sources(&arguments.metadata),
            patience: Duration::from_secs(arguments.metadata.metadata_timeout),
            ..Typed::default()
        },
    }
}

fn document(machine: &Machine, upgrade: &Upgrade<'_>, status: Option<Report>) -> Result<Applied> {
    let planned = plan::document(machine, &upgrade.planned)?;
    Ok(Applied {
        changed: upgrade.is_needed,
        node: upgrade.to.node.clone(),
        settings: planned.settings,
        warnings: planned.warnings,
        files: planned.files,
        images: planned.images,
        restarts: upgrade.outlook.restarts.clone(),
        notes: upgrade.outlook.notes.clone(),
        steps: planned.steps,
        former: former(&machine.root)?,
        status,
    })
}

/// The file with the former settings, if there is one.
fn former(root: &Root) -> Result<Option<String>> {
    let kept = settings::kept();
    Ok(root.exists(&kept)?.then_some(kept))
}
