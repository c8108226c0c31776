//! The bundles of this tree, from their sources to an appliance: every artifact of v1.9 is served
//! here under its own path, but with made-up content.

use std::collections::BTreeMap;

use appliance::bundle::definition::{Definition, Source};
use appliance::bundle::manifest::Kind;
use appliance::bundle::upstream::Upstream;
use appliance::digest::Sha256;

use crate::harness::{config, image, program, said, saved, tarball};
use crate::workshop::{Workshop, gzip};
use appliance_cloud::server::{Answer, Server};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn v1_9() -> Definition {
    Definition::find(concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/v1.9")).unwrap()
}

/// The files of the servers, by path: each archive with its members, each image with one layer.
fn contents(definition: &Definition) -> BTreeMap<String, (&'static str, Vec<u8>)> {
    let mut contents = BTreeMap::new();
    for upstream in definition.upstreams() {
        match upstream {
            Upstream::File(url) => {
                let bytes = archive(&definition.components_of(upstream));
                contents.insert(url.path().to_owned(), ("application/octet-stream", bytes));
            }
            Upstream::Image(reference) => serve_image(reference, &mut contents),
        }
    }
    contents
}

/// An archive with those components: programs, saved images, and images with programs in them.
fn archive(components: &[&Source]) -> Vec<u8> {
    let mut members: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let mut in_images: BTreeMap<&str, Vec<(&str, Vec<u8>)>> = BTreeMap::new();
    for component in components {
        let member = component.member.as_deref().unwrap();
        match &component.image_file {
            Some(file) => in_images
                .entry(member)
                .or_default()
                .push((file.trim_start_matches('/'), program(file, 30_000))),
            None if component.kind == Kind::Image => {
                members.insert(member, image(&format!("{}:latest", component.name)));
            }
            None => {
                members.insert(member, program(member, 30_000));
            }
        }
    }
    for (member, files) in &in_images {
        let layer = tarball(&borrowed(files));
        members.insert(member, saved(&[("some/image:latest", &[&layer])]));
    }
    let members: Vec<(&str, Vec<u8>)> = members.into_iter().collect();
    gzip(&tarball(&borrowed(&members)))
}

fn borrowed<'a>(files: &'a [(&'a str, Vec<u8>)]) -> Vec<(&'a str, &'a [u8])> {
    let files = files.iter();
    files
        .map(|(name, bytes)| (*name, bytes.as_slice()))
        .collect()
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

/// A copy of v1.9 without checksums, because they would be wrong for the made-up content.
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
        said.contains("0 artifacts downloaded, 10 were already in the cache"),
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
    // By name, like a user who has only the program; and by directory.
    let workshop = workshop();
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
    let definition = v1_9();
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
