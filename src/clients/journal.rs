//! The journal, through `journalctl`.

use anyhow::Result;

use crate::nodespec::hidden;
use crate::sys::process::{Command, Runner};

/// How many lines are shown of a unit.
const LINES: usize = 8;
/// The longest line that is shown, in characters.
const LONGEST: usize = 300;

/// The last lines of the service `name`, the newest last; none if the journal cannot be read. Lines that may hold a
/// secret are left out.
pub fn last_lines(runner: &dyn Runner, name: &str) -> Vec<String> {
    let unit = format!("{name}.service");
    let count = format!("--lines={LINES}");
    let arguments = ["--no-pager", "--output=cat", &count, "--unit", &unit];
    printed(runner, &arguments, shown)
}

/// The lines that `read` makes of what `journalctl` prints; none if the journal cannot be read.
fn printed(
    runner: &dyn Runner,
    arguments: &[&str],
    read: impl Fn(&str) -> Vec<String>,
) -> Vec<String> {
    match runner.check(&Command::new("journalctl", arguments)) {
        Ok(output) => read(&output.stdout),
        Err(error) => {
            log::debug!("{error:#}");
            Vec::new()
        }
    }
}

/// The last `count` lines that the unit `unit` wrote since the boot, the newest last; none if the journal cannot be read.
/// Lines that may hold a secret are hidden.
pub fn since_boot(runner: &dyn Runner, unit: &str, count: usize) -> Vec<String> {
    let count = format!("--lines={count}");
    let arguments = [
        "--no-pager",
        "--output=cat",
        "--boot",
        &count,
        "--unit",
        unit,
    ];
    printed(runner, &arguments, hidden::lines)
}

/// What the kernel wrote since the boot: in the last day, or, without a journal, as much as it still has.
pub fn kernel(runner: &dyn Runner) -> Result<String> {
    let arguments = [
        "--dmesg",
        "--no-pager",
        "--output=cat",
        "--since=-1d",
        "--lines=5000",
    ];
    let output = runner.check(&Command::new("journalctl", &arguments));
    let output = output.or_else(|_| runner.check(&Command::new("dmesg", &[])))?;
    Ok(output.stdout)
}

fn shown(journal: &str) -> Vec<String> {
    let lines = journal.lines().filter(|line| !line.trim().is_empty());
    let lines: Vec<String> = lines.map(safe).collect();
    let first = lines.len().saturating_sub(LINES);
    lines[first..].to_vec()
}

fn safe(line: &str) -> String {
    let line: String = hidden::line(line).chars().take(LONGEST).collect();
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_lines_are_shown_and_no_secrets() {
        let journal: String = (0..20).map(|n| format!("line {n}\n\n")).collect();
        let lines = shown(&journal);
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[LINES - 1], "line 19");
        let secret = "0123456789abcdefghijklmnopqrstuv";
        for line in [
            format!("joined with abcdef.{secret}"),
            format!("Authorization: Bearer {secret}"),
            format!("--token={secret} is wrong"),
            format!("password: {secret}"),
            format!("-----BEGIN EC PRIVATE KEY-----{secret}"),
        ] {
            assert!(!shown(&line)[0].contains(secret), "{line}");
        }
        let line = "error: cannot read secrets \"a\": token expired";
        assert_eq!(shown(line), [line]);
        assert_eq!(shown(&"x".repeat(9000))[0].len(), LONGEST);
    }
}
