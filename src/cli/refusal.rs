//! What is wrong with a command line, in the language of this process. clap has English sentences only.

use std::error::Error;
use std::num::ParseIntError;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::pages::{USAGE, VALUES};
use crate::language::{self, Language, tr, translated};

/// The error with its text in the language of this process. `command` says how it is coloured.
pub fn told(error: clap::Error, command: &clap::Command) -> clap::Error {
    if language::spoken() == Language::English {
        return error;
    }
    match sentence(&error) {
        Some(sentence) => {
            let text = [vec![sentence], hints(&error)].concat().join("\n\n");
            clap::Error::raw(error.kind(), text).with_cmd(command)
        }
        None => error,
    }
}

/// The text of that kind in the error.
fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

/// The texts of that kind in the error.
fn texts(error: &clap::Error, kind: ContextKind) -> Vec<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text],
        Some(ContextValue::Strings(texts)) => texts.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The problem. `None` if it is of a kind that this program's commands do not have.
fn sentence(error: &clap::Error) -> Option<String> {
    let argument = texts(error, ContextKind::InvalidArg).join(" ");
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    Some(match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => {
            tr!(
                "a value is required for '{argument}' but none was supplied",
                argument
            )
        }
        ErrorKind::InvalidValue => {
            let possible = texts(error, ContextKind::ValidValue).join(", ");
            let values = translated(VALUES).replace("{values}", &possible);
            let problem = tr!("invalid value '{value}' for '{argument}'", value, argument);
            format!("{problem}\n  {values}")
        }
        ErrorKind::ValueValidation => tr!(
            "invalid value '{value}' for '{argument}': {why}",
            value,
            argument,
            why = why(error)?
        ),
        ErrorKind::TooManyValues => tr!(
            "unexpected value '{value}' for '{argument}' found; no more were expected",
            value,
            argument
        ),
        ErrorKind::NoEquals => {
            tr!(
                "equal sign is needed when assigning values to '{argument}'",
                argument
            )
        }
        ErrorKind::UnknownArgument => tr!("unexpected argument '{argument}' found", argument),
        ErrorKind::InvalidSubcommand => tr!(
            "unrecognized subcommand '{command}'",
            command = text(error, ContextKind::InvalidSubcommand)?
        ),
        ErrorKind::MissingRequiredArgument => {
            tr!(
                "the following required arguments were not provided: {argument}",
                argument
            )
        }
        ErrorKind::InvalidUtf8 => tr!("invalid UTF-8 was detected in one or more arguments"),
        ErrorKind::ArgumentConflict => conflict(error, &argument),
        _ => return None,
    })
}

/// Which arguments exclude each other.
fn conflict(error: &clap::Error, argument: &str) -> String {
    let others = texts(error, ContextKind::PriorArg).join(" ");
    match others == argument || others.is_empty() {
        true => tr!(
            "the argument '{argument}' cannot be used multiple times",
            argument
        ),
        false => tr!(
            "the argument '{argument}' cannot be used with '{others}'",
            argument,
            others
        ),
    }
}

/// What the argument's parser said.
fn why(error: &clap::Error) -> Option<String> {
    let source = error.source()?;
    let said = source.to_string();
    Some(match said.split_once(" is not in ") {
        _ if source.is::<ParseIntError>() => tr!("expected a whole number"),
        Some((_, range)) => tr!("expected a number in {range}", range),
        None => said,
    })
}

/// What helps: a similar name, how the command is used, and where to read more.
fn hints(error: &clap::Error) -> Vec<String> {
    let similar = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ];
    let similar = similar.into_iter().flat_map(|kind| texts(error, kind));
    let similar: Vec<String> = similar.map(|name| format!("'{name}'")).collect();
    let mut hints = Vec::new();
    if !similar.is_empty() {
        hints.push(tr!("  there is: {names}", names = similar.join(", ")));
    }
    if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
        hints.push(usage.to_string().replacen(USAGE, &translated(USAGE), 1));
    }
    hints.push(tr!("For more information, try '--help'.") + "\n");
    hints
}
