//! The output of a command: to standard output, or to the file that the user names with `--output`.
//! Nothing here panics: the reader may close the pipe at any time (`appliance help | head -1`). The
//! command then completes its work without output.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, StdoutLock, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::atomic;

/// The reason why nothing more is written, after a write failed.
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

/// Writes the file at `path`, with permission bits `mode`, as a whole or not at all. A character
/// device, a pipe or a socket at `path` stays, and gets the content.
pub fn file(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    if is_stream(path)? {
        let write = || File::options().write(true).open(path)?.write_all(content);
        return write().with_context(|| format!("cannot write {}", path.display()));
    }
    atomic::replace(path, mode, |file| Ok(file.write_all(content)?))
}

/// Fails early where [`file()`] would fail at `path` after long work: at a directory, or in one that does not exist.
pub fn check(path: &Path) -> Result<()> {
    is_stream(path)?;
    let dir = atomic::parent(path);
    if !dir.is_dir() {
        bail!(
            "cannot write {}: {} is no directory",
            path.display(),
            dir.display()
        );
    }
    Ok(())
}

/// Whether the object at `path` is written to, not replaced by a new file.
fn is_stream(path: &Path) -> Result<bool> {
    let kind = match fs::metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
    };
    if kind.is_dir() {
        bail!("{} is a directory; name a file", path.display());
    }
    if kind.is_block_device() {
        bail!("{} is a block device; name a file", path.display());
    }
    Ok(!kind.is_file() || is_link_to_open_file(path))
}

/// Whether it is a link such as `/dev/stdout`, which must not be replaced even if it leads to a
/// regular file.
fn is_link_to_open_file(path: &Path) -> bool {
    let dir = atomic::parent(path).canonicalize();
    path.is_symlink() && dir.is_ok_and(|dir| dir.starts_with("/dev") || dir.starts_with("/proc"))
}

/// Writes these files, by name and content, into the directory `dir`, which is made if it is missing.
pub fn files(dir: &Path, mode: u32, files: &[(String, Vec<u8>)]) -> Result<()> {
    atomic::create_directories(dir).with_context(|| format!("create {}", dir.display()))?;
    files
        .iter()
        .try_for_each(|(name, content)| file(&dir.join(name), mode, content))
}

/// Writes out buffered output, for example before a question to the user.
pub fn flush() {
    write(Write::flush);
}

/// The end of the output: an error if some of it could not be written, for example because the disk
/// is full. It is no error if the reader closed the pipe.
pub fn end() -> io::Result<()> {
    flush();
    let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner).take();
    match failed {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn a_pipe_gets_the_content_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        thread::scope(|scope| {
            let reader = scope.spawn(|| fs::read(&pipe).unwrap());
            file(&pipe, 0o600, b"content").unwrap();
            assert_eq!(reader.join().unwrap(), b"content");
        });
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }

    #[test]
    fn a_link_to_a_device_stays() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        file(&link, 0o600, b"content").unwrap();
        assert!(link.is_symlink());
    }

    #[test]
    fn a_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = file(dir.path(), 0o600, b"content").unwrap_err().to_string();
        let expected = format!("{} is a directory; name a file", dir.path().display());
        assert_eq!(error, expected);
    }

    #[test]
    fn a_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for content in ["one", "two"] {
            file(&path, 0o600, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
