//! Tables that fit a terminal and cut no name, address or checksum.

use textwrap::core::display_width;
use textwrap::{Options, WordSplitter};

/// The blanks between two columns.
const GAP: usize = 2;

/// Texts that are not longer are not broken: `13.39 MiB`.
const SHORT: usize = 10;

/// How far what does not fit its column is indented.
const INDENT: usize = 4;

/// A table with a heading above each column.
#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
    width: usize,
}

impl Table {
    /// An empty table for lines of at most `width` characters.
    pub fn new(headings: impl IntoIterator<Item = String>, width: usize) -> Table {
        Table {
            headings: headings.into_iter().collect(),
            rows: Vec::new(),
            width,
        }
    }

    /// Adds a row with a text for each column.
    pub fn add_row<T: ToString>(&mut self, texts: impl IntoIterator<Item = T>) {
        let texts = texts.into_iter().map(|text| text.to_string());
        self.rows.push(texts.collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines of the table.
    ///
    /// Columns are at least as wide as their longest words. If there is no room for that, single rows go on below:
    /// a text that is too wide for its column takes lines of its own. If this were so for most rows, each row is a
    /// paragraph, with a line for each column.
    pub fn lines(&self) -> Vec<String> {
        match self.columns() {
            Some(widths) => std::iter::once(&self.headings)
                .chain(&self.rows)
                .flat_map(|row| self.row(row, &widths))
                .collect(),
            None => self.paragraphs(),
        }
    }

    /// The width of each column, if most rows fit side by side.
    fn columns(&self) -> Option<Vec<usize>> {
        let words = |row: &Vec<String>| row.iter().map(|text| least_width(text)).collect();
        let words: Vec<Vec<usize>> = self.rows.iter().map(words).collect();
        let least: Vec<usize> = self.headings.iter().map(|text| least_width(text)).collect();
        let mut widths = least.clone();
        for row in &words {
            widths = larger(&widths, row);
        }
        while self.room(&widths).is_none() {
            widths = narrower(&widths, &least, &words)?;
        }
        let is_wide = |row: &&Vec<usize>| !fits(row, &widths);
        if words.iter().filter(is_wide).count() * 2 > words.len() {
            return None;
        }
        Some(self.widened(widths))
    }

    /// How much wider the columns may be together; `None` if they are too wide.
    fn room(&self, widths: &[usize]) -> Option<usize> {
        let gaps = GAP * widths.len().saturating_sub(1);
        self.width.checked_sub(widths.iter().sum::<usize>() + gaps)
    }

    /// These widths, and the room that is left shared among the columns whose texts are wider.
    fn widened(&self, mut widths: Vec<usize>) -> Vec<usize> {
        let mut wanted: Vec<usize> = self
            .headings
            .iter()
            .map(|text| display_width(text))
            .collect();
        for row in &self.rows {
            let words: Vec<usize> = row.iter().map(|text| least_width(text)).collect();
            if fits(&words, &widths) {
                let whole: Vec<usize> = row.iter().map(|text| longest_line(text)).collect();
                wanted = larger(&wanted, &whole);
            }
        }
        let mut room = self.room(&widths).unwrap_or(0);
        while room > 0 {
            let narrow: Vec<usize> = (0..widths.len())
                .filter(|&column| widths[column] < wanted[column])
                .collect();
            if narrow.is_empty() {
                break;
            }
            for column in narrow.into_iter().take(room) {
                widths[column] += 1;
                room -= 1;
            }
        }
        widths
    }

    /// The lines of a row. What follows a text that is too wide for its column begins on a new line.
    fn row(&self, row: &[String], widths: &[usize]) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut first = 0;
        let mut offset = 0;
        for (text, &width) in row.iter().zip(widths) {
            let is_wide = least_width(text) > width;
            let room = self.width.saturating_sub(offset);
            let (at, room) = match (is_wide, least_width(text) > room) {
                (true, true) => (INDENT, self.width.saturating_sub(INDENT)),
                (true, false) => (offset, room),
                (false, _) => (offset, width),
            };
            if at < offset {
                first = lines.len();
            }
            let wrapped = wrapped(text, room);
            for (number, line) in wrapped.iter().enumerate() {
                let number = first + number;
                if number == lines.len() {
                    lines.push(String::new());
                }
                let blanks = at.saturating_sub(display_width(&lines[number]));
                lines[number] += &format!("{}{line}", " ".repeat(blanks));
            }
            if is_wide {
                first = lines.len();
            }
            offset += width + GAP;
        }
        lines
    }

    /// Each row as lines of a heading and a text, with an empty line after it.
    fn paragraphs(&self) -> Vec<String> {
        let widest = self.headings.iter().map(|text| display_width(text)).max();
        let column = widest.unwrap_or(0) + GAP;
        let mut lines: Vec<String> = Vec::new();
        for row in &self.rows {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            for (heading, text) in self.headings.iter().zip(row) {
                let wrapped = wrapped(text, self.width.saturating_sub(column));
                for (number, line) in wrapped.iter().enumerate().filter(|_| !text.is_empty()) {
                    let heading = if number == 0 { heading.as_str() } else { "" };
                    lines.push(format!("{heading:column$}{line}"));
                }
            }
        }
        lines
    }
}

/// The lines of a text, none wider than `width` if its words are not.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let options = Options::new(width)
        .break_words(false)
        .word_splitter(WordSplitter::NoHyphenation)
        .word_separator(textwrap::WordSeparator::AsciiSpace);
    let wrapped = textwrap::wrap(text, options);
    wrapped
        .into_iter()
        .map(std::borrow::Cow::into_owned)
        .collect()
}

