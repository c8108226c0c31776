//! The documentation inside the program: topics, and help pages whose examples work.

use std::fs;
use std::process::{Command, Output};

use appliance::cli::Cli;
use clap::CommandFactory;
use regex::Regex;
use textwrap::core::display_width;

use crate::harness::said;

mod examples;

fn appliance(arguments: &[&str]) -> Output {
    in_locale("C", arguments)
}

fn in_locale(locale: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(arguments)
        .env("LC_ALL", locale)
        .env_remove("PAGER")
        .output()
        .unwrap()
}

fn text(arguments: &[&str]) -> String {
    printed(appliance(arguments), arguments)
}

fn printed(output: Output, arguments: &[&str]) -> String {
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The words of every command, including hidden ones; the program itself has none.
fn commands() -> Vec<Vec<String>> {
    fn collect(command: &clap::Command, words: &[String], all: &mut Vec<Vec<String>>) {
        all.push(words.to_vec());
        for below in command.get_subcommands() {
            let name = below.get_name().to_owned();
            collect(below, &[words, &[name]].concat(), all);
        }
    }
    let mut all = Vec::new();
    collect(&Cli::command(), &[], &mut all);
    all
}

/// The help page of a command.
fn page(words: &[String], flag: &str) -> String {
    let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
    arguments.push(flag);
    text(&arguments)
}

fn topics() -> Vec<String> {
    let docs = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
    let names = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut topics: Vec<String> = names
        .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
        .collect();
    topics.sort();
    topics
}

#[test]
fn every_page_fits_80_columns() {
    for words in commands() {
        for flag in ["-h", "--help"] {
            for line in page(&words, flag).lines() {
                assert!(line.chars().count() <= 80, "{words:?} {flag}: {line}");
            }
        }
    }
}

#[test]
fn every_page_names_a_topic_that_exists() {
    let topics = topics();
    for words in commands() {
        let page = page(&words, "--help");
        let last = page.trim_end().lines().last().unwrap();
        let topic = last
            .strip_prefix("More: appliance help")
            .unwrap_or_else(|| panic!("{words:?} ends with: {last}"))
            .trim();
        assert!(
            topic.is_empty() || topics.iter().any(|name| name == topic),
            "{words:?}: {topic} is not a topic"
        );
    }
}

#[test]
fn help_lists_commands_and_topics() {
    let page = text(&["help"]);
    assert_eq!(page, text(&["--help"]));
    let (commands, topics_of) = page.split_once("\nTopics (").unwrap();
    assert!(commands.contains("\n  install "), "{commands}");
    for topic in topics() {
        assert!(
            topics_of.contains(&format!("\n  {topic} ")),
            "{topic}: {topics_of}"
        );
    }
}

#[test]
fn help_shows_commands_and_topics() {
    assert_eq!(
        text(&["help", "token", "create"]),
        text(&["token", "create", "--help"])
    );
    assert_eq!(text(&["help", "status"]), text(&["status", "--help"]));
    for topic in topics() {
        let source = format!("{}/docs/{topic}.md", env!("CARGO_MANIFEST_DIR"));
        let title = fs::read_to_string(source).unwrap();
        let title = title
            .lines()
            .next()
            .unwrap()
            .trim_start_matches("# ")
            .to_owned();
        let page = text(&["help", &topic]);
        assert!(
            page.starts_with(&format!("{title}\n====")),
            "{topic}: {page}"
        );
        assert!(
            !page.contains('\x1b'),
            "{topic}: styles where there is no terminal"
        );
        assert_fits(&topic, &page);
    }
}

/// Only code and words without a blank may be longer than a line.
fn assert_fits(topic: &str, page: &str) {
    for line in page.lines().filter(|line| !line.starts_with(' ')) {
        let is_one_word = !line.contains(' ');
        assert!(display_width(line) <= 80 || is_one_word, "{topic}: {line}");
    }
}

#[test]
fn pages_are_in_chinese_where_the_locale_is() {
    let line = Regex::new("^更多：appliance help(.*)$").unwrap();
    let english = Regex::new("(?m)^ *([A-Z][a-z]+ )?[a-z]+ [a-z]+ [a-z]+").unwrap();
    for words in commands() {
        for flag in ["-h", "--help"] {
            let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
            arguments.push(flag);
            let page = printed(in_locale("zh_CN.UTF-8", &arguments), &arguments);
            for line in page.lines() {
                assert!(display_width(line) <= 80, "{arguments:?}: {line}");
            }
            let prose = page.split("示例：").next().unwrap();
            let found = english.find(prose).map(|found| found.as_str());
            assert_eq!(found, None, "{arguments:?}: {page}");
            let last = page.trim_end().lines().last().unwrap();
            assert!(flag == "-h" || line.is_match(last), "{arguments:?}: {last}");
        }
    }
}

#[test]
fn topics_are_in_chinese_where_the_locale_is() {
    for topic in topics() {
        let source = format!("{}/docs/zh-CN/{topic}.md", env!("CARGO_MANIFEST_DIR"));
        let translation = fs::read_to_string(source).unwrap();
        let title = translation
            .lines()
            .find_map(|line| line.strip_prefix("# "))
            .unwrap();
        let arguments = ["help", &topic];
        let page = printed(in_locale("zh_CN.UTF-8", &arguments), &arguments);
        let line = "=".repeat(display_width(title));
        assert!(
            page.starts_with(&format!("{title}\n{line}\n")),
            "{topic}: {page}"
        );
        assert_fits(&topic, &page);
    }
    for locale in ["C.UTF-8", "zh_CN.GB18030", "de_DE.UTF-8"] {
        let page = printed(in_locale(locale, &["help", "join"]), &[]);
        assert!(page.starts_with("How workers join\n"), "{locale}: {page}");
    }
    // Of the variables, the first one that has a value counts.
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["help", "join"])
        .envs([
            ("LC_ALL", ""),
            ("LC_MESSAGES", "zh_CN.UTF-8"),
            ("LANG", "en_US.UTF-8"),
        ])
        .output();
    let page = printed(output.unwrap(), &[]);
    assert!(page.starts_with("工作节点如何加入\n"), "{page}");
}

