//! Writes a marked part of a file that belongs to the distribution. The file is bytes: its other
//! lines may be in any encoding.

const BEGIN: &str = "# BEGIN appliance: kept by `appliance install`; edit outside of this part";
const END: &str = "# END appliance";

/// Returns `file` with `lines` as its marked part. The part keeps its place; if it is missing, it
/// comes at the end. It gets the line ends of the file's first other line (LF or CRLF). All other
/// lines stay as they are, byte for byte. Only a last line without line end gets one, if the part
/// comes after it.
///
/// If only one of the marks is left, someone edited the file by hand: this removes the single mark
/// and keeps the lines around it.
pub fn with_part(file: &[u8], lines: &str) -> Vec<u8> {
    let (others, place) = others(file);
    let end = line_end(&others);
    let (before, after) = others.split_at(place);
    let mut whole = before.concat();
    if !whole.is_empty() && !whole.ends_with(b"\n") {
        let end = if whole.ends_with(b"\r") { "\n" } else { end };
        whole.extend(end.as_bytes());
    }
    for line in [BEGIN].into_iter().chain(lines.lines()).chain([END]) {
        whole.extend(line.as_bytes());
        whole.extend(end.as_bytes());
    }
    whole.extend(after.concat());
    whole
}

/// The lines of the marked part of `file`, each with `\n` as its end; `None` if the file has no such part. They are
/// the lines that [`with_part`] was given, unless someone changed them.
pub fn part_of(file: &[u8]) -> Option<Vec<u8>> {
    let mut lines = file.split_inclusive(|&byte| byte == b'\n').map(content);
    lines.find(|line| *line == BEGIN.as_bytes())?;
    let mut part = Vec::new();
    for line in lines {
        if line == END.as_bytes() {
            return Some(part);
        }
        part.extend(line);
        part.push(b'\n');
    }
    None
}

/// Returns `file` without its marked part, and without a single mark; `None` if it has neither. All other
/// lines stay as they are, byte for byte.
pub fn without_part(file: &[u8]) -> Option<Vec<u8>> {
    let rest = others(file).0.concat();
    (rest != file).then_some(rest)
}

/// The lines outside of the marked part, with their line ends, and how many of them are before the
/// part.
fn others(file: &[u8]) -> (Vec<&[u8]>, usize) {
    let mut others: Vec<&[u8]> = Vec::new();
    let (mut begin, mut place) = (None, None);
    for line in file.split_inclusive(|&byte| byte == b'\n') {
        let text = content(line);
        if text == BEGIN.as_bytes() {
            begin = Some(others.len());
        } else if text == END.as_bytes() {
            if let Some(begin) = begin.take() {
                others.truncate(begin);
                place.get_or_insert(begin);
            }
        } else {
            others.push(line);
        }
    }
    let place = place.unwrap_or(others.len());
    (others, place)
}

