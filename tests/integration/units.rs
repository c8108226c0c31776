//! systemd accepts the units of a node.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use appliance::nodespec::settings::Settings;

use crate::rendered::{NODES, desired, manifest, spec, units};
use crate::systemd_229;

fn all_units() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for node @ (role, profile) in NODES {
        for bundled_docker in [false, true] {
            let spec = spec(
                node,
                Settings {
                    ipip: Some("always".to_owned()),
                    ..Settings::default()
                },
            );
            let units = units(&desired(&spec, &manifest(), bundled_docker));
            all.extend(
                units.into_iter().map(|(path, text)| {
                    (format!("{role} {profile} {bundled_docker} {path}"), text)
                }),
            );
        }
    }
    let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("cloud-init/appliance-install.service");
    all.insert(
        boot.display().to_string(),
        fs::read_to_string(boot).unwrap(),
    );
    all
}

#[test]
fn every_unit_holds_to_systemd_229() {
    for (name, unit) in all_units() {
        systemd_229::assert_known(&name, &unit);
        assert!(
            !unit.contains("\\\n#"),
            "{name}: a comment inside a command"
        );
    }
}

#[test]
fn every_unit_passes_systemd_analyze() {
    let units = all_units();
    for (name, unit) in &units {
        let dir = tempfile::tempdir().unwrap();
        let path = Path::new(name.rsplit(' ').next().unwrap());
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            continue;
        }
        // The programs are not on this machine, so any program that exists stands in for them.
        let unit: String = unit
            .lines()
            .map(|line| match line.split_once("/opt/appliance/current/") {
                Some((key, rest)) if key.starts_with("Exec") => {
                    format!(
                        "{key}/bin/true {}\n",
                        rest.split_once(' ').map_or("", |(_, rest)| rest)
                    )
                }
                _ => format!("{line}\n"),
            })
            .collect::<String>()
            .replace("/usr/bin/docker", "/bin/true")
            .replace("/usr/local/bin/appliance", "/bin/true");
        let file = dir.path().join(path.file_name().unwrap());
        fs::write(&file, unit).unwrap();
        fs::write(
            dir.path().join("docker.service"),
            "[Service]\nExecStart=/bin/true\n",
        )
        .unwrap();
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&file)
            .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
            .output()
            .expect("systemd-analyze comes with the Debian package systemd");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.trim().is_empty(),
            "{name}: {said}"
        );
    }
}

/// The units of services that listen, and those with keys of authorities.
const EXPOSED: [&str; 5] = [
    "appliance-balancer.service",
    "appliance-calico-datastore.service",
    "appliance-join.service",
    "appliance-renewals.service",
    "appliance-signer.service",
];
/// The most that systemd may find exposed, in tenths: 10.0 is everything.
const EXPOSURE: &str = "30";

#[test]
fn services_that_listen_expose_little() {
    let units = all_units();
    for name in EXPOSED {
        let (_, unit) = units
            .iter()
            .find(|(path, _)| path.ends_with(&format!("/{name}")))
            .unwrap_or_else(|| panic!("{name}"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(name);
        fs::write(&file, unit).unwrap();
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=yes", "--no-pager"])
            .arg(format!("--threshold={EXPOSURE}"))
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let sum = said.lines().find(|line| line.contains("exposure level"));
        println!("{}", sum.unwrap_or(&said));
        assert!(output.status.success(), "{name}: {said}");
    }
}
