//! The bundles of this tree, from their sources to an appliance: every artifact of v1.9 is served
//! here under its own path, and only its content is made up.

use std::collections::BTreeMap;

use appliance::bundle::definition::Definition;
use appliance::bundle::upstream::Upstream;
use appliance::digest::Sha256;

use crate::harness::{config, program, said, tarball};
use crate::workshop::{Workshop, gzip};
use appliance_cloud::server::{Answer, Server};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn v1_9() -> Definition {
    Definition::find(concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/v1.9")).unwrap()
}

/// What the servers have, by path: each archive with its members, each image with one layer.
fn contents(definition: &Definition) -> BTreeMap<String, (&'static str, Vec<u8>)> {
    let mut contents = BTreeMap::new();
    for upstream in definition.upstreams() {
        match upstream {
            Upstream::File(url) => {
                let members = definition.members_of(upstream);
                let bytes = if members.is_empty() {
                    program(url.path(), 30_000)
                } else {
                    let files: Vec<(&str, Vec<u8>)> = members
                        .iter()
                        .map(|member| (*member, program(member, 30_000)))
                        .collect();
                    let files: Vec<(&str, &[u8])> = files
                        .iter()
                        .map(|(name, bytes)| (*name, bytes.as_slice()))
                        .collect();
                    gzip(&tarball(&files))
                };
                contents.insert(url.path().to_owned(), ("application/octet-stream", bytes));
            }
            Upstream::Image(reference) => serve_image(reference, &mut contents),
        }
    }
    contents
}

fn serve_image(reference: &str, contents: &mut BTreeMap<String, (&'static str, Vec<u8>)>) {
    let (_, path) = reference.split_once('/').unwrap();
    let (repository, tag) = path.split_once(':').unwrap();
    let layer = tarball(&[("name", reference.as_bytes())]);
    let (config, layer) = (config("amd64", &[&layer]), gzip(&layer));
    let descriptor = |bytes: &[u8]| {
        let digest = Sha256::of(bytes);
        format!(
            r#"{{"mediaType":"application/octet-stream","size":{},"digest":"sha256:{digest}"}}"#,
            bytes.len()
        )
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        descriptor(&config),
        descriptor(&layer)
    )
    .into_bytes();
    for bytes in [&config, &layer] {
        let path = format!("/v2/{repository}/blobs/sha256:{}", Sha256::of(bytes));
        contents.insert(path, ("application/octet-stream", bytes.clone()));
    }
    for name in [tag.to_owned(), format!("sha256:{}", Sha256::of(&manifest))] {
        contents.insert(
            format!("/v2/{repository}/manifests/{name}"),
            (MANIFEST, manifest.clone()),
        );
    }
}

/// A copy of v1.9 that trusts nobody yet, since here its checksums would be wrong.
fn workshop() -> Workshop {
    let workshop = Workshop::empty();
    workshop.put("definition/bundle.toml", v1_9().text.as_bytes());
    workshop
}

#[test]
fn v1_9_goes_over_the_air_gap_and_comes_out_the_same() {
    let contents = contents(&v1_9());
    let server = Server::start(move |request| match contents.get(&request.target) {
        Some((kind, bytes)) => Answer::file(bytes, request).header("Content-Type", kind),
        None => Answer::status("404 Not Found"),
    });
    let mirrors: Vec<String> = [
        "dl.k8s.io",
        "github.com",
        "download.docker.com",
        "gcr.io",
        "quay.io",
    ]
    .iter()
    .map(|host| format!("{host}={}", server.url()))
    .collect();
    let mirrors: Vec<&str> = mirrors
        .iter()
        .flat_map(|mirror| ["--mirror", mirror.as_str()])
        .collect();
    let run = |workshop: &Workshop, arguments: &[&str]| {
        workshop.succeed(&[arguments, &["--bundle", "@definition"], &mirrors].concat())
    };
    let here = workshop();
    run(&here, &["bundle", "lock", "--trust-on-first-use"]);
    let said = run(&here, &["bundle", "fetch"]);
    assert!(
        said.contains("0 artifacts downloaded, 14 were already in the cache"),
        "{said}"
    );
    here.succeed(&[
        "bundle",
        "export",
        "--bundle",
        "@definition",
        "--output",
        "@carried.tar",
    ]);
    here.succeed(&[
        "repack",
        "--bundle",
        "@definition",
        "--output",
        "@appliance",
    ]);
    drop(server);

    let there = workshop();
    there.put(
        "definition/bundle.lock",
        &here.get("definition/bundle.lock"),
    );
    there.put("carried.tar", &here.get("carried.tar"));
    there.succeed(&["bundle", "import", "@carried.tar"]);
    there.succeed(&[
        "repack",
        "--bundle",
        "@definition",
        "--output",
        "@appliance",
    ]);
    assert_eq!(there.get("appliance"), here.get("appliance"));
    let said = there.succeed(&["bundle", "verify", "@appliance", "--bundle", "@definition"]);
    assert!(
        said.contains("The payload is intact: all components match their checksums."),
        "{said}"
    );
    assert!(
        !said.contains("its manifest  ok"),
        "something is held to no lock: {said}"
    );
}

#[test]
fn v1_9_asks_before_it_believes_what_nobody_published_a_checksum_for() {
    let definition = v1_9();
    let unverified: Vec<String> = definition
        .upstreams()
        .into_iter()
        .filter(|upstream| {
            definition
                .lock
                .get(upstream)
                .unwrap()
                .sha256
                .known()
                .is_none()
        })
        .map(ToString::to_string)
        .collect();
    assert!(!unverified.is_empty());
    // By name, as whoever has nothing but the program does.
    let workshop = Workshop::empty();
    let output = workshop.run(&["bundle", "fetch", "--bundle", "v1.9"]);
    assert_eq!(output.status.code(), Some(2));
    for url in unverified {
        assert!(said(&output).contains(&url), "{url}: {}", said(&output));
    }
}

#[test]
fn every_component_of_v1_9_says_where_it_is_from_and_under_which_licence() {
    let definition = v1_9();
    for component in &definition.components {
        let name = &component.name;
        assert!(
            component.source.is_some() && component.license.is_some(),
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
        said.contains("a built-in bundle; the built-in bundles are demo, v1.9"),
        "{said}"
    );
}

#[test]
fn a_known_bundle_is_locked_into_a_directory_of_ones_own() {
    let workshop = Workshop::empty();
    let output = workshop.run(&["bundle", "lock", "--bundle", "demo"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("write a copy of it with `--output DIR`"),
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