/// A line without its line end.
fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn line_end(lines: &[&[u8]]) -> &'static str {
    let first = lines.first().copied().unwrap_or_default();
    let first = first.strip_suffix(b"\n").unwrap_or(first);
    if first.ends_with(b"\r") { "\r\n" } else { "\n" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

    use super::{BEGIN, END, others, part_of, with_part, without_part};

    const HOSTS: &[u8] = b"127.0.0.1 localhost\n";
    const ENTRY: &str = "192.168.1.102 server02\n";

    /// The part as it is written to a file with LF.
    fn part(lines: &str) -> String {
        format!("{BEGIN}\n{lines}{END}\n")
    }

    #[test]
    fn lines_outside_stay_and_a_second_time_changes_nothing() {
        let once = with_part(HOSTS, ENTRY);
        assert_eq!(once, [HOSTS, part(ENTRY).as_bytes()].concat());
        assert_eq!(with_part(&once, ENTRY), once);
    }

    #[test]
    fn the_part_is_found_again() {
        for file in [HOSTS, b"", b"127.0.0.1 localhost\r\n10.0.0.1 a"] {
            assert_eq!(part_of(file), None);
            assert_eq!(part_of(&with_part(file, ENTRY)), Some(ENTRY.into()));
        }
        assert_eq!(part_of(format!("{BEGIN}\n{ENTRY}").as_bytes()), None);
    }

    #[test]
    fn a_part_goes_and_leaves_what_others_wrote() {
        let mine = b"10.0.0.1 mine\n".as_slice();
        let whole = [&with_part(HOSTS, ENTRY), mine].concat();
        assert_eq!(without_part(&whole), Some([HOSTS, mine].concat()));
        assert_eq!(without_part(HOSTS), None);
        assert_eq!(without_part(&with_part(b"", ENTRY)), Some(Vec::new()));
    }

    #[test]
    fn lines_in_another_encoding_stay() {
        let latin_1 = b"127.0.0.1 localhost\n# caf\xe9\n10.0.0.1 db\n";
        let once = with_part(latin_1, ENTRY);
        assert_eq!(once, [latin_1, part(ENTRY).as_bytes()].concat());
    }

    #[test]
    fn the_part_is_replaced_where_it_stands() {
        let edited = [&with_part(HOSTS, ENTRY), b"10.0.0.1 mine\n".as_slice()].concat();
        let other = "192.168.1.9 server02\n";
        let moved = with_part(&edited, other);
        let expected = [HOSTS, part(other).as_bytes(), b"10.0.0.1 mine\n"].concat();
        assert_eq!(moved, expected);
    }

    #[test]
    fn a_mark_whose_other_half_is_gone_takes_no_line_with_it() {
        let torn = format!("a\n{BEGIN}\n{ENTRY}b\n");
        let mended = with_part(torn.as_bytes(), ENTRY);
        let expected = format!("a\n{ENTRY}b\n{}", part(ENTRY));
        assert_eq!(mended, expected.as_bytes());
        // What comes after the single mark is only in the part up to the next mark.
        let twice = format!("a\n{BEGIN}\n{ENTRY}b\n{}c\n", part(ENTRY));
        let expected = format!("a\n{ENTRY}b\n{}c\n", part(ENTRY));
        assert_eq!(with_part(twice.as_bytes(), ENTRY), expected.as_bytes());
    }

    #[test]
    fn a_second_part_is_removed() {
        let twice = format!("a\n{}b\n{}c\n", part("old\n"), part("older\n"));
        let expected = format!("a\n{}b\nc\n", part(ENTRY));
        assert_eq!(with_part(twice.as_bytes(), ENTRY), expected.as_bytes());
    }

    #[test]
    fn a_missing_last_newline_is_added() {
        let whole = with_part(b"127.0.0.1 localhost", ENTRY);
        assert_eq!(whole, [HOSTS, part(ENTRY).as_bytes()].concat());
    }

    #[test]
    fn the_line_ends_of_the_file_are_kept() {
        let windows = b"127.0.0.1 localhost\r\n10.0.0.1 a";
        let once = with_part(windows, ENTRY);
        let expected = format!(
            "127.0.0.1 localhost\r\n10.0.0.1 a\r\n{BEGIN}\r\n192.168.1.102 server02\r\n{END}\r\n"
        );
        assert_eq!(once, expected.as_bytes());
        assert_eq!(with_part(&once, ENTRY), once);
    }

    /// Bytes that are likely to hit something: marks with each line end, and anything else.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            Just(BEGIN.into()),
            Just(END.into()),
            Just(b"\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"10.0.0.1 caf\xe9\n".to_vec()),
            Just(part("10.0.0.9 old\n").into_bytes()),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn other_lines_stay_byte_for_byte_and_in_order(file in pieces()) {
            let once = with_part(&file, ENTRY);
            let (mut lines, place) = others(&file);
            let ended = [lines.last().copied().unwrap_or_default(), b"\n"].concat();
            let ended_as_the_file = [lines.last().copied().unwrap_or_default(), b"\r\n"].concat();
            let (found, found_place) = others(&once);
            prop_assert_eq!(found_place, place);
            // Only the end of the last line may be new.
            if place == lines.len() && lines.last().is_some_and(|line| !line.ends_with(b"\n")) {
                lines.pop();
                let last = found.last().copied().unwrap_or_default();
                assert!(last == ended || last == ended_as_the_file);
                prop_assert_eq!(&found[..place - 1], &lines);
            } else {
                prop_assert_eq!(found, lines);
            }
        }

        #[test]
        fn a_second_edit_changes_nothing(file in pieces()) {
            let once = with_part(&file, ENTRY);
            prop_assert_eq!(with_part(&once, ENTRY), once);
        }

        #[test]
        fn without_the_part_the_file_is_as_it_was(mut file in pieces()) {
            // Here, the file has no marks, and its last line has an end.
            file = others(&file).0.concat();
            file.extend(b"\n");
            prop_assert_eq!(others(&with_part(&file, ENTRY)).0.concat(), file);
        }
    }
}
