//! What others need to help with a node, in one archive without secrets: what is in it is listed here, and everything
//! goes through one [`redact::Redactor`]. Reads the machine and writes nothing.

use std::time::Duration;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Serialize;

use crate::language::message;
use crate::sys::process::Runner;
use crate::sys::progress::escaped;
use crate::sys::root::Root;

mod archive;
mod certificates;
mod files;
mod programs;
pub mod redact;
pub mod secrets;

pub use archive::archive;

/// How long one program may take.
pub const ANSWER: Duration = Duration::from_secs(10);
/// The most of one text, in bytes. Of a longer one, the end counts.
const LONGEST: usize = 2 << 20;
/// The name of the list of all that is inside.
const INDEX: &str = "INDEX.txt";

/// One text of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the archive.
    pub name: String,
    /// The text.
    pub text: String,
}

/// The name of a text, and the text, or why it cannot be had.
pub type Text = (String, Result<String, String>);

/// What is not in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftOut {
    /// What it is.
    pub what: String,
    /// Why it is not there.
    pub why: String,
}

/// What was collected: texts without secrets, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The texts, the index first.
    pub entries: Vec<Entry>,
    /// What was left out.
    pub left_out: Vec<LeftOut>,
}

/// What is never in the archive, and why.
const NEVER: &[(&str, &str)] = &[
    (
        message!("private keys, tokens, kubeconfigs and the key that encrypts secrets"),
        message!("they are secrets"),
    ),
    (
        message!("Secrets and ConfigMaps of the cluster, and environments of containers"),
        message!("they may hold secrets"),
    ),
    (
        message!("user-data and metadata of the server, and cloud-init's log"),
        message!("user-data holds the join token"),
    ),
    (
        message!("the audit log of the API server"),
        message!("it names what users do"),
    ),
];

/// Reads everything on the list. `own` are documents of this program, each already made, or why it could not be.
/// Programs are run by `runner`, which should have a limit of time for each of them.
///
/// # Errors
/// If secrets cannot be looked for. What cannot be read is left out.
pub fn collect(root: &Root, runner: &(dyn Runner + Sync), own: Vec<Text>) -> Result<Collected> {
    let (mut values, doubts) = secrets::known(root);
    let mut all = Collected::default();
    for (what, why) in NEVER {
        all.leave_out(what, why);
    }
    let texts = own
        .into_iter()
        .chain(files::read(root, &doubts))
        .chain([("certificates.txt".to_owned(), Ok(certificates::text(root)))])
        .chain(programs::run(root, runner));
    let texts: Vec<Text> = texts.collect();
    for (_, text) in &texts {
        values.extend(text.iter().flat_map(|text| redact::learned(text)));
    }
    let redactor = redact::Redactor::new(&values)?;
    // Names of files may hold secrets, and anything else.
    let shown = |text: &str| redactor.redacted(&escaped(text)).trim_end().to_owned();
    for (name, text) in texts {
        match text {
            Ok(text) => all.entries.push(Entry {
                name: shown(&name),
                text: redactor.redacted(&bounded(&text)),
            }),
            Err(why) => all.leave_out(&shown(&name), &shown(&why)),
        }
    }
    for (path, why) in doubts {
        all.leave_out(&shown(&path), &shown(&why));
    }
    let index = all.index();
    all.entries.insert(0, index);
    Ok(all)
}

/// The end of a text, from the start of a line on.
fn bounded(text: &str) -> String {
    let Some(mut from) = text.len().checked_sub(LONGEST) else {
        return text.to_owned();
    };
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let end = &text[from..];
    let (_, end) = end.split_once('\n').unwrap_or(("", end));
    format!(
        "(the first {} bytes are left out)\n{end}",
        text.len() - end.len()
    )
}

impl Collected {
    fn leave_out(&mut self, what: &str, why: &str) {
        self.left_out.push(LeftOut {
            what: what.to_owned(),
            why: why.to_owned(),
        });
    }

    /// The list of all that is inside, and of what was left out.
    fn index(&self) -> Entry {
        let inside = self.entries.iter();
        let inside: Vec<String> = inside
            .map(|one| format!("{:>9}  {}", one.text.len(), one.name))
            .collect();
        let left_out = self.left_out.iter();
        let left_out: Vec<String> = left_out
            .map(|one| format!("{}: {}", one.what, one.why))
            .collect();
        Entry {
            name: INDEX.to_owned(),
            text: format!(
                "Made by `appliance support-bundle` {}.\nSecrets were replaced by {}.\n\nInside, with sizes in bytes:\n{}\n\nLeft out:\n{}\n",
                env!("CARGO_PKG_VERSION"),
                redact::REPLACED,
                inside.join("\n"),
                left_out.join("\n")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_end_of_a_long_text_counts() {
        let line = "ä".repeat(50);
        let text: String = (0..40_000).map(|n| format!("{n} {line}\n")).collect();
        let cut = bounded(&text);
        assert!(cut.len() <= LONGEST + 60 && cut.starts_with("(the first "));
        assert!(cut.ends_with(&format!("39999 {line}\n")));
        let second = cut.lines().nth(1).unwrap();
        assert!(second.ends_with(&line) && text.contains(&format!("\n{second}\n")));
        assert_eq!(bounded("a\nb"), "a\nb");
    }
}
