//! Messages for people on standard error: plain lines, as the journal wants them.

use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use anyhow::{Context, Result};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::{Outcome, exit_code_of};
use crate::nodespec::Refused;
use crate::nodespec::token;
use crate::sys::{out, progress};

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("appliance")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            progress::print_line(&line(record));
        }
    }

    fn flush(&self) {}
}

/// The text without the secrets of join tokens. Every line but the first is indented: hostile text
/// cannot forge a line of its own, such as `error: ...`.
fn safe(text: &str) -> String {
    token::redacted(text).trim_end().replace('\n', "\n    ")
}

fn line(record: &Record<'_>) -> String {
    let text = record.args().to_string();
    match record.level() {
        Level::Error => format!("error: {}", safe(&text)),
        Level::Warn => format!("warning: {}", safe(&text)),
        // Advice keeps its layout, because the user may copy its lines.
        _ => token::redacted(&text)
            .replace("\nerror:", "\n    error:")
            .replace("\nwarning:", "\n    warning:"),
    }
}

/// Starts to print messages: progress and warnings always, details if `verbose`.
pub fn start(verbose: bool) {
    let level = if verbose {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    };
    // Only a second logger in one process can fail here, and there is none.
    if log::set_logger(&Lines).is_ok() {
        log::set_max_level(level);
    }
}

/// Runs `main`. Some libraries can report only by a panic that the system lacks something, for example random
/// numbers or file descriptors. That becomes an error like any other, and an exit code.
pub fn guarded(main: impl FnOnce() -> ExitCode) -> ExitCode {
    panic::set_hook(Box::new(|panicked| {
        let what = panicked.payload_as_str().unwrap_or("unknown problem");
        let place = panicked
            .location()
            .map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
        // Not with the progress bars: it may be them that panicked.
        let said = format!(
            "error: cannot continue: {}{place}; check the memory, the open files and the disks of this \
             machine, and run the same command again; if it stays, report it: `appliance help support`",
            safe(what)
        );
        drop(writeln!(io::stderr(), "{}", progress::escaped(&said)));
    }));
    // Nothing that the command used is looked at afterwards.
    panic::catch_unwind(AssertUnwindSafe(main)).unwrap_or(ExitCode::FAILURE)
}

/// The exit code for this result of a command. Prints an error once, with its causes.
pub fn end(ended: Result<Outcome>) -> ExitCode {
    match ended.and_then(|outcome| {
        out::end()
            .context("cannot write to standard output")
            .map(|()| outcome)
    }) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            progress::print_line(&format!("error: {}", causes(&error)));
            exit_code_of(&error)
        }
    }
}

