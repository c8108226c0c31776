//! Every byte of an appliance counts: of its program, of its payload, and of the checksums of both.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use appliance::bundle::payload::Payload;
use appliance::bundle::seal::LENGTH;
use appliance::bundle::unpack::unpack;
use appliance::digest::Sha256;
use appliance::sys::progress::Silent;

use crate::harness::{Machine, program, said, tiny_program};
use crate::workshop::{PACK, Workshop, names};

/// Puts the payload behind the program: the appliance `one`.
const REPACK: [&str; 7] = [
    "repack",
    "--program",
    "@program",
    "--payload",
    "@payload",
    "--output",
    "@one",
];

/// A bundle of two small programs, and the tiny appliance `one` with it.
fn tiny_appliance() -> Workshop {
    let workshop = Workshop::new();
    let definition = String::from_utf8(workshop.get("definition/bundle.toml")).unwrap();
    let programs = definition
        .split("[[component]]\nname = \"pause\"")
        .next()
        .unwrap();
    workshop.put("definition/bundle.toml", programs.as_bytes());
    for name in ["etcd", "kubectl"] {
        workshop.put(&format!("components/{name}"), &program(name, 2000));
    }
    workshop.pack("payload").unwrap();
    workshop.put("program", &tiny_program());
    workshop.succeed(&REPACK);
    workshop
}

/// The text of the error: it names the file, and what to do.
fn assert_named(error: &str, path: &Path, byte: usize) {
    let named = error.contains(path.to_str().unwrap());
    let advice = error.contains("copy it to this machine again");
    assert!(named && advice, "byte {byte}: {error}");
}

#[test]
fn a_flipped_bit_in_any_byte_of_an_appliance_is_refused() {
    let workshop = tiny_appliance();
    let (good, path) = (workshop.get("one"), workshop.path("changed"));
    let manifest = workshop.payload().manifest_text().to_vec();
    let manifest_at = good
        .windows(manifest.len())
        .position(|window| window == manifest);
    let manifest_at = manifest_at.unwrap();
    fs::write(&path, &good).unwrap();
    Payload::open(&path).unwrap().check_whole().unwrap();
    let (mut bad, opt) = (good.clone(), workshop.path("opt"));
    for byte in 0..good.len() {
        bad[byte] ^= 1 << (byte % 8);
        fs::write(&path, &bad).unwrap();
        bad[byte] = good[byte];
        let opened = Payload::open(&path);
        let in_manifest = byte.wrapping_sub(manifest_at) < manifest.len();
        assert!(
            opened.is_err() || !in_manifest,
            "byte {byte} of the manifest"
        );
        let error = opened
            .and_then(|payload| unpack(&payload, &opt, &Silent))
            .unwrap_err();
        assert_named(&format!("{error:#}"), &path, byte);
    }
    assert_eq!(names(&opt), Vec::<String>::new());
}

#[test]
fn a_flipped_bit_in_any_byte_of_a_payload_is_refused() {
    let workshop = tiny_appliance();
    let (good, path) = (workshop.get("payload"), workshop.path("changed"));
    let mut bad = good.clone();
    for byte in 0..good.len() {
        bad[byte] ^= 0x80 >> (byte % 8);
        fs::write(&path, &bad).unwrap();
        bad[byte] = good[byte];
        let error = Payload::open(&path)
            .and_then(|payload| payload.check_whole())
            .unwrap_err();
        assert_named(&format!("{error:#}"), &path, byte);
    }
}

/// Bytes of every region: ELF headers, program, local headers, manifest, streams, central directory, its
/// end, and the seal.
fn sample(appliance: &[u8]) -> Vec<usize> {
    let (program, end) = (tiny_program().len(), appliance.len());
    let seal = end - LENGTH as usize;
    let mut sample = vec![4, 40, 64, 100, 1000, program, program + 20, program + 100];
    sample.extend([seal - 200, seal - 100, seal - 22, seal - 10, seal - 1]);
    sample.extend([
        seal,
        seal + 25,
        seal + 60,
        seal + 120,
        seal + 150,
        end - 10,
        end - 1,
    ]);
    sample
}

#[test]
fn each_command_that_uses_a_payload_refuses_a_changed_one() {
    let workshop = tiny_appliance();
    let machine = Machine::new();
    let (good, path) = (workshop.get("one"), workshop.path("changed"));
    for byte in sample(&good) {
        let mut bad = good.clone();
        bad[byte] ^= 4;
        workshop.put("changed", &bad);
        let refused = |output: &Output, code: i32| {
            assert_eq!(
                output.status.code(),
                Some(code),
                "byte {byte}: {}",
                said(output)
            );
            assert_named(&said(output), &path, byte);
        };
        refused(&workshop.run(&["bundle", "verify", "@changed"]), 1);
        let before = machine.snapshot();
        refused(&machine.install_from(&path, &[]).output().unwrap(), 2);
        assert_eq!(machine.snapshot(), before);
        let repack = ["repack", "--payload", "@changed", "--output", "@new"];
        if byte >= tiny_program().len() {
            refused(&workshop.run(&repack), 1);
        }
        // Another file is named where the program cannot be read at all.
        let repack = [
            "repack",
            "--program",
            "@changed",
            "--payload",
            "@payload",
            "--output",
            "@new",
        ];
        let output = workshop.run(&repack);
        assert!(!output.status.success(), "byte {byte}: {}", said(&output));
        assert!(!workshop.path("new").exists());
    }
}

