//! From words to a command, and the answer to commands that do not exist.

use std::ffi::OsString;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;

/// Commands that users of other programs know. The nearest name of a command of this program is the
/// opposite of what they want.
const REMOVERS: [&str; 8] = [
    "uninstall",
    "reset",
    "remove",
    "delete",
    "destroy",
    "purge",
    "clean",
    "deinstall",
];

/// The answer to them.
pub const NOT_YET: &str = "\
appliance cannot remove a node yet. Delete its VM instead. Then run on a master:
  kubectl delete node NAME && appliance node release NAME";

/// Whether the word is a command that would remove a node.
pub fn removes(word: &str) -> bool {
    REMOVERS.contains(&word)
}

/// The command that these words stand for, the program's name first.
///
/// # Errors
/// What to show instead, which may be the help that was asked for.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    Cli::try_parse_from(&words).map_err(|error| {
        let unknown = match error.get(ContextKind::InvalidSubcommand) {
            Some(ContextValue::String(word)) => word.as_str(),
            _ => return error,
        };
        // Another may be a part of a command: `appliance token delete`.
        let mut names = words.iter().skip(1).filter_map(|word| word.to_str());
        let first = names.find(|word| !word.starts_with('-'));
        if first == Some(unknown) && removes(unknown) {
            clap::Error::raw(ErrorKind::InvalidSubcommand, format!("{NOT_YET}\n"))
        } else {
            error
        }
    })
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
            assert!(said.contains("cannot remove a node yet"), "{said}");
            assert!(!said.contains("install"), "{said}");
        }
        assert!(refusal("-v uninstall").contains("cannot remove a node yet"));
        assert!(refusal("instal").contains("'install'"));
        let said = refusal("token delete abcdef");
        assert!(!said.contains("cannot remove a node yet"), "{said}");
    }
}
