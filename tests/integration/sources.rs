//! One artifact, several sources: they are tried in their order, and an artifact counts by what it is,
//! not by where it comes from.

use appliance::digest::Sha256;

use crate::harness::{config, program, said, saved, tarball};
use crate::workshop::{Workshop, gzip};
use appliance_cloud::server::{Answer, Server};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn bundle(component: &str) -> String {
    format!(
        "[bundle]\nname = \"t\"\nkubernetes = \"v1.9.0\"\ndescription = \"d\"\n\n[[component]]\n\
         version = \"3\"\n{component}"
    )
}

/// A program at two addresses, and a lock with this line for its checksum.
fn file(checksum: &str) -> Workshop {
    let workshop = Workshop::empty();
    let component = "name = \"etcd\"\nkind = \"program\"\npath = \"bin/etcd\"\nfile = \"etcd\"\n\
                     source = [\"https://one.example/etcd\", \"https://two.example/etcd\"]\n";
    workshop.put("definition/bundle.toml", bundle(component).as_bytes());
    let lock = format!("[[artifact]]\nurl = \"https://one.example/etcd\"\n{checksum}\n");
    workshop.put("definition/bundle.lock", lock.as_bytes());
    workshop
}

fn with_mirrors<'a>(arguments: &[&'a str], mirrors: &'a [String]) -> Vec<&'a str> {
    let mirrors = mirrors
        .iter()
        .flat_map(|mirror| ["--mirror", mirror.as_str()]);
    arguments.iter().copied().chain(mirrors).collect()
}

const FETCH: [&str; 4] = ["bundle", "fetch", "--bundle", "@definition"];

#[test]
fn the_next_source_is_tried_when_one_is_gone_refused_or_wrong() {
    let etcd = program("etcd", 9_000);
    let checksum = format!("sha256 = \"{}\"", Sha256::of(&etcd));
    let served = etcd.clone();
    let good = Server::start(move |request| Answer::file(&served, request));
    let gone = Server::start(|_| Answer::status("404 Not Found"));
    let refused = Server::start(|_| Answer::status("403 Forbidden"));
    let wrong = Server::start(|request| Answer::file(b"something else", request));
    let nobody = "http://127.0.0.1:1".to_owned();
    for bad in [gone.url(), refused.url(), wrong.url(), nobody] {
        let workshop = file(&checksum);
        let mirrors = [
            format!("one.example={bad}"),
            format!("two.example={}", good.url()),
        ];
        let output = workshop.run(&with_mirrors(&FETCH, &mirrors));
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains("trying the next source, https://two.example/etcd"),
            "{said}"
        );
        assert!(
            said.contains(&format!("served by {}/etcd", good.url())),
            "{said}"
        );
        assert!(workshop.get(&format!("cache/blobs/sha256/{}", Sha256::of(&etcd))) == etcd);
    }
}

