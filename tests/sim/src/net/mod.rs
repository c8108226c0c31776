//! The kernel's network, changed with the usual programs.

pub mod ip;
pub mod iptables;

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program to its end, with `input` on its standard input.
///
/// # Errors A program that is missing or fails, with its output.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let output = output(program, arguments, input).with_context(|| program.to_owned())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn output(program: &str, arguments: &[&str], input: &str) -> Result<Output> {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input reports that by its exit code.
        let _ = stdin.write_all(input.as_bytes());
    }
    Ok(child.wait_with_output()?)
}
