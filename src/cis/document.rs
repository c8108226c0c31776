//! The self-assessment as a page of documentation.

use std::collections::BTreeMap;
use std::fmt::Write;

use textwrap::{Options, WordSeparator, WordSplitter};

use super::{Judged, Section, Verdict, count, sections};

/// How wide lines of the page are, in characters.
const WIDTH: usize = 112;

const HEAD: &str = "\
# CIS Kubernetes Benchmark

What a node answers to each item of the CIS Kubernetes Benchmark, and why.

The Center for Internet Security (CIS) publishes a benchmark for secure clusters. Version 1.2.0 is for Kubernetes
1.8, and version 1.3.0 for 1.9 and 1.10. This page has the 104 items of version 1.2.0 for masters and workers, its 20
items for federations, and section 1.7 of version 1.3.0. The words are our own: read the benchmark itself for its
reasons and for how to check by hand.

Evaluate the node that you are on, as root:

    appliance check --cis
    appliance check --cis -o json
    appliance check --cis --root /mnt   # the system of a mounted image

It reads the flags of the running programs (of the units, if a program does not run) and the mode and owner of files.
It changes nothing and needs no cluster. Run it on each node. The results are:

| result | meaning |
|---|---|
| pass | it is as required |
| FAIL | it is not as required. The exit code is 3 |
| differs on purpose | this product does it in another way, for the reason given. Any other difference is FAIL |
| manual | a person must look. The text says at what |
| not applicable | it concerns something that the node does not have |

The tables below are what a newly installed node answers before its services start, with the default settings.
(The kubelet writes its kubeconfig later, when it gets its certificate, for root alone.) Items of 1.x are for
masters, those of 2.x for nodes that run pods; a node with the role `single` answers both. The level is that of the
benchmark's profile. Items that are not scored do not count in its score. The reasons are below each table.
`-o json` also says what is read for each item, and what was found.

";

const SIMPLE: &str = "\
The profile `simple` has no TLS and no authorization. The column `simple` shows what that costs. Do not harden it:
use `with-ca`. The options that move items from \"differs on purpose\" to \"pass\" are in
[security.md](security.md), \"Hardening\".
";

/// The page for results of new nodes of the profiles `with-ca` and `simple`: for masters, items of section 1;
/// for workers, items of section 2.
pub fn document(with_ca: &[Judged], simple: &[Judged]) -> String {
    let mut text = HEAD.to_owned();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "| result | `with-ca` | `simple` |\n|---|---|---|");
    for result in Verdict::ALL {
        let (ours, theirs) = (count(with_ca, result), count(simple, result));
        let _ = writeln!(text, "| {} | {ours} | {theirs} |", result.words());
    }
    let _ = write!(text, "\n{SIMPLE}");
    let simple: BTreeMap<&str, &Judged> = simple.iter().map(|one| (one.item, one)).collect();
    for section in sections() {
        table(&mut text, section, with_ca, &simple);
    }
    text
}

fn table(
    text: &mut String,
    section: &Section,
    with_ca: &[Judged],
    simple: &BTreeMap<&str, &Judged>,
) {
    let _ = write!(
        text,
        "\n## {} {}\n\n| item | level | required | `with-ca` | `simple` |\n|---|---|---|---|---|\n",
        section.number, section.title
    );
    let here = |one: &&Judged| section.items.iter().any(|item| item.number == one.item);
    let own: Vec<&Judged> = with_ca.iter().filter(here).collect();
    for one in &own {
        let scored = if one.scored { "" } else { ", not scored" };
        let simple = simple.get(one.item).map_or("", |one| one.result.words());
        let _ = writeln!(
            text,
            "| {} | {}{scored} | {} | {} | {simple} |",
            one.item,
            one.level,
            one.requires,
            one.result.words()
        );
    }
    reasons(text, &own);
}

/// The reasons of results that are not `pass`; neighbours with the same reason together.
fn reasons(text: &mut String, own: &[&Judged]) {
    let same = |one: &&Judged, other: &&Judged| one.why == other.why;
    let lines = Options::new(WIDTH)
        .subsequent_indent("  ")
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    let groups = own.chunk_by(same);
    let groups = groups.filter(|group| group.iter().any(|one| !one.why.is_empty()));
    for (place, group) in groups.enumerate() {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let items = match group.len() {
            1 => first.item.to_owned(),
            2 => format!("{} and {}", first.item, last.item),
            _ => format!("{} to {}", first.item, last.item),
        };
        if place == 0 {
            text.push('\n');
        }
        let line = format!("- **{items}** {}: {}.", first.result.words(), first.why);
        let _ = writeln!(text, "{}", textwrap::fill(&line, &lines));
    }
}
