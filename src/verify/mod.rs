//! Compares an installed node with the record of what was installed. Reads only, and shows no content of a file.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::Serialize;

use crate::language::message;
use crate::nodespec::Shape;
use crate::observe::records;
use crate::paths::WRITTEN_RECORD;
use crate::records::state::State;
use crate::records::written::Written;
use crate::sys::process::Runner;
use crate::sys::root::Root;

mod chains;
mod files;
mod live;
mod programs;
mod units;

/// The command that makes a node as it should be, and how to see what it will change.
const INSTALL: &str = "appliance install";

/// What can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A program or another file of the bundle, or this program.
    Program,
    /// A file, or this program's part of one.
    File,
    /// A directory.
    Directory,
    /// A link.
    Link,
    /// An image in docker.
    Image,
    /// A unit in systemd.
    Unit,
    /// A kernel module.
    Module,
    /// A kernel setting.
    Sysctl,
    /// A rule of iptables.
    Rule,
    /// A system user.
    User,
}

impl Kind {
    /// Its name for people.
    pub fn words(self) -> &'static str {
        match self {
            Kind::Program => message!("program"),
            Kind::File => message!("file"),
            Kind::Directory => message!("directory"),
            Kind::Link => message!("link"),
            Kind::Image => message!("image"),
            Kind::Unit => message!("unit"),
            Kind::Module => message!("module"),
            Kind::Sysctl => message!("sysctl"),
            Kind::Rule => message!("rule"),
            Kind::User => message!("user"),
        }
    }
}

/// Something that is not as it was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// What it is.
    pub kind: Kind,
    /// Its path, its reference or its name.
    pub name: String,
    /// What differs.
    pub problem: String,
    /// The command that makes it as it was.
    pub fix: String,
}

/// A node, compared with what was installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether nothing differs.
    pub as_installed: bool,
    /// How many things were compared.
    pub checked: usize,
    /// What differs.
    pub differences: Vec<Difference>,
    /// The drop-ins of others that change a unit of this node. They are the operator's way to change a unit, and no
    /// difference.
    pub drop_ins: Vec<DropIn>,
}

/// A drop-in of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DropIn {
    /// The unit that it changes.
    pub unit: String,
    /// Its path.
    pub path: String,
}

/// An installed node.
pub struct Node<'a> {
    root: &'a Root,
    runner: &'a dyn Runner,
    state: &'a State,
    shape: Shape,
    record: Written,
}

impl<'a> Node<'a> {
    /// The node of `state` at `root`.
    ///
    /// # Errors
    /// If there is no record of what was installed, or if a record is damaged.
    pub fn of(root: &'a Root, runner: &'a dyn Runner, state: &'a State) -> Result<Node<'a>> {
        let record = records::written(root)?.with_context(|| {
            format!(
                "there is no record of what was installed ({WRITTEN_RECORD}): an older version made this node, or \
                 somebody removed the record; run `{INSTALL}`, which writes it"
            )
        })?;
        Ok(Node {
            root,
            runner,
            state,
            shape: state.shape()?,
            record,
        })
    }

    /// Compares everything.
    pub fn verify(&self) -> Result<Report> {
        let mut found = Found::default();
        programs::compare(self, &mut found)?;
        files::compare(self, &mut found);
        units::drop_ins(self, &mut found)?;
        if self.root.is_live() {
            units::compare(self, &mut found)?;
            live::compare(self, &mut found)?;
            chains::compare(self, &mut found)?;
        }
        Ok(Report {
            as_installed: found.differences.is_empty(),
            checked: found.checked,
            differences: found.differences,
            drop_ins: found.drop_ins,
        })
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    checked: usize,
    differences: Vec<Difference>,
    drop_ins: Vec<DropIn>,
}

/// What is wrong with a thing, and the command against it.
struct Wrong {
    problem: String,
    fix: String,
}

impl Wrong {
    /// What `appliance install` makes right.
    fn installable(problem: impl Into<String>) -> Wrong {
        Wrong::new(problem, INSTALL)
    }

    fn new(problem: impl Into<String>, fix: impl Into<String>) -> Wrong {
        Wrong {
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

impl Found {
    /// Counts a thing, and notes what is wrong with it.
    fn compared(&mut self, kind: Kind, name: &str, wrong: Option<Wrong>) {
        self.checked += 1;
        self.differences.extend(wrong.map(|wrong| Difference {
            kind,
            name: name.to_owned(),
            problem: wrong.problem,
            fix: wrong.fix,
        }));
    }
}

impl Report {
    /// The report in one line, for the journal.
    pub fn line(&self) -> String {
        /// How many differences are named.
        const NAMED: usize = 5;
        let drop_ins = match self.drop_ins.len() {
            0 => String::new(),
            count => format!(" (drop-ins of others: {count})"),
        };
        if self.as_installed {
            return format!(
                "all {} things are as they were installed{drop_ins}",
                self.checked
            );
        }
        let named = self.differences.iter().take(NAMED);
        let named: Vec<String> = named
            .map(|one| format!("{} {}: {}", one.kind.words(), one.name, one.problem))
            .collect();
        let more = match self.differences.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        format!(
            "{} of {} things differ from what was installed{drop_ins}: {}{more}; run `appliance verify`",
            self.differences.len(),
            self.checked,
            named.join("; ")
        )
    }

    /// The commands against the differences, each once.
    pub fn fixes(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let fixes = self.differences.iter().map(|one| one.fix.as_str());
        fixes.filter(|fix| seen.insert(*fix)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A root that vanishes after the test.
    pub fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    /// What `compare` finds on a node that runs pods, and whose programs answer as `runner` does.
    pub fn with_node(
        root: &Root,
        runner: &dyn Runner,
        compare: impl Fn(&Node<'_>, &mut Found),
    ) -> Found {
        let state: State = serde_json::from_value(serde_json::json!({
            "appliance": "1", "bundle": "b", "kubernetes": "v1.9.0", "digest": "d", "demonstration": false,
            "role": "single", "profile": "simple", "node": "n", "address": "192.0.2.1",
        }))
        .unwrap();
        let node = Node {
            root,
            runner,
            state: &state,
            shape: state.shape().unwrap(),
            record: Written::default(),
        };
        let mut found = Found::default();
        compare(&node, &mut found);
        found
    }

    #[test]
    fn the_journal_gets_one_line_with_the_first_differences() {
        let mut found = Found::default();
        for number in 0..7 {
            found.compared(
                Kind::File,
                &format!("/etc/{number}"),
                Some(Wrong::installable("missing")),
            );
        }
        let report = Report {
            as_installed: false,
            checked: found.checked,
            differences: found.differences,
            drop_ins: Vec::new(),
        };
        let line = report.line();
        assert!(!line.contains('\n'));
        assert!(
            line.starts_with("7 of 7 things differ from what was installed: file /etc/0: missing;"),
            "{line}"
        );
        assert!(line.contains("file /etc/4: missing; and 2 more;"), "{line}");
        assert_eq!(report.fixes(), [INSTALL]);
    }
}
