//! Messages for people on standard error: plain lines, as the journal wants them. The last one is also the status of the
//! unit that runs this program.

use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use anyhow::{Context, Result};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::Outcome;
use super::causes::{causes, safe};
use super::failure::{Failure, Kind, Problem};
use crate::cli::Output;
use crate::language::is_hidden;
use crate::nodespec::token;
use crate::sys::out::{self, say};
use crate::sys::{notify, progress};

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("appliance")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = line(record);
            if record.level() != Level::Debug {
                notify::status(&line);
            }
            progress::print_line(&line);
        }
    }

    fn flush(&self) {}
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

/// The exit code for this result of a command. Prints an error once, with its causes; as JSON, if that was asked
/// for, on standard output, where the result would be.
pub fn end(ended: Result<Outcome>, output: Output) -> ExitCode {
    if let Err(error) = &ended {
        told(error);
        print_failure(Problem::of(error), output);
    }
    let written = out::end().context("cannot write to standard output");
    if let Err(error) = &written {
        told(error);
    }
    match ended.and_then(|outcome| written.map(|()| outcome)) {
        Ok(outcome) => outcome.into(),
        Err(error) => ExitCode::from(Kind::of(&error).exit_code()),
    }
}

/// Prints an error for people, with its causes.
pub fn told(error: &anyhow::Error) {
    progress::print_line(&format!("error: {}", causes(error)));
}

fn print_failure(error: Problem, output: Output) {
    // The text of a document of this type is always made.
    if output == Output::Json
        && let Ok(text) = serde_json::to_string_pretty(&Failure { error })
    {
        say!("{text}");
    }
}

/// Shows help or an error in the command line, instead of running a command. `wants_json` says whether the command
/// line asks for JSON.
pub fn end_with(shown: &clap::Error, wants_json: bool) -> ExitCode {
    if shown.use_stderr() {
        print_error(shown);
        if wants_json {
            let text = token::redacted(&shown.render().to_string());
            let text = text.trim_end().trim_start_matches("error: ");
            print_failure(Problem::of_command_line(text.to_owned()), Output::Json);
            // Where it cannot be written, the message above has to do.
            drop(out::end());
        }
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
    let has_hidden = |word: OsString| word.to_string_lossy().contains(is_hidden);
    if shown != text || env::args_os().any(has_hidden) {
        progress::print_line(shown.trim_end());
    } else {
        // If standard error is closed or full, nothing can be shown.
        drop(error.print());
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::nodespec::Refused;

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
