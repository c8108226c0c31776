//! Runs commands under strace, and reads the system calls that it records.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The system calls that change something below a directory, or that tell which file a later one changes.
const RECORDED: &str = "trace=openat,open,creat,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,pwritev,\
                        copy_file_range,sendfile,splice,ftruncate,truncate,fallocate,mkdir,mkdirat,rename,renameat,\
                        renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,chmod,fchmod,fchmodat,chown,\
                        fchown,lchown,fchownat,setxattr,fsetxattr,fsync,fdatasync,sync,syncfs,flock,clone,clone3,fork,\
                        vfork,execve";

/// The longest string that is recorded, in bytes: more than one call ever writes here.
const LONGEST: &str = "4000000";

/// A system call that has ended.
#[derive(Clone, Debug)]
pub struct Call {
    /// The thread that made it.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// How many calls of this name the thread had made, with this one.
    pub number: usize,
    arguments: Vec<String>,
    /// What it returned; -1 if it failed.
    pub result: i64,
    /// The path of the file descriptor that it returned.
    pub opened: Option<PathBuf>,
}

impl Call {
    /// A file descriptor in its arguments, with the path that it had when the call began.
    pub fn descriptor(&self, index: usize) -> (i64, Option<PathBuf>) {
        described(&self.arguments[index])
    }

    /// A path in its arguments, as it was given.
    pub fn path(&self, index: usize) -> PathBuf {
        OsString::from_vec(self.bytes(index)).into()
    }

    /// The bytes of a string in its arguments.
    pub fn bytes(&self, index: usize) -> Vec<u8> {
        decoded(&self.arguments[index])
    }

    /// A number in its arguments: octal if it begins with 0, as modes do.
    pub fn value(&self, index: usize) -> u64 {
        let text = &self.arguments[index];
        let value = match text.strip_prefix('0') {
            Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8),
            _ => text.parse(),
        };
        value.unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Whether an argument has that flag.
    pub fn has(&self, index: usize, flag: &str) -> bool {
        let argument = self.arguments.get(index);
        argument.is_some_and(|flags| flags.split('|').any(|one| one == flag))
    }

    /// Whether that word is anywhere in its arguments.
    pub fn names(&self, word: &str) -> bool {
        self.arguments
            .iter()
            .any(|argument| argument.contains(word))
    }

    /// Whether one of the paths that it names, as they are or as descriptors, is below `dir`.
    pub fn is_below(&self, dir: &Path) -> bool {
        let named = |argument: &String| {
            let is_path = argument.starts_with('"');
            let text = is_path.then(|| OsString::from_vec(decoded(argument)).into());
            let path = text.or_else(|| described(argument).1);
            path.is_some_and(|path: PathBuf| path.starts_with(dir))
        };
        self.arguments.iter().any(named)
    }
}

/// A file descriptor as strace writes it: `3</path>`, `AT_FDCWD</path>`.
fn described(text: &str) -> (i64, Option<PathBuf>) {
    let (number, path) = text.split_once('<').unwrap_or((text, ""));
    let path = path.strip_suffix('>').unwrap_or_default();
    let path = (!path.is_empty()).then(|| OsString::from_vec(decoded(path)).into());
    (number.parse().unwrap_or(-1), path)
}

/// The bytes of `\x2f\x74…`, with or without quotes.
fn decoded(text: &str) -> Vec<u8> {
    let digits = text.trim_matches('"').split("\\x").skip(1);
    let byte = |digits: &str| u8::from_str_radix(&digits[..2], 16).unwrap();
    digits.map(byte).collect()
}

/// The command under strace with these options; environment and directory are the command's. It needs root.
pub fn strace(command: &Command, options: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq"]).args(options).arg("--");
    strace.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        strace.current_dir(dir);
    }
    strace
}

/// Runs the command and records its calls, in the order in which they ended.
pub fn record(command: &Command) -> (Output, Vec<Call>) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let options = [
        "--seccomp-bpf",
        "-y",
        "-xx",
        "-s",
        LONGEST,
        "-e",
        RECORDED,
        "-o",
    ];
    let options = [&options[..], &[log.to_str().unwrap()]].concat();
    let output = strace(command, &options).output();
    let output = output.expect("strace (Debian package strace)");
    (output, calls(&fs::read_to_string(log).unwrap()))
}

