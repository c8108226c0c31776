//! A run as bars of letters, in 80 columns.

use std::fmt::Write;

use super::{Chart, Row, seconds, shortened};
use crate::language::tr;

/// The width of the names.
const NAME: usize = 34;
/// The width of the bars.
const BAR: usize = 36;

/// The bars of a run: `#` on its critical path, `=` beside it, `!` where something failed.
pub fn bars(chart: &Chart) -> String {
    let mut text = tr!(
        "{} began {}, and took {}",
        chart.command,
        chart.begun,
        seconds(chart.total)
    );
    text.push('\n');
    let (shown, others) = chart.shown();
    for row in &shown {
        text.push_str(&line(row, chart.total));
    }
    let scale = format!("0 s{:>width$}", seconds(chart.total), width = BAR - 3);
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{:NAME$} {scale}", "");
    text.push_str(&tr!(
        "# critical path   = beside it   ! failed   > not ended"
    ));
    text.push('\n');
    if others > 0 {
        text.push_str(&tr!(
            "{others} shorter parts are not shown; they are in `-o json`",
            others
        ));
        text.push('\n');
    }
    text
}

fn line(row: &Row, total: u64) -> String {
    let end = row.end(total);
    let from = column(row.span.begin, total).min(BAR - 1);
    let to = column(end, total).max(from + 1);
    let letter = match (row.span.failed, row.span.end, row.critical) {
        (true, ..) => "!",
        (_, None, _) => ">",
        (_, _, true) => "#",
        (_, _, false) => "=",
    };
    let bar = format!("{}{}", " ".repeat(from), letter.repeat(to - from));
    let took = seconds(end.saturating_sub(row.span.begin));
    format!(
        "{:NAME$} {bar:BAR$} {took:>7}\n",
        shortened(&row.words(), NAME)
    )
}

fn column(at: u64, total: u64) -> usize {
    let column = at.saturating_mul(BAR as u64) / total.max(1);
    usize::try_from(column).map_or(BAR, |column| column.min(BAR))
}
