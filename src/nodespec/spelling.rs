//! Suggestions for misspelt names, and for the full-width punctuation of a Chinese or Japanese keyboard.

use crate::language::tr;

/// How many edits a misspelt key may differ from a known one to get a suggestion.
pub(super) const SUGGESTION_DISTANCE: usize = 2;

/// The character that is meant by one of double width; `None` for any other.
fn narrow(wide: char) -> Option<char> {
    match wide {
        '\u{3000}' => Some(' '),
        '“' | '”' => Some('"'),
        '‘' | '’' => Some('\''),
        '。' => Some('.'),
        '、' => Some(','),
        // The block of full-width forms has the order of ASCII (Unicode, "Halfwidth and Fullwidth Forms").
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(wide) - 0xfee0),
        _ => None,
    }
}

/// What to write instead of the first character of double width in a value.
pub(super) fn narrower(value: &str) -> Option<String> {
    let (wide, meant) = value.chars().find_map(|wide| Some((wide, narrow(wide)?)))?;
    Some(tr!(
        "{wide} is a full-width character; write `{meant}`",
        wide,
        meant
    ))
}

/// What to write instead of the first character of double width that stands where YAML needs punctuation: behind the key
/// of a line, or before its value. Text of others, and comments, may have such characters anywhere else.
pub(super) fn narrower_line(text: &str) -> Option<String> {
    let lines = text.lines().enumerate();
    let (number, wide, meant) = lines.into_iter().find_map(|(number, line)| {
        let rest = line.trim_start_matches([' ', '-', '"', '\'']);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let behind = rest.trim_start_matches(is_name);
        let behind = behind.trim_start_matches(['"', '\'', ':', ' ']);
        let wide = behind.chars().next()?;
        let meant = narrow(wide).filter(|meant| ": ".contains(*meant))?;
        Some((number + 1, wide, meant))
    })?;
    Some(tr!(
        "line {number}: `{wide}` is a full-width character; YAML needs `{meant}`",
        number,
        wide,
        meant
    ))
}

/// Adds a suggestion to the parser's error about an unknown setting.
pub(super) fn suggest(complaint: &str) -> String {
    let misspelt = complaint
        .split_once("unknown field `")
        .and_then(|(_, rest)| rest.split_once('`'));
    let suggestion = misspelt.and_then(|(name, rest)| {
        // The parser lists the names that are possible here: `expected one of a, b at line 1`, or
        // the same with quotes.
        let (_, list) = rest.split_once("expected ")?;
        let list = list.split(" at line ").next().unwrap_or_default();
        let list = list.strip_prefix("one of ").unwrap_or(list);
        let possible = list.split(|c: char| !c.is_ascii_alphanumeric());
        let possible = possible.filter(|word| !matches!(*word, "" | "or"));
        let distance =
            |known: &&str| strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase());
        let nearest = possible.min_by_key(distance);
        nearest.filter(|known| distance(known) <= SUGGESTION_DISTANCE)
    });
    match suggestion {
        Some(key) => tr!("{complaint}\ndid you mean `{key}`?", complaint, key),
        None => complaint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn full_width_punctuation_is_told() {
        for (value, meant) in [
            ("“master”", "\""),
            ("a，b", ","),
            ("10．9.0.0/16", "."),
            ("ｍaster", "m"),
        ] {
            assert!(narrower(value).unwrap().ends_with(&format!("`{meant}`")));
        }
        assert_eq!(narrower("name-服务器"), None);
        for (text, line, meant) in [
            ("role：master\n", 1, ":"),
            ("# 角色：主节点\nrole: master\n  ttl：24h\n", 3, ":"),
            ("inventory：\n- name: a\n", 1, ":"),
            ("- name：a\n", 1, ":"),
            ("role:\u{3000}master\n", 1, " "),
        ] {
            let told = narrower_line(text).unwrap();
            assert!(told.starts_with(&format!("line {line}: ")), "{told}");
            assert!(told.ends_with(&format!("`{meant}`")), "{told}");
        }
        for text in [
            "role: master # 角色：主\n",
            "text: 角色：主\n",
            "- “a”\n",
            "角色：主\n",
        ] {
            assert_eq!(narrower_line(text), None, "{text}");
        }
    }
}
