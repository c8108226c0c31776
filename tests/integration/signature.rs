//! Signatures: minisign accepts them, and a payload without a valid signature is not used.

use std::fs;
use std::io::Read;
use std::process::{Command, Output};

use appliance::cli::Cli;
use appliance::commands;
use clap::Parser;

use crate::harness::{Machine, said, tiny_program};
use crate::workshop::Workshop;

/// Keys that minisign itself made: `mine`, without a password, and `theirs`.
fn make_keys(workshop: &Workshop) {
    for name in ["mine", "theirs"] {
        let output = Command::new("minisign")
            .args(["-G", "-W", "-p"])
            .arg(workshop.path(&format!("{name}.pub")))
            .arg("-s")
            .arg(workshop.path(&format!("{name}.key")))
            .output()
            .expect("minisign; `make tools` installs it");
        assert!(output.status.success(), "{}", said(&output));
    }
}

fn pack_signed(workshop: &Workshop) -> String {
    workshop.succeed(&[
        "bundle",
        "pack",
        "--bundle",
        "@definition",
        "--components",
        "@components",
        "--sign-key",
        "@mine.key",
        "--output",
        "@payload",
    ])
}

/// The second line of a public key's file: the key itself.
fn public_key(workshop: &Workshop, name: &str) -> String {
    let text = String::from_utf8(workshop.get(name)).unwrap();
    text.lines().nth(1).unwrap().to_owned()
}

fn assert_refused(output: &Output, reason: &str) {
    assert_eq!(output.status.code(), Some(2));
    assert!(said(output).contains(reason), "{}", said(output));
}

#[test]
fn minisign_itself_accepts_the_signature() {
    let workshop = Workshop::new();
    make_keys(&workshop);
    pack_signed(&workshop);
    let mut archive =
        zip::ZipArchive::new(fs::File::open(workshop.path("payload")).unwrap()).unwrap();
    for name in ["manifest.json", "manifest.json.minisig"] {
        let mut file = fs::File::create(workshop.path(name)).unwrap();
        std::io::copy(&mut archive.by_name(name).unwrap(), &mut file).unwrap();
    }
    let check = |key: &str| {
        let mut command = Command::new("minisign");
        command.args(["-V", "-H", "-p"]).arg(workshop.path(key));
        command
            .arg("-m")
            .arg(workshop.path("manifest.json"))
            .output()
            .unwrap()
    };
    let output = check("mine.pub");
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("appliance bundle test"),
        "{}",
        said(&output)
    );
    assert!(!check("theirs.pub").status.success());
}

