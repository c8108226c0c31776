//! The picture of a bring-up: bars in a terminal, or an SVG file. Pure.

use schemars::JsonSchema;
use serde::Serialize;

use crate::language::is_hidden;
use crate::records::timeline::{Part, Span, Timeline};

mod bars;
mod svg;

pub use bars::bars;
pub use svg::svg;

/// A part is shown by itself if it took at least this share of the whole, or at least [`LEAST`].
const SHARE: u64 = 100;
/// In milliseconds.
const LEAST: u64 = 1000;

/// The times of a run, with what they mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Chart {
    /// The command, such as `install`.
    pub command: String,
    /// When it began (RFC 3339).
    pub begun: String,
    /// How long it took, in milliseconds.
    pub total: u64,
    /// The part of that time during which something on the critical path was under way, in milliseconds.
    pub critical: u64,
    /// What it did, in the order in which each began.
    pub rows: Vec<Row>,
}

/// One part of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// When it began and ended.
    #[serde(flatten)]
    pub span: Span,
    /// Whether it is on the critical path: had it been shorter, the run could have been, too.
    pub critical: bool,
}

impl Row {
    /// When it ended, in milliseconds since the run began. What had not ended lasts to the end of the run.
    fn end(&self, total: u64) -> u64 {
        self.span.end.unwrap_or(total)
    }

    /// Whether it is a step that makes a directory or a file, by its words.
    fn is_of_files(&self) -> bool {
        let verbs = ["create ", "change ", "directory ", "keep "];
        self.span.part == Part::Step && verbs.iter().any(|verb| self.span.what.starts_with(verb))
    }

    /// What it is, for people.
    fn words(&self) -> String {
        match self.span.part {
            Part::Healthy => format!("{} is healthy", self.span.what),
            Part::Before | Part::Step => self.span.what.clone(),
        }
    }
}

impl Chart {
    /// The chart of a run.
    pub fn of(timeline: &Timeline) -> Chart {
        let mut spans = timeline.spans.clone();
        spans.sort_by_key(|span| span.begin);
        let total = timeline.total();
        let path = critical_path(&spans, total);
        let rows: Vec<Row> = spans
            .into_iter()
            .enumerate()
            .map(|(index, span)| Row {
                span,
                critical: path.contains(&index),
            })
            .collect();
        let on_path = rows.iter().filter(|row| row.critical);
        let critical = on_path.map(|row| row.end(total).saturating_sub(row.span.begin));
        Chart {
            command: timeline.command.clone(),
            begun: timeline.begun.clone(),
            total,
            critical: critical.sum::<u64>().min(total),
            rows,
        }
    }

    /// The rows that a picture shows, and how many others there are. Files are written one after the other: they are one
    /// row.
    fn shown(&self) -> (Vec<Row>, usize) {
        let (files, others): (Vec<&Row>, Vec<&Row>) =
            self.rows.iter().partition(|row| row.is_of_files());
        // One that waited for something else is not among them.
        let is_next = |pair: &[&Row]| pair[1].span.begin <= pair[0].end(self.total) + SLACK;
        let apart = files.windows(2).position(|pair| !is_next(pair));
        let (files, late) = files.split_at(apart.map_or(files.len(), |index| index + 1));
        let others = others.into_iter().chain(late.iter().copied());
        let files_are_one = files_row(files, self.total);
        let all = others.cloned().chain(files_are_one);
        let least = LEAST.min(self.total / SHARE);
        let is_long = |row: &Row| row.end(self.total).saturating_sub(row.span.begin) >= least;
        let (mut shown, short): (Vec<Row>, Vec<Row>) = all.partition(is_long);
        shown.sort_by_key(|row| row.span.begin);
        (shown, short.len())
    }
}

/// All of these rows as one.
fn files_row(files: &[&Row], total: u64) -> Option<Row> {
    let begin = files.iter().map(|row| row.span.begin).min()?;
    let end = files.iter().map(|row| row.end(total)).max()?;
    let first = files.first()?;
    Some(Row {
        span: Span {
            what: format!("{} directories and files", files.len()),
            begin,
            end: Some(end),
            failed: files.iter().any(|row| row.span.failed),
            ..first.span.clone()
        },
        critical: files.iter().any(|row| row.critical),
    })
}

/// The indices of the parts that determined how long the run took: from the last one that ended, back to the one that was
/// last to end before it began, among those that it needed and those that it may have waited for.
fn critical_path(spans: &[Span], total: u64) -> Vec<usize> {
    let end = |index: &usize| spans[*index].end.unwrap_or(total);
    let mut path = Vec::new();
    let mut next = (0..spans.len()).max_by_key(end);
    while let Some(index) = next {
        path.push(index);
        let span = &spans[index];
        let is_earlier = |other: &usize| end(other) <= span.begin && !path.contains(other);
        let is_needed = |other: &usize| {
            spans[*other]
                .step
                .is_some_and(|step| span.needs.contains(&step))
        };
        let earlier = || (0..spans.len()).filter(is_earlier);
        // Something of the same kind may have had its place, until it ended.
        let needed = earlier().filter(is_needed).max_by_key(end);
        let last = earlier().max_by_key(end);
        next = match (needed, last) {
            (Some(needed), Some(last)) if end(&last) > end(&needed) + SLACK => Some(last),
            (needed, last) => needed.or(last),
        };
    }
    path
}

