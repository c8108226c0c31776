//! The user-data that operators give to cloud-init, and the cache that cloud-init keeps.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{detected, document, said, setting};

#[test]
fn nothing_waits_for_a_unit_during_the_boot() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cloud-init");
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for line in text
            .lines()
            .filter(|line| line.contains("systemctl") && line.contains("start"))
        {
            assert!(line.contains("--no-block"), "{}: {line}", path.display());
        }
        for line in text.lines().filter(|line| line.starts_with("After=")) {
            let late = line.contains("multi-user.target") || line.contains("cloud-final");
            assert!(!late, "{}: {line}", path.display());
        }
    }
}

/// Debian's Python with the modules of cloud-init, even if the package is only unpacked.
pub fn python_of_cloud_init() -> Command {
    let mut python = Command::new("/usr/bin/python3");
    if let Some(unpacked) = std::env::var_os("UNPACKED") {
        let modules = Path::new(&unpacked).join("usr/lib/python3/dist-packages");
        python.env("PYTHONPATH", modules);
    }
    python
}

/// The same with a newer cloud-init, whose schema takes only keys of its own. None where the archive of
/// this machine's distribution has no newer one.
pub fn python_of_newer_cloud_init() -> Option<Command> {
    let newer = Path::new(env!("CARGO_MANIFEST_DIR")).join("out/newer/root");
    let modules = newer.join("usr/lib/python3/dist-packages");
    if !modules.exists() {
        println!("there is no newer cloud-init below out/newer: see tests/vm/install-tools.sh");
        return None;
    }
    let mut python = python_of_cloud_init();
    let older = python.get_envs().find(|(name, _)| *name == "PYTHONPATH");
    let older = older.and_then(|(_, path)| path).map(ToOwned::to_owned);
    let paths = std::iter::once(modules).chain(older.map(Into::into));
    python.env("PYTHONPATH", std::env::join_paths(paths).unwrap());
    Some(python)
}

/// The result of `detect` with cloud-init's own cache of that fixture.
fn detected_in_cache(fixture: &str, address: &str) -> Value {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let cache = tempfile::tempdir().unwrap();
    let kept = python_of_cloud_init()
        .arg(tests.join("cloud/cloud-init-cache.py"))
        .arg(tests.join("fixtures/metadata").join(fixture))
        .arg(cache.path())
        .output()
        .unwrap();
    assert!(kept.status.success(), "{}", said(&kept));
    let source = format!("cloud-init={}", cache.path().display());
    let address = format!("address={address}");
    document(&detected(&[
        "--output",
        "json",
        "--set",
        &address,
        "--metadata-source",
        &source,
    ]))
}

#[test]
fn what_cloud_init_keeps_is_understood_as_the_drive_it_is_from() {
    let value = |document: &Value, name: &str| setting(document, name).0;
    let queens = detected_in_cache("queens-static", "192.168.1.102");
    assert_eq!(queens["instance"]["name"], "server02");
    assert_eq!(
        (value(&queens, "role"), value(&queens, "mtu")),
        ("master".into(), "1450".into())
    );

    let kilo = detected_in_cache("kilo-dhcp", "192.168.1.102");
    assert_eq!(value(&kilo, "floatingIP"), "203.0.113.5");
    assert_eq!(value(&kilo, "mtu"), "1400", "vendor-data");

    let newest = detected_in_cache("2025-dhcp", "192.168.1.104");
    assert_eq!(
        value(&newest, "role"),
        "worker",
        "the inventory in user-data"
    );
}
