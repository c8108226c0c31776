//! `appliance reset`.

use anyhow::{Result, bail};

use super::documents::{Kept, Removed};
use super::{Outcome, ask, check_questions, print};
use crate::cli::{Output, Reset as Arguments};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::observe::records;
use crate::observe::user::check_user;
use crate::removal::{Step, Wanted};
use crate::reset::Reset;
use crate::sys::clock::stamp;
use crate::sys::out::say;
use crate::sys::root::Root;

/// Shows what goes, asks, and removes it.
pub fn run(arguments: &Arguments, output: Output) -> Result<Outcome> {
    check_questions(arguments.yes || arguments.dry_run, output)?;
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_user(&root)?;
    records::refuse_newer(&root)?;
    let reset = Reset::prepare(root, wanted(arguments)?, arguments.force)?;
    let steps = reset.steps();
    if output == Output::Text {
        tell(&reset, &steps);
    }
    if !steps.is_empty() && !arguments.dry_run {
        if !arguments.yes {
            ask()?;
        }
        let lock = reset.lock(arguments.waiting.patience())?;
        reset.run()?;
        drop(lock);
    }
    let is_told = !steps.is_empty() && !arguments.dry_run;
    print::result(output, &document(&reset, &steps), |_| {
        if is_told {
            told(&reset, &steps);
        }
    })?;
    Ok(Outcome::Done)
}

fn wanted(arguments: &Arguments) -> Result<Wanted> {
    let stamp = stamp();
    let directory = arguments.copy_to.to_str().unwrap_or_default();
    let directory = directory.trim_end_matches('/');
    if !arguments.copy_to.is_absolute() {
        bail!(Refused::new(tr!(
            "--copy-to {}: expected a path that begins with /",
            format_args!("{:?}", arguments.copy_to)
        )));
    }
    Ok(Wanted {
        data: arguments.data,
        keys: arguments.keys,
        without_docker: arguments.without_docker,
        becomes: None,
        copy: format!("{directory}/appliance-{stamp}.tar"),
        stamp,
    })
}

/// The list before the question.
fn tell(reset: &Reset, steps: &[Step]) {
    match (steps.is_empty(), reset.is_node()) {
        (true, false) => say!(
            "{}",
            tr!("this machine is not a node: there is nothing to remove")
        ),
        (true, true) => say!("{}", tr!("nothing more to remove")),
        (false, _) => say!(
            "{}",
            tr!("These steps make this machine an ordinary one again:")
        ),
    }
    for step in steps {
        say!("  {step}");
    }
    for (path, why) in reset.kept() {
        say!("{}", tr!("This stays: {path} ({why})", path, why));
    }
}

/// What the operator should know afterwards.
fn told(reset: &Reset, steps: &[Step]) {
    log::info!(
        "{}",
        tr!(
            "{} steps done: this machine is not a node any more",
            steps.len()
        )
    );
    for step in steps {
        if let Step::Copy(copy) = step {
            log::info!(
                "{}",
                tr!(
                    "the last copy of data and keys is {0}; to restore it: `tar -C / -xf {0}`",
                    copy.path
                )
            );
        }
    }
    for line in reset.follow() {
        log::warn!("{line}");
    }
}

fn document(reset: &Reset, steps: &[Step]) -> Removed {
    let copy = steps.iter().find_map(|step| match step {
        Step::Copy(copy) => Some(copy.path.clone()),
        _ => None,
    });
    let kept = reset.kept().into_iter();
    Removed {
        changed: !steps.is_empty(),
        steps: steps.iter().map(ToString::to_string).collect(),
        kept: kept.map(|(path, why)| Kept { path, why }).collect(),
        copy,
        follow: reset.follow(),
    }
}
