//! What carries a bundle, looked at without running it: signatures, repacking, verifying, listing
//! and the bill of materials.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use appliance::cli::Cli;
use appliance::commands;
use appliance::sys::digest::Sha256;
use clap::Parser;

use crate::harness::{Machine, program, said};
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
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("is not signed by key RW"),
        "{}",
        said(&output)
    );

    // Whoever changes the payload can make its manifest agree, but not sign it.
    workshop.pack("unsigned").unwrap();
    fs::rename(workshop.path("unsigned"), workshop.path("payload")).unwrap();
    let output = verify("@mine.pub");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("the payload is not signed, but has to be"),
        "{}",
        said(&output)
    );

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
    let mut bytes = workshop.get("payload");
    let place = bytes
        .windows(12)
        .position(|window| window == b"\"For tests.\"")
        .unwrap();
    bytes[place + 1] = b'f';
    workshop.put("payload", &bytes);
    let output = workshop.run(&["bundle", "verify", "@payload", "--trust-key", "@mine.pub"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("not signed by key"),
        "{}",
        said(&output)
    );
}

#[test]
fn install_refuses_what_the_trusted_key_did_not_sign() {
    let workshop = Workshop::new();
    make_keys(&workshop);
    let machine = Machine::new();
    let key = workshop.path("mine.pub");
    let said = machine.refusal(&["--trust-key", key.to_str().unwrap()]);
    assert!(
        said.contains("the payload is not signed, but has to be"),
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
fn an_appliance_is_made_of_the_program_and_a_payload() {
    let workshop = Workshop::packed();
    for output in ["@one", "@two"] {
        workshop.succeed(&["repack", "--payload", "@payload", "--output", output]);
    }
    assert_eq!(workshop.get("one"), workshop.get("two"));
    let program = fs::read(env!("CARGO_BIN_EXE_appliance")).unwrap();
    assert_eq!(
        workshop.get("one"),
        [program.clone(), workshop.get("payload")].concat()
    );
    let mode = fs::metadata(workshop.path("one"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);

    let version = Command::new(workshop.path("one"))
        .arg("version")
        .output()
        .unwrap();
    assert!(
        said(&version).contains("bundle test (Kubernetes v1.9.0)"),
        "{}",
        said(&version)
    );
    let list = workshop.succeed(&["bundle", "list", "@one"]);
    assert_eq!(list, workshop.succeed(&["bundle", "list", "@payload"]));
}

#[test]
fn an_appliance_is_made_of_an_appliance_without_keeping_its_payload() {
    let workshop = Workshop::packed();
    workshop.succeed(&["repack", "--payload", "@payload", "--output", "@one"]);
    // The appliance itself does it, with another bundle.
    workshop.put("components/kubectl", &program("another", 100_000));
    let mut command = Command::new(workshop.path("one"));
    command
        .env("APPLIANCE_CACHE", workshop.path("cache"))
        .arg("repack")
        .arg("--bundle");
    command
        .arg(workshop.path("definition"))
        .arg("--components")
        .arg(workshop.path("components"));
    let output = command
        .arg("--output")
        .arg(workshop.path("two"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    workshop.pack("payload").unwrap();
    let program = fs::read(env!("CARGO_BIN_EXE_appliance")).unwrap();
    assert_eq!(
        workshop.get("two"),
        [program, workshop.get("payload")].concat()
    );
    // In the place of itself, too.
    let output = Command::new(workshop.path("one"))
        .args(["repack", "--payload"])
        .arg(workshop.path("payload"))
        .arg("--output")
        .arg(workshop.path("one"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(workshop.get("one"), workshop.get("two"));
}

#[test]
fn what_is_no_program_or_no_payload_makes_no_appliance() {
    let workshop = Workshop::packed();
    let repack = |arguments: &[&str]| {
        let said = workshop.fail(&[&["repack", "--output", "@out"], arguments].concat());
        assert!(!workshop.path("out").exists(), "{said}");
        said
    };
    let said = repack(&[
        "--payload",
        "@payload",
        "--program",
        "@definition/bundle.toml",
    ]);
    assert!(said.contains("bundle.toml: it is not a program"), "{said}");
    let said = repack(&["--payload", "@definition/bundle.toml"]);
    assert!(said.contains("damaged or cut off"), "{said}");
    let said = repack(&[]);
    assert!(said.contains("--bundle"), "{said}");
}

#[test]
fn a_cut_appliance_is_not_taken_for_the_builder() {
    let workshop = Workshop::packed();
    workshop.succeed(&["repack", "--payload", "@payload", "--output", "@one"]);
    let whole = workshop.get("one");
    let program = fs::metadata(env!("CARGO_BIN_EXE_appliance")).unwrap().len() as usize;
    for length in [program + 1, program + 1000, whole.len() - 1] {
        workshop.put("one", &whole[..length]);
        let output = Command::new(workshop.path("one"))
            .arg("version")
            .output()
            .unwrap();
        assert!(!output.status.success());
        assert!(
            said(&output).contains("damaged or cut off"),
            "{length}: {}",
            said(&output)
        );
    }
    workshop.put("one", &whole[..program]);
    let output = Command::new(workshop.path("one"))
        .arg("version")
        .output()
        .unwrap();
    assert!(said(&output).contains("builder"), "{}", said(&output));
}

#[test]
fn an_appliance_is_held_to_its_definition_and_lock() {
    let workshop = Workshop::new();
    let etcd = workshop.get("components/etcd");
    let archive = workshop.archive_etcd();
    workshop.put("components/etcd.tar.gz", &archive);
    let lock = |member: &[u8]| {
        format!(
            "[[artifact]]\nurl = \"https://example.org/etcd.tar.gz\"\nsha256 = \"{}\"\n\n[artifact.members]\n\
             \"etcd-v3/etcd\" = \"{}\"\n",
            Sha256::of(&archive),
            Sha256::of(member)
        )
    };
    workshop.put("definition/bundle.lock", lock(&etcd).as_bytes());
    workshop.pack("payload").unwrap();
    workshop.succeed(&["repack", "--payload", "@payload", "--output", "@one"]);
    let verify = || workshop.run(&["bundle", "verify", "@one", "--bundle", "@definition"]);
    let output = verify();
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("bundle.lock   ok"),
        "{}",
        said(&output)
    );

    workshop.put("definition/bundle.lock", lock(b"another").as_bytes());
    let output = verify();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "it is {}, but bundle.lock has {}",
        Sha256::of(&etcd),
        Sha256::of(b"another")
    );
    assert!(said(&output).contains(&expected), "{}", said(&output));

    let lock = lock(&etcd);
    workshop.put(
        "definition/bundle.lock",
        lock.split("\n\n").next().unwrap().as_bytes(),
    );
    let output = verify();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("bundle.lock does not say what is in"),
        "{}",
        said(&output)
    );
}

#[test]
fn what_the_definition_has_otherwise_is_told() {
    let workshop = Workshop::packed();
    let definition = String::from_utf8(workshop.get("definition/bundle.toml")).unwrap();
    let cases = [
        (
            "bundle.toml has kubectl v1.9.1",
            definition.replace("version = \"v1.9.0\"", "version = \"v1.9.1\""),
        ),
        (
            "bundle.toml does not have it",
            definition.replace("name = \"kubectl\"", "name = \"other\""),
        ),
        (
            "the payload does not have it",
            definition.replace("name = \"kubectl\"", "name = \"other\""),
        ),
    ];
    for (expected, text) in cases {
        workshop.put("definition/bundle.toml", text.as_bytes());
        let output = workshop.run(&["bundle", "verify", "@payload", "--bundle", "@definition"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            said(&output).contains(expected),
            "{expected}: {}",
            said(&output)
        );
    }
}

#[test]
fn a_manifest_that_misnames_what_its_parts_make_up_is_found() {
    let workshop = Workshop::packed();
    workshop.forge(
        |manifest| manifest.components[0].sha256 = Sha256::of(b"another"),
        None,
    );
    let output = workshop.run(&["bundle", "verify", "@payload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("but the manifest says"),
        "{}",
        said(&output)
    );
    let json = workshop.run(&["bundle", "verify", "@payload", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["components"][0]["name"], "etcd");
    assert!(report["components"][0]["problem"].is_string());

    workshop.pack("payload").unwrap();
    workshop.forge(
        |manifest| manifest.components[2].image_id = Some("sha256:0".to_owned()),
        None,
    );
    let output = workshop.run(&["bundle", "verify", "@payload"]);
    assert!(
        said(&output).contains("its identifier is"),
        "{}",
        said(&output)
    );
}

#[test]
fn the_bill_of_materials_is_what_the_published_schema_wants() {
    let workshop = Workshop::packed();
    let bill = workshop.run(&["bundle", "sbom", "@payload"]).stdout;
    let root = env!("CARGO_MANIFEST_DIR");
    let mut validator = Command::new(format!("{root}/out/tools/bin/python"))
        .arg(format!("{root}/tests/sbom/validate.py"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`make tools` installs the validator");
    validator.stdin.take().unwrap().write_all(&bill).unwrap();
    let output = validator.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));

    let bill: serde_json::Value = serde_json::from_slice(&bill).unwrap();
    let etcd = &bill["components"][0];
    assert_eq!(etcd["name"], "etcd");
    assert_eq!(etcd["version"], "3.1.10");
    assert_eq!(etcd["licenses"][0]["expression"], "Apache-2.0");
    assert_eq!(
        etcd["externalReferences"][0]["url"],
        "https://example.org/etcd.tar.gz"
    );
    let digest = Sha256::of(&workshop.get("components/etcd")).to_string();
    assert_eq!(etcd["hashes"][0]["content"], digest);
}

#[test]
fn an_installed_node_lists_the_same() {
    // As root of a directory that has what an install leaves there.
    let workshop = Workshop::packed();
    let unpacked = workshop.unpack().unwrap();
    let node = tempfile::tempdir().unwrap();
    fs::create_dir_all(node.path().join("opt/appliance/current")).unwrap();
    fs::copy(
        unpacked.join("manifest.json"),
        node.path().join("opt/appliance/current/manifest.json"),
    )
    .unwrap();
    fs::copy(
        env!("CARGO_BIN_EXE_appliance"),
        node.path().join("appliance"),
    )
    .unwrap();
    let on_node = |arguments: &[&str]| {
        let output = Command::new("chroot")
            .arg(node.path())
            .arg("/appliance")
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    };
    for verb in ["list", "sbom"] {
        let expected = workshop.run(&["bundle", verb, "@payload"]).stdout;
        assert_eq!(
            on_node(&["bundle", verb, "--installed"]),
            expected,
            "{verb}"
        );
        assert_eq!(on_node(&["bundle", verb]), expected, "{verb}");
    }
}

#[test]
fn an_image_of_another_name_is_a_finding() {
    let workshop = Workshop::packed();
    workshop.forge(
        |manifest| manifest.components[2].reference = Some("example.org/x:1".to_owned()),
        None,
    );
    let output = workshop.run(&["bundle", "verify", "@payload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("not example.org/x:1"),
        "{}",
        said(&output)
    );
}