/// The threads of the command itself, without those of programs that it started.
pub fn own_threads(calls: &[Call]) -> BTreeSet<u32> {
    let is_thread = |call: &&Call| {
        let is_new = ["clone3", "clone"].contains(&call.name.as_str());
        is_new && call.result > 0 && call.names("CLONE_THREAD")
    };
    let mut own: BTreeSet<u32> = calls.first().map(|call| call.thread).into_iter().collect();
    // A new thread may be recorded before the call that made it has ended.
    loop {
        let made = calls.iter().filter(is_thread);
        let made = made.filter(|call| own.contains(&call.thread));
        let more: Vec<u32> = made
            .map(|call| call.result.try_into().unwrap())
            .filter(|thread| !own.contains(thread))
            .collect();
        if more.is_empty() {
            return own;
        }
        own.extend(more);
    }
}

/// Reads what strace wrote.
fn calls(log: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut begun: BTreeMap<u32, (String, usize)> = BTreeMap::new();
    let mut counts: BTreeMap<(u32, String), usize> = BTreeMap::new();
    for line in log.lines() {
        let (thread, text) = line.split_once(char::is_whitespace).unwrap();
        let (thread, text) = (thread.parse().unwrap(), text.trim_start());
        if text.starts_with("+++") || text.starts_with("---") {
            continue;
        }
        if let Some(rest) = text.strip_prefix("<... ") {
            let rest = rest.split_once(" resumed>").unwrap().1;
            if let Some((first, number)) = begun.remove(&thread) {
                calls.extend(call(thread, number, &(first + rest)));
            }
            continue;
        }
        let name = text.split('(').next().unwrap().to_owned();
        let number = counts.entry((thread, name)).or_default();
        *number += 1;
        match text.strip_suffix("<unfinished ...>") {
            // Another thread may get the same number before this one is told that it is free.
            Some(first) if first.starts_with("close(") => {
                calls.extend(call(thread, *number, &format!("{}) = 0", first.trim_end())));
            }
            Some(first) => {
                begun.insert(thread, (first.trim_end().to_owned(), *number));
            }
            None => calls.extend(call(thread, *number, text)),
        }
    }
    calls
}

/// Reads one call; `None` if it never returned.
fn call(thread: u32, number: usize, text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    // Strings are hexadecimal, so that none has a bracket.
    let (arguments, result) = rest.split_once(')')?;
    let result = result.trim_start().strip_prefix("= ")?;
    let result = result.split(' ').next()?;
    let (value, opened) = described(result);
    Some(Call {
        thread,
        name: name.to_owned(),
        number,
        arguments: arguments.split(", ").map(str::to_owned).collect(),
        result: value,
        opened,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_several_threads_are_told_apart() {
        let log = "\
            7 openat(AT_FDCWD<\\x2f>, \"\\x2f\\x61\", O_RDWR|O_CREAT, 0600 <unfinished ...>\n\
            8 write(4<\\x2f\\x62>, \"\\x0a\\x2c\", 2) = 2\n\
            8 --- SIGCHLD ---\n\
            7 <... openat resumed>)             = 3<\\x2f\\x61>\n\
            7 openat(AT_FDCWD<\\x2f>, \"\\x2f\\x63\", O_RDONLY) = -1 ENOENT (No such file (or directory))\n\
            7 fsync(3<\\x2f\\x61> <unfinished ...>\n\
            7 +++ killed by SIGKILL +++\n";
        let calls = calls(log);
        assert_eq!(calls.len(), 3, "{calls:?}");
        assert_eq!(calls[0].bytes(1), b"\n,");
        assert_eq!(calls[0].descriptor(0), (4, Some("/b".into())));
        assert_eq!((calls[1].result, calls[1].number), (3, 1));
        assert_eq!(calls[1].value(3), 0o600);
        assert!(calls[1].has(2, "O_CREAT") && calls[1].is_below("/a".as_ref()));
        assert_eq!((calls[2].result, calls[2].number), (-1, 2));
    }
}
