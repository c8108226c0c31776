//! The bundles of this tree, from their sources to an appliance.

use appliance::bundle::definition::Definition;

use crate::harness::said;
use crate::releases::Releases;
use crate::workshop::Workshop;

fn genuine(name: &str) -> Definition {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle");
    Definition::find(&format!("{dir}/{name}")).unwrap()
}

#[test]
fn v1_9_11_goes_over_the_air_gap_and_comes_out_the_same() {
    let releases = Releases::of(&genuine("v1.9.11").text);
    let here = Workshop::empty();
    here.put("definition/bundle.toml", genuine("v1.9.11").text.as_bytes());
    here.put("definition/bundle.lock", releases.lock(&[]).as_bytes());
    let (server, mirrors) = releases.serve();
    let mirrors = mirrors.iter().flat_map(|mirror| ["--mirror", mirror]);
    let mirrors: Vec<&str> = mirrors.collect();
    let run =
        |verb: &[&str]| here.succeed(&[verb, &["--bundle", "@definition"], &mirrors].concat());
    run(&["bundle", "lock"]);
    let said = run(&["bundle", "fetch"]);
    assert!(
        said.contains("0 artifacts downloaded, 10 were already in the cache"),
        "{said}"
    );
    let export = [
        "bundle",
        "export",
        "--bundle",
        "@definition",
        "-o",
        "@carried.tar",
    ];
    here.succeed(&export);
    here.succeed(&[
        "repack",
        "--bundle",
        "@definition",
        "--output",
        "@appliance",
    ]);
    drop(server);

    let there = Workshop::empty();
    there.put("carried.tar", &here.get("carried.tar"));
    there.succeed(&["bundle", "import", "@carried.tar", "--definition", "@own"]);
    there.succeed(&["repack", "--bundle", "@own", "--output", "@appliance"]);
    assert_eq!(there.get("appliance"), here.get("appliance"));
    let said = there.succeed(&["bundle", "verify", "@appliance", "--bundle", "@own"]);
    assert!(
        said.contains("The payload is intact: all components match their checksums."),
        "{said}"
    );
    assert!(
        !said.contains("its manifest  ok"),
        "a component is not in the lock: {said}"
    );
}

#[test]
fn every_artifact_of_the_genuine_bundles_has_a_published_checksum() {
    for name in ["v1.9", "v1.9.11"] {
        let definition = Definition::find(name).unwrap();
        for upstream in definition.upstreams() {
            let artifact = definition.lock.get(upstream);
            let artifact = artifact.unwrap_or_else(|| panic!("{name}: {upstream} is not locked"));
            assert!(
                artifact.is_verifiable() && !artifact.trusted_on_first_use,
                "{name}: {upstream}"
            );
        }
    }
}

#[test]
fn a_bundle_without_checksums_says_which_command_accepts_them() {
    let workshop = Workshop::empty();
    workshop.put("definition/bundle.toml", genuine("v1.9").text.as_bytes());
    let output = workshop.run(&["bundle", "fetch", "--bundle", "@definition"]);
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    let dir = workshop.path("definition");
    let command = format!(
        "bundle lock --bundle {} --trust-on-first-use`",
        dir.display()
    );
    assert!(said.contains(&command), "{said}");
    assert!(said.contains("release-v2.6.2.tgz"), "{said}");
}

#[test]
fn every_component_of_v1_9_says_where_it_is_from_and_under_which_licence() {
    let definition = genuine("v1.9");
    for component in &definition.components {
        let name = &component.name;
        assert!(
            component.upstream().is_some() && component.license.is_some(),
            "{name}"
        );
        assert!(
            component.locked(&definition.lock).is_some(),
            "{name} is not in bundle.lock"
        );
    }
}

#[test]
fn a_bundle_nobody_knows_is_told_with_those_that_are_known() {
    let workshop = Workshop::empty();
    let said = workshop.fail(&["bundle", "fetch", "--bundle", "v9.9"]);
    assert!(
        said.contains("a built-in bundle; the built-in bundles are demo, v1.9, v1.9.11"),
        "{said}"
    );
}

#[test]
fn a_known_bundle_is_locked_into_a_directory_of_ones_own() {
    let workshop = Workshop::empty();
    let output = workshop.run(&["bundle", "lock", "--bundle", "demo"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("write a copy of it with `--dir DIR`"),
        "{}",
        said(&output)
    );
    // The demonstration has nothing to fetch.
    workshop.succeed(&["bundle", "lock", "--bundle", "demo", "--output", "@mine"]);
    let text = Definition::find("demo").unwrap().text;
    assert_eq!(workshop.get("mine/bundle.toml"), text.as_bytes());
    assert!(workshop.path("mine/bundle.lock").exists());
    Definition::read(&workshop.path("mine")).unwrap();
}
