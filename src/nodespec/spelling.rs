//! Suggestions for misspelt names, and for the full-width punctuation of a Chinese or Japanese keyboard.

use crate::language::tr;

/// How many edits a misspelt key may differ from a known one to get a suggestion.
pub(super) const SUGGESTION_DISTANCE: usize = 2;

/// The character that is meant by one of double width; `None` for any other.
fn narrow(wide: char) -> Option<char> {
    match wide {
        '\u{3000}' | '\u{a0}' => Some(' '),
        // A range of numbers.
        '～' => Some('-'),
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
        "`{wide}` is a full-width character; write `{meant}`",
        wide,
        meant
    ))
}

/// What is wrong with the line that a parser complains about, if it has punctuation of double width, or a blank that is
/// none for YAML. Quoted text and comments may have such characters.
pub(super) fn narrower_line(text: &str, complaint: &str) -> Option<String> {
    let (_, place) = complaint.rsplit_once(" at line ")?;
    let digits = place.find(|c: char| !c.is_ascii_digit());
    let number: usize = place[..digits.unwrap_or(place.len())].parse().ok()?;
    let line = text.lines().nth(number.checked_sub(1)?)?;
    let is_quote = |c: char| "“”‘’".contains(c);
    let wide = unquoted(line).find(|wide| narrow(*wide).is_some());
    let wide = wide.or_else(|| line.chars().find(|c| is_quote(*c)))?;
    let meant = narrow(wide)?;
    Some(match meant {
        ' ' => tr!(
            "line {number}: there is a blank that YAML does not know as one ({code}): write an ordinary one",
            number,
            code = format_args!("U+{:04X}", u32::from(wide))
        ),
        _ => tr!(
            "line {number}: `{wide}` is a full-width character; YAML needs `{meant}`",
            number,
            wide,
            meant
        ),
    })
}

/// The characters of a line of YAML outside of quotes and comments.
fn unquoted(line: &str) -> impl Iterator<Item = char> {
    let (mut quote, mut before) = (None, ' ');
    let outside = line.chars().map_while(move |c| {
        let starts_comment = quote.is_none() && c == '#' && before == ' ';
        before = c;
        if starts_comment {
            return None;
        }
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
        Some((c, quote.is_some()))
    });
    outside.filter_map(|(c, quoted)| (!quoted).then_some(c))
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
        let most = SUGGESTION_DISTANCE.min(name.chars().count().saturating_sub(1));
        nearest.filter(|known| distance(known) <= most)
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
        let at = |text: &str, line: usize| {
            narrower_line(text, &format!("wrong at line {line}, column 1"))
        };
        for (text, line, end) in [
            ("role：master\n", 1, "`:`"),
            ("# 角色：主节点\nrole: master\n  ttl：24h\n", 3, "`:`"),
            ("- {name: \"甲：乙\", role: a， b: c}\n", 1, "`,`"),
            ("nodeName: \"server02”\n", 1, "`\"`"),
            ("＃ 角色\n", 1, "`#`"),
            (
                "role:\u{3000}master\n",
                1,
                "(U+3000): write an ordinary one",
            ),
            ("role:\u{a0}master\n", 1, "(U+00A0): write an ordinary one"),
        ] {
            let told = at(text, line).unwrap();
            assert!(told.starts_with(&format!("line {line}: ")), "{told}");
            assert!(told.ends_with(end), "{told}");
        }
        for text in [
            "role: master x: y # 角色：主\n",
            "text: '角色：主' x: y\n",
            "x: y: z\na：b\n",
        ] {
            assert_eq!(at(text, 1), None, "{text}");
        }
        assert_eq!(narrower_line("a：b\n", "no place"), None);
    }

    #[test]
    fn a_name_of_which_nothing_is_left_gets_no_suggestion() {
        let known = "unknown field `角色`, expected one of role, ca at line 1";
        assert_eq!(suggest(known), known);
    }
}
