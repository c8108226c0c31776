//! `appliance node promote` and `appliance node demote`: a worker becomes one of several masters, and a master a worker.
//! The machine gives up what it is, as `reset` does, and is installed with its new role.

use anyhow::{Context, Result, bail};

use super::documents::RoleChanged;
use super::inputs::request;
use super::{Outcome, ask, check_node, check_questions, install, print};
use crate::cli::{NewRole, Output};
use crate::install::{Machine, prepare};
use crate::language::tr;
use crate::nodespec::{NodeSpec, Refused, Role};
use crate::paths::{CONFIG, COPIES_DIR};
use crate::preflight::stays::{Field, differences};
use crate::records::state::{Installed, State};
use crate::removal::Wanted;
use crate::reset::Reset;
use crate::sys::clock::stamp;
use crate::sys::out::say;
use crate::sys::root::Root;

/// Shows what goes and what comes, asks, and gives this node the role `to`.
pub fn run(
    arguments: &NewRole,
    to: Role,
    required_key: Option<&str>,
    output: Output,
) -> Result<Outcome> {
    let install = &arguments.install;
    check_questions(arguments.yes || install.dry_run, output)?;
    let root = Root::open(&install.wanted.root).map_err(Refused::because)?;
    let state = check_node(&root)?;
    let machine = prepare(&request(&install.wanted, required_key))?;
    check(&state, &machine.spec, to)?;
    machine.warn_about_settings();
    // Before the node is taken down: afterwards, it would be nothing.
    machine.preflight(&install.wanted.ignore.checks)?;
    let reset = Reset::prepare(root.clone(), wanted(to), false)?;
    let document = RoleChanged {
        from: state.role.clone(),
        to: to.to_string(),
        removal: reset.steps().iter().map(ToString::to_string).collect(),
        installation: None,
    };
    if output == Output::Text {
        tell(&state.node, &document);
    }
    if install.dry_run {
        print::result(output, &document, |_| ())?;
        return Ok(Outcome::Differs);
    }
    if !root.is_live() {
        bail!(Refused::new(tr!(
            "the role of a node changes only on the running machine, without `--root`: the cluster has to be told"
        )));
    }
    // Afterwards, the machine would be nothing, and could not join.
    let knocked = machine.knock();
    knocked.context(tr!(
        "the machine could not join again, so nothing was changed"
    ))?;
    if !arguments.yes {
        ask()?;
    }
    change(&machine, &reset, arguments, (document, output))
}

fn change(
    machine: &Machine,
    reset: &Reset,
    arguments: &NewRole,
    (document, output): (RoleChanged, Output),
) -> Result<Outcome> {
    // Before the node is taken down.
    machine.payload.refuse_changed()?;
    let lock = reset.lock(install::patience(&arguments.install))?;
    reset.run()?;
    log::info!(
        "{}",
        tr!(
            "this machine is no {} any more; if this ends early, `appliance install` goes on",
            document.from
        )
    );
    let (installation, outcome) = install::install_locked(machine, &arguments.install, lock)?;
    match output {
        Output::Text => install::tell(&installation)?,
        Output::Json => {
            let document = RoleChanged {
                installation: Some(installation),
                ..document
            };
            print::result(output, &document, |_| ())?;
        }
    }
    Ok(outcome)
}

/// Data and keys go, after a last copy: a worker has no keys of authorities, and a master no identity of a worker. What
/// installs the node again stays.
fn wanted(to: Role) -> Wanted {
    let stamp = stamp();
    Wanted {
        data: true,
        keys: true,
        becomes: Some(to),
        copy: format!("{COPIES_DIR}/appliance-{stamp}.tar"),
        stamp,
        ..Wanted::default()
    }
}

/// Refuses a node that cannot have the role `to`, and settings that do not say so. Writes nothing.
fn check(state: &State, spec: &NodeSpec, to: Role) -> Result<(), Refused> {
    let is = |role: Role| state.role == role.to_string();
    let (command, from) = match to {
        Role::Worker => ("demote", Role::Master),
        _ => ("promote", Role::Worker),
    };
    if !is(from) {
        return Err(Refused::new(tr!(
            "this node is a {}; `{command}` makes a {to} of a {from}",
            state.role,
            command,
            to,
            from
        )));
    }
    let mut problems = Vec::new();
    if *spec.role != to {
        problems.push(tr!(
            "{} says that the role is {}; write `role: {to}` into {CONFIG} first",
            spec.role.origin,
            *spec.role,
            to,
            CONFIG
        ));
    }
    if !spec.tls() {
        problems.push(tr!("a cluster of the profile simple has one master"));
    }
    if spec.join.token.is_none() {
        problems.push(tr!("the machine joins anew, and has no token: make one on a master (`appliance token create --ttl 1h --uses 1`), \
             and write `join: {{token: TOKEN}}` into {CONFIG}", CONFIG));
    }
    problems.extend(match to {
        Role::Worker => of_demotion(state),
        _ => of_promotion(spec),
    });
    // All else stays as it is.
    let installed = Installed::from(state);
    let others = differences(&installed, spec).into_iter();
    let others = others.filter(|one| !matches!(one.field, Field::Role | Field::Masters));
    problems.extend(others.map(|one| one.to_string()));
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Refused { problems }),
    }
}

fn of_promotion(spec: &NodeSpec) -> Option<String> {
    (!spec.has_several_masters()).then(|| {
        tr!("the settings name one master; write all masters, this one among them, into `masters` of {CONFIG}, first on \
             the present master: `appliance install --change masters`", CONFIG)
    })
}

/// That no list of masters has its address, the specification makes sure.
fn of_demotion(state: &State) -> Option<String> {
    (state.masters.len() < 2).then(|| tr!("this is the only master of its cluster"))
}

fn tell(node: &str, document: &RoleChanged) {
    say!(
        "{}",
        tr!(
            "To make a {} of the {} {node}, these steps come first:",
            document.to,
            document.from,
            node
        )
    );
    for step in &document.removal {
        say!("  {step}");
    }
    say!(
        "{}",
        tr!(
            "Then it joins with its token, and is installed as a {}.",
            document.to
        )
    );
}
