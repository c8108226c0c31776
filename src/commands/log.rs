//! Messages for people on standard error: plain lines, as the journal wants them.

use std::process::ExitCode;

use anyhow::{Context, Result};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::{Outcome, exit_code_of};
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

fn line(record: &Record<'_>) -> String {
    match record.level() {
        Level::Error => format!("error: {}", record.args()),
        Level::Warn => format!("warning: {}", record.args()),
        _ => record.args().to_string(),
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

/// The exit code of a command that ended so. An error is printed, once, with its causes.
pub fn end(ended: Result<Outcome>) -> ExitCode {
    match ended.and_then(|outcome| {
        out::end()
            .context("write to standard output")
            .map(|()| outcome)
    }) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            progress::print_line(&format!("error: {}", causes(&error)));
            exit_code_of(&error)
        }
    }
}

/// Shows what stands in the place of a command: help, or what is wrong with the command line.
pub fn end_with(shown: &clap::Error) -> ExitCode {
    // Whoever closed the pipe reads no error either.
    drop(shown.print());
    ExitCode::from(u8::try_from(shown.exit_code()).unwrap_or(2))
}

/// The error with what led to it, outermost first. A cause that says nothing new is left out.
pub fn causes(error: &anyhow::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.iter().any(|said| said.contains(&cause)) {
            continue;
        }
        // A cause that repeats what stands before it and goes on takes its place.
        while said
            .last()
            .is_some_and(|last| cause.contains(last.as_str()))
        {
            said.pop();
        }
        said.push(cause);
    }
    said.join(": ")
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
}
