//! Rules for every command: closed pipes, full disks, errors, names that do not exist.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use crate::harness::said;

fn appliance(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
    command.args(arguments);
    command
}

fn output(arguments: &[&str]) -> Output {
    appliance(arguments).output().unwrap()
}

#[test]
fn a_closed_pipe_ends_no_command_in_a_panic() {
    for arguments in [
        &["help"][..],
        &["--help"],
        &["help", "join"],
        &["help", "install"],
        &["config", "example"],
        &["config", "schema"],
        &["completion", "bash"],
        &["version"],
        &["token", "create", "--offline"],
        &["user-data", "--role", "single"],
    ] {
        let mut child = appliance(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The pipe is closed before the program can write.
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(
            ended.status.code(),
            Some(0),
            "{arguments:?}: {}",
            said(&ended)
        );
        assert!(
            !said(&ended).contains("panic"),
            "{arguments:?}: {}",
            said(&ended)
        );
    }
}

#[test]
fn nobody_has_to_read_messages() {
    let mut child = appliance(&["help", "no-such-topic"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn output_that_is_lost_is_an_error() {
    for arguments in [&["config", "example"][..], &["--help"], &["--version"]] {
        let ended = appliance(arguments)
            .stdout(File::create("/dev/full").unwrap())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let text = said(&ended);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(
            text.starts_with("error: cannot write to standard output: "),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn a_missing_input_is_refused() {
    for arguments in [
        &["certs", "show", "--root", "/nonexistent"][..],
        &["bundle", "verify", "/nonexistent"],
    ] {
        let ended = output(arguments);
        let text = said(&ended);
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains("/nonexistent"), "{text}");
    }
}

#[test]
fn hostile_text_controls_no_terminal_and_forges_no_error() {
    let ended = output(&["help", "x\u{1b}]0;pwned\u{7}\nerror: fake"]);
    let text = said(&ended);
    assert_eq!(ended.status.code(), Some(2), "{text}");
    assert!(text.contains(r"x\u{1b}]0;pwned\u{7}"), "{text}");
    let is_control = |one: char| one.is_control() && one != '\n';
    assert!(!text.contains(is_control), "{text:?}");
    assert!(!text.contains("\nerror: "), "{text}");
}

#[test]
fn a_token_in_a_wrong_place_stays_secret() {
    const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("site.yaml");
    for text in [
        format!("join: {{abcdef.{SECRET}: x}}\n"),
        format!("join: {{abcdef.{SECRET}}}\n"),
        format!("role: worker\nmaster: abcdef.{SECRET}\nmtu: 9\n"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let ended = output(&["config", "validate", file.to_str().unwrap()]);
        assert_eq!(ended.status.code(), Some(2), "{}", said(&ended));
        assert!(!said(&ended).contains(SECRET), "{}", said(&ended));
    }
    let ended = output(&["install", &format!("abcdef.{SECRET}")]);
    assert_eq!(ended.status.code(), Some(2), "{}", said(&ended));
    assert!(said(&ended).contains("abcdef.<secret>"), "{}", said(&ended));
    assert!(!said(&ended).contains(SECRET), "{}", said(&ended));
}

#[test]
fn a_directory_as_output_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    let ended = appliance(&["user-data", "--role", "master", "-o", "d"])
        .current_dir(&dir)
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        said(&ended).contains("error: d is a directory; name a file"),
        "{}",
        said(&ended)
    );
}

#[test]
fn what_would_remove_a_node_is_never_led_to_install() {
    for arguments in [&["uninstall"][..], &["help", "uninstall"]] {
        let ended = output(arguments);
        let text = said(&ended);
        assert_eq!(ended.status.code(), Some(2), "{text}");
        assert!(text.contains("appliance reset --dry-run"), "{text}");
        assert!(
            !text.contains("install`") && !text.contains("'install'"),
            "{text}"
        );
    }
}

#[test]
fn a_failure_is_told_once() {
    let ended = output(&["config", "validate", "/nonexistent/site.yaml"]);
    let text = said(&ended);
    assert_eq!(ended.status.code(), Some(2), "{text}");
    assert_eq!(
        text,
        "error: configuration /nonexistent/site.yaml: there is no such file\n"
    );
}

#[test]
fn several_problems_are_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("site.yaml");
    std::fs::write(&file, "role: mastre\nmtu: 90\n").unwrap();
    let text = said(&output(&["config", "validate", file.to_str().unwrap()]));
    assert!(
        text.starts_with("error: nothing was changed, because:\n  - "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn a_token_is_alone_on_standard_output_and_told_what_it_is_for() {
    let ended = output(&["token", "create", "--offline"]);
    let token = String::from_utf8(ended.stdout).unwrap();
    let token = token.strip_suffix('\n').unwrap();
    assert_eq!(token.len(), "abcdef.".len() + 32, "{token}");
    let told = String::from_utf8(ended.stderr).unwrap();
    for part in [
        "shown only once",
        "/etc/appliance/config.yaml",
        "user-data",
        "master: ",
    ] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    // The advice may end up in a log.
    assert!(!told.contains(token), "{told}");
    let json = output(&["token", "create", "--offline", "-o", "json"]);
    assert!(json.stderr.is_empty(), "{}", said(&json));
    let document: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(document["token"].as_str().unwrap().contains('.'));
}
