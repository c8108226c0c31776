//! The keeper of a VM, with small programs in place of QEMU.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use appliance_vm::standing::{Standing, Stopped};

/// The keeper in that directory, which runs a shell script.
fn keeper(dir: &Path, script: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vm"))
        .arg("keep")
        .arg(dir)
        .args(["--", "sh", "-c", script])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A script that says in the file `up` which session it is in, and runs until it is ended.
const LASTING: &str = "cut -d' ' -f6 /proc/$$/stat >up; exec tail -f /dev/null";

#[test]
fn a_vm_whose_demonstration_died_is_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = keeper(dir.path(), LASTING);
    drop(keeper.stdin.take());
    assert!(keeper.wait().unwrap().success());
    assert!(dir.path().join("vm.json").exists());
    assert_eq!(Standing::at(dir.path()).process().unwrap(), None);
}

#[test]
fn a_vm_that_must_stay_runs_in_a_session_of_its_own_until_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let standing = Standing::at(&dir.path().join("demo"));
    drop(standing.claim().unwrap());
    let pipe = standing.dir().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let script = format!("echo up >pipe; {LASTING}");
    let mut keeper = keeper(standing.dir(), &script);
    let mut stdin = keeper.stdin.take().unwrap();
    stdin.write_all(b"s").unwrap();
    drop(stdin);
    assert_eq!(fs::read_to_string(&pipe).unwrap(), "up\n");
    let keeper_id = keeper.id();
    let waiting = std::thread::spawn(move || keeper.wait().unwrap());
    // The record follows the start.
    while standing.process().unwrap().is_none() {
        assert!(!waiting.is_finished(), "the VM did not stay");
        std::thread::yield_now();
    }
    let session = || fs::read_to_string(standing.dir().join("up")).unwrap_or_default();
    while !session().ends_with('\n') {
        std::thread::yield_now();
    }
    assert_eq!(session().trim(), keeper_id.to_string());
    assert_eq!(standing.stop().unwrap(), Stopped::Machine);
    assert!(!waiting.join().unwrap().success());
    assert!(!standing.dir().exists());
}

#[test]
fn a_vm_that_ends_by_itself_ends_its_keeper() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = keeper(dir.path(), "exit 3");
    let held = keeper.stdin.take();
    assert_eq!(keeper.wait().unwrap().code(), Some(1));
    drop(held);
    assert_eq!(Standing::at(dir.path()).process().unwrap(), None);
}

#[test]
fn what_nobody_left_on_is_not_stopped_and_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_vm"))
            .args(arguments)
            .args(["--directory", "demo"])
            .current_dir(dir.path())
            .stdin(File::open("/dev/null").unwrap())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = run(&["stop"]);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("No cluster of a demonstration runs"),
        "{said}"
    );
    assert_eq!(run(&["free"]).0, Some(0));
    let (code, said) = run(&["shell"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("make demo"), "{said}");
}
