//! The documentation inside the program, by topic, shown as text: `docs/*.md`, and the same in
//! Simplified Chinese, `docs/zh-CN/*.md`. Pure.

use pulldown_cmark::{Event, HeadingLevel, Parser, Tag, TagEnd};
use rust_embed::RustEmbed;

use crate::language::Language;

pub mod breaks;
mod columns;
pub mod terminal;

/// The documentation of this source tree, in both languages.
#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/docs"]
#[include = "*.md"]
struct Docs;

/// The Chinese pages.
const CHINESE: &str = "zh-CN/";

/// One page of documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name: `join` for `docs/join.md`.
    pub name: String,
    /// The page, in Markdown.
    pub text: String,
}

/// Every topic in this language, sorted by name.
pub fn all(language: Language) -> Vec<Topic> {
    let mut all: Vec<Topic> = Docs::iter()
        .filter_map(|file| find(file.strip_suffix(".md")?, language))
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The topic of that name; in English, if it is not in the language.
pub fn find(name: &str, language: Language) -> Option<Topic> {
    if name.contains('/') {
        return None;
    }
    let english = || Docs::get(&format!("{name}.md"));
    let file = match language {
        Language::English => english(),
        Language::Chinese => Docs::get(&format!("{CHINESE}{name}.md")).or_else(english),
    }?;
    let text = String::from_utf8_lossy(&file.data);
    // The first line of a translation tells the digest of the English page.
    let title = if text.starts_with("<!--") {
        text.find('\n').map_or(text.len(), |end| end + 1)
    } else {
        0
    };
    Some(Topic {
        name: name.to_owned(),
        text: text[title..].to_owned(),
    })
}

impl Topic {
    /// The subject of the topic: the first sentence below the title.
    pub fn summary(&self) -> String {
        let paragraph = first_paragraph(&self.text);
        let first = paragraph.split_once(". ").map(|(first, _)| first);
        let first = first.unwrap_or(&paragraph);
        let sentence = first.split('。').next().unwrap_or_default();
        sentence.trim_end_matches(['.', ':', '：']).to_owned()
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
        assert_eq!(topic("# 标题\n\n如何工作。更多。\n").summary(), "如何工作");
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
        let all = all(Language::English);
        let names: Vec<&str> = all.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(names, pages);
        for topic in &all {
            assert!(topic.text.starts_with("# "), "{} has no title", topic.name);
        }
        for topic in all.iter().chain(&super::all(Language::Chinese)) {
            assert!(!topic.summary().is_empty(), "{} has no summary", topic.name);
        }
        assert_eq!(find("../README", Language::English), None);
        assert_eq!(find("zh-CN/install", Language::English), None);
    }

    #[test]
    fn a_page_is_shown_in_chinese() {
        let page = find("install", Language::Chinese).unwrap();
        assert!(page.text.starts_with("# 安装节点\n"), "{}", page.text);
        assert!(find("no-such-page", Language::Chinese).is_none());
    }
}
