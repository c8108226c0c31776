//! Commands that are killed at each system call that changes a file. The next run ends with the same files
//! as a run that nobody interrupted: nothing temporary is left, and no key was ever readable for others.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Machine, payload, said, tiny_program};
use crate::reset;
use crate::workshop::Workshop;

/// The system calls at which a command is killed. `write` is not among them: what it writes is of no use to
/// the next run until one of the others follows.
const CALLS: [&str; 11] = [
    "fchmod",
    "chmod",
    "fsync",
    "ftruncate",
    "mkdir",
    "rename",
    "rmdir",
    "symlink",
    "unlink",
    "unlinkat",
    "flock",
];
/// At how many of these calls each command is killed, unless the variable `THOROUGH` is set.
const SAMPLE: usize = 24;

/// strace of that command, with these options. It needs root.
fn traced(command: &Command, options: &[&str]) -> Output {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq"]).args(options);
    strace
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace.output().expect("strace; `make tools` installs it")
}

/// How often the first thread of the command makes each call.
fn count(command: &Command) -> BTreeMap<&'static str, usize> {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let trace = format!("trace={}", CALLS.join(","));
    traced(command, &["-e", &trace, "-o", log.to_str().unwrap()]);
    let log = fs::read_to_string(log).unwrap();
    let lines = log
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace));
    let lines: Vec<(&str, &str)> = lines.collect();
    let first = lines.first().expect("it changes files").0;
    let of_first = lines.iter().filter(|(thread, _)| *thread == first);
    let mut counts = BTreeMap::new();
    for (_, call) in of_first {
        let name = call.trim_start().split('(').next().unwrap_or_default();
        if let Some(name) = CALLS.into_iter().find(|known| *known == name) {
            *counts.entry(name).or_default() += 1;
        }
    }
    counts
}

/// The calls at which the command is killed: each as its name and its number, from 1.
fn moments(command: &Command) -> Vec<(&'static str, usize)> {
    let counts = count(command);
    let all = counts
        .iter()
        .flat_map(|(call, count)| (1..=*count).map(move |number| (*call, number)));
    let all: Vec<(&str, usize)> = all.collect();
    let step = match std::env::var_os("THOROUGH") {
        Some(_) => 1,
        None => all.len().div_ceil(SAMPLE),
    };
    println!("{} of {} calls", all.len().div_ceil(step), all.len());
    all.into_iter().step_by(step).collect()
}

/// Kills the command at that call, before the call has an effect.
fn kill(command: &Command, (call, number): (&str, usize)) {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=SIGKILL:when={number}");
    let output = traced(command, &["-o", "/dev/null", "-e", &trace, "-e", &inject]);
    let killed = output.status.signal() == Some(9);
    assert!(killed, "{call} {number}: {}", said(&output));
}

/// Every path below `dir` with its kind and its permission bits.
fn listing(dir: &Path) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    list(dir, "", &mut all);
    all
}

fn list(dir: &Path, name: &str, all: &mut BTreeMap<String, u32>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            list(&entry.path(), &name, all);
        }
        all.insert(name, metadata.permissions().mode());
    }
}

/// No file with a private key is readable for others.
fn keys_are_private(dir: &Path) {
    for (name, mode) in listing(dir) {
        let path = dir.join(&name[1..]);
        if fs::symlink_metadata(&path).unwrap().is_file() && mode & 0o077 != 0 {
            let content = fs::read(&path).unwrap();
            let key = b"PRIVATE KEY-----";
            let has_key = content.windows(key.len()).any(|window| window == key);
            assert!(!has_key, "{name} has the mode {mode:o}");
        }
    }
}

/// Kills `command`, which writes below `dir`, at each moment. `begin` makes what is there before.
fn survives(dir: &Path, begin: &dyn Fn(), command: &Command, ends: &dyn Fn(&Output) -> bool) {
    let run = || {
        let mut again = Command::new(command.get_program());
        again.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => again.env(name, value),
                None => again.env_remove(name),
            };
        }
        let output = again.output().unwrap();
        assert!(ends(&output), "{}", said(&output));
    };
    begin();
    run();
    let uncut = listing(dir);
    begin();
    for moment in moments(command) {
        begin();
        kill(command, moment);
        keys_are_private(dir);
        run();
        assert_eq!(listing(dir), uncut, "killed at {moment:?}");
    }
}

fn succeeds(output: &Output) -> bool {
    output.status.success()
}

