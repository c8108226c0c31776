//! `appliance restore`: makes this machine the first master of a cluster again, from a backup.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use time::OffsetDateTime;

use super::backup::{named_backup, opening};
use super::documents::backup::Restoration;
use super::inputs::request;
use super::{Outcome, ask, check_questions, install, print};
use crate::apply::{brought, leftovers};
use crate::backup::check::check;
use crate::backup::read::{Contents, Take, pass};
use crate::backup::seal::Keys;
use crate::backup::source::Backup;
use crate::bundle::manifest::Kind;
use crate::bundle::unpack;
use crate::cli::{Output, Restore as Arguments};
use crate::components::{Runs, services};
use crate::install::{Machine, Request, prepare};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::nodespec::token::TokenId;
use crate::observe::records;
use crate::observe::user::check_user;
use crate::paths::{BUNDLES, CONFIG};
use crate::plan::{Plan, Step};
use crate::removal;
use crate::restore::alone::Programs;
use crate::restore::fit::{self, Todo};
use crate::restore::{Target, begin, files, place, told};
use crate::sys::clock::stamp;
use crate::sys::lock::{self, Lock};
use crate::sys::out::say;
use crate::sys::root::Root;
use crate::sys::scratch;

/// Restores the backup, and installs the node.
pub fn run(arguments: &Arguments, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    let root = Root::open(&arguments.install.wanted.root).map_err(Refused::because)?;
    check_user(&root)?;
    let keys = opening(&arguments.opening)?;
    let backup = named_backup(&arguments.file, &arguments.store)?;
    let shown = backup.to_string();
    let contents = backup.read(&keys, &mut pass)?;
    check(&contents).map_err(|error| Refused::because(error.context(shown.clone())))?;
    let todo = fit::todo(&root, &contents.manifest, arguments.replace)?;
    let wanted = request(&arguments.install.wanted, required_key);
    let machine = prepared(&root, &wanted, &contents)?;
    fit::check_spec(&machine.spec, &contents.manifest)?;
    let restoring = Restoring {
        arguments,
        backup,
        keys,
        contents,
        machine,
        todo,
        now: OffsetDateTime::now_utc(),
    };
    let document = restoring.document(shown)?;
    if output == Output::Text {
        tell(&document);
    }
    if arguments.install.dry_run {
        print::result(output, &document, |_| ())?;
        return Ok(Outcome::Done);
    }
    fit::refuse_beside(&restoring.machine.spec, &restoring.contents.manifest)?;
    check_questions(arguments.yes, output)?;
    if !arguments.yes {
        ask()?;
    }
    restoring.go(&wanted, document, output)
}

/// The machine as its own settings say, or those of the backup if it has none.
fn prepared(root: &Root, wanted: &Request<'_>, contents: &Contents) -> Result<Machine> {
    let settings = contents.files.get(CONFIG);
    let Some(settings) = settings.filter(|_| wanted.typed.config.is_none()) else {
        return prepare(wanted);
    };
    if root.exists(CONFIG)? {
        return prepare(wanted);
    }
    let file = scratch::named(settings.expose())?;
    let mut with_settings = wanted.clone();
    with_settings.typed.config = Some(file.path().to_owned());
    // Another master needs settings of its own.
    let same = prepare(&with_settings)
        .ok()
        .filter(|machine| fit::is_same_master(&machine.spec, &contents.manifest));
    same.map_or_else(|| prepare(wanted), Ok)
}

struct Restoring<'a> {
    arguments: &'a Arguments,
    backup: Backup,
    keys: Keys,
    contents: Contents,
    machine: Machine,
    todo: Todo,
    now: OffsetDateTime,
}

