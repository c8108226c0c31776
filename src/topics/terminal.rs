//! Markdown as text for a terminal, or for any other output of characters.

use comfy_table::{ContentArrangement, Table, TableComponent, presets};
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use textwrap::core::display_width;

use super::{breaks, columns};

/// The language of pictures, which only a browser draws. The text beside one says the same.
const PICTURE: &str = "mermaid";
/// The indentation of code.
const CODE: &str = "    ";
/// The number of blanks behind each column of a table but the last, and between two columns.
const GUTTER: u16 = 1;
/// The start and the end of each style on a terminal.
const BOLD: &str = "1";
const EMPHASIS: &str = "3";
const CODE_COLOUR: &str = "36";

/// The form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// How many columns a line has; a Chinese character takes two.
    pub width: usize,
    /// Whether it may have bold type and colour.
    pub styled: bool,
}

/// The page as text. Prose is wrapped; lines of code stay as they are, to be copied.
pub fn render(markdown: &str, form: Form) -> String {
    let mut writer = Writer {
        form,
        out: String::new(),
        gap: false,
        inline: String::new(),
        raw: String::new(),
        styles: Vec::new(),
        indents: Vec::new(),
        lists: Vec::new(),
        links: Vec::new(),
        code: None,
        is_picture: false,
        table: None,
    };
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        writer.take(event);
    }
    writer.flush();
    writer.out
}

/// The prefixes of the lines of a list's item or a quotation.
struct Indent {
    /// The prefix of the first line, until it is written.
    first: Option<String>,
    /// The prefix of every other line.
    rest: String,
}

/// A link whose end is not read yet.
struct Link {
    destination: String,
    /// The start of its text in the styled text, and in the plain one.
    start: (usize, usize),
}

struct Writer {
    form: Form,
    out: String,
    /// Whether an empty line comes before the next block.
    gap: bool,
    /// The text of the block so far, with and without styles.
    inline: String,
    raw: String,
    styles: Vec<&'static str>,
    indents: Vec<Indent>,
    /// The next number of each open list, if the list has numbers.
    lists: Vec<Option<u64>>,
    links: Vec<Link>,
    code: Option<String>,
    /// Whether this code is a picture.
    is_picture: bool,
    table: Option<Vec<Vec<String>>>,
}

