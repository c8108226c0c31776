//! Parses the command line, and answers commands that do not exist.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ColorChoice, FromArgMatches};

use super::{Cli, pages, refusal};
use crate::sys::terminal::is_styled;

/// Commands that users of other programs know. The nearest name of a command of this program is the
/// opposite of what they want.
const REMOVERS: [&str; 7] = [
    "uninstall",
    "remove",
    "delete",
    "destroy",
    "purge",
    "clean",
    "deinstall",
];

/// The answer to them.
pub const REMOVES: &str = "\
`appliance reset` makes a node an ordinary machine again. `appliance reset --dry-run` shows what it removes.
If you delete the VM instead, run this on a master afterwards:
  kubectl delete node NAME && appliance node release NAME";

/// Whether the word is a command that would remove a node.
pub fn removes(word: &str) -> bool {
    REMOVERS.contains(&word)
}

/// The command of these words; the first word is the program's name.
///
/// # Errors What to show instead, which may be the help that the user asked for.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    let matches = coloured().try_get_matches_from(&words);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = cli.map_err(|error| explained(error, &words))?;
    match cli.output.place() {
        Some(place) if !cli.command.writes() => Err(no_format(place)),
        _ => Ok(cli),
    }
}

/// The commands, with colours only where they are wanted.
fn coloured() -> clap::Command {
    let is_styled = is_styled(&io::stdout()) || is_styled(&io::stderr());
    pages::command().color(match is_styled {
        true => ColorChoice::Auto,
        false => ColorChoice::Never,
    })
}

fn explained(error: clap::Error, words: &[OsString]) -> clap::Error {
    let unknown = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => word.as_str(),
        _ => return refusal::told(error, &coloured()),
    };
    // For example, `delete` is a part of another command: `appliance token delete`.
    let mut names = words.iter().skip(1).filter_map(|word| word.to_str());
    let first = names.find(|word| !word.starts_with('-'));
    if first == Some(unknown) && removes(unknown) {
        clap::Error::raw(ErrorKind::InvalidSubcommand, format!("{REMOVES}\n"))
    } else {
        refusal::told(error, &coloured())
    }
}

/// The error for a format that does not exist.
fn no_format(place: &Path) -> clap::Error {
    let formats = ["text", "json"].map(str::to_owned);
    let command = coloured();
    let mut error = clap::Error::new(ErrorKind::InvalidValue).with_cmd(&command);
    for (kind, value) in [
        (ContextKind::InvalidArg, "--output <FORMAT>".to_owned()),
        (ContextKind::InvalidValue, place.display().to_string()),
    ] {
        error.insert(kind, ContextValue::String(value));
    }
    error.insert(
        ContextKind::ValidValue,
        ContextValue::Strings(formats.into()),
    );
    refusal::told(error, &command)
}

/// Whether these words of a command line ask for JSON. The whole need not be valid.
pub fn wants_json(words: impl IntoIterator<Item = OsString>) -> bool {
    let words: Vec<OsString> = words.into_iter().collect();
    // What follows the option in its word: `-vo json`, `-ojson`, `--output=json`.
    let value = |word: &OsString| {
        let word = word.to_str()?;
        let short = || {
            let (others, value) = word.strip_prefix('-')?.split_once('o')?;
            others.chars().all(char::is_alphabetic).then_some(value)
        };
        let value = word.strip_prefix("--output").or_else(short)?;
        Some(value.strip_prefix('=').unwrap_or(value).to_owned())
    };
    let is_option = |word: &OsString| value(word).is_some_and(|value| value.is_empty());
    let is_both = |word: &OsString| value(word).is_some_and(|value| value == "json");
    words.iter().any(is_both)
        || words
            .windows(2)
            .any(|pair| is_option(&pair[0]) && pair[1] == "json")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refusal(words: &str) -> String {
        let words = ["appliance"].into_iter().chain(words.split(' '));
        let error = parse(words.map(OsString::from)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.render().to_string()
    }

    #[test]
    fn who_wants_to_remove_a_node_is_never_led_to_install() {
        for word in REMOVERS {
            let said = refusal(word);
            assert!(said.contains("appliance reset --dry-run"), "{said}");
            assert!(!said.contains("install"), "{said}");
        }
        assert!(refusal("-v uninstall").contains("appliance reset --dry-run"));
        assert!(refusal("instal").contains("'install'"));
        let said = refusal("token delete abcdef");
        assert!(!said.contains("appliance reset --dry-run"), "{said}");
    }

    #[test]
    fn a_format_is_known_before_the_line_is_understood() {
        let of = |words: &str| wants_json(words.split(' ').map(OsString::from));
        for words in [
            "appliance status -o json",
            "appliance --output json nonsense",
            "appliance status --output=json --nonsense",
            "appliance status -vojson",
            "appliance status -vo json",
            "appliance status -vo=json",
        ] {
            assert!(of(words), "{words}");
        }
        assert!(!of("appliance status -o text json"));
        assert!(refusal("status -o yaml").contains("[possible values: text, json]"));
        assert!(refusal("bundle list --output x").contains("[possible values: text, json]"));
    }
}
