//! The help pages, in the language of this process.

use std::collections::BTreeSet;
use std::env;

use clap::builder::{PossibleValue, Resettable, StyledStr};
use clap::{Arg, Command, CommandFactory};

use super::{Cli, text};
use crate::language::{self, Language, Say, message, translated};
use crate::nodespec::reference;
use crate::topics::breaks;

/// The longest lines of a page.
const WIDEST: usize = 80;
/// How far clap indents the description of an option below its name.
const INDENT: usize = 10;
/// The parts of a page that clap writes in English only.
pub(super) const USAGE: &str = message!("Usage:");
const COMMANDS: &str = message!("Commands");
const ARGUMENTS: &str = message!("Arguments");
const OPTIONS: &str = message!("Options");
const DEFAULT: &str = message!("[default: {value}]");
const VARIABLE: &str = message!("[environment variable: {name}]");
pub(super) const VALUES: &str = message!("[possible values: {values}]");
const MEANING: &str = message!("{value}: {meaning}");
const BETWEEN: &str = message!("; ");

/// The command line of the program, with pages in the language of this process.
pub fn command() -> Command {
    let mut command = Cli::command();
    let language = language::spoken();
    if language == Language::English {
        return command;
    }
    // Each command gets its option `--help`.
    command.build();
    let say: Say = &mut translated;
    let command = command
        .after_help(text::topics(language, say))
        .after_long_help(text::root(language, say))
        .mut_subcommand("install", |install| {
            install.after_long_help(text::install(say))
        });
    told(command, &mut translated)
}

/// Every text of the pages that has a translation, in English.
pub fn texts() -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    let mut note = |text: &str| {
        texts.insert(text.to_owned());
        text.to_owned()
    };
    text::root(Language::English, &mut note);
    text::install(&mut note);
    reference::example(&mut note);
    let mut command = Cli::command();
    command.build();
    let command = command
        .after_long_help(Resettable::Reset)
        .mut_subcommand("install", |install| {
            install.after_long_help(Resettable::Reset)
        });
    told(command, &mut note);
    texts
}

/// The command with translated texts. Those that are translated already stay.
fn told(mut command: Command, say: Say) -> Command {
    let usage = say(USAGE);
    command = command
        .help_template(format!(
            "{{before-help}}{{about-with-newline}}\n{usage} {{usage}}\n\n{{all-args}}{{after-help}}"
        ))
        .subcommand_help_heading(say(COMMANDS));
    if let Some(about) = plain(command.get_about()) {
        command = command.about(say(&about));
    }
    if let Some(about) = plain(command.get_long_about()) {
        command = command.long_about(filled(&say(&about), width()));
    }
    if let Some(end) = plain(command.get_after_long_help()) {
        command = command.after_long_help(say(&end));
    }
    command
        .mut_args(|argument| argument_told(argument, say))
        .mut_subcommands(|below| told(below, say))
}

fn argument_told(argument: Arg, say: Say) -> Arg {
    let heading = match argument.is_positional() {
        true => say(ARGUMENTS),
        false => say(OPTIONS),
    };
    let short = plain(argument.get_help());
    let long = plain(argument.get_long_help());
    let values = values(&argument, say);
    let mut described = |text: String, separator: &str| {
        let all = [vec![say(&text)], values.clone()].concat();
        StyledStr::from(filled(&all.join(separator), width().saturating_sub(INDENT)))
    };
    let short = short.map(|text| described(text, " "));
    let long = long.map(|text| described(text, "\n\n"));
    argument
        .help_heading(heading)
        .next_line_help(true)
        .hide_env(true)
        .hide_default_value(true)
        .hide_possible_values(true)
        .help(Resettable::from(short))
        .long_help(Resettable::from(long))
}

/// A text without styles, if there is one.
fn plain(text: Option<&StyledStr>) -> Option<String> {
    let text = text?.to_string();
    (!text.is_empty()).then_some(text)
}

/// The variable, the default and the possible values of an option, as clap would write them.
fn values(argument: &Arg, say: Say) -> Vec<String> {
    if !argument.get_action().takes_values() {
        return Vec::new();
    }
    let mut values = Vec::new();
    if let Some(name) = argument.get_env() {
        values.push(say(VARIABLE).replace("{name}", &name.to_string_lossy()));
    }
    if !argument.is_hide_default_value_set() && !argument.get_default_values().is_empty() {
        let defaults = argument.get_default_values().iter();
        let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
        values.push(say(DEFAULT).replace("{value}", &defaults.join(" ")));
    }
    let possible = argument.get_possible_values();
    if !argument.is_hide_possible_values_set() && !possible.is_empty() {
        let possible: Vec<String> = possible.iter().map(|value| meaning(value, say)).collect();
        values.push(say(VALUES).replace("{values}", &possible.join(&say(BETWEEN))));
    }
    values
}

/// A possible value with its meaning, if it has one.
fn meaning(value: &PossibleValue, say: Say) -> String {
    let name = value.get_name();
    match value.get_help() {
        Some(help) => {
            let meaning = say(&help.to_string());
            let named = say(MEANING).replace("{value}", name);
            named.replace("{meaning}", &meaning)
        }
        None => name.to_owned(),
    }
}

/// How wide pages are: as the terminal, or as `COLUMNS` says. clap does the same.
fn width() -> usize {
    let columns = env::var("COLUMNS").ok();
    let columns = columns.and_then(|columns| columns.parse().ok());
    columns.unwrap_or_else(textwrap::termwidth).min(WIDEST)
}

/// The text with lines of so many columns. The further lines of a list's entry are indented as the first one.
fn filled(text: &str, width: usize) -> String {
    let lines = text.lines().map(|line| {
        let blanks = line.len() - line.trim_start().len();
        let options = breaks::options(width).subsequent_indent(&line[..blanks]);
        textwrap::fill(line, options.break_words(false))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_text_of_a_page_is_translated() {
        let mut command = Cli::command();
        command.build();
        let mut command = told(command, &mut |text| format!("<{}>", text.len()));
        let install = command.find_subcommand_mut("install").unwrap();
        let page = install.render_long_help().to_string();
        let page = page.split("Examples:").next().unwrap();
        let lines = page.lines().map(str::trim_start);
        let left = lines.filter(|line| !line.starts_with(['-', '<']) && !line.is_empty());
        assert_eq!(left.collect::<Vec<_>>(), [""; 0]);
    }
}
