//! The documentation inside the program: `docs/*.md`, by topic, shown as text. Pure.

use pulldown_cmark::{Event, HeadingLevel, Parser, Tag, TagEnd};
use rust_embed::RustEmbed;

pub mod terminal;

/// The documentation of this source tree.
#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/docs"]
#[include = "*.md"]
struct Docs;

/// One page of documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// What to type: `join` for `docs/join.md`.
    pub name: String,
    /// The page, in Markdown.
    pub text: String,
}

/// Every topic, sorted by name.
pub fn all() -> Vec<Topic> {
    let mut all: Vec<Topic> = Docs::iter()
        .filter_map(|file| find(file.strip_suffix(".md")?))
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The topic of that name.
pub fn find(name: &str) -> Option<Topic> {
    let file = Docs::get(&format!("{name}.md"))?;
    Some(Topic {
        name: name.to_owned(),
        text: String::from_utf8_lossy(&file.data).into_owned(),
    })
}

impl Topic {
    /// What the topic is about: the first sentence below the title.
    pub fn summary(&self) -> String {
        let paragraph = first_paragraph(&self.text);
        let sentence = paragraph
            .split_once(". ")
            .map_or(paragraph.as_str(), |(first, _)| first);
        sentence.trim_end_matches(['.', ':']).to_owned()
    }
}

/// The plain text of the first paragraph below the title.
fn first_paragraph(text: &str) -> String {
    let below_title = Parser::new(text)
        .skip_while(|event| !matches!(event, Event::End(TagEnd::Heading(HeadingLevel::H1))));
    let mut paragraph = String::new();
    for event in below_title.skip_while(|event| !matches!(event, Event::Start(Tag::Paragraph))) {
        match event {
            Event::Text(text) => paragraph += &text,
            Event::Code(code) => paragraph += &format!("`{code}`"),
            Event::SoftBreak | Event::HardBreak => paragraph.push(' '),
            Event::End(TagEnd::Paragraph) => break,
            _ => {}
        }
    }
    paragraph
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn topic(text: &str) -> Topic {
        Topic {
            name: "test".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_summary_is_the_first_sentence_below_the_title() {
        let text = "Before.\n\n# Title\n\n- list\n\nHow `it`\n*works*. More.\n\nSecond.\n";
        assert_eq!(topic(text).summary(), "How `it` works");
        assert_eq!(
            topic("# Title\n\nOn a master:\n\n    run\n").summary(),
            "On a master"
        );
        assert_eq!(topic("No title.\n").summary(), "");
    }

    #[test]
    fn every_page_is_a_topic_with_a_title_and_a_summary() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
        let mut pages: Vec<String> = std::fs::read_dir(docs)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
            .collect();
        pages.sort();
        let all = all();
        let names: Vec<&str> = all.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(names, pages);
        for topic in &all {
            assert!(topic.text.starts_with("# "), "{} has no title", topic.name);
            assert!(!topic.summary().is_empty(), "{} has no summary", topic.name);
        }
        assert_eq!(find("../README"), None);
    }
}
