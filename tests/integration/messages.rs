//! The messages in Simplified Chinese: each message of the code has one, with the same places for values and the same
//! commands, and none is left from earlier messages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use appliance::language::{Language, catalogue};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use regex::Regex;

use crate::harness::said;
use crate::living::Living;

/// A translated message, and its plural, if it has one.
struct Entry {
    chinese: Vec<String>,
    plural: Option<String>,
}

fn translations() -> BTreeMap<String, Entry> {
    let entries = catalogue(Language::Chinese).unwrap().entries.into_iter();
    entries
        .map(|entry| {
            let chinese = match entry.msgid_plural {
                Some(_) => entry.msgstr_plural,
                None => entry.msgstr.into_iter().collect(),
            };
            let plural = entry.msgid_plural;
            (entry.msgid, Entry { chinese, plural })
        })
        .collect()
}

/// The Rust files below a directory.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// Every message of the code, with its plural, if it has one.
fn messages() -> BTreeMap<String, Option<String>> {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    let mut found = Found::default();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        found.look(text.parse().unwrap());
    }
    let doctor = appliance::doctor::known().map(|fault| fault.cause);
    let preflight = appliance::preflight::checks().map(|check| check.needed);
    let tables = doctor.chain(preflight).map(str::to_owned);
    let tables = tables.chain(appliance::cli::texts());
    let tables = tables.map(|text| (text, None));
    found.0.into_iter().chain(tables).collect()
}

#[derive(Default)]
struct Found(BTreeMap<String, Option<String>>);

impl Found {
    /// Takes the messages in these tokens: those of `tr!` and `message!`, and the headings of `table(…)`.
    fn look(&mut self, tokens: TokenStream) {
        let mut before: [String; 2] = Default::default();
        for token in tokens {
            let name = match &token {
                TokenTree::Group(group) => {
                    self.group(&before, group);
                    String::new()
                }
                other => other.to_string(),
            };
            before = [std::mem::take(&mut before[1]), name];
        }
    }

    fn group(&mut self, before: &[String; 2], group: &Group) {
        let [first, last] = before.each_ref().map(String::as_str);
        let inside = group.stream();
        match (first, last, group.delimiter()) {
            ("tr" | "message", "!", Delimiter::Parenthesis) => self.message(&inside),
            (_, "table", Delimiter::Parenthesis) => self.headings(&inside),
            // Tests compare English.
            ("mod", "tests", Delimiter::Brace) => return,
            _ => {}
        }
        self.look(inside);
    }

    /// `"text", …`, or `"text" | "plural" % number, …`. A name instead of a text is that of a text that is marked.
    fn message(&mut self, inside: &TokenStream) {
        let tokens: Vec<TokenTree> = inside.clone().into_iter().collect();
        let Some(text) = tokens.first().and_then(literal) else {
            return;
        };
        let plural = match tokens.get(1) {
            Some(TokenTree::Punct(bar)) if bar.as_char() == '|' => tokens.get(2).and_then(literal),
            _ => None,
        };
        self.0.insert(text, plural);
    }

    fn headings(&mut self, inside: &TokenStream) {
        for token in inside.clone() {
            if let TokenTree::Group(list) = token {
                let headings = list
                    .stream()
                    .into_iter()
                    .filter_map(|token| literal(&token));
                let headings = headings.filter(|heading| !heading.is_empty());
                self.0.extend(headings.map(|heading| (heading, None)));
            }
        }
    }
}

fn literal(token: &TokenTree) -> Option<String> {
    syn::parse_str::<syn::LitStr>(&token.to_string())
        .ok()
        .map(|literal| literal.value())
}

/// A text as a line of the catalogue.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\n"))
}

#[test]
fn every_message_is_translated() {
    let (translations, mut lacking) = (translations(), String::new());
    for (message, plural) in messages() {
        let known = translations.get(&message);
        let known = known.is_some_and(|known| {
            known.plural == plural && known.chinese.iter().all(|one| !one.is_empty())
        });
        if known {
            continue;
        }
        writeln!(lacking, "\nmsgid {}", quoted(&message)).unwrap();
        match plural {
            Some(plural) => {
                writeln!(lacking, "msgid_plural {}\nmsgstr[0] \"\"", quoted(&plural)).unwrap();
            }
            None => writeln!(lacking, "msgstr \"\"").unwrap(),
        }
    }
    assert!(
        lacking.is_empty(),
        "docs/zh-CN/messages.po lacks these:\n{lacking}"
    );
}

#[test]
fn no_translation_is_left_of_an_earlier_message() {
    let messages = messages();
    let left: Vec<String> = translations()
        .into_keys()
        .filter(|one| !messages.contains_key(one))
        .collect();
    assert!(
        left.is_empty(),
        "remove these from docs/zh-CN/messages.po: {left:#?}"
    );
}

/// The places for values in a message: `{name}`, `{1}`, or `{}`, which is the next number. Braces that stand for
/// themselves are doubled.
fn places(text: &str) -> BTreeSet<String> {
    let text = text.replace("{{", "").replace("}}", "");
    let mut numbers = 0..;
    let parts = text.split('{').skip(1);
    let names = parts.filter_map(|part| Some(part.split_once('}')?.0));
    names
        .map(|name| match name {
            "" => numbers.next().unwrap_or_default().to_string(),
            name => name.to_owned(),
        })
        .collect()
}

