//! `daemon.json` as dockerd reads it.

use core::fmt;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::language::tr;

/// From this version on, dockerd accepts a byte order mark and an empty file, and refuses text after the value.
const STRICT: u32 = 23;
/// The mark with which some editors begin a file of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The content of a `daemon.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// The value of each key; the last one if a key is there twice.
    pub values: BTreeMap<String, Value>,
    /// The keys that are there more than once.
    pub doubled: Vec<String>,
}

/// An object with its keys in order, also those that are there twice.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&tr!("an object: `{…}`"))
            }

            fn visit_unit<E>(self) -> Result<Pairs, E> {
                Ok(Pairs(Vec::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

/// Reads the file as dockerd does. `major` is the first number of docker's version, if it is known.
///
/// # Errors
/// Why dockerd refuses it, and where.
pub fn read(bytes: &[u8], major: Option<u32>) -> Result<Content, String> {
    let is_strict = major.is_some_and(|major| major >= STRICT);
    let bytes = match bytes.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) if is_strict => rest,
        Some(_) => {
            return Err(tr!(
                "line 1 begins with a byte order mark, which docker before 23.0 refuses; \
                        remove it: `sed -i '1s/^\\xEF\\xBB\\xBF//' /etc/docker/daemon.json`"
            ));
        }
        None => bytes,
    };
    // Bytes that are not UTF-8 are replaced, as in Go.
    let text = String::from_utf8_lossy(bytes);
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Pairs>();
    let pairs = match values.next() {
        Some(Ok(Pairs(pairs))) => pairs,
        Some(Err(error)) => return Err(complaint(&text, &error)),
        None if is_strict => Vec::new(),
        None => return Err(tr!("it is empty; write `{}` into it, or remove it")),
    };
    let rest = text.get(values.byte_offset()..).unwrap_or_default().trim();
    if is_strict && !rest.is_empty() {
        return Err(tr!("there is text after the end of the object; remove it"));
    }
    let mut content = Content::default();
    for (key, value) in pairs {
        let before = content.values.insert(key.clone(), value);
        content.doubled.extend(before.map(|_| key));
    }
    Ok(content)
}

/// Why the text is not JSON, in words of the person who wrote it.
fn complaint(text: &str, error: &serde_json::Error) -> String {
    let line = error.line();
    let here = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let at = error.column().saturating_sub(1);
    let rest: String = here.chars().skip(at.saturating_sub(1)).take(3).collect();
    let is_comment = ["//", "/*", "#"].iter().any(|mark| rest.contains(mark));
    let why = match () {
        () if is_comment => tr!("a comment: JSON has none; remove it"),
        () if error.to_string().starts_with("trailing comma") => {
            tr!("a comma before a closing bracket; remove the comma")
        }
        () => error.to_string(),
    };
    tr!("line {line}: {why}", line, why)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_object_is_read_and_the_last_of_two_equal_keys_counts() {
        let text = br#"{"debug": true, "bip": "10.1.0.1/24", "bip": "10.2.0.1/24", "dns": null}"#;
        let content = read(text, None).unwrap();
        assert_eq!(content.values["bip"], "10.2.0.1/24");
        assert_eq!(content.doubled, ["bip"]);
        assert!(content.values["dns"].is_null());
        assert_eq!(read(b"null", None).unwrap(), Content::default());
    }

    #[test]
    fn what_is_no_json_is_told_with_its_line() {
        for (text, line, word) in [
            (
                "{\n  // where images are\n  \"debug\": true\n}",
                "line 2",
                "comment",
            ),
            ("{\n  # mirrors\n  \"debug\": true\n}", "line 2", "comment"),
            (
                "{\n  \"debug\": true, /* why */ \"icc\": false}",
                "line 2",
                "comment",
            ),
            ("{\n  \"debug\": true,\n}", "line 3", "comma"),
            ("{\n  \"dns\": [\"192.0.2.1\",]\n}", "line 2", "comma"),
            ("[]", "line 1", "object"),
            ("{\n  \"debug\": true", "line 2", "EOF"),
            ("{'debug': true}", "line 1", "key must be a string"),
            ("\u{feff}{}", "line 1", "byte order mark"),
            ("", "", "empty"),
            (" \n", "", "empty"),
        ] {
            let error = read(text.as_bytes(), None).unwrap_err();
            assert!(
                error.contains(line) && error.contains(word),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn newer_versions_accept_a_mark_and_an_empty_file_and_refuse_text_at_the_end() {
        for (text, old, new) in [
            ("\u{feff}{}", false, true),
            ("", false, true),
            ("{} }", true, false),
            ("{}\n", true, true),
        ] {
            assert_eq!(read(text.as_bytes(), Some(20)).is_ok(), old, "{text:?}");
            assert_eq!(read(text.as_bytes(), Some(24)).is_ok(), new, "{text:?}");
        }
    }
}
