//! A run as a picture in SVG, which every browser shows.

use std::fmt::Write;

use super::{Chart, Row, seconds, shortened};
use crate::render::escape_markup;

/// The width of the names, in pixels.
const NAMES: u64 = 320;
/// How many characters that is.
const LETTERS: usize = 44;
/// The width of the bars.
const BARS: u64 = 640;
/// The width of the times.
const TIMES: u64 = 70;
/// The height of a row.
const ROW: u64 = 20;
/// The height of the heading, and of the scale.
const HEAD: u64 = 56;
/// How many parts the scale has.
const PARTS: u64 = 8;

const STYLE: &str = "text{font:12px sans-serif;fill:#222}.title{font-size:15px}.line{stroke:#ddd}\
    .critical{fill:#c0392b}.beside{fill:#7f9db9}.failed{fill:#000}.name{text-anchor:end}";

/// The picture of a run.
pub fn svg(chart: &Chart) -> String {
    let (shown, others) = chart.shown();
    let rows = u64::try_from(shown.len()).unwrap_or_default();
    let (width, height) = (NAMES + BARS + TIMES + 20, HEAD + rows * ROW + 40);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let title = format!(
        "{} began {}, and took {}",
        chart.command,
        chart.begun,
        seconds(chart.total)
    );
    // Writing to a text cannot fail.
    let _ = writeln!(
        text,
        "<text class=\"title\" x=\"10\" y=\"22\">{}</text>",
        escape_markup(&title)
    );
    scale(&mut text, chart.total, HEAD + rows * ROW);
    for (number, row) in (0..).zip(&shown) {
        bar(&mut text, row, chart.total, HEAD + number * ROW);
    }
    let note = format!(
        "red: critical path; blue: beside it; black: failed; {others} shorter parts are not shown"
    );
    let y = height - 12;
    let _ = writeln!(
        text,
        "<text x=\"10\" y=\"{y}\">{}</text>",
        escape_markup(&note)
    );
    text.push_str("</svg>\n");
    text
}

/// Lines from top to bottom, with the time above each.
fn scale(text: &mut String, total: u64, bottom: u64) {
    for part in 0..=PARTS {
        let x = NAMES + 10 + BARS * part / PARTS;
        let at = seconds(total * part / PARTS);
        let _ = writeln!(
            text,
            "<line class=\"line\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{at}</text>",
            HEAD - 4,
            HEAD - 10
        );
    }
}

fn bar(text: &mut String, row: &Row, total: u64, y: u64) {
    let place = |at: u64| NAMES + 10 + BARS.saturating_mul(at) / total.max(1);
    let (from, end) = (place(row.span.begin), row.end(total));
    let width = place(end).saturating_sub(from).max(2);
    let class = match (row.span.failed, row.critical) {
        (true, _) => "failed",
        (_, true) => "critical",
        (_, false) => "beside",
    };
    let took = seconds(end.saturating_sub(row.span.begin));
    let words = escape_markup(&row.words());
    let name = escape_markup(&shortened(&row.words(), LETTERS));
    let _ = writeln!(
        text,
        "<text class=\"name\" x=\"{NAMES}\" y=\"{0}\">{name}</text>\
         <rect class=\"{class}\" x=\"{from}\" y=\"{1}\" width=\"{width}\" height=\"{2}\"><title>{words}: {took}</title></rect>\
         <text x=\"{3}\" y=\"{0}\">{took}</text>",
        y + 14,
        y + 3,
        ROW - 6,
        from + width + 4
    );
}
