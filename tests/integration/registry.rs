//! Images from registries: a real one with a real docker, and others that answer badly.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Condvar, Mutex};

use appliance::digest::Sha256;

use crate::docker::{Docker, Registry};
use crate::harness::{config, said, tarball};
use crate::workshop::{PACK, Workshop, gzip, names};
use appliance_cloud::server::{Answer, Request, Server};

const REFERENCE: &str = "example.org/google/pause:3.0";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A workshop whose only component is an image in a registry.
fn workshop() -> Workshop {
    let workshop = Workshop::empty();
    workshop.put(
        "definition/bundle.toml",
        format!(
            "[bundle]\nname = \"t\"\nkubernetes = \"v1.9.0\"\ndescription = \"d\"\n\n[[component]]\n\
             name = \"pause\"\nkind = \"image\"\nversion = \"3.0\"\npath = \"images/pause.tar\"\n\
             file = \"pause.tar\"\nsource = \"docker://{REFERENCE}\"\nreference = \"{REFERENCE}\"\n"
        )
        .as_bytes(),
    );
    workshop
}

fn lock_command(mirror: &str) -> [&str; 7] {
    [
        "bundle",
        "lock",
        "--bundle",
        "@definition",
        "--trust-on-first-use",
        "--mirror",
        mirror,
    ]
}

/// Locks, packs and unpacks; returns the image's tarball as a node gets it.
fn tarball_of(workshop: &Workshop, address: &str) -> Vec<u8> {
    workshop.succeed(&lock_command(&format!("example.org=http://{address}")));
    workshop.succeed(&PACK);
    fs::read(workshop.unpack().unwrap().join("images/pause.tar")).unwrap()
}

#[test]
fn an_image_pushed_by_a_real_docker_is_loaded_by_one() {
    let (docker, registry) = (Docker::start(), Registry::start());
    let workshop = workshop();
    workshop.put("pushed.tar", &crate::harness::image(REFERENCE));
    docker.run(&[
        "load",
        "--input",
        workshop.path("pushed.tar").to_str().unwrap(),
    ]);
    let there = format!("{}/google/pause:3.0", registry.address());
    docker.run(&["tag", REFERENCE, &there]);
    docker.run(&["push", &there]);
    let id = docker.run(&["image", "inspect", "--format", "{{.Id}}", &there]);
    docker.run(&["rmi", REFERENCE, &there]);
    assert_eq!(docker.run(&["images", "--quiet"]), "");

    let first = tarball_of(&workshop, registry.address());
    let other = self::workshop();
    assert_eq!(
        tarball_of(&other, registry.address()),
        first,
        "not the same every time"
    );
    assert_eq!(workshop.get("payload"), other.get("payload"));

    workshop.put("pulled.tar", &first);
    docker.run(&[
        "load",
        "--input",
        workshop.path("pulled.tar").to_str().unwrap(),
    ]);
    assert_eq!(
        docker.run(&["image", "inspect", "--format", "{{.Id}}", REFERENCE]),
        id
    );
    assert_eq!(
        workshop
            .payload()
            .manifest()
            .images()
            .next()
            .unwrap()
            .image_id,
        Some(id)
    );
    let container = docker.run(&["create", REFERENCE, "/hello"]);
    let copy = workshop.path("hello");
    docker.run(&["cp", &format!("{container}:/hello"), copy.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(copy).unwrap(), REFERENCE);
}

/// What a registry has, by path.
type Contents = BTreeMap<String, (&'static str, Vec<u8>)>;

fn blob(bytes: &[u8]) -> (String, (&'static str, Vec<u8>)) {
    let path = format!("/v2/google/pause/blobs/sha256:{}", Sha256::of(bytes));
    (path, ("application/octet-stream", bytes.to_vec()))
}

fn descriptor(kind: &str, bytes: &[u8]) -> String {
    format!(
        r#"{{"mediaType":"{kind}","size":{},"digest":"sha256:{}"}}"#,
        bytes.len(),
        Sha256::of(bytes)
    )
}

/// The manifest of an image of that configuration and those layers, and what is at its path.
fn manifest(kind: &'static str, config: &[u8], layers: &[(&str, &[u8])]) -> Vec<u8> {
    let layers: Vec<String> = layers
        .iter()
        .map(|(kind, bytes)| descriptor(kind, bytes))
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{},"layers":[{}]}}"#,
        descriptor("application/vnd.docker.container.image.v1+json", config),
        layers.join(",")
    )
    .into_bytes()
}

