//! Where a line of text may end: after a blank and, in Chinese, between any two characters except
//! at some punctuation.

use textwrap::core::{Word, display_width};
use textwrap::{Options, WordSeparator, WordSplitter};

/// The start of a sequence that changes the style, and the sequence that ends every style.
const ESCAPE: char = '\x1b';
const RESET: &str = "\x1b[0m";
/// What never begins a line, and what never ends one.
const NEVER_FIRST: &str = "，。、；：？！）》〉」』】〕”’…—～·％,.;:?!)]}%";
const NEVER_LAST: &str = "：（《〈「『【〔“‘([{";

/// The parts of a line that are not divided. Joined, they are the line. Styles are in the part
/// whose text they change.
pub fn parts(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut end, mut at) = (0, 0, 0);
    let mut before = None;
    while let Some(next) = line[at..].chars().next() {
        if next == ESCAPE {
            let style = style(&line[at..]);
            at += style.len();
            if style == RESET {
                end = at;
            }
            continue;
        }
        if before.is_some_and(|before| may_break(before, next)) {
            parts.push(&line[start..end]);
            start = end;
        }
        before = Some(next);
        at += next.len_utf8();
        end = at;
    }
    if start < line.len() {
        parts.push(&line[start..]);
    }
    parts
}

/// How text is wrapped into lines of so many columns.
pub fn options<'a>(width: usize) -> Options<'a> {
    Options::new(width)
        .word_separator(WordSeparator::Custom(words))
        .word_splitter(WordSplitter::NoHyphenation)
}

/// The same, as textwrap wants it.
fn words(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    Box::new(parts(line).into_iter().map(Word::from))
}

/// The sequence that a text begins with.
fn style(text: &str) -> &str {
    let length = text.find('m').map_or(text.len(), |last| last + 1);
    &text[..length]
}

fn may_break(before: char, next: char) -> bool {
    if before == ' ' || next == ' ' {
        return before == ' ' && next != ' ';
    }
    (is_wide(before) || is_wide(next))
        && !NEVER_FIRST.contains(next)
        && !NEVER_LAST.contains(before)
}

/// Whether the character takes two columns, as those of Chinese do.
fn is_wide(character: char) -> bool {
    display_width(character.encode_utf8(&mut [0; 4])) == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_breaks_at_blanks_only() {
        assert_eq!(parts("run  a-b/c, now "), ["run  ", "a-b/c, ", "now "]);
        assert_eq!(parts(""), Vec::<&str>::new());
    }

    #[test]
    fn chinese_breaks_between_characters_but_not_at_punctuation() {
        assert_eq!(
            parts("用 kubectl。（节点）“停”"),
            ["用 ", "kubectl。", "（节", "点）", "“停”"]
        );
        assert_eq!(parts("在etcd里:"), ["在", "etcd", "里:"]);
    }

    #[test]
    fn a_style_stays_with_its_text() {
        let line = "\x1b[1m节\x1b[0m\x1b[1m点\x1b[0m \x1b[1ma\x1b[0m";
        assert_eq!(
            parts(line),
            ["\x1b[1m节\x1b[0m", "\x1b[1m点\x1b[0m ", "\x1b[1ma\x1b[0m"]
        );
    }
}
