//! Changes of files as a unified diff. Pure.

use similar::udiff::UnifiedHunkHeader;
use similar::{ChangeTag, TextDiff};

use crate::language::is_hidden;
use crate::nodespec::hidden;

/// How many lines are shown around a change, as `diff -u` does.
const CONTEXT: usize = 3;

/// The change of the file at `path` from `old`, which is `None` if it does not exist, to `new`: as `diff -u` prints
/// it. Empty if they are the same.
///
/// Bytes that are no text are shown as `\u{fffd}`, and lines that may hold a secret as [`hidden::HIDDEN`].
pub fn unified(path: &str, old: Option<&[u8]>, new: &[u8]) -> String {
    let before = String::from_utf8_lossy(old.unwrap_or_default());
    let after = String::from_utf8_lossy(new);
    let [from, to] = [&before, &after].map(|text| text.split_inclusive('\n').collect::<Vec<_>>());
    let changes = TextDiff::from_slices(&from, &to);
    let (old_lines, new_lines) = (hidden::lines(&before), hidden::lines(&after));
    let mut text = String::new();
    for hunk in changes.grouped_ops(CONTEXT) {
        text.push_str(&format!("{}\n", UnifiedHunkHeader::new(&hunk)));
        for change in hunk.iter().flat_map(|op| changes.iter_changes(op)) {
            let (mark, line) = match change.tag() {
                ChangeTag::Delete => ('-', of(&old_lines, change.old_index())),
                ChangeTag::Insert => ('+', of(&new_lines, change.new_index())),
                ChangeTag::Equal => (' ', of(&new_lines, change.new_index())),
            };
            text.push_str(&format!("{mark}{}\n", printable(line)));
            if !change.value().ends_with('\n') {
                text.push_str("\\ No newline at end of file\n");
            }
        }
    }
    if text.is_empty() {
        return text;
    }
    let from = if old.is_some() { path } else { "/dev/null" };
    format!("--- {from}\n+++ {path}\n{text}")
}

fn of(lines: &[String], index: Option<usize>) -> &str {
    index
        .and_then(|index| lines.get(index))
        .map_or("", String::as_str)
}

/// The line as a terminal may get it: it must not obey what others wrote into the file.
fn printable(line: &str) -> String {
    let shown = |c: char| match c {
        '\t' => c,
        c if is_hidden(c) => '\u{fffd}',
        c => c,
    };
    line.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_its_place_and_its_surroundings() {
        let old = b"1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = b"1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        assert_eq!(
            unified("/etc/a", Some(old), new),
            "--- /etc/a\n+++ /etc/a\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"
        );
        assert_eq!(unified("/etc/a", Some(old), old), "");
    }

    #[test]
    fn a_new_file_comes_from_nothing() {
        assert_eq!(
            unified("/etc/a", None, b"1\n2"),
            "--- /dev/null\n+++ /etc/a\n@@ -0,0 +1,2 @@\n+1\n+2\n\\ No newline at end of file\n"
        );
    }

    #[test]
    fn a_secret_in_the_middle_of_a_key_is_not_shown_when_only_that_line_changes() {
        let key = |line: &str| {
            format!(
                "-----BEGIN PRIVATE KEY-----\na\nb\nc\nd\n{line}\ne\nf\ng\nh\n-----END PRIVATE KEY-----\n"
            )
        };
        let shown = unified(
            "/etc/a",
            Some(key("first").as_bytes()),
            key("second").as_bytes(),
        );
        assert!(shown.contains(&format!("-{}\n", hidden::HIDDEN)), "{shown}");
        for word in ["first", "second", " c\n", " e\n"] {
            assert!(!shown.contains(word), "{shown}");
        }
    }

    #[test]
    fn line_ends_of_windows_and_control_characters_reach_no_terminal() {
        let shown = unified(
            "/etc/a",
            Some(b"\x1b[31mred\r\n"),
            b"\x1b[31mred\r\nnew\r\n",
        );
        assert!(shown.contains(" \u{fffd}[31mred\n+new\n"), "{shown}");
    }
}