/// Shows help or an error in the command line, instead of running a command.
pub fn end_with(shown: &clap::Error) -> ExitCode {
    if shown.use_stderr() {
        print_error(shown);
        return ExitCode::from(u8::try_from(shown.exit_code()).unwrap_or(2));
    }
    match shown.print().and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            progress::print_line(&format!("error: cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints an error in the command line: in colour, except if it repeats a word that must not be
/// shown as it is.
fn print_error(error: &clap::Error) {
    let text = error.render().to_string();
    let shown = token::redacted(&text);
    let has_control = |word: OsString| word.to_string_lossy().contains(char::is_control);
    if shown != text || env::args_os().any(has_control) {
        progress::print_line(shown.trim_end());
    } else {
        // If standard error is closed or full, nothing can be shown.
        drop(error.print());
    }
}

/// The error with its causes, outermost first. A cause that adds nothing new is left out.
pub fn causes(error: &anyhow::Error) -> String {
    // Each cause as it is, and as it is shown.
    let mut said: Vec<(String, String)> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if said.iter().any(|(outer, _)| ends_with(outer, &text)) {
            continue;
        }
        // A cause that repeats the one before it, and adds something, replaces it.
        while said.last().is_some_and(|(outer, _)| repeats(&text, outer)) {
            said.pop();
        }
        let shown = match cause.downcast_ref::<Refused>() {
            Some(refused) => Refused {
                problems: refused.problems.iter().map(|one| safe(one)).collect(),
            }
            .to_string(),
            None => safe(&text),
        };
        said.push((text, shown));
    }
    let shown: Vec<String> = said.into_iter().map(|(_, shown)| shown).collect();
    shown.join(": ")
}

/// Whether `outer` is `inner`, or already says it as its last cause.
fn ends_with(outer: &str, inner: &str) -> bool {
    let before = outer.strip_suffix(inner);
    before.is_some_and(|before| before.is_empty() || before.ends_with(": "))
}

/// Whether `inner` begins with `outer`, or names the same absolute path as `outer`.
fn repeats(inner: &str, outer: &str) -> bool {
    if let Some(rest) = inner.strip_prefix(outer) {
        return rest.is_empty() || rest.starts_with(": ");
    }
    outer.starts_with('/')
        && inner.match_indices(outer).any(|(start, _)| {
            let rest = &inner[start + outer.len()..];
            inner[..start].ends_with(' ') && (rest.is_empty() || rest.starts_with([':', ' ']))
        })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn each_cause_adds_something_new() {
        let error = anyhow!("permission denied")
            .context("open /etc/hosts: permission denied")
            .context("read /etc/hosts");
        assert_eq!(
            causes(&error),
            "read /etc/hosts: open /etc/hosts: permission denied"
        );
        let error = anyhow!("open /x: not found")
            .context("/x")
            .context("install");
        assert_eq!(causes(&error), "install: open /x: not found");
        assert_eq!(causes(&anyhow!("alone")), "alone");
        assert_eq!(causes(&anyhow!("b").context("a")), "a: b");
        // A short name that is also a part of another word.
        let error = anyhow!("failed to persist temporary file").context("d");
        assert_eq!(causes(&error), "d: failed to persist temporary file");
        let error = anyhow!("is a file").context("cannot write a file d");
        assert_eq!(causes(&error), "cannot write a file d: is a file");
        let error = anyhow!("file").context("no such file");
        assert_eq!(causes(&error), "no such file: file");
    }

    #[test]
    fn no_cause_can_forge_a_line() {
        let error = anyhow!("x\nerror: fake").context("a");
        assert_eq!(causes(&error), "a: x\n    error: fake");
        let problems = vec!["one\n  - fake".to_owned(), "two".to_owned()];
        let list = "nothing was changed, because:\n  - one\n      - fake\n  - two";
        let error = anyhow::Error::from(Refused { problems });
        assert_eq!(causes(&error), list);
    }

    #[test]
    fn the_secret_of_a_token_is_not_shown() {
        let secret = "0123456789abcdefghijklmnopqrstuv";
        let token = format!("abcdef.{secret}");
        let error = anyhow!("unknown field `{token}`").context(format!("master: {token}"));
        let shown = causes(&error);
        assert_eq!(
            shown,
            "master: abcdef.<secret>: unknown field `abcdef.<secret>`"
        );
        let problems = vec![format!("{token:?}"), "two".to_owned()];
        assert!(!causes(&Refused { problems }.into()).contains(secret));
        let arguments = format_args!("{token}");
        let record = Record::builder().level(Level::Warn).args(arguments).build();
        assert_eq!(line(&record), "warning: abcdef.<secret>");
    }

    #[test]
    fn a_line_says_how_grave_it_is() {
        let of = |level| {
            let arguments = format_args!("text");
            line(&Record::builder().level(level).args(arguments).build())
        };
        assert_eq!(of(Level::Error), "error: text");
        assert_eq!(of(Level::Warn), "warning: text");
        assert_eq!(of(Level::Info), "text");
        assert_eq!(of(Level::Debug), "text");
    }

    #[test]
    fn advice_keeps_its_lines_but_forges_no_error() {
        let of = |level| {
            let arguments = format_args!("a:\n\n  b\nerror: c\nwarning: d");
            line(&Record::builder().level(level).args(arguments).build())
        };
        assert_eq!(of(Level::Info), "a:\n\n  b\n    error: c\n    warning: d");
        assert_eq!(
            of(Level::Warn),
            "warning: a:\n    \n      b\n    error: c\n    warning: d"
        );
    }
}