#[test]
fn a_payload_is_used_only_if_the_trusted_key_signed_it() {
    let workshop = Workshop::new();
    make_keys(&workshop);
    pack_signed(&workshop);
    let verify = |key: &str| workshop.run(&["bundle", "verify", "@payload", "--trust-key", key]);
    assert!(verify("@mine.pub").status.success());
    assert!(verify(&public_key(&workshop, "mine.pub")).status.success());
    let output = verify("@theirs.pub");
    assert_refused(&output, "is not signed by key RW");

    // Someone who changes the payload can adapt its manifest, but cannot sign it.
    workshop.pack("unsigned").unwrap();
    fs::rename(workshop.path("unsigned"), workshop.path("payload")).unwrap();
    let output = verify("@mine.pub");
    assert_refused(&output, "the payload is not signed, but a signature of key");

    let output = verify("nonsense");
    assert!(
        said(&output).contains("neither a minisign public key nor a file"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_changed_manifest_has_no_valid_signature() {
    let workshop = Workshop::new();
    make_keys(&workshop);
    pack_signed(&workshop);
    let file = fs::File::open(workshop.path("payload")).unwrap();
    let mut archive = zip::ZipArchive::new(file).unwrap();
    let mut signature = String::new();
    let mut entry = archive.by_name("manifest.json.minisig").unwrap();
    entry.read_to_string(&mut signature).unwrap();
    workshop.forge_signed(
        |manifest| manifest.bundle.description = "for tests.".to_owned(),
        None,
        Some(&signature),
    );
    workshop.succeed(&["bundle", "verify", "@payload"]);
    let output = workshop.run(&["bundle", "verify", "@payload", "--trust-key", "@mine.pub"]);
    assert_refused(&output, "not signed by key");
}

#[test]
fn install_refuses_what_the_trusted_key_did_not_sign() {
    let workshop = Workshop::new();
    make_keys(&workshop);
    let machine = Machine::new();
    let key = workshop.path("mine.pub");
    let said = machine.refusal(&["--trust-key", key.to_str().unwrap()]);
    assert!(
        said.contains("the payload is not signed, but a signature of key"),
        "{said}"
    );
}

#[test]
fn a_program_that_was_built_with_a_key_requires_it_unasked() {
    let workshop = Workshop::new();
    make_keys(&workshop);
    pack_signed(&workshop);
    let run = |required: &str| {
        let payload = workshop.path("payload");
        let cli = Cli::parse_from([
            "appliance".as_ref(),
            "bundle".as_ref(),
            "verify".as_ref(),
            payload.as_os_str(),
        ]);
        commands::run(cli, Some(required))
    };
    assert_eq!(
        run(&public_key(&workshop, "mine.pub")).unwrap(),
        commands::Outcome::Done
    );
    let error = run(&public_key(&workshop, "theirs.pub"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("not signed by key"), "{error}");
}

#[test]
fn a_secret_key_with_a_password_needs_it_and_never_shows_it() {
    let workshop = Workshop::new();
    let keys =
        minisign::KeyPair::generate_encrypted_keypair(Some("open sesame".to_owned())).unwrap();
    workshop.put("mine.key", &keys.sk.to_box(None).unwrap().to_bytes());
    workshop.put("mine.pub", &keys.pk.to_box().unwrap().to_bytes());
    let arguments = [
        "bundle",
        "pack",
        "--bundle",
        "@definition",
        "--components",
        "@components",
        "--output",
        "@payload",
        "--sign-key",
        "@mine.key",
    ];
    let refused = workshop.fail(&arguments);
    assert!(refused.contains("--sign-password-file"), "{refused}");
    for (password, works) in [("wrong", false), ("open sesame\n", true)] {
        workshop.put("password", password.as_bytes());
        let output =
            workshop.run(&[&arguments[..], &["--sign-password-file", "@password"]].concat());
        assert_eq!(output.status.success(), works, "{}", said(&output));
        assert!(
            !said(&output).contains(password.trim()),
            "{}",
            said(&output)
        );
    }
    workshop.succeed(&["bundle", "verify", "@payload", "--trust-key", "@mine.pub"]);
}

#[test]
fn the_signature_of_the_whole_file_covers_every_byte() {
    let workshop = Workshop::new();
    make_keys(&workshop);
    workshop.put("program", &tiny_program());
    let repack = [
        "repack",
        "--bundle",
        "@definition",
        "--components",
        "@components",
        "--program",
        "@program",
        "--sign-key",
        "@mine.key",
        "--output",
        "@one",
    ];
    workshop.succeed(&repack);
    let minisign = Command::new("minisign")
        .args(["-V", "-H", "-p"])
        .arg(workshop.path("mine.pub"))
        .arg("-m")
        .arg(workshop.path("one"))
        .output()
        .unwrap();
    assert!(minisign.status.success(), "{}", said(&minisign));

    let verify = |key: &[&str]| {
        let whole = ["bundle", "verify", "@one", "--signature", "@one.minisig"];
        workshop.run(&[&whole[..], key].concat())
    };
    let output = verify(&["--trust-key", "@mine.pub"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_refused(
        &verify(&["--trust-key", "@theirs.pub"]),
        "is not signed by key RW",
    );
    assert_refused(&verify(&[]), "--trust-key KEY");

    // Someone who changes the program can make a new seal, but no signature.
    let mut other = tiny_program();
    other[1000] ^= 1;
    workshop.put("other", &other);
    workshop.succeed(&[
        "repack",
        "--program",
        "@other",
        "--payload",
        "@one",
        "--output",
        "@one",
    ]);
    let said = workshop.succeed(&["bundle", "verify", "@one", "--trust-key", "@mine.pub"]);
    assert!(said.contains("only the payload was verified"), "{said}");
    let output = verify(&["--trust-key", "@mine.pub"]);
    assert_refused(&output, "is not signed by key RW");
}
