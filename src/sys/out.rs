//! What a command prints: to standard output, or to the file that the user names with `--output`.
//! Nothing here panics: whoever reads may close the pipe
//! at any time (`appliance help | head -1`), and the command then does its work to the end, as if
//! it were read.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, StdoutLock, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use super::atomic;

/// Why nothing more is written, once a write failed.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a line to standard output, as `println!` does, but never panics.
macro_rules! say {
    () => { $crate::sys::out::line(format_args!("")) };
    ($($part:tt)*) => { $crate::sys::out::line(format_args!($($part)*)) };
}
pub(crate) use say;

/// Writes a line. This is what the macro `say!` calls.
pub fn line(text: fmt::Arguments<'_>) {
    write(|out| writeln!(out, "{text}"));
}

/// Writes the text as it is.
pub fn text(text: &str) {
    write(|out| out.write_all(text.as_bytes()));
}

fn write(to: impl FnOnce(&mut StdoutLock<'static>) -> io::Result<()>) {
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if failed.is_none() {
        *failed = to(&mut io::stdout().lock()).err();
    }
}

/// Writes the file at `path`, with permission bits `mode`, as a whole or not at all.
pub fn file(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    atomic::replace(path, mode, |file| Ok(file.write_all(content)?))
}

/// Writes these files, by name and content, into the directory `dir`, which is made if it is missing.
pub fn files(dir: &Path, mode: u32, files: &[(String, Vec<u8>)]) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    files
        .iter()
        .try_for_each(|(name, content)| file(&dir.join(name), mode, content))
}

/// Writes out what is held back, as before a question to the user.
pub fn flush() {
    write(Write::flush);
}

/// The end of the output: an error if some of it could not be written, as on a disk that is full.
/// A reader that closed the pipe has what it wanted, and is no error.
pub fn end() -> io::Result<()> {
    flush();
    let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner).take();
    match failed {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
