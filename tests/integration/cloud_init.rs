//! What operators hand to cloud-init.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::said;

#[test]
fn cloud_inits_own_check_accepts_every_user_data() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cloud-init");
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut checked = 0;
    for file in files.filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    }) {
        let output = Command::new("cloud-init")
            .args(["schema", "--config-file"])
            .arg(&file)
            .output()
            .expect("cloud-init comes with the Debian package cloud-init");
        assert!(
            output.status.success() && said(&output).contains("Valid"),
            "{}: {}",
            file.display(),
            said(&output)
        );
        checked += 1;
    }
    assert!(checked > 0);
}

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
