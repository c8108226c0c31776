//! `appliance help`: commands and topics of the documentation.

use std::env;
use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command as Program, Stdio};

use anyhow::{Result, bail};
use clap::Command;
use clap::builder::StyledStr;

use super::{Outcome, print};
use crate::cli::{self, Output};
use crate::language::{self, Language, tr};
use crate::nodespec::Refused;
use crate::sys::terminal::is_styled;
use crate::sys::{out, scratch};
use crate::topics::terminal::{Form, render};
use crate::topics::{self, Topic};

/// The longest lines that are easy to read.
const WIDEST: usize = 100;
/// The default width.
const USUAL: usize = 80;
/// How similar a name must be to be suggested.
const ALIKE: f64 = 0.7;

/// Shows all commands and topics, one topic, or the help of a command.
pub fn run(names: &[String], output: Output) -> Result<Outcome> {
    let topic = match names {
        [name] => topics::find(name, language::spoken()),
        _ => None,
    };
    match topic {
        Some(topic) if output == Output::Json => print::text(&topic.text, output)?,
        Some(topic) => show(&topic),
        None if output == Output::Json => print::text(&page(names)?.to_string(), output)?,
        None => out::text(&styled_or_plain(&page(names)?)),
    }
    Ok(Outcome::Done)
}

/// The help page of the command of these words.
fn page(names: &[String]) -> Result<StyledStr> {
    let mut root = cli::command();
    root.build();
    let mut command = &root;
    for (number, name) in names.iter().enumerate() {
        command = match command.find_subcommand(name) {
            Some(found) => found,
            None => bail!(unknown(command, &names[..number], name)),
        };
    }
    Ok(command.clone().render_long_help())
}

/// The error for a name that is neither a topic nor a command.
fn unknown(command: &Command, above: &[String], name: &str) -> Refused {
    let problem = if above.is_empty() && cli::removes(name) {
        cli::REMOVES.to_owned()
    } else {
        let commands = command.get_subcommands().map(|c| c.get_name().to_owned());
        let mut known: Vec<String> = commands.collect();
        let what = if above.is_empty() {
            known.extend(
                topics::all(Language::English)
                    .into_iter()
                    .map(|topic| topic.name),
            );
            tr!("there is no command or topic `{name}`", name)
        } else {
            tr!("`{}` has no command `{name}`", command.get_name(), name)
        };
        let before: String = above.iter().map(|name| format!("{name} ")).collect();
        match nearest(name, &known) {
            Some(nearest) => tr!(
                "{what}; did you mean `appliance help {before}{nearest}`?",
                what,
                before,
                nearest
            ),
            None => tr!(
                "{what}; `{}` lists all",
                format!("appliance help {before}").trim_end(),
                what
            ),
        }
    };
    Refused::new(problem)
}

fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let likeness = |known: &String| strsim::jaro_winkler(name, known);
    let nearest = known
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(nearest) >= ALIKE).then_some(nearest)
}

fn styled_or_plain(page: &StyledStr) -> String {
    if is_styled(&io::stdout()) {
        page.ansi().to_string()
    } else {
        page.to_string()
    }
}

fn show(topic: &Topic) {
    let is_terminal = io::stdout().is_terminal();
    let form = Form {
        width: if is_terminal {
            textwrap::termwidth().min(WIDEST)
        } else {
            USUAL
        },
        styled: is_styled(&io::stdout()),
    };
    let mut text = render(&topic.text, form);
    let name = &topic.name;
    if cli::command().find_subcommand(name).is_some() {
        text += &tr!(
            "\nFor the command of the same name: appliance {name} --help\n",
            name
        );
    }
    if is_terminal && let Some(pager) = pager() {
        page_through(&text, &pager);
    }
    out::text(&text);
}

/// The user's pager, if it is installed. Like git, `less` ends by itself if the text fits on the
/// screen.
fn pager() -> Option<String> {
    let pager = env::var("PAGER").unwrap_or_else(|_| "less -R".to_owned());
    let program = pager.split_whitespace().next()?;
    let is_there = if program.contains('/') {
        Path::new(program).is_file()
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|dir| dir.join(program).is_file())
    };
    is_there.then_some(pager)
}

/// Replaces this process by the pager, so that the pager alone controls the terminal and its
/// signals. Returns only if that fails.
fn page_through(text: &str, pager: &str) {
    let Ok(input) = scratch::unnamed(text.as_bytes()) else {
        return;
    };
    let mut program = Program::new("sh");
    program.args(["-c", pager]).stdin(Stdio::from(input));
    if env::var_os("LESS").is_none() {
        program.env("LESS", "FRX");
    }
    let error = program.exec();
    log::debug!("cannot start the pager {pager}: {error}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said(names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        page(&names).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_name_leads_to_the_nearest() {
        assert!(said(&["jion"]).contains("did you mean `appliance help join`?"));
        assert!(said(&["chekcs"]).contains("did you mean `appliance help checks`?"));
        let text = said(&["token", "creat"]);
        assert!(
            text.contains("did you mean `appliance help token create`?"),
            "{text}"
        );
        assert!(said(&["zzz"]).contains("`appliance help` lists all"));
        let text = said(&["uninstall"]);
        assert!(
            text.contains("appliance reset --dry-run") && !text.contains("`install`"),
            "{text}"
        );
    }
}
