//! What make does with the bundle that is chosen, with a small program in place of the builder that
//! notes its arguments.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const BUILDER: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >>asked
case "$1 $2" in
'bundle doctor') printf '{"ready": true, "download": 1}' ;;
'bundle import') mkdir -p "$5" && printf '[bundle]\nname = "mine"\nkubernetes = "v1.9.5"\n' >"$5/bundle.toml" ;;
esac
"#;

/// Runs `make chosen`, which the demonstration and the tests of clusters do first.
fn choose(out: &Path, arguments: &[&str]) -> Output {
    let builder = out.join("builder");
    fs::write(&builder, BUILDER).unwrap();
    fs::set_permissions(&builder, fs::Permissions::from_mode(0o755)).unwrap();
    let mut make = Command::new("make");
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUNDLE", "COMPONENTS"] {
        make.env_remove(name);
    }
    make.args([
        "--no-print-directory",
        "-o",
        "harness",
        "-o",
        "builder",
        "chosen",
    ])
    .arg(format!("OUT={}", out.display()))
    .arg(concat!("VM=", env!("CARGO_BIN_EXE_vm")))
    .args(arguments)
    .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    make.output().unwrap()
}

/// The arguments of the builder, one run a line, with `OUT` for the directory of built files.
#[track_caller]
fn asked(arguments: &[&str]) -> Vec<String> {
    let out = tempfile::tempdir().unwrap();
    let output = choose(out.path(), arguments);
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    let text = fs::read_to_string(out.path().join("asked")).unwrap();
    let out = out.path().display().to_string();
    text.lines().map(|line| line.replace(&out, "OUT")).collect()
}

#[test]
fn a_genuine_bundle_is_fetched_and_packed() {
    let mirrors = "MIRRORS=dl.k8s.io=http://127.0.0.1:1 quay.io=http://127.0.0.1:2";
    let mirror = "--mirror dl.k8s.io=http://127.0.0.1:1 --mirror quay.io=http://127.0.0.1:2";
    let pack = |bundle: &str, definition: &str| {
        format!("bundle pack --bundle {definition} --output OUT/payloads/{bundle}")
    };
    let repack =
        |bundle: &str| format!("repack --payload OUT/payloads/{bundle} --file OUT/appliance");
    assert_eq!(
        asked(&[mirrors]),
        [
            format!("bundle doctor --output json --bundle bundle/v1.9.11 {mirror}"),
            format!("bundle fetch --bundle bundle/v1.9.11 {mirror}"),
            pack("v1.9.11", "bundle/v1.9.11"),
            repack("v1.9.11"),
        ]
    );
    assert_eq!(
        asked(&["BUNDLE=v1.9", "TRUST=first-use"]),
        [
            "bundle doctor --output json --bundle bundle/v1.9".to_owned(),
            "bundle lock --bundle bundle/v1.9 --trust-on-first-use --output OUT/bundles/v1.9"
                .to_owned(),
            "bundle fetch --bundle OUT/bundles/v1.9".to_owned(),
            pack("v1.9", "OUT/bundles/v1.9"),
            repack("v1.9"),
        ]
    );
}

#[test]
fn a_carried_bundle_and_a_directory_of_programs_are_packed_without_a_download() {
    let carried = asked(&["BUNDLE_FROM=/carried.tar"]);
    assert_eq!(
        carried,
        [
            "bundle import /carried.tar --definition OUT/bundles/carried",
            "bundle pack --bundle OUT/bundles/carried --output OUT/payloads/carried",
            "repack --payload OUT/payloads/carried --file OUT/appliance",
        ]
    );
    let programs = tempfile::tempdir().unwrap();
    let directory = programs.path().display();
    assert_eq!(
        asked(&[&format!("COMPONENTS={directory}")]),
        [
            format!(
                "bundle pack --bundle bundle/demo --components {directory} --output OUT/payloads/demo"
            ),
            "repack --payload OUT/payloads/demo --file OUT/appliance".to_owned(),
        ]
    );
}

#[test]
fn a_word_for_trust_that_means_nothing_is_refused_before_anything_runs() {
    let out = tempfile::tempdir().unwrap();
    let output = choose(out.path(), &["BUNDLE=v1.9", "TRUST=yes"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("TRUST=first-use"), "{said}");
    assert!(!out.path().join("asked").exists());
}
