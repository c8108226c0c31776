//! Reads what Python's `json` module takes for JSON: OpenStack and cloud-init write and read with it. Pure.

/// How many levels of lists and objects are kept. What is deeper becomes null.
const DEPTH: usize = 100;

/// Reads the bytes with `read`, which is strict; if it fails, once more what Python would make of them.
///
/// # Errors
/// That of the second attempt.
pub fn read<T, E>(data: &[u8], read: impl Fn(&[u8]) -> Result<T, E>) -> Result<T, E> {
    read(data).or_else(|_| read(&strict(data)))
}

/// The bytes as strict JSON, if Python takes them: `NaN`, `Infinity`, numbers that are too large and what is nested
/// too deep are null, and half a pair of UTF-16 in a text is U+FFFD. All else stays.
fn strict(data: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(data.len());
    let mut depth = 0;
    let mut rest = data;
    while let Some(first) = rest.first() {
        let length = match first {
            b'"' => text(rest, &mut written),
            b'[' | b'{' if depth == DEPTH => match nested(rest) {
                Some(length) => {
                    written.extend(b"null");
                    length
                }
                None => {
                    written.extend(rest);
                    rest.len()
                }
            },
            b'-' | b'+' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                let length = word(rest);
                written.extend(match is_number_of_python(&rest[..length]) {
                    true => b"null",
                    false => &rest[..length],
                });
                length
            }
            other => {
                depth = match other {
                    b'[' | b'{' => depth + 1,
                    b']' | b'}' => depth.saturating_sub(1),
                    _ => depth,
                };
                written.push(*other);
                1
            }
        };
        rest = &rest[length..];
    }
    written
}

/// The length of the text in quotes at the beginning of `data`. Writes it with both halves of each pair.
fn text(data: &[u8], written: &mut Vec<u8>) -> usize {
    let length = quoted(data);
    let mut rest = &data[..length];
    while let Some(first) = rest.first() {
        let length = match (unit(rest), unit(rest.get(6..).unwrap_or_default())) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                written.extend(br"\ufffd");
                rest = &rest[6..];
                continue;
            }
            _ if *first == b'\\' => 2.min(rest.len()),
            _ => 1,
        };
        written.extend(&rest[..length]);
        rest = &rest[length..];
    }
    length
}

/// The unit of UTF-16 that is written as `\uXXXX` at the beginning of `data`.
fn unit(data: &[u8]) -> Option<u16> {
    let digits = str::from_utf8(data.strip_prefix(br"\u")?.get(..4)?).ok()?;
    let is_digit = |digit: u8| digit.is_ascii_hexdigit();
    let is_hexadecimal = digits.bytes().all(is_digit);
    u16::from_str_radix(digits, 16)
        .ok()
        .filter(|_| is_hexadecimal)
}

/// The length of the text in quotes at the beginning of `data`, with its quotes.
fn quoted(data: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = data.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    data.len()
}

/// The length of the word or number at the beginning of `data`.
fn word(data: &[u8]) -> usize {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    data.iter().take_while(|byte| is_part(byte)).count()
}

/// Whether only Python takes this word for a number.
fn is_number_of_python(word: &[u8]) -> bool {
    let is_digits = word.last().is_some_and(u8::is_ascii_digit);
    let number = str::from_utf8(word).unwrap_or_default().parse::<f64>();
    matches!(word, b"NaN" | b"Infinity" | b"-Infinity")
        || is_digits && number.is_ok_and(f64::is_infinite)
}

/// The length of the list or object at the beginning of `data`, if it ends.
fn nested(data: &[u8]) -> Option<usize> {
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(byte) = data.get(at) {
        match byte {
            b'"' => {
                at += quoted(&data[at..]);
                continue;
            }
            b'[' => open.push(b']'),
            b'{' => open.push(b'}'),
            b']' | b'}' if open.pop() != Some(*byte) => return None,
            _ => {}
        }
        at += 1;
        if open.is_empty() {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::{any, proptest};
    use serde_json::{Value, json};

    use super::{read, strict};

    fn value(text: &str) -> Option<Value> {
        read(text.as_bytes(), |data| serde_json::from_slice(data)).ok()
    }

    #[test]
    fn what_python_writes_is_read() {
        for (text, expected) in [
            (
                r#"{"a": NaN, "b": [Infinity, -Infinity]}"#,
                json!({"a": null, "b": [null, null]}),
            ),
            (
                r#"{"a": 1e999, "b": -1E+400, "c": 1.5}"#,
                json!({"a": null, "b": null, "c": 1.5}),
            ),
            (
                r#"["\ud83d\ude00\ud83d", "\udc80"]"#,
                json!(["😀\u{fffd}", "\u{fffd}"]),
            ),
            (
                r#"["NaN \" Infinity", "\\ud800", NaN]"#,
                json!(["NaN \" Infinity", "\\ud800", null]),
            ),
        ] {
            assert_eq!(value(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_null_and_what_follows_is_read() {
        for (open, close) in [("[", "]"), (r#"{"a]":"#, "}")] {
            for depth in [90, 100, 101, 130, 100_000] {
                let deep = format!("{}0{}", open.repeat(depth), close.repeat(depth));
                let text = format!(r#"{{"deep": {deep}, "role": "single"}}"#);
                assert_eq!(value(&text).unwrap()["role"], "single", "{depth}");
            }
        }
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for text in [
            "nan",
            "inf",
            "-NaN",
            "+Infinity",
            "[1,]",
            "{'a': 1}",
            "[NaN",
            "{\"a\": NaN]",
            "\"\\ud80\"",
            "01",
            "[.5]",
            "",
            "Infinity1",
            "\"a\nb\"",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
        let deep = "[".repeat(200);
        assert_eq!(value(&deep), None);
        assert_eq!(value(&format!("{deep}{}", "}".repeat(200))), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(data in any::<Vec<u8>>()) {
            strict(&data);
        }

        #[test]
        fn what_is_strict_stays(text in r#"[\[\]{}",:a-eNnul0-9.\\ -]{0,40}"#) {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                assert_eq!(serde_json::from_slice::<Value>(&strict(text.as_bytes())).unwrap(), value);
            }
        }
    }
}
