//! Writes a marked part of a file that belongs to the distribution.

const BEGIN: &str = "# BEGIN appliance: kept by `appliance install`; edit outside of this part";
const END: &str = "# END appliance";

/// Returns `text` with `lines` as its marked part. The part keeps its place; if it is missing, it
/// comes at the end.
///
/// If only one of the marks is left, someone edited the file by hand: this removes the single mark
/// and keeps the lines around it.
pub fn replace(text: &str, lines: &str) -> String {
    let block = format!("{BEGIN}\n{lines}{END}\n");
    let begin = text.lines().position(|line| line == BEGIN);
    let end = text.lines().position(|line| line == END);
    let keep = |range: &mut dyn Iterator<Item = &str>| -> String {
        range
            .filter(|line| *line != BEGIN && *line != END)
            .map(|line| format!("{line}\n"))
            .collect()
    };
    match (begin, end) {
        (Some(begin), Some(end)) if begin < end => {
            keep(&mut text.lines().take(begin)) + &block + &keep(&mut text.lines().skip(end + 1))
        }
        _ => keep(&mut text.lines()) + &block,
    }
}

#[cfg(test)]
mod tests {
    use super::replace;

    const HOSTS: &str = "127.0.0.1 localhost\n";
    const ENTRY: &str = "192.168.1.102 server02\n";

    #[test]
    fn lines_outside_stay_and_a_second_time_changes_nothing() {
        let once = replace(HOSTS, ENTRY);
        assert!(once.starts_with(HOSTS) && once.contains(ENTRY));
        assert_eq!(replace(&once, ENTRY), once);
    }

    #[test]
    fn the_part_is_replaced_where_it_stands() {
        let edited = replace(HOSTS, ENTRY) + "10.0.0.1 mine\n";
        let moved = replace(&edited, "192.168.1.9 server02\n");
        assert!(!moved.contains(ENTRY));
        assert!(moved.ends_with("10.0.0.1 mine\n") && moved.contains("192.168.1.9 server02\n"));
    }

    #[test]
    fn a_mark_whose_other_half_is_gone_takes_no_line_with_it() {
        let torn = replace(HOSTS, ENTRY).replace("# END appliance\n", "10.0.0.1 mine\n");
        let mended = replace(&torn, ENTRY);
        assert!(mended.contains("10.0.0.1 mine\n") && mended.starts_with(HOSTS));
    }

    #[test]
    fn a_missing_last_newline_is_added() {
        assert!(replace("127.0.0.1 localhost", ENTRY).starts_with("127.0.0.1 localhost\n# BEGIN"));
    }
}