/// A registry's answer to a request.
fn answer(contents: &Contents, request: &Request) -> Answer {
    match contents.get(&request.target) {
        Some((kind, bytes)) => Answer::file(bytes, request).header("Content-Type", kind),
        None => Answer::status("404 Not Found"),
    }
}

fn tagged(kind: &'static str, manifest: Vec<u8>) -> (String, (&'static str, Vec<u8>)) {
    (
        "/v2/google/pause/manifests/3.0".to_owned(),
        (kind, manifest),
    )
}

/// An image of one layer, compressed by `compress`.
fn contents_of(kind: &'static str, media: &str, compress: impl Fn(&[u8]) -> Vec<u8>) -> Contents {
    let layer = tarball(&[("hello", b"hello")]);
    let (config, compressed) = (config("amd64", &[&layer]), compress(&layer));
    let manifest = manifest(kind, &config, &[(media, &compressed)]);
    Contents::from([tagged(kind, manifest), blob(&config), blob(&compressed)])
}

fn serve(contents: Contents) -> Server {
    Server::start(move |request| answer(&contents, request))
}

fn refusal(workshop: &Workshop, server: &Server) -> String {
    let said = workshop.fail(&lock_command(&format!("example.org={}", server.url())));
    assert!(!workshop.path("definition/bundle.lock").exists(), "{said}");
    said
}

#[test]
fn layers_are_the_same_however_they_are_compressed() {
    let zstd = |bytes: &[u8]| {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    };
    let mut tarballs = Vec::new();
    for contents in [
        contents_of(MANIFEST, LAYER, gzip),
        contents_of(OCI, ZSTD, zstd),
        contents_of(
            OCI,
            "application/vnd.oci.image.layer.v1.tar",
            <[u8]>::to_vec,
        ),
    ] {
        let server = serve(contents);
        tarballs.push(tarball_of(&workshop(), server.address()));
    }
    assert!(tarballs.iter().all(|tarball| *tarball == tarballs[0]));
}

#[test]
fn the_image_for_this_platform_is_taken_from_a_list() {
    let mut contents = contents_of(MANIFEST, LAYER, gzip);
    let (_, (_, one)) = contents
        .remove_entry("/v2/google/pause/manifests/3.0")
        .unwrap();
    let list = |platform: &str| {
        let image = descriptor(MANIFEST, &one);
        let image = image.strip_suffix('}').unwrap();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{LIST}","manifests":[{image},"platform":{{"architecture":"{platform}","os":"linux"}}}}]}}"#
        )
        .into_bytes()
    };
    let digest = Sha256::of(&one);
    contents.insert(
        format!("/v2/google/pause/manifests/sha256:{digest}"),
        (MANIFEST, one.clone()),
    );
    let mut for_us = contents.clone();
    for_us.extend([tagged(LIST, list("amd64"))]);
    let server = serve(for_us);
    let workshop = workshop();
    tarball_of(&workshop, server.address());
    let lock = String::from_utf8(workshop.get("definition/bundle.lock")).unwrap();
    assert!(lock.contains(&format!("sha256 = \"{digest}\"")), "{lock}");

    let mut for_others = contents.clone();
    for_others.extend([tagged(LIST, list("arm64"))]);
    let said = refusal(&self::workshop(), &serve(for_others));
    assert!(
        said.contains("is for linux/arm64, not for linux/amd64"),
        "{said}"
    );
}