impl Restoring<'_> {
    fn target<'t>(&'t self, programs: Programs<'t>) -> Target<'t> {
        Target {
            root: &self.machine.root,
            spec: &self.machine.spec,
            programs,
            keeps_tokens: self.arguments.keep_tokens,
            now: self.now,
        }
    }

    fn document(&self, file: String) -> Result<Restoration> {
        let none = Programs {
            directory: "/".as_ref(),
            arguments: &[],
        };
        let manifest = &self.contents.manifest;
        Ok(Restoration {
            file,
            manifest: manifest.clone(),
            lost: told::lost(&self.machine.root, manifest.created, self.now)?,
            steps: told::steps(&self.target(none), &self.contents, self.todo)?,
            revoked: Vec::new(),
            aside: Vec::new(),
            installation: None,
        })
    }

    fn go(self, wanted: &Request<'_>, document: Restoration, output: Output) -> Result<Outcome> {
        let machine = &self.machine;
        let ignored = &self.arguments.install.wanted.ignore.checks;
        if !machine.is_node()? {
            machine.preflight(ignored)?;
        }
        machine.payload.refuse_changed()?;
        let lock = install::lock(&machine.root, &self.arguments.install)?;
        let mut document = document;
        let mut gone = BTreeSet::new();
        if self.todo == Todo::Place {
            leftovers::remove(&machine.root)?;
            brought::begin(&machine.root, machine.runner)?;
            if begin(&machine.root, &self.contents.manifest, self.now)? {
                document.aside = self.take_down()?;
            }
            let placed = self.place()?;
            document.revoked = placed.0;
            gone = placed.1;
        }
        let (arguments, root) = (self.arguments, machine.root.clone());
        drop(self);
        // Now with the settings that were restored.
        let machine = prepare(wanted)?;
        let outcome = installed(&machine, arguments, lock, &mut document)?;
        follow(&document, &gone, &root);
        match (output, &document.installation) {
            (Output::Text, Some(installation)) => install::tell(installation)?,
            _ => print::result(output, &document, |_| ())?,
        }
        Ok(outcome)
    }

    /// Stops the node that this machine is, and moves everything of its cluster aside.
    fn take_down(&self) -> Result<Vec<String>> {
        let machine = &self.machine;
        if let Some(state) = records::state(&machine.root)?.filter(|_| machine.root.is_live()) {
            let shape = state.shape()?;
            let mut steps: Vec<removal::Step> = services(shape)
                .into_iter()
                .rev()
                .filter(|service| service.runs != Runs::Docker)
                .map(|service| removal::Step::Stop(service.name.to_owned()))
                .collect();
            if shape.role.is_worker() {
                steps.push(removal::Step::RemovePods);
            }
            machine.take_down(&Plan::of_removal(steps), None)?;
        }
        let forget = Plan::of_removal(vec![removal::Step::ForgetNode]);
        machine.take_down(&forget, None)?;
        files::move_aside(&machine.root, &stamp())
    }

    fn place(&self) -> Result<(Vec<TokenId>, BTreeSet<String>)> {
        let machine = &self.machine;
        lock::note(&machine.root, "restoring a backup");
        let (payload, root) = (&machine.payload, &machine.root);
        let digest = payload.digest().as_str();
        if !unpack::is_complete(&root.resolve(BUNDLES)?, payload) {
            let unpack = Plan {
                steps: vec![Step::Unpack {
                    digest: digest.to_owned(),
                }],
            };
            brought::note(root, machine.runner, &unpack)?;
            machine.take_down(&unpack, None)?;
        }
        let etcd = payload.manifest().require(Kind::Program, "etcd")?;
        let directory = root.resolve(&format!("{BUNDLES}/{digest}/bin"))?;
        let programs = Programs {
            directory: &directory,
            arguments: &etcd.arguments,
        };
        let snapshot = |take: &mut Take<'_>| {
            let again = self.backup.read(&self.keys, take)?;
            ensure!(
                again.manifest == self.contents.manifest,
                tr!("the backup was replaced by another one while it was restored; run this again")
            );
            Ok(())
        };
        let placed = place(&self.target(programs), &self.contents, snapshot)?;
        Ok((placed.revoked, placed.gone))
    }
}

fn installed(
    machine: &Machine,
    arguments: &Arguments,
    lock: Lock,
    document: &mut Restoration,
) -> Result<Outcome> {
    let (installation, outcome) = install::install_locked(machine, &arguments.install, lock)?;
    document.installation = Some(installation);
    Ok(outcome)
}

/// What the operator reads before the question.
fn tell(document: &Restoration) {
    print::backup::manifest(&document.manifest);
    say!("{}", document.lost);
    say!("{}", tr!("These steps restore it:"));
    for step in &document.steps {
        say!("  {step}");
    }
}

/// What the operator should do next.
fn follow(document: &Restoration, gone: &BTreeSet<String>, root: &Root) {
    for path in &document.aside {
        log::info!("{}", tr!("what was there is now {path}", path));
    }
    if !document.revoked.is_empty() {
        let ids: Vec<String> = document.revoked.iter().map(ToString::to_string).collect();
        log::warn!(
            "{}",
            tr!(
                "these join tokens were revoked: {}; nodes that joined stay, and new ones need another token: run `appliance \
             token create`",
                ids.join(", ")
            )
        );
    }
    if !gone.is_empty() && root.is_live() {
        for name in gone {
            log::warn!(
                "{}",
                tr!(
                    "{name} is no master any more; if the cluster has a node of that name, run `kubectl delete node {name}`",
                    name
                )
            );
        }
    }
}