#[test]
fn when_no_source_serves_it_each_reason_is_told() {
    let gone = Server::start(|_| Answer::status("404 Not Found"));
    let refused = Server::start(|_| Answer::status("403 Forbidden"));
    let workshop = file(&format!("sha256 = \"{}\"", "a1".repeat(32)));
    let mirrors = [
        format!("one.example={}", gone.url()),
        format!("two.example={}", refused.url()),
    ];
    let said = workshop.fail(&with_mirrors(&FETCH, &mirrors));
    for words in [
        "none of its 2 sources serves https://one.example/etcd",
        "404",
        "403",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn an_artifact_with_only_a_sha512_is_verified_by_it() {
    use sha2::Digest;
    let etcd = program("etcd", 9_000);
    let sha512 = hex::encode(sha2::Sha512::digest(&etcd));
    let served = etcd.clone();
    let good = Server::start(move |request| Answer::file(&served, request));
    let mirrors = [format!("one.example={}", good.url())];
    let workshop = file(&format!("sha512 = \"{sha512}\""));
    workshop.succeed(&with_mirrors(&FETCH, &mirrors));
    assert_eq!(workshop.get(&format!("cache/blobs/sha512/{sha512}")), etcd);
    let said = workshop.succeed(&with_mirrors(&FETCH, &mirrors));
    assert!(said.contains("1 were already in the cache"), "{said}");
    // It goes over the air gap, too.
    let export = [
        "bundle",
        "export",
        "--bundle",
        "@definition",
        "-o",
        "@carried.tar",
    ];
    workshop.succeed(&export);
    let there = Workshop::empty();
    there.put("carried.tar", &workshop.get("carried.tar"));
    let import = ["bundle", "import", "@carried.tar", "--definition", "@own"];
    there.succeed(&import);
    assert_eq!(there.get(&format!("cache/blobs/sha512/{sha512}")), etcd);
    there.succeed(&["repack", "--bundle", "@own", "--output", "@appliance"]);
    let list = there.succeed(&["bundle", "list", "@appliance", "-o", "json"]);
    assert!(list.contains(&format!("sha512:{sha512}")), "{list}");

    let wrong = file(&format!("sha512 = \"{}\"", "a1".repeat(64)));
    let said = wrong.fail(&with_mirrors(&FETCH, &mirrors));
    assert!(said.contains("its sha512 is"), "{said}");
}

/// The answers of a registry with an image whose layer is compressed in a way of its own.
fn registry(reference: &str, layer: &[u8], level: u32) -> Server {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    std::io::Write::write_all(&mut encoder, layer).unwrap();
    registry_of(
        reference,
        config("amd64", &[layer]),
        encoder.finish().unwrap(),
    )
}

/// The answers of a registry with an image of that configuration and that file for its layer.
fn registry_of(reference: &str, config: Vec<u8>, blob: Vec<u8>) -> Server {
    let size = blob.len() as u64;
    registry_that_says(reference, config, blob, size)
}

/// Like [`registry_of`], but the manifest says that the layer has `size` bytes.
fn registry_that_says(reference: &str, config: Vec<u8>, blob: Vec<u8>, size: u64) -> Server {
    let descriptor = |bytes: &[u8]| {
        serde_json::json!({
            "mediaType": "application/octet-stream",
            "size": bytes.len(),
            "digest": format!("sha256:{}", Sha256::of(bytes)),
        })
    };
    let mut layer = descriptor(&blob);
    layer["size"] = size.into();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(&config),
        "layers": [layer],
    });
    let manifest = manifest.to_string().into_bytes();
    let (repository, tag) = reference.split_once(':').unwrap();
    let base = format!("/v2/{repository}");
    let by_digest = format!("{base}/manifests/sha256:{}", Sha256::of(&manifest));
    let by_tag = format!("{base}/manifests/{tag}");
    let blobs =
        [config, blob].map(|bytes| (format!("{base}/blobs/sha256:{}", Sha256::of(&bytes)), bytes));
    Server::start(move |request| {
        if [&by_digest, &by_tag].contains(&&request.target) {
            return Answer::file(&manifest, request).header("Content-Type", MANIFEST);
        }
        let blob = blobs.iter().find(|(path, _)| *path == request.target);
        blob.map_or_else(
            || Answer::status("404 Not Found"),
            |(_, bytes)| Answer::file(bytes, request),
        )
    })
}

/// An image in two registries, and a lock with these lines.
fn image(lock: &str) -> Workshop {
    let workshop = Workshop::empty();
    let component = "name = \"pause\"\nkind = \"image\"\npath = \"images/pause.tar\"\n\
                     file = \"pause.tar\"\nreference = \"one.example/google/pause:3\"\n\
                     source = [\"docker://one.example/google/pause:3\", \
                     \"docker://two.example/pause:3\"]\n";
    workshop.put("definition/bundle.toml", bundle(component).as_bytes());
    let url = "docker://one.example/google/pause:3";
    workshop.put(
        "definition/bundle.lock",
        format!("[[artifact]]\nurl = \"{url}\"\n{lock}\n").as_bytes(),
    );
    workshop
}

#[test]
fn the_same_image_counts_from_another_registry_and_from_a_tarball() {
    let layer = tarball(&[("pause", b"pause")]);
    let id = Sha256::of(&config("amd64", &[&layer]));
    let gone = Server::start(|_| Answer::status("404 Not Found"));
    let other = registry("pause:3", &layer, 1);
    let mirrors = [
        format!("one.example={}", gone.url()),
        format!("two.example={}", other.url()),
    ];
    // The manifest's digest is that of another registry; or it is not known.
    let by_manifest = format!("sha256 = \"{}\"\nimage-id = \"{id}\"", "a1".repeat(32));
    let by_id = format!("image-id = \"{id}\"");
    let mut payloads = Vec::new();
    for lock in [by_manifest, by_id.clone()] {
        let workshop = image(&lock);
        workshop.succeed(&with_mirrors(&FETCH, &mirrors));
        let said = workshop.succeed(&with_mirrors(&FETCH, &mirrors));
        assert!(said.contains("1 were already in the cache"), "{said}");
        workshop.succeed(&[
            "repack",
            "--bundle",
            "@definition",
            "--output",
            "@appliance",
        ]);
        payloads.push(workshop.get("appliance"));
    }
    // From `docker save`, under any name.
    let workshop = image(&by_id);
    workshop.put(
        "components/pause.tar",
        &saved(&[("my/pause:latest", &[&layer])]),
    );
    let repack = [
        "repack",
        "--bundle",
        "@definition",
        "--components",
        "@components",
        "--output",
        "@appliance",
    ];
    workshop.succeed(&repack);
    let said = workshop.succeed(&["bundle", "verify", "@appliance", "--bundle", "@definition"]);
    assert!(said.contains("The payload is intact"), "{said}");
    let unlike = tarball(&[("pause", b"other")]);
    workshop.put(
        "components/pause.tar",
        &saved(&[("my/pause:latest", &[&unlike])]),
    );
    let said = workshop.fail(&repack);
    assert!(said.contains("it is tagged my/pause:latest"), "{said}");
    // A name of one of the sources is as good as the bundle's own, but the image must be the same.
    workshop.put(
        "components/pause.tar",
        &saved(&[("two.example/pause:3", &[&unlike])]),
    );
    let said = workshop.fail(&repack);
    assert!(said.contains("but bundle.lock has"), "{said}");
}

