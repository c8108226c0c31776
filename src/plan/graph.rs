//! The graph of a plan as text: for Graphviz, and for Mermaid.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{Plan, Step};
use crate::language::is_hidden;

/// A language for graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// That of Graphviz.
    Dot,
    /// That of Mermaid, which is shown in Markdown.
    Mermaid,
}

/// Steps that are shown as one: files, for example, are written one after the other.
struct Group {
    words: String,
    needs: BTreeSet<usize>,
}

impl Plan {
    /// The graph of its steps: an arrow leads from what is needed to what needs it. Steps of one kind that only need each
    /// other, one after the other, are one node.
    pub fn graph(&self, form: Form) -> String {
        let groups = self.groups();
        let mut text = match form {
            Form::Dot => "digraph plan {\n  rankdir=LR;\n  node [shape=box];\n".to_owned(),
            Form::Mermaid => "flowchart LR\n".to_owned(),
        };
        for (name, group) in &groups {
            let words = quoted(&group.words, form);
            // Writing to a text cannot fail.
            let _ = match form {
                Form::Dot => writeln!(text, "  s{name} [label={words}];"),
                Form::Mermaid => writeln!(text, "  s{name}[{words}]"),
            };
            for need in &group.needs {
                let _ = match form {
                    Form::Dot => writeln!(text, "  s{need} -> s{name};"),
                    Form::Mermaid => writeln!(text, "  s{need} --> s{name}"),
                };
            }
        }
        if form == Form::Dot {
            text.push_str("}\n");
        }
        text
    }

    /// The groups by the number, from 1, of their first step.
    fn groups(&self) -> BTreeMap<usize, Group> {
        let needs = self.needs();
        let mut first_of: Vec<usize> = Vec::new();
        let mut members: BTreeMap<usize, Vec<&Step>> = BTreeMap::new();
        let mut last_of_kind: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            let wanted: Vec<usize> = needs[index].iter().map(|need| need.step).collect();
            let before = kind(step).and_then(|kind| last_of_kind.insert(kind, index));
            let joins = before.filter(|before| wanted.iter().all(|step| step == before));
            let first = joins.map_or(index, |before| first_of[before]);
            first_of.push(first);
            members.entry(first).or_default().push(step);
        }
        let group = |(first, steps): (usize, Vec<&Step>)| {
            let mine = (0..self.steps.len()).filter(|index| first_of[*index] == first);
            let needs = mine.flat_map(|index| needs[index].iter().map(|need| first_of[need.step]));
            let group = Group {
                words: words(&steps),
                needs: needs
                    .filter(|need| *need != first)
                    .map(|need| need + 1)
                    .collect(),
            };
            (first + 1, group)
        };
        members.into_iter().map(group).collect()
    }
}

/// The kind of steps that are shown as one.
fn kind(step: &Step) -> Option<&'static str> {
    match step {
        Step::CreateDirectory(_)
        | Step::WriteFile { .. }
        | Step::EditFile { .. }
        | Step::KeepCopy { .. } => Some("directories and files"),
        Step::SetLink(_) => Some("links"),
        Step::LoadModule(_) | Step::SetSysctl { .. } => Some("modules and settings of the kernel"),
        _ => None,
    }
}

fn words(steps: &[&Step]) -> String {
    match (steps, kind(steps[0])) {
        ([_, _, ..], Some(kind)) => format!("{} {kind}", steps.len()),
        _ => steps[0].to_string(),
    }
}

/// The words as a quoted text.
fn quoted(words: &str, form: Form) -> String {
    let words = words.replace(is_hidden, " ");
    match form {
        Form::Dot => format!("\"{}\"", words.replace('\\', "\\\\").replace('"', "\\\"")),
        Form::Mermaid => format!("\"{}\"", words.replace('#', "#35;").replace('"', "#quot;")),
    }
}