#[test]
fn a_changed_appliance_does_not_say_what_it_carries() {
    let workshop = Workshop::packed();
    workshop.succeed(&["repack", "--payload", "@payload", "--output", "@one"]);
    let mut bytes = workshop.get("one");
    let description = b"\"For tests.\"";
    let at = bytes
        .windows(description.len())
        .rposition(|window| window == description);
    bytes[at.unwrap() + 1] = b'f';
    workshop.put("one", &bytes);
    for arguments in [&["version"][..], &["bundle", "list"]] {
        let one = Command::new(workshop.path("one"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(one.status.code(), Some(1));
        assert_named(&said(&one), &workshop.path("one"), 0);
    }
}

#[test]
fn the_checksum_of_the_whole_file_is_compared() {
    let workshop = tiny_appliance();
    let sha256 = Sha256::of(&workshop.get("one")).to_string();
    workshop.succeed(&["bundle", "verify", "@one", "--sha256", &sha256]);
    // Someone who changes the program can make a new seal, but not the same checksum.
    let mut other = tiny_program();
    other[1000] ^= 1;
    workshop.put("program", &other);
    workshop.succeed(&REPACK);
    workshop.succeed(&["bundle", "verify", "@one"]);
    let output = workshop.run(&["bundle", "verify", "@one", "--sha256", &sha256]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains(&format!("not {sha256}")),
        "{}",
        said(&output)
    );
    assert_named(&said(&output), &workshop.path("one"), 0);
    let output = workshop.run(&["bundle", "verify", "@one", "--sha256", "short"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn repack_tells_the_checksum_of_the_whole_file() {
    let workshop = tiny_appliance();
    let repack = [
        "repack",
        "--program",
        "@program",
        "--payload",
        "@payload",
        "--output",
        "@two",
    ];
    let said = workshop.succeed(&repack);
    let sha256 = Sha256::of(&workshop.get("two"));
    assert!(said.contains(&format!("sha256 {sha256}")), "{said}");
}

#[test]
fn an_appliance_lends_its_payload_to_another_program() {
    let workshop = tiny_appliance();
    let other = program("other", 4000)[..2120].to_vec();
    workshop.put("program", &other);
    for (payload, output) in [("@payload", "@two"), ("@one", "@three")] {
        workshop.succeed(&[
            "repack",
            "--program",
            "@program",
            "--payload",
            payload,
            "--output",
            output,
        ]);
    }
    assert!(workshop.get("two") == workshop.get("three"));
    workshop.succeed(&["bundle", "verify", "@three"]);
}

#[test]
fn a_payload_without_a_seal_is_of_another_version() {
    let workshop = Workshop::new();
    workshop.succeed(&[&PACK[..], &["--components", "@components"]].concat());
    let mut bytes = workshop.get("payload");
    let seal = bytes.len() - LENGTH as usize;
    bytes.truncate(seal);
    // The length of the ZIP file's comment.
    bytes[seal - 2..].fill(0);
    workshop.put("payload", &bytes);
    let said = workshop.fail(&["bundle", "verify", "@payload"]);
    assert!(said.contains("pack it again with this version"), "{said}");
}

/// Changes a byte of the payload in the file at `path`.
fn change(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - 4000;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_program_is_read_as_a_whole_only_if_something_is_taken_from_it() {
    let machine = Machine::new();
    machine.installed(&[]);
    let program = machine.root().join("usr/local/bin/appliance");
    let again = || {
        Command::new(&program)
            .args(["install", "--root"])
            .arg(machine.root())
            .arg("--metadata-dir")
            .arg(machine.metadata())
            .output()
            .unwrap()
    };
    // As at each boot: it runs what is installed, and everything is unpacked.
    change(&program);
    let output = again();
    assert!(
        said(&output).contains("nothing to change"),
        "{}",
        said(&output)
    );
    // Now it has to unpack.
    fs::remove_dir_all(machine.root().join("opt/appliance")).unwrap();
    let before = machine.snapshot();
    let output = again();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_named(&said(&output), &program, 0);
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_changed_program_does_not_replace_the_installed_one() {
    let machine = Machine::new();
    let workshop = Workshop::new();
    let payload = crate::harness::payload();
    workshop.put("payload", &fs::read(payload).unwrap());
    workshop.succeed(&["repack", "--payload", "@payload", "--output", "@one"]);
    let one = workshop.path("one");
    let install = || machine.install_from(&one, &[]).output().unwrap();
    assert!(install().status.success());
    let installed = machine.root().join("usr/local/bin/appliance");
    assert!(fs::read(&installed).unwrap() == workshop.get("one"));
    change(&one);
    let before = machine.snapshot();
    let output = install();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_named(&said(&output), &one, 0);
    assert_eq!(machine.snapshot(), before);
}
