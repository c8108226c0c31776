//! Upgrades, for people.

use indicatif::HumanBytes;

use super::plan::change;
use super::report::{progress, summary};
use super::short;
use crate::commands::documents::{Applied, Pruned, RolledBack, Upgraded};
use crate::language::tr;
use crate::paths::CONFIG;
use crate::sys::out::say;

/// What an upgrade does, before the question.
pub fn planned(upgrade: &Upgraded) {
    let (from, to) = (upgrade.from.words(), upgrade.to.words());
    if !upgrade.changed {
        say!(
            "{}",
            tr!(
                "nothing to change: {} has {to} already",
                upgrade.to.node,
                to
            )
        );
        return;
    }
    say!(
        "{}",
        tr!(
            "Upgrade of {}:\n  from {from}\n  to   {to}",
            upgrade.from.node,
            from,
            to
        )
    );
    for changed in &upgrade.outlook.components {
        let before = changed.from.as_deref().unwrap_or("new");
        match before == changed.to {
            true => say!(
                "{}",
                tr!("  {}: {before}, another build", changed.name, before)
            ),
            false => say!("  {}: {before} -> {}", changed.name, changed.to),
        }
    }
    say!("{}", tr!("These steps:"));
    for step in &upgrade.steps {
        say!("  {step}");
    }
    meaning(&upgrade.outlook.restarts, &upgrade.outlook.notes);
}

fn meaning(restarts: &[String], notes: &[String]) {
    if !restarts.is_empty() {
        say!(
            "{}",
            tr!("What restarts, in this order: {}", restarts.join(", "))
        );
    }
    for note in notes {
        say!("{note}.");
    }
}

/// How the node is after an upgrade.
pub fn done(upgrade: &Upgraded) {
    if let Some(report) = &upgrade.status {
        summary(report);
    }
    say!("{}", tr!("The upgrade to {} is done.", upgrade.to.words()));
    if let Some(cluster) = &upgrade.cluster {
        progress(cluster);
    }
}

/// What new settings change, before the question.
pub fn settings(applied: &Applied) {
    if !applied.changed {
        say!(
            "{}",
            tr!(
                "nothing to change: {} has these settings already",
                applied.node
            )
        );
        return;
    }
    for file in applied
        .files
        .iter()
        .filter(|file| !file.new || file.path == CONFIG)
    {
        change(file);
    }
    say!("{}", tr!("New settings for {}. These steps:", applied.node));
    for step in &applied.steps {
        say!("  {step}");
    }
    meaning(&applied.restarts, &applied.notes);
}

/// How the node is with its new settings.
pub fn applied(applied: &Applied) {
    if let Some(report) = &applied.status {
        summary(report);
    }
    say!("{}", tr!("{} has the new settings.", applied.node));
    if let Some(former) = &applied.former {
        say!(
            "{}",
            tr!(
                "The former ones are in {former}; to go back to them: `appliance rollback`",
                former
            )
        );
    }
}

/// What a rollback does, before the question.
pub fn back(rollback: &RolledBack) {
    let node = &rollback.to.node;
    say!(
        "{}",
        tr!(
            "Rollback of {}:\n  {node} gets back {}",
            rollback.undoes,
            rollback.former,
            node
        )
    );
    say!("{}", tr!("These steps:"));
    for step in &rollback.steps {
        say!("  {step}");
    }
    for path in &rollback.stays {
        say!(
            "{}",
            tr!(
                "This stays, because someone changed it afterwards: {path}",
                path
            )
        );
    }
    say!("{}", tr!("Keys and certificates stay as they are."));
}

/// How the node is after a rollback.
pub fn went_back(rollback: &RolledBack) {
    if let Some(report) = &rollback.status {
        summary(report);
    }
    say!("{}", tr!("The node went back to {}.", rollback.former));
}

/// The bundles and images that go.
pub fn pruned(pruned: &Pruned) {
    if !pruned.changed {
        say!(
            "{}",
            tr!("nothing to remove: the bundle in use and the one before it are kept")
        );
        return;
    }
    for old in &pruned.bundles {
        let name = old.bundle.as_deref().unwrap_or("unknown");
        say!(
            "{}",
            tr!(
                "remove bundle {name} ({}), {}",
                short(&old.digest),
                HumanBytes(old.bytes),
                name
            )
        );
    }
    for image in &pruned.images {
        say!("{}", tr!("remove image {image}", image));
    }
}