#[test]
fn images_that_cannot_be_used_are_refused() {
    let layer = tarball(&[("hello", b"hello")]);
    let with = |config: Vec<u8>, compressed: Vec<u8>| {
        let manifest = manifest(MANIFEST, &config, &[(LAYER, &compressed)]);
        Contents::from([tagged(MANIFEST, manifest), blob(&config), blob(&compressed)])
    };
    let schema1 =
        br#"{"schemaVersion":1,"name":"google/pause","tag":"3.0","fsLayers":[]}"#.to_vec();
    let cases = [
        (
            "is for linux/arm64",
            with(config("arm64", &[&layer]), gzip(&layer)),
        ),
        (
            "has 2 layers, but its manifest has 1",
            with(config("amd64", &[&layer, &layer]), gzip(&layer)),
        ),
        (
            "only a manifest of schema 1",
            Contents::from([tagged(MANIFEST, schema1)]),
        ),
        (
            "the image's manifest",
            Contents::from([tagged(MANIFEST, b"<html>".to_vec())]),
        ),
        ("answers 404", Contents::new()),
    ];
    for (expected, contents) in cases {
        let said = refusal(&workshop(), &serve(contents));
        assert!(
            said.contains(expected) && said.contains("google/pause"),
            "{expected}: {said}"
        );
    }
}

#[test]
fn a_layer_that_is_not_what_its_image_says_is_refused() {
    let layer = tarball(&[("hello", b"hello")]);
    let other = tarball(&[("hello", b"other")]);
    let bomb = vec![0; 200 << 20];
    for (expected, content) in [
        ("its content has the sha256", &other),
        ("unpacks to more than", &bomb),
    ] {
        let (config, compressed) = (config("amd64", &[&layer]), gzip(content));
        let manifest = manifest(MANIFEST, &config, &[(LAYER, &compressed)]);
        let server = serve(Contents::from([
            tagged(MANIFEST, manifest),
            blob(&config),
            blob(&compressed),
        ]));
        let workshop = workshop();
        workshop.succeed(&lock_command(&format!("example.org={}", server.url())));
        let said = workshop.fail(&PACK);
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!workshop.path("payload").exists());
    }
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_is_kept_aside() {
    let mut contents = contents_of(MANIFEST, LAYER, gzip);
    let (path, length) = {
        let largest = contents
            .iter()
            .filter(|(path, _)| path.contains("blobs"))
            .max_by_key(|(_, (_, b))| b.len());
        let (path, (_, bytes)) = largest.unwrap();
        (path.clone(), bytes.len())
    };
    contents.insert(
        path.clone(),
        ("application/octet-stream", vec![b'x'; length]),
    );
    let workshop = workshop();
    let said = refusal(&workshop, &serve(contents));
    let expected = path.rsplit(':').next().unwrap();
    assert!(
        said.contains(&format!(
            "but {expected} was expected; look at the wrong file"
        )),
        "{said}"
    );
    assert_eq!(names(&workshop.path("cache/rejected")).len(), 1);
}

#[test]
fn a_cut_blob_goes_on_where_it_stopped() {
    let contents = contents_of(MANIFEST, LAYER, gzip);
    let server = Server::start(move |request| {
        let answer = answer(&contents, request);
        if request.target.contains("blobs") && request.range_start().is_none_or(|start| start == 0)
        {
            return answer.cut(10);
        }
        answer
    });
    let workshop = workshop();
    let said = workshop.succeed(&lock_command(&format!("example.org={}", server.url())));
    assert!(said.contains("trying again"), "{said}");
    assert!(
        server
            .asked()
            .iter()
            .any(|request| request.range_start() == Some(10))
    );
}

