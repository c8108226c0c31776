//! Collects what was passed over in one file.

use crate::language::{message, tr};
use serde_json::Value;

/// How many characters of the input a message repeats.
const QUOTE_LIMIT: usize = 80;
/// How many warnings about one file are told.
const MOST: usize = 8;

/// What was passed over in one file.
pub(super) struct Warnings {
    place: String,
    told: Vec<String>,
    more: usize,
}

impl Warnings {
    /// None yet, about the file that messages call `place`.
    pub(super) fn new(place: String) -> Warnings {
        Warnings {
            place,
            told: Vec::new(),
            more: 0,
        }
    }

    /// Adds that something was passed over, and why.
    pub(super) fn add(&mut self, why: String) {
        if self.told.len() < MOST {
            self.told.push(why);
        } else {
            self.more += 1;
        }
    }

    /// One sentence for each.
    pub(super) fn list(self) -> Vec<String> {
        let place = self.place;
        let mut list: Vec<String> = self
            .told
            .iter()
            .map(|why| tr!("{place}: {why}; it is passed over", place, why))
            .collect();
        if self.more > 0 {
            list.push(tr!("{place}: {} more are passed over", self.more, place));
        }
        list
    }
}

/// The kind of a value, for a message. The value itself may be a password.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => message!("a truth value"),
        Value::Number(_) => message!("a number"),
        Value::String(_) => message!("text"),
        Value::Array(_) => message!("a list"),
        Value::Object(_) => message!("an object"),
    }
}

/// Makes a piece of the input safe for a message: one line, of limited length.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(QUOTE_LIMIT)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(QUOTE_LIMIT).is_some() {
        short.push('…');
    }
    short
}