#[test]
fn another_image_of_the_same_name_is_refused() {
    let layer = tarball(&[("pause", b"forged")]);
    let forged = registry("google/pause:3", &layer, 6);
    let mirrors = [
        format!("one.example={}", forged.url()),
        format!("two.example={}", forged.url()),
    ];
    let workshop = image(&format!("image-id = \"{}\"", "b2".repeat(32)));
    let said = workshop.fail(&with_mirrors(&FETCH, &mirrors));
    assert!(said.contains("its image ID is"), "{said}");
    // The right configuration, but other layers.
    let right = config("amd64", &[&tarball(&[("pause", b"pause")])]);
    let lock = format!("image-id = \"{}\"", Sha256::of(&right));
    let forged = registry_of("google/pause:3", right, gzip(&layer));
    let mirrors = [
        format!("one.example={}", forged.url()),
        format!("two.example={}", forged.url()),
    ];
    let workshop = image(&lock);
    for _ in 0..2 {
        let said = workshop.fail(&with_mirrors(&FETCH, &mirrors));
        assert!(said.contains("its content has the sha256"), "{said}");
    }
}

#[test]
fn the_doctor_says_what_an_appliance_needs_and_changes_nothing() {
    let etcd = program("etcd", 9_000);
    let served = gzip(&etcd);
    let size = served.len();
    let good = Server::start(move |request| Answer::file(&served, request));
    let gone = Server::start(|_| Answer::status("404 Not Found"));
    let workshop = file(&format!("sha256 = \"{}\"", "a1".repeat(32)));
    std::fs::remove_dir(workshop.path("cache")).unwrap();
    let doctor = ["bundle", "doctor", "--bundle", "@definition", "-o", "json"];
    let ask = |one: &Server, two: &Server| {
        let mirrors = [
            format!("one.example={}", one.url()),
            format!("two.example={}", two.url()),
        ];
        let output = workshop.run(&with_mirrors(&doctor, &mirrors));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), answer)
    };
    let (code, answer) = ask(&gone, &good);
    assert_eq!(code, Some(0), "{answer}");
    assert_eq!(answer["ready"], true);
    assert_eq!(answer["download"], size);
    assert_eq!(answer["artifacts"][0]["checksum"], "sha256");
    let problem = answer["artifacts"][0]["sources"][0]["problem"].as_str();
    assert!(problem.unwrap().contains("404"), "{answer}");
    let (code, answer) = ask(&gone, &gone);
    assert_eq!(code, Some(1), "{answer}");
    assert_eq!(answer["ready"], false);
    assert!(
        answer["problem"]
            .as_str()
            .unwrap()
            .contains("no source serves 1 of 1")
    );
    assert!(!workshop.path("cache").exists());
}

#[test]
fn an_image_whose_manifest_lies_about_sizes_is_refused() {
    let layer = tarball(&[("pause", b"pause")]);
    for (size, words) in [
        (i64::MAX as u64, "more than the limit of"),
        (1_000_000, "bytes that the manifest says"),
    ] {
        let right = config("amd64", &[&layer]);
        let lock = format!("image-id = \"{}\"", Sha256::of(&right));
        let lying = registry_that_says("google/pause:3", right, gzip(&layer), size);
        let mirrors = [
            format!("one.example={}", lying.url()),
            format!("two.example={}", lying.url()),
        ];
        let said = image(&lock).fail(&with_mirrors(&FETCH, &mirrors));
        assert!(said.contains(words) && !said.contains("panicked"), "{said}");
    }
}