/// How wide a column must be for the text.
fn least_width(text: &str) -> usize {
    match longest_line(text) {
        short if short <= SHORT => short,
        _ => longest_word(text),
    }
}

fn longest_word(text: &str) -> usize {
    text.split([' ', '\n'])
        .map(display_width)
        .max()
        .unwrap_or(0)
}

fn longest_line(text: &str) -> usize {
    text.lines().map(display_width).max().unwrap_or(0)
}

/// The larger number of each pair.
fn larger(one: &[usize], other: &[usize]) -> Vec<usize> {
    one.iter()
        .zip(other)
        .map(|(one, other)| *one.max(other))
        .collect()
}

/// Whether the words of a row fit columns of these widths.
fn fits(words: &[usize], widths: &[usize]) -> bool {
    words.iter().zip(widths).all(|(word, width)| word <= width)
}

/// These widths with one column narrower, so that as few more rows as possible are too wide, for as many characters as
/// possible; `None` if no column can be narrower than `least`.
fn narrower(widths: &[usize], least: &[usize], words: &[Vec<usize>]) -> Option<Vec<usize>> {
    let wide = |widths: &[usize]| words.iter().filter(|row| !fits(row, widths)).count();
    let before = wide(widths);
    let narrowed = (0..widths.len()).filter_map(|column| {
        let smaller = |width: &usize| *width < widths[column];
        let next = words.iter().map(|row| row[column]).filter(smaller).max();
        let next = next.unwrap_or(0).max(least[column]);
        let mut widths = widths.to_vec();
        let saved = widths[column]
            .checked_sub(next)
            .filter(|saved| *saved > 0)?;
        widths[column] = next;
        Some((widths, saved))
    });
    let cost = |(widths, saved): &(Vec<usize>, usize)| (wide(widths) - before) * 1000 / saved;
    narrowed.min_by_key(cost).map(|(widths, _)| widths)
}

#[cfg(test)]
mod tests {
    use super::Table;

    const DIGEST: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
    const SENTENCE: &str = "it does not answer, and nobody knows why it does not do so any more";

    fn lines(headings: &[&str], rows: &[&[&str]]) -> Vec<String> {
        let headings = headings.iter().map(|&heading| heading.to_owned());
        let mut table = Table::new(headings, 80);
        rows.iter().for_each(|row| table.add_row(row.iter()));
        let lines = table.lines();
        assert!(lines.iter().all(|line| line.len() <= 80), "{lines:#?}");
        lines
    }

    #[test]
    fn columns_are_as_wide_as_their_texts_if_there_is_room() {
        assert_eq!(
            lines(
                &["NAME", "STATE"],
                &[&["etcd", "active (running)"], &["x", ""]]
            ),
            ["NAME  STATE", "etcd  active (running)", "x     "]
        );
    }

    #[test]
    fn a_column_is_as_wide_as_its_longest_word_and_sentences_are_wrapped() {
        let name = "kube-controller-manager.example.internal";
        assert_eq!(
            lines(&["NAME", "STATE"], &[&[name, SENTENCE]])[1..],
            [
                "kube-controller-manager.example.internal  it does not answer, and nobody knows",
                "                                          why it does not do so any more"
            ]
        );
    }

    #[test]
    fn a_short_text_is_not_broken() {
        let rows: &[&[&str]] = &[&["13.39 MiB", SENTENCE], &["9 B", SENTENCE]];
        let lines = lines(&["SIZE", "STATE"], rows);
        assert!(lines[1].starts_with("13.39 MiB  it does"), "{lines:#?}");
        assert!(lines[2].starts_with("9 B        it does"), "{lines:#?}");
    }

    #[test]
    fn a_word_that_is_too_wide_for_its_column_moves_the_rest_of_its_row_down() {
        let rows: &[&[&str]] = &[
            &["mtu", "1400", "default"],
            &["labels", DIGEST, "default"],
            &["address", "192.0.2.1", DIGEST],
            &["name", "a", "default"],
        ];
        assert_eq!(
            lines(&["SETTING", "VALUE", "FROM"], rows),
            [
                "SETTING  VALUE      FROM".to_owned(),
                "mtu      1400       default".to_owned(),
                format!("labels   {DIGEST}"),
                "                    default".to_owned(),
                "address  192.0.2.1".to_owned(),
                format!("    {DIGEST}"),
                "name     a          default".to_owned(),
            ]
        );
    }

    #[test]
    fn rows_that_do_not_fit_are_paragraphs_without_empty_texts() {
        let rows = ["kube-controller-manager", "kube-scheduler"];
        let rows = rows.map(|name| [name, DIGEST, "", SENTENCE]);
        let rows: Vec<&[&str]> = rows.iter().map(<[&str; 4]>::as_slice).collect();
        let lines = lines(&["NAME", "SHA256", "", "STATE"], &rows);
        assert_eq!(lines[0], "NAME    kube-controller-manager");
        assert_eq!(lines[1], format!("SHA256  {DIGEST}"));
        assert_eq!(lines.iter().filter(|line| line.is_empty()).count(), 1);
    }

    #[test]
    fn a_word_that_is_wider_than_the_terminal_stays_whole() {
        let word = "x".repeat(200);
        for rows in [vec![["a", &word]], vec![["a", &word], ["b", "c"]]] {
            let mut table = Table::new(["NAME", "VALUE"].map(str::to_owned), 80);
            rows.iter().for_each(|row| table.add_row(row.iter()));
            let lines = table.lines();
            assert!(lines.iter().any(|line| line.contains(&word)), "{lines:#?}");
        }
    }
}
