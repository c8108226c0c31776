//! The pages in Simplified Chinese: each English page has one, of the same form, and made from the
//! English text as it is now.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use appliance::digest::Sha256;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// The directory of the Chinese pages, by its name below `docs/`.
const CHINESE: &str = "zh-CN";

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The names of the pages in a directory.
fn pages(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(project().join(directory)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".md")).collect()
}

/// Each English page and its translation, by their paths in the project.
fn pairs() -> Vec<(String, String)> {
    let of_docs = pages("docs").into_iter();
    let of_docs = of_docs.map(|name| (format!("docs/{name}"), format!("docs/{CHINESE}/{name}")));
    let readme = ("README.md".to_owned(), "README.zh-CN.md".to_owned());
    of_docs.chain([readme]).collect()
}

#[test]
fn every_page_is_translated() {
    assert_eq!(pages(&format!("docs/{CHINESE}")), pages("docs"));
}

#[test]
fn the_table_in_the_readme_has_every_page() {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    for page in pages("docs") {
        let row = format!("\n| [{}](docs/{page}) |", page.trim_end_matches(".md"));
        assert!(readme.contains(&row), "README.md lacks the row: {row}");
    }
}

#[test]
fn translations_have_the_form_of_the_english_pages() {
    let mut problems = String::new();
    for (english, chinese) in pairs() {
        let of = |path: &str| Form::of(path, &fs::read_to_string(project().join(path)).unwrap());
        if let Some(difference) = difference(&of(&english), &of(&chinese)) {
            writeln!(problems, "{chinese}: {difference}").unwrap();
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

/// The headings of a page, in order.
fn headings(page: &str) -> Vec<String> {
    let text = fs::read_to_string(project().join(page)).unwrap();
    let code = |line: &&str| !line.starts_with("    ");
    let lines = text.lines().filter(code);
    lines
        .filter_map(|line| {
            Some(line.split_once("# ")?.1.to_owned()).filter(|_| line.starts_with('#'))
        })
        .collect()
}

#[test]
fn sections_are_quoted_by_their_translated_names() {
    let mut problems = String::new();
    let named: Vec<(String, String)> = pairs()
        .iter()
        .flat_map(|(english, chinese)| headings(english).into_iter().zip(headings(chinese)))
        .collect();
    for (english, chinese) in pairs() {
        let text = fs::read_to_string(project().join(&english))
            .unwrap()
            .replace('\n', " ");
        let translation = fs::read_to_string(project().join(&chinese)).unwrap();
        // What is between two quotation marks, wherever a quotation begins.
        for quoted in text.split('"') {
            let names: Vec<&String> = named
                .iter()
                .filter(|(heading, name)| heading == quoted && heading != name)
                .map(|(_, name)| name)
                .collect();
            let is_quoted = |name: &&String| translation.contains(&format!("“{name}”"));
            if !names.is_empty() && !names.iter().any(is_quoted) {
                writeln!(
                    problems,
                    "{chinese} does not quote {names:?} for \"{quoted}\""
                )
                .unwrap();
            }
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

#[test]
fn translations_are_of_the_present_english_pages() {
    let mut behind = Vec::new();
    for (english, chinese) in pairs() {
        let digest = Sha256::of(&fs::read(project().join(&english)).unwrap());
        let translation = fs::read_to_string(project().join(&chinese)).unwrap();
        if !is_of(&translation, &digest.to_string()) {
            behind.push(english);
        }
    }
    assert!(
        behind.is_empty(),
        "these translations are behind; translate what changed, then run: docs/{CHINESE}/reviewed.sh {}",
        behind.join(" ")
    );
}

/// Whether the first line of a translation names this digest.
fn is_of(translation: &str, digest: &str) -> bool {
    let line = format!("<!-- en sha256: {digest} -->");
    translation.lines().next() == Some(&line)
}

/// What a translation must have in common with its original.
#[derive(Debug, PartialEq)]
struct Form {
    /// Headings with their levels, paragraphs, items, rows of tables and blocks of code, in order.
    blocks: Vec<String>,
    /// Below each heading, the targets of links and the code in lines. Their order may differ.
    names: Vec<BTreeSet<String>>,
    /// Lines that end and go on with Chinese: a browser shows a blank there.
    blanks: Vec<String>,
}

impl Form {
    fn of(page: &str, text: &str) -> Form {
        let mut reader = Reader {
            page,
            form: Form {
                blocks: Vec::new(),
                names: vec![BTreeSet::new()],
                blanks: Vec::new(),
            },
            code: None,
            before: String::new(),
            is_broken: false,
        };
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            reader.take(event);
        }
        reader.form
    }
}

/// Reads the form of a page.
struct Reader<'a> {
    page: &'a str,
    form: Form,
    /// The block of code so far, and whether it is a picture.
    code: Option<(bool, String)>,
    /// The text before, and whether a line ended after it.
    before: String,
    is_broken: bool,
}

impl Reader<'_> {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(TagEnd::CodeBlock) => self.end_code(),
            Event::Text(text) => match &mut self.code {
                Some((_, code)) => *code += &text,
                None => self.text(&text),
            },
            Event::Code(code) => {
                self.name(format!("`{code}`"));
                self.text("");
            }
            Event::SoftBreak => self.is_broken = true,
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        let block = match tag {
            Tag::CodeBlock(kind) => {
                let picture = CodeBlockKind::Fenced("mermaid".into());
                self.code = Some((kind == picture, String::new()));
                return;
            }
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.name(target(self.page, &dest_url));
                return;
            }
            Tag::Heading { level, .. } => {
                self.form.names.push(BTreeSet::new());
                format!("a heading of level {level}")
            }
            Tag::Paragraph => "a paragraph".to_owned(),
            Tag::Item => "an item".to_owned(),
            Tag::TableHead | Tag::TableRow => "a row".to_owned(),
            Tag::TableCell => "a cell".to_owned(),
            _ => return,
        };
        self.form.blocks.push(block);
    }

    fn text(&mut self, text: &str) {
        let is_within = is_chinese(self.before.chars().last()) && is_chinese(text.chars().next());
        if self.is_broken && is_within {
            self.form.blanks.push(format!("{}⏎{text}", self.before));
        }
        text.clone_into(&mut self.before);
        self.is_broken = false;
    }

    fn end_code(&mut self) {
        let (is_picture, code) = self.code.take().unwrap_or_default();
        let code = if is_picture {
            unlabelled(&code)
        } else {
            uncommented(&code)
        };
        self.form.blocks.push(format!("code:\n{code}"));
    }

    fn name(&mut self, name: String) {
        self.form.names.last_mut().unwrap().insert(name);
    }
}

fn is_chinese(character: Option<char>) -> bool {
    character.is_some_and(|character| ('\u{2e80}'..='\u{ffef}').contains(&character))
}

/// A block of code without comments, which are translated.
fn uncommented(code: &str) -> String {
    let lines = code.lines().map(|line| match line.find("# ") {
        Some(at) if line[..at].trim().is_empty() || line[..at].ends_with("  ") => {
            format!("{}#", line[..at].trim_end())
        }
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A picture in mermaid's language without its labels, which are translated: what is in quotation marks, between bars,
/// and after a colon or `as` to the end of the line.
fn unlabelled(picture: &str) -> String {
    let lines = picture.lines().map(|line| {
        let line = outside(&outside(line, '"'), '|');
        let line = line.split(": ").next().unwrap_or_default();
        line.split(" as ").next().unwrap_or_default().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The text without what is between two of these marks.
fn outside(text: &str, mark: char) -> String {
    let parts: Vec<&str> = text.split(mark).step_by(2).collect();
    parts.join(&mark.to_string())
}

/// The English page, section, file or address that a link leads to.
fn target(page: &str, link: &str) -> String {
    if link.contains("://") {
        return link.to_owned();
    }
    let path = link.split('#').next().unwrap_or_default();
    let mut resolved = PathBuf::from(page);
    if !path.is_empty() {
        resolved.pop();
    }
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => drop(resolved.pop()),
            part => resolved.push(part),
        }
    }
    assert!(
        project().join(&resolved).exists(),
        "{page} leads to {link}, which is not there"
    );
    let english = resolved.to_str().unwrap();
    english
        .replace(&format!("docs/{CHINESE}/"), "docs/")
        .replace(".zh-CN.md", ".md")
}

/// The first difference between an original and its translation.
fn difference(english: &Form, chinese: &Form) -> Option<String> {
    let longest = english.blocks.len().max(chinese.blocks.len());
    let nothing = "nothing".to_owned();
    for number in 0..longest {
        let of = |form: &Form| form.blocks.get(number).unwrap_or(&nothing).clone();
        let (english_block, chinese_block) = (of(english), of(chinese));
        if english_block != chinese_block {
            let before = &chinese.blocks[..number.min(chinese.blocks.len())];
            let heading = before
                .iter()
                .filter(|block| block.contains("heading"))
                .count();
            return Some(format!(
                "below heading {heading}, block {number}: {chinese_block}\nis in English: {english_block}"
            ));
        }
    }
    for (number, (english, chinese)) in english.names.iter().zip(&chinese.names).enumerate() {
        if english != chinese {
            let missing: Vec<_> = english.difference(chinese).collect();
            let added: Vec<_> = chinese.difference(english).collect();
            return Some(format!(
                "below heading {number}: without {missing:?}, and with {added:?}"
            ));
        }
    }
    let blank = chinese.blanks.first();
    blank.map(|blank| format!("write the paragraph in one line, or a blank is shown: {blank}"))
}

/// Whether a translation of `english` is found to differ, with this text in the complaint.
#[track_caller]
fn found(english: &str, chinese: &str, complaint: &str) {
    let of = |page, text| Form::of(page, text);
    let difference = difference(
        &of("docs/join.md", english),
        &of("docs/zh-CN/join.md", chinese),
    );
    let difference = difference.expect(chinese);
    assert!(difference.contains(complaint), "{difference}");
}

#[test]
fn what_a_translation_lacks_is_found() {
    let english = "# Title\n\nRun `a` and\n[this](install.md):\n\n    a --b   # why\n    # then\n\n| x | y |\n|---|---|\n| 1 | 2 |\n";
    let chinese = "# 标题\n\n见[这里](install.md)，运行 `a`：\n\n    a --b   # 原因\n    # 然后\n\n| 甲 | 乙 |\n|---|---|\n| 1 | 2 |\n";
    let of = |page, text| Form::of(page, text);
    assert_eq!(
        difference(
            &of("docs/join.md", english),
            &of("docs/zh-CN/join.md", chinese)
        ),
        None
    );
    found(english, &chinese.replace("# 标题", "## 标题"), "level h2");
    found(english, &chinese.replace("--b", "--c"), "a --c");
    found(english, &chinese.replace("    # 然后\n", ""), "a --b#\n#");
    found(
        english,
        &chinese.replace("install.md", "cis.md"),
        "docs/install.md",
    );
    found(english, &chinese.replace("`a`", "程序"), "`a`");
    found(english, &chinese.replace("| 1 | 2 |\n", ""), "a row");
    found(english, &chinese.replace("见[", "见\n["), "in one line");
    found(english, &format!("{chinese}\n另一段。\n"), "a paragraph");
}

#[test]
fn a_picture_may_have_other_labels_only() {
    let english = "```mermaid\nflowchart TD\n  a[\"one\"] -->|go| b\n```\n";
    let of = |text: &str| Form::of("docs/join.md", text);
    let chinese = english.replace("one", "一").replace("go", "去");
    assert_eq!(difference(&of(english), &of(&chinese)), None);
    found(english, &chinese.replace("| b", "| c"), "| c");
}

#[test]
fn another_english_text_is_found() {
    let digest = Sha256::of(b"# Title\n").to_string();
    let translation = format!("<!-- en sha256: {digest} -->\n# 标题\n");
    assert!(is_of(&translation, &digest));
    assert!(!is_of(
        &translation,
        &Sha256::of(b"# Another\n").to_string()
    ));
    assert!(!is_of("# 标题\n", &digest));
}

#[test]
fn a_review_is_recorded_by_the_script() {
    let project_of_test = tempfile::tempdir().unwrap();
    let at = |path: &str| project_of_test.path().join(path);
    fs::create_dir_all(at("docs/zh-CN")).unwrap();
    fs::copy(
        project().join("docs/zh-CN/reviewed.sh"),
        at("docs/zh-CN/reviewed.sh"),
    )
    .unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(at("docs/zh-CN/reviewed.sh"))
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    for (path, text) in [
        ("README.md", "# Title\n"),
        ("README.zh-CN.md", "# 标题\n"),
        ("docs/join.md", "# Join\n"),
        (
            "docs/zh-CN/join.md",
            "<!-- en sha256: 0 -->\n# 加入\n\n    a\n",
        ),
    ] {
        fs::write(at(path), text).unwrap();
    }
    assert_eq!(run(&[]), (Some(1), "README.md\ndocs/join.md\n".to_owned()));
    let both = run(&["docs/join.md", "README.md"]);
    assert_eq!(
        both,
        (Some(0), "docs/zh-CN/join.md\nREADME.zh-CN.md\n".to_owned())
    );
    assert_eq!(run(&[]), (Some(0), String::new()));
    let translation = fs::read_to_string(at("docs/zh-CN/join.md")).unwrap();
    assert!(
        is_of(&translation, &Sha256::of(b"# Join\n").to_string()),
        "{translation}"
    );
    assert!(
        translation.ends_with(" -->\n# 加入\n\n    a\n"),
        "{translation}"
    );
    // Neither a translation in place of its page, nor a page without one.
    assert_eq!(run(&["docs/zh-CN/join.md"]).0, Some(2));
    fs::write(at("docs/new.md"), "# New\n").unwrap();
    assert_eq!(run(&["docs/new.md"]).0, Some(1));
    assert_eq!(run(&[]), (Some(1), "docs/new.md\n".to_owned()));
}
