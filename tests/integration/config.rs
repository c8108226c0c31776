//! `appliance config`, and the errors of `detect` for bad input.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::said;

fn appliance(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(arguments)
        .output()
        .unwrap()
}

fn validated(content: &[u8]) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    let output = appliance(&["config", "validate", file.path().to_str().unwrap()]);
    (output.status.code(), said(&output))
}

#[test]
fn the_example_is_valid_as_it_is() {
    let example = appliance(&["config", "example"]);
    assert!(example.status.success());
    let lines = String::from_utf8(example.stdout.clone()).unwrap();
    assert!(lines.lines().all(|line| line.len() <= 100), "{lines}");
    let (code, text) = validated(&example.stdout);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with(": valid\n"), "{text}");
}

#[test]
fn a_file_is_judged_without_a_vm_and_all_at_once() {
    let (code, text) = validated(b"role: mastre\nmtu: 90\npodCIDR: 10.68.0.0/15\n");
    assert_eq!(code, Some(2));
    for part in [
        "`role` is \"mastre\"",
        "`mtu` is \"90\"",
        "podCIDR 10.68.0.0/15",
        "overlaps",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let (code, text) = validated(b"#cloud-config\nappliance: {profile: simpel}\n");
    assert_eq!(code, Some(2));
    assert!(text.contains("`appliance.profile` is \"simpel\""), "{text}");
}

#[test]
fn user_data_without_settings_is_not_called_valid() {
    for content in [
        "#!/bin/sh\n# appliance is there already\n",
        "#cloud-config\npackages: [jq]\n",
        "#cloud-config\n",
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n--b\nContent-Type: \
         text/cloud-config\n\npackages: [jq]\n--b--\n",
    ] {
        let (code, text) = validated(content.as_bytes());
        assert_eq!(code, Some(2), "{content}: {text}");
        assert!(text.contains("appliance user-data"), "{content}: {text}");
    }
}

#[test]
fn bad_files_are_located_and_none_of_their_lines_is_shown() {
    let deep = format!("hosts: {}", "[".repeat(10_000));
    let cases: [(&[u8], &str); 4] = [
        (b"role: [master, worker]\npassword: Sup3rSecret\n", "line 1"),
        (
            b"role: master\npassword: Sup3rSecret\n",
            "unknown field `password`",
        ),
        (b"role: \xff\n", "byte 7 is not UTF-8"),
        (deep.as_bytes(), "configuration"),
    ];
    for (content, part) in cases {
        let (code, text) = validated(content);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(part), "{part} is not in: {text}");
        assert!(!text.contains("Sup3rSecret"), "{text}");
    }
    let output = appliance(&["config", "validate", "/nonexistent/site.yaml"]);
    assert!(said(&output).contains("/nonexistent/site.yaml: there is no such file"));
}

#[test]
fn the_schema_is_json_that_names_every_setting() {
    let output = appliance(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(schema["properties"]["podCIDR"]["default"], "172.20.0.0/16");
}

/// The output of `detect` for a VM with these files of `openstack/latest`.
fn detected(files: &[(&str, &[u8])], variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let root = tempfile::tempdir().unwrap();
    let arguments = |dir: &Path| dir.to_str().unwrap().to_owned();
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args([
            "detect",
            "--explain",
            "--metadata-dir",
            &arguments(dir.path()),
        ])
        .args(["--root", &arguments(root.path())])
        .args(["--set", "address=192.0.2.7"])
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

const META: &[u8] = br#"{"uuid": "u", "name": "n", "hostname": "n.novalocal"}"#;

#[test]
fn hostile_metadata_is_refused_with_its_place() {
    let deep = format!(r#"{{"uuid": {}"#, "[".repeat(10_000));
    let huge = vec![b' '; (1 << 20) + 1];
    let roles = br#"{"uuid": "u", "name": "n", "hostname": "n", "meta": {"role": ["master"]}}"#;
    let cases: [(&[u8], &str); 4] = [
        (deep.as_bytes(), "meta_data.json: line 1 column "),
        (&huge, "meta_data.json: 1048577 bytes; at most 1048576"),
        (b"{\"uuid\": \"\xff\"}", "byte 11 is not UTF-8"),
        (roles, "`meta.role` is a list; expected text"),
    ];
    for (content, part) in cases {
        let output = detected(&[("meta_data.json", content)], &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let broken = b"#cloud-config\nappliance: {inventory: [{nmae: x}]}\n";
    let text = said(&detected(
        &[("meta_data.json", META), ("user_data", broken)],
        &[],
    ));
    assert!(text.contains(": user-data: "), "{text}");
    assert!(text.contains("line 2"), "{text}");
}

#[test]
fn variables_flags_and_user_data_are_told_from_each_other() {
    let data = b"#cloud-config\nappliance: {role: worker, clusterName: ours, ipip: always}\n";
    let files: [(&str, &[u8]); 2] = [("meta_data.json", META), ("user_data", data)];
    let output = detected(&files, &[("APPLIANCE_ROLE", "single")]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    // A cell that is too wide goes on below.
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "role single environment APPLIANCE_ROLE worker (metadata directory ",
        "user-data: `appliance.clusterName` kubernetes (default)",
        "address 192.0.2.7 flag --set address",
        "podMTU 1480 default",
    ] {
        assert!(flat.contains(part), "{part}: {text}");
    }
}