#[test]
fn a_name_that_is_neither_leads_to_the_nearest() {
    for (names, nearest) in [
        (&["help", "jion"][..], "`appliance help join`"),
        (&["help", "instal"], "`appliance help install`"),
        (
            &["help", "bundle", "ftech"],
            "`appliance help bundle fetch`",
        ),
    ] {
        let output = appliance(names);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.starts_with("error: ") && text.contains(nearest),
            "{text}"
        );
        assert!(output.stdout.is_empty());
    }
}

/// The terminal output of a command, run with these variables.
fn on_a_terminal(command: &str, variables: &[(&str, &str)]) -> String {
    let program = env!("CARGO_BIN_EXE_appliance");
    let output = Command::new("script")
        .args(["-qec", &format!("{program} {command}"), "/dev/null"])
        .env("TERM", "xterm")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("NO_COLOR")
        .env_remove("LESS")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    said(&output).replace('\r', "")
}

#[test]
fn on_a_terminal_a_topic_goes_through_the_pager() {
    let shown = on_a_terminal("help join", &[("PAGER", "tr a-z A-Z")]);
    assert!(shown.contains("HOW"), "{shown}");
    assert!(!shown.contains("how"), "{shown}");
    // Without the pager, the text is shown all the same.
    for pager in ["no-such-pager -x", "/nonexistent/pager", "/tmp", ""] {
        let shown = on_a_terminal("help join", &[("PAGER", pager)]);
        assert!(shown.contains("\x1b[1mHow\x1b[0m"), "{pager}: {shown}");
    }
}

#[test]
fn who_wants_no_colour_gets_none() {
    for variables in [
        [("PAGER", "cat"), ("NO_COLOR", "1")],
        [("PAGER", "cat"), ("TERM", "dumb")],
    ] {
        let shown = on_a_terminal("help join", &variables);
        assert!(shown.contains("How") && !shown.contains('\x1b'), "{shown}");
    }
}

/// Each row of a table in docs/tutorial.md begins with the numbers of its commands; the page says how many there are.
#[test]
fn the_page_on_the_tutorial_has_each_command_once() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tutorial.md"));
    let page = page.unwrap();
    let numbers = page.lines().filter_map(|line| {
        let cell = line.strip_prefix("| ")?.split(" |").next()?;
        let (first, last) = cell.split_once('–').unwrap_or((cell, cell));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    });
    let (_, count) = page.split_once("The tutorial has ").unwrap();
    let count: usize = count.split(' ').next().unwrap().parse().unwrap();
    assert!(numbers.flatten().eq(1..=count));
}
