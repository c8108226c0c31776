//! The language of messages. They are English in the code, inside of `tr!`; their translations are in
//! `docs/zh-CN/messages.po`, by the English text. Pure.
//!
//! A process speaks one language. Documents, the journal and the status page are always English.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use rspolib::{POFile, pofile};
use rust_embed::RustEmbed;

/// The catalogue of messages, beside the translated pages.
#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/docs/zh-CN"]
#[include = "*.po"]
struct Catalogues;

/// A message, in the language of this process: `tr!("{name} is gone", name)`, `tr!("1 node" | "{n} nodes" % count)`.
/// The arguments are those of the crate `tr`. Its own macro takes the translator's lock at each place, which made the program
/// half a megabyte larger.
macro_rules! tr {
    ($one:literal | $many:literal % $number:expr $(, $($argument:tt)*)?) => {{
        let n = $number;
        ::tr::runtime_format!(
            $crate::language::counted(n as u64, $one, $many),
            $($($argument)*,)? n = n
        )
    }};
    ($text:literal $(, $($argument:tt)*)?) => {
        ::tr::runtime_format!($crate::language::translated($text) $(, $($argument)*)?)
    };
}
pub(crate) use tr;

/// Marks a text that is translated later, by [`translated`]: one in a table, or one that a document needs in English, too.
macro_rules! message {
    ($text:literal) => {
        $text
    };
}
pub(crate) use message;

/// Whether the character shows nothing itself, and may change what the text beside it looks like: control characters, and
/// what Unicode has for the direction and the joining of letters (UAX #9). Text of others must not be shown with them: a
/// line could look like another one.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        )
}

/// A language of the pages and of the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English, in which everything is written first.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

impl Language {
    /// The language that a user's environment asks for, as other programs understand it: the first of `LC_ALL`,
    /// `LC_MESSAGES` and `LANG` that is set and not empty.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Language {
        let names = ["LC_ALL", "LC_MESSAGES", "LANG"];
        let mut values = names.into_iter().filter_map(variable);
        let locale = values.find(|value| !value.is_empty());
        Language::of_locale(&locale.unwrap_or_default())
    }

    /// The language for a locale such as `zh_CN.UTF-8`: Chinese if the locale is of a country that
    /// writes Simplified Chinese, and its characters are UTF-8, as those of the texts are.
    fn of_locale(locale: &str) -> Language {
        let locale = locale.split('@').next().unwrap_or_default();
        let (name, characters) = locale.split_once('.').unwrap_or_default();
        let is_utf8 = ["utf-8", "utf8"].contains(&characters.to_ascii_lowercase().as_str());
        if is_utf8 && ["zh", "zh_CN", "zh_SG"].contains(&name) {
            Language::Chinese
        } else {
            Language::English
        }
    }
}

/// The catalogue of a language; `None` for English.
pub fn catalogue(language: Language) -> Option<POFile> {
    let name = match language {
        Language::English => return None,
        Language::Chinese => "messages.po",
    };
    let file = Catalogues::get(name)?;
    // A test reads it, so it can be read.
    pofile(str::from_utf8(&file.data).ok()?).ok()
}

/// Translations by the English text. Chinese has one form for all numbers.
type Translations = HashMap<String, String>;

/// What this process speaks instead of English.
static SPOKEN: RwLock<Option<Translations>> = RwLock::new(None);

fn translations(catalogue: POFile) -> Translations {
    let entries = catalogue.entries.into_iter();
    let pairs = entries.filter_map(|entry| {
        let plural = entry.msgstr_plural.into_iter().next();
        Some((entry.msgid, plural.or(entry.msgstr)?))
    });
    pairs.collect()
}

/// From now on, messages of this process are in this language.
pub fn speak(language: Language) {
    let mut spoken = SPOKEN.write().unwrap_or_else(PoisonError::into_inner);
    *spoken = catalogue(language).map(translations);
}

/// The language of this process.
pub fn spoken() -> Language {
    let spoken = SPOKEN.read().unwrap_or_else(PoisonError::into_inner);
    match *spoken {
        Some(_) => Language::Chinese,
        None => Language::English,
    }
}

/// Gives the translation of a text.
pub type Say<'a> = &'a mut dyn FnMut(&str) -> String;

/// This text in the language of this process. It stands in a `tr!`, or it was marked with `message!`.
pub fn translated(text: &str) -> String {
    translation(text).unwrap_or_else(|| text.to_owned())
}

/// The text for this number, in the language of this process.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    let english = if number == 1 { one } else { many };
    translation(one).unwrap_or_else(|| english.to_owned())
}

fn translation(text: &str) -> Option<String> {
    let spoken = SPOKEN.read().unwrap_or_else(PoisonError::into_inner);
    spoken.as_ref()?.get(text).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_follows_the_locale() {
        for (locale, language) in [
            ("zh_CN.UTF-8", Language::Chinese),
            ("zh_SG.utf8", Language::Chinese),
            ("zh_CN.UTF-8@pinyin", Language::Chinese),
            ("zh_CN.GB18030", Language::English),
            ("zh_CN", Language::English),
            ("zh_TW.UTF-8", Language::English),
            ("C.UTF-8", Language::English),
            ("", Language::English),
        ] {
            assert_eq!(Language::of_locale(locale), language, "{locale}");
        }
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let of = |set: &[(&str, &str)]| {
            Language::of_environment(|name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let chinese = ("LANG", "zh_CN.UTF-8");
        assert_eq!(of(&[chinese]), Language::Chinese);
        assert_eq!(of(&[chinese, ("LC_ALL", "")]), Language::Chinese);
        assert_eq!(of(&[chinese, ("LC_ALL", "C")]), Language::English);
        assert_eq!(of(&[]), Language::English);
    }
}
