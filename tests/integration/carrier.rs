//! Appliances and payloads, made and inspected without running them: repacking, verifying, listing
//! and the bill of materials.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use appliance::bundle::seal::LENGTH;
use appliance::digest::Sha256;

use crate::harness::{program, said};
use crate::workshop::Workshop;

/// The appliance is the program and the payload, with a seal for both.
fn is_made_of(appliance: &[u8], program: &[u8], payload: &[u8]) {
    let body = &payload[..payload.len() - LENGTH as usize];
    let expected = [program, body].concat();
    assert!(appliance[..appliance.len() - LENGTH as usize] == expected);
}

#[test]
fn an_appliance_is_made_of_the_program_and_a_payload() {
    let workshop = Workshop::packed();
    for output in ["@one", "@two"] {
        workshop.succeed(&["repack", "--payload", "@payload", "--output", output]);
    }
    assert_eq!(workshop.get("one"), workshop.get("two"));
    let program = fs::read(env!("CARGO_BIN_EXE_appliance")).unwrap();
    is_made_of(&workshop.get("one"), &program, &workshop.get("payload"));
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
    // The appliance itself repacks, with another bundle.
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
    is_made_of(&workshop.get("two"), &program, &workshop.get("payload"));
    // It can also replace itself.
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
    assert!(
        said.contains("neither a payload nor an appliance"),
        "{said}"
    );
    let said = repack(&[]);
    assert!(said.contains("--bundle"), "{said}");
    workshop.put("thesis.txt", b"years of work");
    let said = workshop.fail(&["repack", "--payload", "@payload", "--output", "@thesis.txt"]);
    assert!(said.contains("exists and is not a program"), "{said}");
    assert_eq!(workshop.get("thesis.txt"), b"years of work");
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
        said(&output).contains("bundle.lock       ok"),
        "{}",
        said(&output)
    );

    workshop.put("definition/bundle.lock", lock(b"another").as_bytes());
    let output = verify();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "its sha256 is {}, but bundle.lock has {}",
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
        said(&output).contains("bundle.lock has no checksum of the content of"),
        "{}",
        said(&output)
    );
}

/// Their manifests are code that the cluster runs, but no component's digest covers them.
#[test]
fn workloads_that_the_definition_has_otherwise_are_told() {
    let workshop = Workshop::new();
    // A component without a source has no entry in the lock.
    let components = String::from_utf8(workshop.get("definition/bundle.toml")).unwrap();
    let has_no_source = |line: &&str| !line.starts_with("source") && !line.starts_with("member");
    let components: Vec<&str> = components.lines().filter(has_no_source).collect();
    let components = components.join("\n");
    let define = |workloads: &[(&str, &str)]| {
        let table = |(name, manifest): &(&str, &str)| {
            let file = format!("{name}.yaml");
            workshop.put(&format!("definition/{file}"), manifest.as_bytes());
            format!("\n[[workload]]\nname = \"{name}\"\nfile = \"{file}\"\n")
        };
        let tables: String = workloads.iter().map(table).collect();
        workshop.put(
            "definition/bundle.toml",
            (components.clone() + &tables).as_bytes(),
        );
    };
    let verify = || workshop.run(&["bundle", "verify", "@payload", "--bundle", "@definition"]);
    define(&[("one", "kind: A"), ("two", "kind: B"), ("three", "kind: C")]);
    workshop.pack("payload").unwrap();
    assert!(verify().status.success(), "{}", said(&verify()));

    define(&[("two", "kind: B"), ("one", "kind: A"), ("four", "kind: D")]);
    let output = verify();
    assert_eq!(output.status.code(), Some(1));
    for expected in [
        "workload four: it is not in the payload",
        "workload three: it is not in bundle.toml",
        "workload one: its place in the order differs from bundle.toml",
    ] {
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
    define(&[("one", "kind: A"), ("two", "kind: X"), ("three", "kind: C")]);
    let output = verify();
    assert_eq!(output.status.code(), Some(1));
    let expected = "workload two: it differs from the one in bundle.toml";
    assert!(said(&output).contains(expected), "{}", said(&output));
    assert!(
        !said(&output).contains("another place"),
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
            "it is not in bundle.toml",
            definition.replace("name = \"kubectl\"", "name = \"other\""),
        ),
        (
            "it is not in the payload",
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
        said(&output).contains("its image ID is"),
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
    // With the root at a directory that contains the files of an installation.
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
