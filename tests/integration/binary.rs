//! The program as a file: static, and it runs on any Linux.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::said;

/// The program under test, and the appliance with its bundle if there is one.
fn programs() -> Vec<PathBuf> {
    let mut programs = vec![PathBuf::from(env!("CARGO_BIN_EXE_appliance"))];
    programs.extend(std::env::var_os("APPLIANCE").map(PathBuf::from));
    programs
}

#[test]
fn it_needs_no_interpreter_and_no_library() {
    for program in programs() {
        let output = Command::new("readelf")
            .args(["-l", "-d", "-W"])
            .arg(&program)
            .output()
            .unwrap();
        let text = said(&output);
        assert!(output.status.success() && text.contains("LOAD"), "{text}");
        for dynamic in ["INTERP", "(NEEDED)"] {
            assert!(
                !text.contains(dynamic),
                "{} has {dynamic}:\n{text}",
                program.display()
            );
        }
    }
}

/// glibc ends a program at once if the kernel is older than this note requires.
#[test]
fn its_c_library_takes_the_kernel_of_ubuntu_16_04() {
    for program in programs() {
        let output = Command::new("readelf")
            .args(["-n", "-W"])
            .arg(&program)
            .output()
            .unwrap();
        let text = said(&output);
        let (_, oldest) = text.split_once("ABI: ").unwrap_or_else(|| panic!("{text}"));
        let oldest: Vec<u32> = oldest
            .split_whitespace()
            .next()
            .into_iter()
            .flat_map(|version| version.split('.'))
            .map(|part| part.parse().unwrap())
            .collect();
        assert!(oldest <= vec![4, 4], "{}: {oldest:?}", program.display());
    }
}

#[test]
fn it_runs_in_an_empty_root_directory() {
    for program in programs() {
        let root = tempfile::tempdir().unwrap();
        fs::copy(&program, root.path().join("appliance")).unwrap();
        let output = Command::new("chroot")
            .arg(root.path())
            .args(["/appliance", "version"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).starts_with(concat!("appliance ", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn a_machine_that_is_no_node_says_so_with_its_own_exit_code() {
    let root = tempfile::tempdir().unwrap();
    fs::copy(
        env!("CARGO_BIN_EXE_appliance"),
        root.path().join("appliance"),
    )
    .unwrap();
    let status = |arguments: &[&str]| {
        Command::new("chroot")
            .arg(root.path())
            .args(["/appliance", "status"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = status(&[]);
    assert_eq!(output.status.code(), Some(4));
    assert!(said(&output).contains("not installed"));
    let report: serde_json::Value =
        serde_json::from_slice(&status(&["--output", "json"]).stdout).unwrap();
    assert_eq!(report["overall"], "not-installed");
}

#[test]
fn any_other_user_than_root_is_refused() {
    // In a place that this user can read.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("appliance");
    fs::copy(env!("CARGO_BIN_EXE_appliance"), &program).unwrap();
    for arguments in [&["install", "--role", "master"][..], &["token", "list"][..]] {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--clear-groups"])
            .arg(&program)
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(
            said(&output).contains("run the same command with `sudo`"),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn completion_scripts_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
            .args(["completion", shell])
            .output()
            .unwrap();
        assert!(
            output.status.success() && said(&output).contains("appliance"),
            "{shell}"
        );
    }
}

#[test]
fn the_builder_says_that_it_carries_nothing() {
    let root = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["install", "--role", "master", "--root"])
        .arg(root.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output)
            .contains("make an appliance with `appliance repack --bundle BUNDLE --file FILE`"),
        "{}",
        said(&output)
    );
}