/// How long after the end of what it needs a step begins, if it waited for nothing else; in milliseconds.
const SLACK: u64 = 500;

/// A time in seconds, for people: with a decimal below 10 s.
fn seconds(milliseconds: u64) -> String {
    match milliseconds {
        0..10_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!("{} s", milliseconds / 1000),
    }
}

/// The words in at most `width` characters, without control characters. The end of a path or of an image tells more than its
/// beginning.
fn shortened(words: &str, width: usize) -> String {
    let words: String = words.chars().filter(|letter| !is_hidden(*letter)).collect();
    let count = words.chars().count();
    if count <= width {
        return words;
    }
    let (verb, rest) = match words.rsplit_once(' ') {
        Some((verb, rest)) if verb.chars().count() < width / 2 => (format!("{verb} "), rest),
        _ => (String::new(), words.as_str()),
    };
    let room = width - 1 - verb.chars().count();
    let skip = rest.chars().count().saturating_sub(room);
    let end: String = rest.chars().skip(skip).collect();
    format!("{verb}…{end}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn span(step: usize, needs: &[usize], begin: u64, end: u64) -> Span {
        Span {
            what: format!("step {step}"),
            part: Part::Step,
            step: Some(step),
            needs: needs.iter().copied().collect(),
            at: String::new(),
            begin,
            end: Some(end),
            failed: false,
        }
    }

    fn chart(spans: Vec<Span>) -> Chart {
        Chart::of(&Timeline {
            command: "install".to_owned(),
            begun: "2026-11-30T12:00:00Z".to_owned(),
            spans,
        })
    }

    /// Unpacking (1) and docker's start (2) begin at once; an image (3) needs both, a file (4) neither.
    fn usual() -> Vec<Span> {
        let wait = Span {
            what: "kubelet".to_owned(),
            part: Part::Healthy,
            step: None,
            needs: BTreeSet::from([3]),
            ..span(0, &[], 70_000, 95_000)
        };
        vec![
            span(1, &[], 0, 20_000),
            span(2, &[], 0, 40_000),
            span(3, &[1, 2], 40_100, 70_000),
            span(4, &[], 0, 300),
            wait,
        ]
    }

    #[test]
    fn the_critical_path_leads_back_from_what_ended_last_to_what_it_needed() {
        let chart = chart(usual());
        let critical = chart.rows.iter().filter(|row| row.critical);
        let steps: Vec<_> = critical.map(|row| row.span.step).collect();
        assert_eq!(steps, [Some(2), Some(3), None]);
        assert_eq!((chart.total, chart.critical), (95_000, 94_900));
    }

    #[test]
    fn what_waited_for_a_place_is_on_the_path_with_what_had_the_place() {
        let chart = chart(vec![
            span(1, &[], 0, 1000),
            span(2, &[1], 1000, 50_000),
            span(3, &[1], 50_010, 60_000),
        ]);
        assert!(chart.rows.iter().all(|row| row.critical), "{chart:?}");
    }

    #[test]
    fn bars_fit_a_terminal_and_mark_the_critical_path() {
        let text = bars(&chart(usual()));
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines.iter().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        let of = |what: &str| *lines.iter().find(|line| line.contains(what)).unwrap_or(&"");
        assert!(
            of("step 2").contains('#') && !of("step 2").contains('='),
            "{text}"
        );
        assert!(
            of("step 1").contains('=') && !of("step 1").contains('#'),
            "{text}"
        );
        assert!(of("kubelet is healthy").contains("25 s"), "{text}");
        assert_eq!(of("step 4"), "", "{text}");
        assert!(text.contains("1 shorter"), "{text}");
    }

    #[test]
    fn a_picture_has_every_long_part_and_escapes_its_words() {
        let mut spans = usual();
        spans[0].what = "<script>&\"'".to_owned();
        let text = svg(&chart(spans));
        assert!(text.contains("&lt;script&gt;&amp;&quot;&#39;"), "{text}");
        assert!(!text.contains("<script>"), "{text}");
        assert_eq!(text.matches("class=\"critical\"").count(), 3, "{text}");
    }

    #[test]
    fn a_run_without_steps_has_no_bars() {
        let chart = chart(vec![]);
        assert_eq!((chart.total, chart.critical), (0, 0));
        assert!(bars(&chart).contains("0.0 s"), "{}", bars(&chart));
        assert!(svg(&chart).ends_with("</svg>\n"));
    }
}
