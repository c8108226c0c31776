//! `appliance upgrade`, `appliance rollback` and `appliance prune`.

use anyhow::{Result, bail};

use super::documents::{Pruned, RolledBack, Upgraded};
use super::inputs::request;
use super::{Outcome, ask, backup, check_node, check_questions, print};
use crate::cli::{
    Output, Prune as PruneArguments, Rollback as RollbackArguments, Upgrade as Arguments,
};
use crate::install::prepare;
use crate::join::registry;
use crate::join::rollout::{Progress, Standing};
use crate::language::tr;
use crate::nodespec::{Profile, Refused};
use crate::observe::user::check_user;
use crate::records::state::State;
use crate::status::Goal;
use crate::sys::process::System;
use crate::sys::root::Root;
use crate::upgrade::{self, Leader, Outlook, Prune, Rollback, Upgrade, Wanted, tidy};

/// Shows what the upgrade does, asks, and upgrades the node.
pub fn run(arguments: &Arguments, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    if arguments.pause || arguments.abort {
        return stop(arguments, output);
    }
    check_questions(arguments.yes || arguments.dry_run, output)?;
    let root = Root::open(&arguments.wanted.root).map_err(Refused::because)?;
    let state = check_node(&root)?;
    if arguments.cluster {
        check_leader(&root, &state)?;
    }
    let machine = prepare(&request(&arguments.wanted, required_key))?;
    machine.warn_about_settings();
    let upgrade = Upgrade::prepare(
        &machine,
        Wanted {
            ignored: &arguments.wanted.ignore.checks,
            change: &arguments.wanted.change,
            force: arguments.force,
            without_backup: arguments.without_backup,
            limit: arguments.limit,
            patience: arguments.waiting.patience(),
        },
    )?;
    let document = |report, cluster| Upgraded {
        changed: upgrade.is_needed,
        from: upgrade.from.clone(),
        to: upgrade.to.clone(),
        outlook: upgrade.outlook.clone(),
        steps: upgrade.planned.plan.words(),
        status: report,
        cluster,
    };
    if output == Output::Text {
        print::upgrade::planned(&document(None, None));
    }
    if arguments.dry_run || !(upgrade.is_needed || arguments.cluster) {
        if !arguments.dry_run {
            tidy(&root, arguments.waiting.patience())?;
        }
        print::result(output, &document(None, None), |_| ())?;
        return Ok(match upgrade.is_needed {
            true => Outcome::Differs,
            false => Outcome::Done,
        });
    }
    if !arguments.yes {
        ask()?;
    }
    // Before anything stops.
    machine.payload.refuse_changed()?;
    if upgrade.needs_backup {
        backup::by_settings(&root, arguments.waiting)?;
    }
    let report = match upgrade.is_needed {
        true => upgrade.run()?,
        false => None,
    };
    let outcome = Outcome::of(report.as_ref(), Goal::Node);
    let cluster = match arguments.cluster {
        true => Some(lead(arguments, &root)?),
        false => None,
    };
    let is_open = cluster
        .as_ref()
        .is_some_and(|cluster| cluster.standing != Standing::Done);
    print::result(output, &document(report, cluster), print::upgrade::done)?;
    Ok(match is_open {
        true => Outcome::Waiting,
        false => outcome,
    })
}

/// Refuses to lead an upgrade of the cluster where no master can.
fn check_leader(root: &Root, state: &State) -> Result<()> {
    let shape = state.shape()?;
    let why = if !root.is_live() {
        tr!("`--cluster` works only on the running system")
    } else if !shape.role.is_master() {
        tr!("only a master leads the upgrade of a cluster; run this on a master")
    } else if shape.profile != Profile::WithCa {
        tr!(
            "nodes of the profile simple cannot know who sends them an appliance; run `upgrade` on each node"
        )
    } else {
        return Ok(());
    };
    bail!(Refused::new(why))
}

/// Upgrades all other nodes.
fn lead(arguments: &Arguments, root: &Root) -> Result<Progress> {
    let limits = (arguments.at_once, arguments.drain_limit, arguments.limit);
    Leader::begin(root, &System, limits)?.run()
}

/// Makes the upgrade of the cluster pause or end.
fn stop(arguments: &Arguments, output: Output) -> Result<Outcome> {
    let root = Root::open(&arguments.wanted.root).map_err(Refused::because)?;
    let state = check_node(&root)?;
    check_leader(&root, &state)?;
    let (standing, message) = match arguments.pause {
        true => (
            Standing::Paused,
            tr!("no other node begins; to go on: `appliance upgrade --cluster`"),
        ),
        false => (
            Standing::Aborted,
            tr!("the upgrade of the cluster ended; nodes that have begun go on"),
        ),
    };
    upgrade::stop(&root, standing)?;
    let document = Upgraded {
        changed: true,
        from: state.clone(),
        to: state,
        outlook: Outlook::default(),
        steps: Vec::new(),
        status: None,
        cluster: Progress::of(&registry::rollouts(&root)?)?,
    };
    print::result(output, &document, |_| log::info!("{message}"))?;
    Ok(Outcome::Done)
}

/// Shows what the rollback does, asks, and returns the node to what it was before its last upgrade or change of settings.
pub fn rollback(arguments: &RollbackArguments, output: Output) -> Result<Outcome> {
    check_questions(arguments.yes || arguments.dry_run, output)?;
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_node(&root)?;
    let prepared = Rollback::prepare(root.clone(), &System);
    if prepared.is_err() && !arguments.dry_run {
        tidy(&root, arguments.waiting.patience())?;
    }
    let rollback = prepared?;
    let (undoes, former) = rollback.words();
    let document = |report| RolledBack {
        undoes: undoes.clone(),
        former: former.clone(),
        from: rollback.left().clone(),
        to: rollback.former().clone(),
        steps: rollback.plan().words(),
        stays: rollback.stays().into_iter().map(str::to_owned).collect(),
        status: report,
    };
    if output == Output::Text {
        print::upgrade::back(&document(None));
    }
    if arguments.dry_run {
        print::result(output, &document(None), |_| ())?;
        return Ok(Outcome::Differs);
    }
    if !arguments.yes {
        ask()?;
    }
    let before = document(None);
    let report = rollback.run(arguments.limit, arguments.waiting.patience())?;
    let outcome = Outcome::of(report.as_ref(), Goal::Node);
    let document = RolledBack {
        status: report,
        ..before
    };
    print::result(output, &document, print::upgrade::went_back)?;
    Ok(outcome)
}

/// Shows the bundles and images that go, asks, and removes them.
pub fn prune(arguments: &PruneArguments, output: Output) -> Result<Outcome> {
    check_questions(arguments.yes || arguments.dry_run, output)?;
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_node(&root)?;
    check_user(&root)?;
    let prune = Prune::prepare(root, &System)?;
    let document = Pruned {
        changed: !prune.bundles.is_empty(),
        bundles: prune.bundles.clone(),
        images: prune
            .images
            .iter()
            .map(|image| image.name.clone())
            .collect(),
        kept: prune.kept.clone(),
    };
    if output == Output::Text {
        print::upgrade::pruned(&document);
    }
    if document.changed && !arguments.dry_run {
        if !arguments.yes {
            ask()?;
        }
        prune.run(arguments.waiting.patience())?;
    }
    print::result(output, &document, |_| ())?;
    Ok(Outcome::Done)
}