/// Replaces the directory `to` by a copy of `from`.
fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    let output = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Kills an installation of `machine`, each time from its present state.
fn an_interrupted_installation_leaves_nothing(machine: &Machine) {
    let before = tempfile::tempdir().unwrap();
    let before = before.path().join("root");
    copy(&machine.root(), &before);
    let command = machine.install_from(&payload(), &[]);
    let begin = || copy(&before, &machine.root());
    survives(&machine.root(), &begin, &command, &succeeds);
}

#[test]
fn an_installation_leaves_nothing_temporary() {
    let machine = Machine::new();
    an_interrupted_installation_leaves_nothing(&machine);
}

#[test]
fn the_renewal_of_certificates_leaves_nothing_temporary() {
    let machine = Machine::new();
    machine.installed(&[]);
    let ca = machine.root().join("etc/kubernetes/ca");
    for name in ["admin", "calico", "kubernetes"] {
        fs::remove_file(ca.join(format!("{name}/{name}.pem"))).unwrap();
    }
    an_interrupted_installation_leaves_nothing(&machine);
}

#[test]
fn a_reset_leaves_nothing_of_the_node_and_loses_no_key() {
    let machine = Machine::new();
    machine.installed(&[]);
    machine.put("var/lib/etcd/member/wal/0.wal", "acknowledged");
    let key = machine.read("etc/kubernetes/ca/ca-key.pem").into_bytes();
    let before = tempfile::tempdir().unwrap();
    let before = before.path().join("root");
    copy(&machine.root(), &before);
    let command = reset::command(&machine.root(), &["--yes", "--data", "--keys"]);
    let begin = || copy(&before, &machine.root());
    let backups = machine.root().join("var/backups");
    let ends = |output: &Output| {
        // One copy is whole. What was removed before it is in none.
        let copies = fs::read_dir(&backups)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let copies: Vec<Vec<u8>> = copies.map(|path| fs::read(path).unwrap()).collect();
        let has = |copy: &[u8], text: &[u8]| copy.windows(text.len()).any(|part| part == text);
        let whole = |copy: &Vec<u8>| has(copy, &key) && has(copy, b"acknowledged");
        assert!(
            copies.iter().any(whole),
            "{} copies: {}",
            copies.len(),
            said(output)
        );
        fs::remove_dir_all(&backups).unwrap();
        output.status.success()
    };
    survives(&machine.root(), &begin, &command, &ends);
}

#[test]
fn a_new_token_leaves_nothing_temporary() {
    let machine = Machine::new();
    machine.installed(&[]);
    fs::copy(
        env!("CARGO_BIN_EXE_appliance"),
        machine.root().join("appliance"),
    )
    .unwrap();
    let before = tempfile::tempdir().unwrap();
    let before = before.path().join("root");
    copy(&machine.root(), &before);
    let mut command = Command::new("chroot");
    command
        .arg(machine.root())
        .args(["/appliance", "token", "create"]);
    let begin = || copy(&before, &machine.root());
    // There is no systemd in the directory that starts the join service.
    let ends = |output: &Output| output.status.success() || said(output).contains("systemctl");
    survives(&machine.root(), &begin, &command, &ends);
}

#[test]
fn what_builds_appliances_leaves_nothing_temporary() {
    let workshop = Workshop::packed();
    workshop.put("program", &tiny_program());
    for dir in ["out", "tmp"] {
        fs::create_dir(workshop.path(dir)).unwrap();
    }
    let before = tempfile::tempdir().unwrap();
    let before = before.path().join("workshop");
    let dir = workshop.path("");
    copy(&dir, &before);
    let sources = ["--bundle", "@definition", "--components", "@components"];
    let commands: [&[&str]; 4] = [
        &["bundle", "pack", "--output", "@out/payload"],
        &["repack", "--program", "@program", "--output", "@out/one"],
        &["bundle", "verify", "@payload"],
        &["bundle", "export", "--output", "@out/carried.tar"],
    ];
    for arguments in commands {
        println!("{}", arguments.join(" "));
        let sources: &[&str] = if arguments.contains(&"@payload") || arguments.contains(&"export") {
            &[]
        } else {
            &sources
        };
        let mut command = workshop.command(&[arguments, sources].concat());
        command.env("TMPDIR", workshop.path("tmp"));
        let begin = || copy(&before, &dir);
        survives(&dir, &begin, &command, &succeeds);
    }
}
