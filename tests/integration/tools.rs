//! How `make demo` and `make test` change the machine on which they run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::said;

/// Packages that have a service, or change the machine they are installed on.
const UNWANTED: [&str; 13] = [
    "bird",
    "cloud-init",
    "containerd",
    "docker-registry",
    "docker.io",
    "etcd-client",
    "etcd-server",
    "golang-cfssl",
    "kubernetes-client",
    "minisign",
    "packer",
    "qemu-guest-agent",
    "systemd-sysv",
];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn script() -> Command {
    Command::new(project().join("tests/vm/install-tools.sh"))
}

/// The packages that the script would install.
fn installed(run: &str) -> Vec<String> {
    let output = script().args([run, "--dry-run"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    let (_, list) = text
        .lines()
        .find_map(|line| line.split_once("installed on this machine: "))
        .unwrap_or_else(|| panic!("{text}"));
    list.split_whitespace().map(str::to_owned).collect()
}

/// The packages that apt would install on an empty machine.
fn with_dependencies(packages: &[String]) -> Vec<String> {
    let output = Command::new("apt-get")
        .args(["--simulate", "--no-install-recommends"])
        .args(["-o", "Dir::State::status=/dev/null", "install"])
        .args(packages)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    let lines = text.lines().filter_map(|line| line.strip_prefix("Inst "));
    lines
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_package_that_changes_the_machine_is_installed() {
    for run in ["demo", "test"] {
        let all = with_dependencies(&installed(run));
        assert!(all.iter().any(|name| name == "qemu-system-x86"), "{all:?}");
        let unwanted = all.iter().find(|name| UNWANTED.contains(&name.as_str()));
        assert_eq!(unwanted, None, "make {run}");
    }
}

/// The script on a machine that lacks only QEMU, with an apt that records its arguments.
struct Bed {
    dir: tempfile::TempDir,
}

impl Bed {
    /// `downgraded` is the package that apt would downgrade; without it, apt downgrades nothing.
    fn new(downgraded: Option<&str>) -> Bed {
        let bed = Bed {
            dir: tempfile::tempdir().unwrap(),
        };
        bed.program(
            "dpkg-query",
            r#"[ "${!#}" = qemu-system-x86 ] || echo installed"#,
        );
        bed.program(
            "apt-cache",
            "echo 'qemu-system-x86 | 1:7.2 | an archive Packages'",
        );
        let refusal = match downgraded {
            None => String::new(),
            Some(names) => format!(
                "case \" $* \" in *\" --allow-downgrades \"*) \
                 printf 'The following packages will be DOWNGRADED:\\n  {names}\\n1 downgraded\\n' ;; \
                 *) exit 100 ;; esac"
            ),
        };
        let log = bed.log();
        bed.program(
            "apt-get",
            &format!(
                "case \" $* \" in *\" --simulate \"*) {refusal}\n;; *) echo \"$*\" >>{}; esac",
                log.display()
            ),
        );
        bed
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.path().join("log")
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, format!("#!/bin/bash\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self) -> Output {
        let path = std::env::var("PATH").unwrap();
        script()
            .arg("demo")
            .env("PATH", format!("{}:{path}", self.dir.path().display()))
            .output()
            .unwrap()
    }

    /// The packages that apt was told to install.
    fn asked(&self) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines = log.lines().filter(|line| !line.ends_with(" update"));
        lines
            .filter_map(|line| line.split_once(" install "))
            .map(|(_, asked)| asked.to_owned())
            .collect()
    }
}

#[test]
fn what_is_missing_is_named_and_installed() {
    let bed = Bed::new(None);
    let output = bed.run();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(bed.asked(), ["qemu-system-x86"]);
    assert!(said(&output).contains("installing on this machine"));
}

#[test]
fn only_qemu_utils_goes_back_to_an_older_version() {
    let bed = Bed::new(Some("qemu-utils"));
    let output = bed.run();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(
        bed.asked(),
        ["--allow-downgrades qemu-system-x86 qemu-utils=1:7.2"]
    );
    assert!(said(&output).contains("qemu-utils is too new"));

    let bed = Bed::new(Some("libc6 qemu-utils"));
    let output = bed.run();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(bed.asked(), Vec::<String>::new());
    assert!(said(&output).contains("apt-get --simulate install qemu-system-x86"));
}

#[test]
fn whoever_is_not_root_gets_the_command_to_run() {
    let bed = Bed::new(None);
    bed.program("id", "echo 1000");
    let output = bed.run();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(bed.asked(), Vec::<String>::new());
    let command = "sudo apt-get install --no-install-recommends qemu-system-x86";
    assert!(said(&output).contains(command), "{}", said(&output));
}

/// The parts of a run in the table of usual times.
fn usual(run: &str) -> Vec<String> {
    let table = fs::read_to_string(project().join("tests/usual.tsv")).unwrap();
    let rows = table.lines().map(|line| line.split('\t'));
    rows.filter_map(|mut row| (row.next() == Some(run)).then(|| row.next().unwrap().to_owned()))
        .collect()
}

#[test]
fn the_usual_time_of_every_part_is_known() {
    let demo = fs::read_to_string(project().join("tests/vm/src/demo.rs")).unwrap();
    let in_vm: Vec<&str> = demo
        .split("stages.run(")
        .skip(1)
        .filter_map(|call| call.split('"').nth(1))
        .collect();
    assert!(in_vm.contains(&"bring-up"), "{in_vm:?}");
    let demo = usual("demo");
    for part in ["packages", "build", "pack"].iter().chain(&in_vm) {
        assert!(demo.iter().any(|known| known == part), "{part}: {demo:?}");
    }
    let makefile = fs::read_to_string(project().join("Makefile")).unwrap();
    let test = usual("test");
    for call in makefile.split("$(PART) ").skip(1) {
        let part = match call.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next().unwrap(),
            None => call.split(' ').next().unwrap(),
        };
        assert!(test.iter().any(|known| known == part), "{part}: {test:?}");
    }
}

#[test]
fn a_part_says_its_usual_time_and_notes_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let run = |script: &str, arguments: &[&str]| {
        Command::new(project().join("tests").join(script))
            .args(arguments)
            .env("RUN", "demo")
            .env("TIMINGS", dir.path().join("timings"))
            .output()
            .unwrap()
    };
    assert_eq!(run("timings.sh", &["demo"]).status.code(), Some(1));
    let output = run("part.sh", &["build", "echo", "done"]);
    assert!(said(&output).starts_with("== build, usually "));
    assert!(said(&output).contains("done"));
    assert_eq!(
        run("part.sh", &["pack", "sh", "-c", "exit 3"])
            .status
            .code(),
        Some(3)
    );
    let table = run("timings.sh", &["demo", "test"]);
    let text = said(&table);
    assert!(table.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("make demo"), "{text}");
    let ends: Vec<bool> = ["build", "pack", "all"]
        .iter()
        .zip(&lines[1..])
        .map(|(part, line)| line.ends_with(part))
        .collect();
    assert_eq!(ends, [true; 3], "{text}");
}

#[test]
fn a_command_for_the_demonstrations_vm_arrives_as_it_was_typed() {
    let bed = Bed::new(None);
    bed.program("vm", r#"printf '<%s>' "$@"; exit 3"#);
    let make = |arguments: &[&str]| {
        let mut make = Command::new("make");
        // Under another make, this one would name its level in its messages.
        for level in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
            make.env_remove(level);
        }
        make.args(["--no-print-directory", "demo-shell"])
            .arg(format!("VM={}", bed.dir.path().join("vm").display()))
            .args(arguments)
            .current_dir(project())
            .output()
            .unwrap()
    };
    assert!(said(&make(&[])).starts_with("<shell>make:"));
    let output = make(&[r#"CMD=echo "$HOME" 'a b' | wc -c"#]);
    let expected = r#"<shell><--command><echo "$HOME" 'a b' | wc -c>"#;
    assert!(said(&output).starts_with(expected), "{}", said(&output));
    // make exits with its own code, and names the command's.
    assert!(said(&output).contains("Error 3"), "{}", said(&output));
}
