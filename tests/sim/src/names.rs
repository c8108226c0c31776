//! Generated names.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Their characters, as in the real programs: no vowels.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five letters, different each time.
pub fn random_end() -> String {
    let random = std::fs::read("/proc/sys/kernel/random/uuid").unwrap_or_default();
    letters(&Sha256::digest(random), 5)
}

/// Ten letters, which are the same for the same object.
pub fn hash(object: &Value) -> String {
    letters(&Sha256::digest(canonical(object)), 10)
}

fn letters(bytes: &[u8], count: usize) -> String {
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    bytes.iter().take(count).map(letter).collect()
}

/// An object's text, independent of the order of its members.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut texts: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name:?}:{}", canonical(value)))
                .collect();
            texts.sort();
            format!("{{{}}}", texts.join(","))
        }
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", texts.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_random_or_those_of_an_object() {
        assert_ne!(random_end(), random_end());
        assert_eq!(random_end().len(), 5);
        let hash_of = |text: &str| hash(&serde_json::from_str(text).unwrap_or_default());
        assert_eq!(
            hash_of(r#"{"a": 1, "b": [2]}"#),
            hash_of(r#"{"b": [2], "a": 1}"#)
        );
        assert_ne!(hash(&json!([1, 2])), hash(&json!([2, 1])));
    }
}
