//! The widths of the columns of a table.

use textwrap::core::display_width;

use super::breaks;

/// The width of each column of a table, without the blanks after it. No word is broken if the
/// width allows; columns that need less than their share leave the rest to the others. `gap`
/// columns are between two columns of the table.
pub fn widths(rows: &[Vec<String>], width: usize, gap: usize) -> Vec<usize> {
    let columns = rows.first().map_or(0, Vec::len);
    let widest = |column: usize, measure: fn(&str) -> usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| measure(cell)).max().unwrap_or(0)
    };
    let whole: Vec<usize> = (0..columns)
        .map(|column| widest(column, display_width))
        .collect();
    let word: Vec<usize> = (0..columns)
        .map(|column| widest(column, longest_word))
        .collect();
    let room = width.saturating_sub(columns.saturating_sub(1) * gap);
    // The largest share with which all columns fit; it may break words only if nothing else does.
    let shared = |least: &dyn Fn(usize) -> usize| {
        let widths = |share: usize| -> Vec<usize> {
            let columns = whole.iter().enumerate();
            columns
                .map(|(column, &whole)| whole.min(share.max(least(column))))
                .collect()
        };
        let all = (1..=room).map(widths);
        all.take_while(|widths| widths.iter().sum::<usize>() <= room)
            .last()
    };
    shared(&|column| word[column])
        .or_else(|| shared(&|_| 1))
        .unwrap_or_else(|| vec![1; columns])
}

/// The width of the longest part that is not to be broken.
fn longest_word(text: &str) -> usize {
    let parts = breaks::parts(text).into_iter();
    parts
        .map(|part| display_width(part.trim_end()))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cells: &[&str], width: usize) -> Vec<usize> {
        let row = cells.iter().map(|&cell| cell.to_owned()).collect();
        widths(&[row], width, 2)
    }

    #[test]
    fn short_columns_leave_the_rest_to_long_ones() {
        assert_eq!(of(&["ab", "one two three"], 80), [2, 13]);
        assert_eq!(of(&["ab", "one two three"], 12), [2, 8]);
        assert_eq!(of(&["节点", "节点的设置"], 12), [4, 6]);
    }

    #[test]
    fn words_stay_whole_if_there_is_room() {
        assert_eq!(of(&["a b c d e f", "/var/lib/x"], 18), [6, 10]);
        assert_eq!(of(&["/etc/one", "/var/lib/x"], 12), [5, 5]);
        assert_eq!(of(&[], 80), Vec::<usize>::new());
        assert_eq!(of(&["a", "b", "c"], 2), [1, 1, 1]);
    }
}