/// What a user copies: the parts between backquotes.
fn commands(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn translations_have_the_places_and_commands_of_the_messages() {
    let mut problems = String::new();
    for (message, Entry { chinese, plural }) in translations() {
        for chinese in &chinese {
            let english = plural.as_ref().unwrap_or(&message);
            let mut same = |what: &str, of: fn(&str) -> BTreeSet<String>| {
                let (wanted, found) = (of(english), of(chinese));
                if wanted != found {
                    let line = format!("{english:?}: {what} {wanted:?}, in Chinese {found:?}");
                    writeln!(problems, "{line}").unwrap();
                }
            };
            same("places", places);
            same("commands", commands);
            let ends = |text: &str| (text.starts_with('\n'), text.ends_with('\n'));
            if ends(english) != ends(chinese) {
                writeln!(problems, "{english:?}: ends of lines").unwrap();
            }
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

/// The program for a user who reads Chinese.
fn program(arguments: &[&str], root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
    command.env_remove("LC_ALL").env("LANG", "zh_CN.UTF-8");
    command.args(arguments).arg("--root").arg(root);
    command
}

/// Whether a text has Chinese characters.
fn is_chinese(text: &str) -> bool {
    text.chars()
        .any(|one| ('\u{4e00}'..='\u{9fff}').contains(&one))
}

#[test]
fn people_read_their_language_and_programs_english() {
    let root = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| said(&program(arguments, root.path()).output().unwrap());
    let message = "there is no record of an installation";
    let doctor = run(&["doctor"]);
    assert!(
        doctor.contains(&translations()[message].chinese[0]),
        "{doctor}"
    );
    let refused = run(&["preflight", "--role", "nonsense"]);
    assert!(is_chinese(&refused), "{refused}");
    let document = run(&["doctor", "-o", "json"]);
    assert!(
        document.contains(message) && !is_chinese(&document),
        "{document}"
    );
    let english = program(&["doctor"], root.path())
        .env("LC_ALL", "C")
        .output();
    assert!(said(&english.unwrap()).contains(message));
}

#[test]
fn a_wrong_command_line_is_told_in_chinese() {
    let words = Regex::new("[a-z]{2,} [a-z]{2,} [a-z]{2,}").unwrap();
    for (wrong, named) in [
        ("instal", "install"),
        ("install --rolle single", "--role"),
        ("install --role", "--role"),
        ("install --metadata-timeout 0", "1..=3600"),
        ("install --join-timeout soon", "soon"),
        ("install --wait foo", "cluster=1800"),
        ("install --role single --role single", "--role"),
        ("completion nonsense", "bash"),
        ("status -o yaml", "json"),
        ("status more", "more"),
        ("upgrade --limit 0", "24h"),
        ("upgrade --drain-limit 5m", "--cluster"),
        ("bundle pack", "--bundle"),
        ("user-data --role single --sha256 zz", "64"),
        ("bundle fetch --bundle demo --mirror x", "HOST[/PATH]=URL"),
    ] {
        let of_locale = |locale| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
            let words = wrong.split(' ');
            let output = command.args(words).env("LC_ALL", locale).output();
            output.unwrap()
        };
        let (chinese, english) = (of_locale("zh_CN.UTF-8"), of_locale("C"));
        let text = said(&chinese);
        assert_eq!(chinese.status.code(), Some(2), "{wrong}: {text}");
        assert_eq!(english.status.code(), Some(2), "{wrong}: {english:?}");
        assert!(text.contains(named), "{wrong}: {text}");
        assert!(is_chinese(text.lines().next().unwrap()), "{wrong}: {text}");
        let mut sentences = text.lines().filter(|line| !line.starts_with("用法"));
        assert!(
            !sentences.any(|line| words.is_match(line)),
            "{wrong}: {text}"
        );
    }
}

#[test]
fn the_journal_is_english() {
    let root = tempfile::tempdir().unwrap();
    let journal = tempfile::tempfile().unwrap();
    let place = journal.metadata().unwrap();
    let stream = format!("{}:{}", place.dev(), place.ino());
    let mut install = program(&["install", "--role", "nonsense"], root.path());
    let mut journal_reader = journal.try_clone().unwrap();
    install
        .env("JOURNAL_STREAM", stream)
        .stderr(journal)
        .status()
        .unwrap();
    let mut text = String::new();
    std::io::Seek::rewind(&mut journal_reader).unwrap();
    std::io::Read::read_to_string(&mut journal_reader, &mut text).unwrap();
    assert!(text.starts_with("error: ") && !is_chinese(&text), "{text}");
}

#[test]
fn a_node_is_described_without_english_sentences() {
    let living = Living::new(&["--role", "single"]);
    let commands = "for command in 'status --all' doctor preflight verify 'detect --explain' 'token list' 'node list' \
            'certs show' 'backup list' 'secrets show' version; do
        LC_ALL=zh_CN.UTF-8 appliance $command || true
    done";
    let text = said(&living.script(commands, &[]));
    assert!(is_chinese(&text), "{text}");
    let words = Regex::new(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}").unwrap();
    // Commands, URLs, and errors of the system, which speaks English here.
    let others =
        r"(?m)`[^`]*`|^    systemctl .*$|处理：.*|https?://\S*|\p{Ascii}*\(os\s+error\s+\d+\)";
    let rest = Regex::new(others).unwrap().replace_all(&text, "|");
    let english: Vec<&str> = rest.lines().filter(|line| words.is_match(line)).collect();
    assert!(english.is_empty(), "{english:#?}");
}
