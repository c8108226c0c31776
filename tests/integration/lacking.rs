//! What commands do when the system lacks something: an error and an exit code, never a panic. strace makes
//! system calls fail.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::harness::{Machine, payload, said};

/// System calls that fail, and with which error: a full disk, no random numbers, too many open files, no memory,
/// too many threads.
const FAULTS: [(&str, &str); 7] = [
    ("write", "ENOSPC"),
    ("getrandom", "EAGAIN"),
    ("openat", "EMFILE"),
    ("socket", "EMFILE"),
    ("mmap", "ENOMEM"),
    ("clone3", "EAGAIN"),
    ("fsync", "EIO"),
];

/// Which of the calls fails: one in each run.
const WHICH: [u32; 8] = [1, 2, 3, 5, 8, 13, 21, 34];

/// Libraries that can report such a failure only by a panic. The program makes an error of it.
const LIBRARIES: [&str; 2] = ["library/std/src/sys/", "/tokio-"];

/// What Rust's runtime says before `main`, where this program can do nothing.
const BEFORE_MAIN: [&str; 2] = [
    "failed to allocate an alternative stack",
    "failed to set up alternative stack guard page",
];

fn appliance() -> &'static str {
    env!("CARGO_BIN_EXE_appliance")
}

/// Checks that the command ended with an error of its own, or succeeded.
fn is_no_panic(what: &str, output: &Output) {
    let text = said(output);
    if BEFORE_MAIN.iter().any(|said| text.contains(said)) {
        return;
    }
    let code = output.status.code();
    assert!(code.is_some_and(|code| code <= 5), "{what}: {output:?}");
    assert!(!text.contains("panicked"), "{what}: {text}");
    let line = text.lines().find(|line| line.contains("cannot continue: "));
    let is_ours = |line: &str| !LIBRARIES.iter().any(|library| line.contains(library));
    assert!(!line.is_some_and(is_ours), "{what}: {text}");
}

/// Runs the command once for each of [`WHICH`] calls, as long as there are as many.
fn with_faults(arguments: &dyn Fn() -> Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut injected = 0;
    for (call, error) in FAULTS {
        for number in WHICH {
            let arguments = arguments();
            let output = Command::new("strace")
                .args(["-f", "-qq", "-e", &format!("trace={call}"), "-o"])
                .arg(&log)
                .arg(format!("--inject={call}:error={error}:when={number}"))
                .arg(appliance())
                .args(&arguments)
                .stdin(Stdio::null())
                .output()
                .expect("strace (Debian package strace)");
            let traced = fs::read_to_string(&log).unwrap();
            if !traced.contains("(INJECTED)") {
                break;
            }
            injected += 1;
            let what = format!("{arguments:?}: {call} number {number} fails with {error}");
            is_no_panic(&what, &output);
        }
    }
    assert!(injected > 5, "only {injected} calls failed");
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn printing_survives_every_lack() {
    for text in ["install --help", "token create --offline", "nonsense"] {
        with_faults(&|| words(text));
    }
}

#[test]
fn a_verification_survives_every_lack() {
    with_faults(&|| words(&format!("bundle verify {}", payload().display())));
}

#[test]
fn making_certificates_survives_every_lack() {
    let dir = tempfile::tempdir().unwrap();
    let next = Cell::new(0);
    with_faults(&|| {
        next.set(next.get() + 1);
        let ca = dir.path().join(next.get().to_string());
        words(&format!("certs init --ca {}", ca.display()))
    });
}

#[test]
fn an_installation_survives_every_lack_and_continues() {
    let machines = RefCell::new(Vec::new());
    with_faults(&|| {
        let machine = Machine::new();
        let arguments = words(&format!(
            "install --root {} --metadata-dir {} --payload {}",
            machine.root().display(),
            machine.metadata().display(),
            payload().display()
        ));
        machines.borrow_mut().push(machine);
        arguments
    });
    for machine in machines.into_inner() {
        machine.installed(&[]);
    }
}

#[test]
fn closed_streams_change_no_exit_code() {
    for (text, code) in [
        ("version", 0),
        ("config example", 0),
        ("token create --offline", 0),
        ("nonsense", 2),
        ("help nonsense", 2),
        ("bundle verify /nonexistent", 2),
    ] {
        for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"] {
            let output = Command::new("sh")
                .arg("-c")
                .arg(format!("exec {} {text} {closed}", appliance()))
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(code), "{text} {closed}");
            is_no_panic(&format!("{text} {closed}"), &output);
        }
    }
    // What cannot be printed is an error; see also `cli`.
    let full = || File::create("/dev/full").unwrap();
    let mut version = Command::new(appliance());
    version.arg("version").stdout(full()).stderr(full());
    assert_eq!(version.status().unwrap().code(), Some(1));
}

#[test]
fn too_few_open_files_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for files in 3..12 {
        let ca = dir.path().join(files.to_string());
        let many = limited(files, &["certs", "init", "--ca"], Some(&ca));
        is_no_panic(&format!("{files} files: certs init"), &many);
        let verify = limited(files, &["bundle", "verify"], Some(&payload()));
        is_no_panic(&format!("{files} files: bundle verify"), &verify);
        let status = limited(files, &["status"], None);
        is_no_panic(&format!("{files} files: status"), &status);
    }
}

fn limited(files: u32, arguments: &[&str], path: Option<&Path>) -> Output {
    Command::new("prlimit")
        .arg(format!("--nofile={files}"))
        .arg(appliance())
        .args(arguments)
        .args(path)
        .output()
        .unwrap()
}
