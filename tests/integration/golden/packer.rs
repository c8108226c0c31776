//! Packer's templates, read by Packer itself. The cloud is a Keystone where a client can only log
//! in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use appliance_cloud::keystone::{self, PASSWORD, PROJECT, REGION, USER};
use appliance_cloud::server::Server;

use super::bed::{appliance, run};
use crate::harness::said;

fn packer_file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packer")
        .join(name)
}

/// `packer/build.sh validate`, which connects only to the given cloud.
fn validate(target: &str, variables: &[&str]) -> Command {
    let mut command = Command::new(packer_file("build.sh"));
    command
        .args(["validate", target])
        .arg(format!("-var=appliance={}", appliance().display()))
        .args(variables)
        .env("CHECKPOINT_DISABLE", "1");
    command
}

fn validate_qemu(variables: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", base.to_str().unwrap(), "16M"],
    );
    validate("qemu", variables)
        .args(["-var", "accelerator=tcg"])
        .arg(format!("-var=base_image={}", base.display()))
        .output()
        .unwrap()
}

fn validate_openstack(password: &str) -> (Output, Vec<String>) {
    let url = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let known = url.clone();
    let server = Server::start(move |request| {
        let url = known.get().map_or("", String::as_str);
        keystone::answer(url, request)
    });
    let address = url.get_or_init(|| server.url());
    let output = validate("openstack", &["-var=source_image_name=debian-12"])
        .env("OS_AUTH_URL", format!("{address}/v3"))
        .env("OS_USERNAME", USER)
        .env("OS_PASSWORD", password)
        .env("OS_PROJECT_NAME", PROJECT)
        .env("OS_DOMAIN_NAME", "Default")
        .env("OS_REGION_NAME", REGION)
        .output()
        .unwrap();
    let asked = server.asked();
    let asked = asked
        .iter()
        .map(|request| format!("{} {}", request.method, request.target));
    (output, asked.collect())
}

#[test]
fn packer_takes_the_template_for_qemu() {
    let output = validate_qemu(&[]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn packer_refuses_variables_that_make_no_sense() {
    for (variable, told) in [
        ("disk_size=huge", "such as 8G"),
        ("image_name=../up", "letters, digits"),
        ("ssh_username=a b", "name of a Linux user"),
        ("base_image_checksum=md5:1", "sha256:"),
        ("memory=1", "512 MiB"),
    ] {
        let output = validate_qemu(&["-var", variable]);
        assert!(!output.status.success(), "{variable}");
        // Packer may break lines anywhere.
        let words = said(&output)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(words.contains(told), "{variable}: {words}");
    }
}

#[test]
fn packer_takes_the_template_for_openstack_and_logs_in() {
    let (output, asked) = validate_openstack(PASSWORD);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        asked.contains(&"POST /v3/auth/tokens".to_owned()),
        "{asked:?}"
    );
    let (output, _) = validate_openstack("wrong");
    assert!(!output.status.success(), "{}", said(&output));
}

#[test]
fn every_variable_of_packer_is_described() {
    let text = fs::read_to_string(packer_file("variables.pkr.hcl")).unwrap();
    let blocks: Vec<&str> = text.split("\nvariable ").skip(1).collect();
    assert!(blocks.len() > 5);
    for block in blocks {
        assert!(
            block.contains("description = \"") && block.contains("type "),
            "{block}"
        );
    }
    // The old Packer reads this file, and would stop there.
    for entry in fs::read_dir(packer_file("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hcl") {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains("required_plugins"), "{}", path.display());
        }
    }
}

/// The result of `accelerator.sh` with a QEMU of this behaviour.
fn accelerator(qemu: &str, seconds: u32) -> String {
    let dir = tempfile::tempdir().unwrap();
    let fake = dir.path().join("qemu-system-x86_64");
    fs::write(&fake, format!("#!/bin/sh\n{qemu}\n")).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(packer_file("accelerator.sh"))
        .env(
            "PATH",
            format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", dir.path().display()),
        )
        .env("TRIAL_SECONDS", seconds.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn kvm_counts_only_where_a_guest_runs_with_it() {
    assert_eq!(accelerator("exit 99", 60), "kvm");
    assert_eq!(accelerator("exit 1", 60), "tcg");
    assert_eq!(accelerator("exec sleep 1000", 1), "tcg");
}

#[test]
fn the_trial_of_an_accelerator_runs_a_real_guest() {
    // The same guest in software, without the host's information about KVM.
    let output = accelerator(
        "exec /usr/bin/qemu-system-x86_64 $(echo \"$@\" | sed s/kvm/tcg/)",
        300,
    );
    assert_eq!(output, "kvm", "the guest did not end as it should");
}