impl Writer {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.code {
                Some(code) => *code += &text,
                None => self.push(&text),
            },
            Event::Code(code) => self.push_code(&code),
            Event::SoftBreak => self.push(" "),
            Event::HardBreak => self.push("\n"),
            Event::Rule => {
                let line = "-".repeat(self.form.width);
                self.block(&[line]);
                self.gap = true;
            }
            // Comments, and parts that only a browser shows.
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } | Tag::Strong => self.styles.push(BOLD),
            Tag::Emphasis => self.styles.push(EMPHASIS),
            Tag::CodeBlock(kind) => {
                self.flush();
                self.is_picture = kind == CodeBlockKind::Fenced(PICTURE.into());
                self.code = Some(String::new());
            }
            Tag::List(number) => {
                self.flush();
                self.lists.push(number);
            }
            Tag::Item => self.start_item(),
            Tag::BlockQuote(_) => self.indents.push(Indent {
                first: None,
                rest: "| ".to_owned(),
            }),
            Tag::Link { dest_url, .. } => self.links.push(Link {
                destination: dest_url.into_string(),
                start: (self.inline.len(), self.raw.len()),
            }),
            Tag::Table(_) => self.table = Some(Vec::new()),
            Tag::TableHead | Tag::TableRow => {
                if let Some(rows) = &mut self.table {
                    rows.push(Vec::new());
                }
            }
            _ => {}
        }
    }

    fn start_item(&mut self) {
        let marker = match self.lists.last_mut() {
            Some(Some(number)) => {
                *number += 1;
                format!("{}. ", *number - 1)
            }
            _ => "- ".to_owned(),
        };
        self.indents.push(Indent {
            rest: " ".repeat(marker.len()),
            first: Some(marker),
        });
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                self.styles.pop();
                self.heading(level);
            }
            TagEnd::Strong | TagEnd::Emphasis => drop(self.styles.pop()),
            TagEnd::Paragraph => {
                self.flush();
                self.gap = true;
            }
            TagEnd::CodeBlock => self.code_block(),
            TagEnd::Item => {
                self.flush();
                self.indents.pop();
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.gap |= self.lists.is_empty();
            }
            TagEnd::BlockQuote(_) => drop(self.indents.pop()),
            TagEnd::Link => self.end_link(),
            TagEnd::TableCell => {
                let (_, cell) = self.taken();
                if let Some(row) = self.table.as_mut().and_then(|rows| rows.last_mut()) {
                    row.push(cell);
                }
            }
            TagEnd::Table => self.end_table(),
            _ => {}
        }
    }

    /// Adds text in the current style. Every word is styled separately: pagers forget a style at
    /// the end of a line.
    fn push(&mut self, text: &str) {
        self.raw += text;
        let styles = self.styles.join(";");
        self.push_styled(text, &styles);
    }

    fn push_styled(&mut self, text: &str, styles: &str) {
        if !self.form.styled || styles.is_empty() {
            self.inline += text;
            return;
        }
        for part in breaks::parts(text) {
            let word = part.trim_end_matches(' ');
            if !word.is_empty() {
                self.inline += &format!("\x1b[{styles}m{word}\x1b[0m");
            }
            self.inline += &part[word.len()..];
        }
    }

    /// Code in a line: coloured if the terminal has colours, else between backticks.
    fn push_code(&mut self, code: &str) {
        self.raw += &format!("`{code}`");
        if self.form.styled {
            self.push_styled(code, CODE_COLOUR);
        } else {
            self.inline += &format!("`{code}`");
        }
    }

    /// The text of a link: the target is a topic, an address, or not available here.
    fn end_link(&mut self) {
        let Some(Link { destination, start }) = self.links.pop() else {
            return;
        };
        let text = self.raw[start.1..].to_owned();
        let path = destination.split('#').next().unwrap_or_default();
        if destination.contains("://") {
            if text != destination {
                self.push(&format!(" ({destination})"));
            }
        } else if let Some(name) = path.strip_suffix(".md").filter(|name| !name.contains('/')) {
            if text.ends_with(path) {
                self.inline.truncate(start.0);
                self.raw.truncate(start.1);
                self.push_code(&format!("appliance help {name}"));
            } else {
                self.push(" (");
                self.push_code(&format!("appliance help {name}"));
                self.push(")");
            }
        }
    }

    fn taken(&mut self) -> (String, String) {
        (
            std::mem::take(&mut self.inline),
            std::mem::take(&mut self.raw),
        )
    }

    /// Writes the text so far as a paragraph.
    fn flush(&mut self) {
        let (text, _) = self.taken();
        if text.trim().is_empty() {
            return;
        }
        let width = self.form.width.saturating_sub(self.indentation());
        self.block(&wrap(&text, breaks::options(width).break_words(false)));
    }

    fn indentation(&self) -> usize {
        self.indents.iter().map(|indent| indent.rest.len()).sum()
    }

    /// Writes lines, each after the prefix of its list or quotation.
    fn block(&mut self, lines: &[String]) {
        if self.gap && !self.out.is_empty() {
            self.out.push('\n');
        }
        self.gap = false;
        for line in lines {
            let mut whole = String::new();
            for indent in &mut self.indents {
                whole += &indent.first.take().unwrap_or_else(|| indent.rest.clone());
            }
            whole += line;
            self.out += whole.trim_end();
            self.out.push('\n');
        }
    }

    /// A heading is bold; without styles, a line is drawn below it.
    fn heading(&mut self, level: HeadingLevel) {
        self.gap = true;
        let width = display_width(&self.raw).min(self.form.width);
        self.flush();
        if !self.form.styled {
            let line = match level {
                HeadingLevel::H1 => "=",
                _ => "-",
            };
            self.block(&[line.repeat(width)]);
        }
        self.gap = true;
    }

    fn code_block(&mut self) {
        let code = self.code.take().unwrap_or_default();
        if self.is_picture {
            return;
        }
        let mut lines = Vec::new();
        for line in code.lines() {
            self.push_styled(line, CODE_COLOUR);
            lines.push(format!("{CODE}{}", self.taken().0));
        }
        self.gap = true;
        self.block(&lines);
        self.gap = true;
    }

    fn end_table(&mut self) {
        let rows = self.table.take().unwrap_or_default();
        let width = self.form.width.saturating_sub(self.indentation());
        let widths = columns::widths(&rows, width, 2 * usize::from(GUTTER));
        let mut rows = rows.iter().map(|row| {
            let cells = row.iter().zip(&widths);
            cells.map(|(cell, &width)| wrap(cell, breaks::options(width)).join("\n"))
        });
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_style(TableComponent::HeaderLines, '-')
            .set_style(TableComponent::MiddleHeaderIntersections, '-');
        if let Some(header) = rows.next() {
            table.set_header(header);
        }
        table.add_rows(rows);
        for (behind, column) in table.column_iter_mut().rev().enumerate() {
            column.set_padding((0, if behind == 0 { 0 } else { GUTTER }));
        }
        // The header, the line below it and the rows. With only these lines, no cell takes two
        // lines.
        if table.lines().count() > table.row_count() + 2 {
            table.set_style(TableComponent::HorizontalLines, ' ');
        }
        let lines: Vec<String> = table.lines().collect();
        self.gap = true;
        self.block(&lines);
        self.gap = true;
    }
}

