//! Why a command failed, as an exit code and as a document.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::causes::{causes, safe};
use crate::nodespec::Refused;
use crate::sys::lock::Busy;

/// There is no node on this machine.
#[derive(Debug)]
pub struct NotInstalled(pub String);

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotInstalled {}

/// The document of a command that failed. It is on standard output, alone.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Failure {
    /// What happened.
    pub error: Problem,
}

/// The kind of a failure. Each has an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Something failed (1).
    Failed,
    /// The command line, the input or the machine is not as it must be (2). Nothing was changed.
    Refused,
    /// This machine is not a node (4).
    NotInstalled,
    /// Another run is changing this machine (5). Nothing was changed.
    Busy,
}

/// What happened, and what to do.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Its kind.
    pub kind: Kind,
    /// The whole message.
    pub message: String,
    /// Each problem by itself, if there are several.
    pub problems: Vec<String>,
    /// What the message advises; empty if it advises nothing.
    pub next_steps: Vec<String>,
    /// The exit code of the program.
    pub exit_code: u8,
}

impl Kind {
    /// The kind of this error.
    pub fn of(error: &anyhow::Error) -> Kind {
        if error.is::<Refused>() {
            Kind::Refused
        } else if error.is::<NotInstalled>() {
            Kind::NotInstalled
        } else if error.is::<Busy>() {
            Kind::Busy
        } else {
            Kind::Failed
        }
    }

    /// Its exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Refused => 2,
            Kind::NotInstalled => 4,
            Kind::Busy => 5,
        }
    }
}

impl Problem {
    /// The problem that this error tells of.
    pub fn of(error: &anyhow::Error) -> Problem {
        let problems: Vec<String> = match error.downcast_ref::<Refused>() {
            Some(refused) => refused.problems.iter().map(|one| safe(one)).collect(),
            None => vec![causes(error)],
        };
        Problem::new(Kind::of(error), causes(error), problems)
    }

    /// A problem in the command line.
    pub fn of_command_line(message: String) -> Problem {
        Problem::new(Kind::Refused, message.clone(), vec![message])
    }

    fn new(kind: Kind, message: String, problems: Vec<String>) -> Problem {
        let next_steps = problems.iter().filter_map(|one| advice(one)).collect();
        Problem {
            kind,
            message,
            problems,
            next_steps,
            exit_code: kind.exit_code(),
        }
    }
}

/// The first word of an advice.
const VERBS: [&str; 32] = [
    "add", "ask", "change", "check", "choose", "compare", "copy", "correct", "create", "delete",
    "edit", "enlarge", "free", "give", "install", "look", "make", "move", "name", "override",
    "pack", "put", "remove", "rename", "run", "see", "set", "stop", "to", "use", "wait", "write",
];

fn is_advice(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    VERBS.contains(&first)
}

/// What a message advises. Messages say first what is wrong, then, after a semicolon or in parentheses at the end,
/// what to do.
fn advice(message: &str) -> Option<String> {
    let inside = message
        .strip_suffix(')')
        .and_then(|rest| rest.split_once(" ("));
    if let Some((_, inside)) = inside.filter(|(_, inside)| is_advice(inside)) {
        return Some(inside.to_owned());
    }
    let mut parts = message
        .split("; ")
        .skip(1)
        .skip_while(|part| !is_advice(part));
    let first = parts.next()?.to_owned();
    Some(parts.fold(first, |all, part| format!("{all}; {part}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_of_a_message_is_what_follows_the_problem() {
        let of = |message: &str| advice(message).unwrap_or_default();
        assert_eq!(of("x is missing; run `a`"), "run `a`");
        assert_eq!(
            of("no role; looked at a; b; add `--role master`, or run `c`"),
            "add `--role master`, or run `c`"
        );
        assert_eq!(
            of("busy; wait until it ends; or look"),
            "wait until it ends; or look"
        );
        assert_eq!(
            of("x is y: expected z (override it with `a`; or b)"),
            "override it with `a`; or b"
        );
        assert_eq!(of("there is no such file"), "");
    }

    #[test]
    fn each_kind_has_its_exit_code() {
        let of = |error: anyhow::Error| Problem::of(&error.context("outside"));
        let refused = Refused {
            problems: vec!["a; use b".to_owned(), "c".to_owned()],
        };
        let problem = of(refused.into());
        assert_eq!((problem.kind, problem.exit_code), (Kind::Refused, 2));
        assert_eq!(problem.problems, ["a; use b", "c"]);
        assert_eq!(problem.next_steps, ["use b"]);
        let problem = of(NotInstalled("no node".to_owned()).into());
        assert_eq!((problem.kind, problem.exit_code), (Kind::NotInstalled, 4));
        let problem = of(anyhow::anyhow!("x"));
        assert_eq!((problem.kind, problem.exit_code), (Kind::Failed, 1));
        assert_eq!(problem.message, "outside: x");
    }
}
