//! `appliance preflight`.

use anyhow::Result;

use super::documents::Fitness;
use super::{Outcome, inputs, print};
use crate::bundle::payload::Payload;
use crate::bundle::unpack;
use crate::cli::{Output, Preflight};
use crate::nodespec::{NodeSpec, Refused, Role};
use crate::observe::inputs::collect;
use crate::observe::preflight::{Bundle, Subject, read};
use crate::observe::user::check_user;
use crate::paths::BUNDLES;
use crate::preflight::facts::Wanted;
use crate::preflight::{Level, count, judge};
use crate::sys::process::System;
use crate::sys::root::Root;

/// Checks the machine as `install` does, and changes nothing.
pub fn run(arguments: &Preflight, output: Output) -> Result<Outcome> {
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_user(&root)?;
    let payload = match &arguments.payload {
        Some(file) => Some(Payload::to_install(Some(file))?),
        None => Payload::of_this_program()?,
    };
    let wanted = wanted(arguments, &root, payload.as_ref());
    let bundles = root.resolve(BUNDLES)?;
    let bundle = payload.as_ref().map(|payload| Bundle {
        manifest: payload.manifest(),
        unpacked: unpack::is_complete(&bundles, payload),
    });
    let facts = read(&Subject {
        root: &root,
        runner: &System,
        bundle,
        wanted: &wanted,
    })?;
    let judged = judge(&facts, &arguments.ignore.checks);
    let levels = Level::ALL.into_iter();
    let document = Fitness {
        role: wanted.role,
        fit: count(&judged, Level::Fail) == 0,
        summary: levels.map(|level| (level, count(&judged, level))).collect(),
        checks: judged,
    };
    print::result(output, &document, print::preflight::report)?;
    Ok(match document.fit {
        true => Outcome::Done,
        false => Outcome::Unfit,
    })
}

/// What the settings want. If they are refused, the check of the settings fails with the reasons, and the others
/// judge the role that was asked for.
fn wanted(arguments: &Preflight, root: &Root, payload: Option<&Payload>) -> Wanted {
    let typed = inputs::typed(&arguments.inputs);
    let resolved = collect(&typed, root, payload.map(Payload::manifest))
        .and_then(|collected| Ok(NodeSpec::resolve(&collected.inputs)?));
    let error = match resolved {
        Ok(spec) => return Wanted::of(&spec),
        Err(error) => error,
    };
    let problems = match error.downcast_ref::<Refused>() {
        Some(refused) => refused.problems.clone(),
        None => vec![format!("{error:#}")],
    };
    let role = arguments.inputs.role.as_deref().map(str::parse);
    let role = role.and_then(Result::ok).unwrap_or(Role::Single);
    Wanted::without_settings(role, problems)
}