fn wrap(text: &str, options: textwrap::Options<'_>) -> Vec<String> {
    let lines = textwrap::wrap(text, options).into_iter();
    lines.map(std::borrow::Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(markdown: &str) -> String {
        let form = Form {
            width: 30,
            styled: false,
        };
        render(markdown, form)
    }

    #[test]
    fn prose_is_wrapped_and_code_is_not() {
        let markdown = "# Title\n\nOne two three four\nfive six *seven* `eight nine`.\n\n## Next\n\n    a command --that is-longer than-the-line\n\n\n    second\n\nAfter.\n";
        let text = "Title\n=====\n\nOne two three four five six\nseven `eight nine`.\n\nNext\n----\n\n    a command --that is-longer than-the-line\n\n\n    second\n\nAfter.\n";
        assert_eq!(plain(markdown), text);
    }

    #[test]
    fn pictures_are_left_out() {
        let markdown = "Before.\n\n```mermaid\nflowchart TD\n```\n\nAfter.\n";
        assert_eq!(plain(markdown), "Before.\n\nAfter.\n");
    }

    #[test]
    fn lists_stand_in_and_keep_their_numbers() {
        let markdown = "Two:\n\n- first\n- second of more words than one line\n  1. inner\n  2. other\n\n3. three\n\n   below\n";
        let text = "Two:\n\n- first\n- second of more words than\n  one line\n  1. inner\n  2. other\n\n3. three\n\n   below\n";
        assert_eq!(plain(markdown), text);
    }

    #[test]
    fn tables_fit_into_the_width() {
        let markdown = "| name | what it is for |\n|---|---|\n| `a` | short |\n| b | a cell of many words, wrapped |\n";
        let text = plain(markdown);
        assert!(
            text.lines().all(|line| line.chars().count() <= 30),
            "{text}"
        );
        assert!(text.starts_with("name  what it is for\n----"), "{text}");
        assert!(
            text.contains("`a`   short\n\nb     a cell of many words,\n"),
            "{text}"
        );
    }

    #[test]
    fn words_in_tables_stay_whole() {
        let markdown = "| a | b |\n|---|---|\n| /var/lib/appliance | one two three four five |\n";
        let text = plain(markdown);
        assert!(text.contains("/var/lib/appliance  one two\n"), "{text}");
    }

    #[test]
    fn chinese_is_wrapped_by_its_width() {
        let text = plain(
            "# 安装节点\n\n在每台虚拟机上以 root 身份运行 `appliance install`，然后等待节点变为健康。\n",
        );
        assert_eq!(
            text,
            "安装节点\n========\n\n在每台虚拟机上以 root 身份运行\n`appliance install`，然后等待\n节点变为健康。\n"
        );
        let text = plain(
            "| 名称 | 作用 |\n|---|---|\n| /etc/appliance | 节点的设置，由程序在启动时读取 |\n",
        );
        assert!(
            text.contains(
                "/etc/appliance  节点的设置，由\n                程序在启动时读\n                取\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn links_lead_to_topics_and_addresses() {
        assert_eq!(
            plain("See [docs/join.md](join.md#x)."),
            "See `appliance help join`.\n"
        );
        let text = "See [how](join.md), [it](#below)\nand [the unit](../cloud-init/u.service).";
        assert_eq!(
            plain(text),
            "See how (`appliance help\njoin`), it and the unit.\n"
        );
        assert_eq!(
            plain("[Rust](https://rust.example) <https://a.example>"),
            "Rust (https://rust.example)\nhttps://a.example\n"
        );
    }

    #[test]
    fn styles_end_with_every_word() {
        let form = Form {
            width: 80,
            styled: true,
        };
        assert_eq!(
            render("# A title\n\nrun `a b`\n\n    c\n", form),
            "\x1b[1mA\x1b[0m \x1b[1mtitle\x1b[0m\n\nrun \x1b[36ma\x1b[0m \x1b[36mb\x1b[0m\n\n    \x1b[36mc\x1b[0m\n"
        );
    }
}