#[test]
fn a_token_is_asked_for_where_the_registry_wants_one() {
    let contents = contents_of(MANIFEST, LAYER, gzip);
    let server = Server::start(move |request| {
        if request.target.starts_with("/token") {
            let token = r#"{"token":"sesame","expires_in":300}"#;
            return Answer::status("200 OK")
                .header("Content-Type", "application/json")
                .body(token.as_bytes());
        }
        if request
            .headers
            .get("authorization")
            .is_some_and(|value| value == "Bearer sesame")
        {
            return answer(&contents, request);
        }
        let host = &request.headers["host"];
        let realm = format!(r#"Bearer realm="http://{host}/token",service="registry""#);
        Answer::status("401 Unauthorized").header("WWW-Authenticate", &realm)
    });
    tarball_of(&workshop(), server.address());
    let tokens = server.asked();
    let scope = tokens
        .iter()
        .find(|request| request.target.starts_with("/token"))
        .unwrap();
    assert!(
        scope.target.contains("repository%3Agoogle%2Fpause%3Apull")
            || scope.target.contains("repository:google/pause:pull"),
        "{}",
        scope.target
    );
}

#[test]
fn what_docker_login_left_is_shown_to_a_private_registry() {
    let contents = contents_of(MANIFEST, LAYER, gzip);
    let server = Server::start(move |request| {
        match request.headers.get("authorization").map(String::as_str) {
            // me:secret
            Some("Basic bWU6c2VjcmV0") => answer(&contents, request),
            _ => Answer::status("401 Unauthorized")
                .header("WWW-Authenticate", r#"Basic realm="private""#),
        }
    });
    let workshop = workshop();
    let command = lock_command("");
    let mirror = format!("example.org={}", server.url());
    let arguments = [&command[..6], &[mirror.as_str()]].concat();
    let said_to_strangers = workshop.fail(&arguments);
    assert!(
        said_to_strangers.contains("Not authorized"),
        "{said_to_strangers}"
    );
    let login = format!(
        r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#,
        server.address()
    );
    workshop.put("config.json", login.as_bytes());
    let output = workshop
        .command(&arguments)
        .env("DOCKER_CONFIG", workshop.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains("secret"), "{}", said(&output));
}

#[test]
fn the_environments_proxy_is_asked_for_images_too() {
    let contents = contents_of(MANIFEST, LAYER, gzip);
    let proxy = Server::start(move |request| {
        let mut request = request.clone();
        request.target = request.target.replace("http://registry.invalid", "");
        answer(&contents, &request)
    });
    let workshop = workshop();
    let mut command = workshop.command(&lock_command("example.org=http://registry.invalid"));
    let output = command.env("http_proxy", proxy.url()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        proxy.asked()[0]
            .target
            .starts_with("http://registry.invalid/v2/")
    );
}

#[test]
fn a_layer_that_two_images_have_is_fetched_once() {
    let workshop = workshop();
    let one = String::from_utf8(workshop.get("definition/bundle.toml")).unwrap();
    let (head, component) = one.split_once("[[component]]").unwrap();
    let other = component.replace("pause", "other");
    let both = format!("{head}[[component]]{component}\n[[component]]{other}");
    workshop.put("definition/bundle.toml", both.as_bytes());
    let mut contents = contents_of(MANIFEST, LAYER, gzip);
    let copies: Contents = contents
        .iter()
        .map(|(path, content)| (path.replace("pause", "other"), content.clone()))
        .collect();
    contents.extend(copies);
    let layer = {
        let blobs = contents.iter().filter(|(path, _)| path.contains("blobs"));
        let gzipped = blobs
            .into_iter()
            .find(|(_, (_, bytes))| bytes.starts_with(&[0x1f, 0x8b]));
        gzipped.unwrap().0.rsplit('/').next().unwrap().to_owned()
    };
    // The layer comes only when both images have been asked for.
    let manifests = Arc::new((Mutex::new(0), Condvar::new()));
    let name = layer.clone();
    let server = Server::start(move |request| {
        let (count, changed) = &*manifests;
        let mut count = count.lock().unwrap();
        if request.target.contains("manifests") {
            *count += 1;
            changed.notify_all();
        } else if request.target.ends_with(&name) {
            drop(changed.wait_while(count, |count| *count < 2).unwrap());
        }
        answer(&contents, request)
    });
    workshop.succeed(&lock_command(&format!("example.org={}", server.url())));
    let asked = server.asked();
    assert_eq!(
        asked
            .iter()
            .filter(|request| request.target.ends_with(&layer))
            .count(),
        1
    );
}

#[test]
fn an_image_of_the_cache_needs_no_registry() {
    let server = serve(contents_of(MANIFEST, LAYER, gzip));
    let workshop = workshop();
    tarball_of(&workshop, server.address());
    let asked = server.asked().len();
    drop(server);
    let said = workshop.succeed(&["bundle", "fetch", "--bundle", "@definition"]);
    assert!(
        said.contains("0 artifacts downloaded, 1 were already in the cache"),
        "{said}"
    );
    assert!(asked > 0);
}
