//! Tarballs of one image in every form in which programs write them: each gives the same image, and a
//! real docker agrees.

use std::fs;
use std::io::Write;

use appliance::digest::Sha256;
use serde_json::{Value, json};

use crate::docker::Docker;
use crate::harness::{Machine, config, saved, tarball};
use crate::workshop::{Workshop, gzip};

const REFERENCE: &str = "example.org/google/pause:3.0";

/// A tarball, and what the image in it is.
struct Case {
    name: &'static str,
    content: Vec<u8>,
    /// Whether the docker of the tests loads it as it is, with a known image ID.
    docker: bool,
}

fn case(name: &'static str, content: Vec<u8>, docker: bool) -> Case {
    Case {
        name,
        content,
        docker,
    }
}

fn xz(content: &[u8]) -> Vec<u8> {
    let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(content: &[u8]) -> Vec<u8> {
    // Two streams, as parallel programs write them.
    let (one, two) = content.split_at(content.len() / 2);
    let pack = |part| {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap()
    };
    [one, two].map(pack).concat()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    // Two frames, as parallel programs write them.
    let (one, two) = content.split_at(content.len() / 2);
    [one, two]
        .map(|part| compress_to_vec(part, CompressionLevel::Fastest))
        .concat()
}

fn layers() -> [Vec<u8>; 2] {
    [
        tarball(&[("bin/pause", b"pause"), ("etc/motd", b"old")]),
        tarball(&[("etc/motd", b"new")]),
    ]
}

fn image_config() -> Vec<u8> {
    let [one, two] = layers();
    config("amd64", &[&one, &two])
}

/// A tarball with a `manifest.json` that names these tags and these files of layers.
fn with_manifest(tags: &Value, files: &[(&str, &[u8])]) -> Vec<u8> {
    let (config, id) = (image_config(), Sha256::of(&image_config()));
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    // Like crane: the name of the configuration has a prefix.
    let config_name = format!("sha256:{id}");
    let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]).to_string();
    let rest = [
        (config_name.as_str(), config.as_slice()),
        ("manifest.json", manifest.as_bytes()),
    ];
    tarball(&[files, &rest].concat())
}

/// Adds the blob; returns its descriptor.
fn blob(files: &mut Vec<(String, Vec<u8>)>, media: &str, content: Vec<u8>) -> Value {
    let digest = Sha256::of(&content);
    let descriptor = json!({
        "mediaType": format!("application/vnd.oci.image.{media}"),
        "digest": format!("sha256:{digest}"),
        "size": content.len(),
    });
    files.push((format!("blobs/sha256/{digest}"), content));
    descriptor
}

/// An OCI layout of the image and, if asked for, of others beside it.
fn layout(key: &str, name: &str, compress: fn(&[u8]) -> Vec<u8>, others: bool) -> Vec<u8> {
    let mut files = Vec::new();
    let kind = "layer.v1.tar+gzip";
    let [one, two] = layers().map(|layer| blob(&mut files, kind, compress(&layer)));
    let config = blob(&mut files, "config.v1+json", image_config());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [one, two]});
    let manifest = manifest.to_string().into_bytes();
    let mut entry = blob(&mut files, "manifest.v1+json", manifest);
    let mut entries = Vec::new();
    if others {
        // An image for another platform in a list, and another image.
        entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let mut foreign = entry.clone();
        foreign["platform"] = json!({"os": "linux", "architecture": "arm64"});
        foreign["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
        let list = json!({"schemaVersion": 2, "manifests": [foreign, entry]});
        entry = blob(&mut files, "index.v1+json", list.to_string().into_bytes());
        let layer = blob(&mut files, kind, compress(b"other"));
        let other = crate::harness::config("amd64", &[b"other"]);
        let other = blob(&mut files, "config.v1+json", other);
        let other = json!({"schemaVersion": 2, "config": other, "layers": [layer]});
        let mut other = blob(
            &mut files,
            "manifest.v1+json",
            other.to_string().into_bytes(),
        );
        other["annotations"] = json!({key: "example.org/other:1"});
        entries.push(other);
    }
    if !name.is_empty() {
        entry["annotations"] = json!({key: name});
    }
    entries.push(entry);
    let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
    files.push(("index.json".to_owned(), index.into_bytes()));
    let version = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
    files.push(("oci-layout".to_owned(), version));
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, content)| (name.as_str(), content.as_slice()))
        .collect();
    tarball(&files)
}

/// A link in a tar, as docker writes it for a layer that occurs twice.
fn linked(kind: tar::EntryType, target: &str) -> Vec<u8> {
    let [one, two] = layers();
    let names = ["a/layer.tar", "b/layer.tar"];
    let plain = with_manifest(&json!([REFERENCE]), &[(names[0], &one), (names[1], &two)]);
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(two.len() as u64);
    archive
        .append_data(&mut header, "c/layer.tar", two.as_slice())
        .unwrap();
    for entry in tar::Archive::new(plain.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut header = entry.header().clone();
        if path.ends_with(names[1]) {
            header.set_entry_type(kind);
            header.set_size(0);
            archive.append_link(&mut header, &path, target).unwrap();
        } else {
            archive.append_data(&mut header, &path, &mut entry).unwrap();
        }
    }
    archive.into_inner().unwrap()
}

/// The tarball with other names of its members: any bytes, as other programs write them.
fn renamed(tarball: &[u8], name: fn(&str) -> String) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(tarball).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = name(entry.path().unwrap().to_str().unwrap());
        let mut header = entry.header().clone();
        let field = &mut header.as_old_mut().name;
        field.fill(0);
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, &mut entry).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A tarball of docker before 1.10.
fn legacy() -> Vec<u8> {
    let [one, two] = layers();
    let (name, tag) = REFERENCE.rsplit_once(':').unwrap();
    let repositories = json!({name: {tag: "bb"}}).to_string();
    let of = |id: &str, parent: Option<&str>| {
        let mut json = json!({
            "id": id, "created": "2016-05-04T06:26:41Z", "architecture": "amd64", "os": "linux",
            "config": {"Entrypoint": ["/bin/pause"]}, "Size": 5,
        });
        if let Some(parent) = parent {
            json["parent"] = parent.into();
        }
        json.to_string()
    };
    let (first, second) = (of("aa", None), of("bb", Some("aa")));
    tarball(&[
        ("aa/VERSION", b"1.0"),
        ("aa/json", first.as_bytes()),
        ("aa/layer.tar", &one),
        ("bb/VERSION", b"1.0"),
        ("bb/json", second.as_bytes()),
        ("bb/layer.tar", &two),
        ("repositories", repositories.as_bytes()),
    ])
}

/// Every form in which the same image may come.
fn cases() -> Vec<Case> {
    let [one, two] = layers();
    let named = json!([REFERENCE]);
    let compressed = |compress: fn(&[u8]) -> Vec<u8>| {
        let (one, two) = (compress(&one), compress(&two));
        with_manifest(&named, &[("1.tar", &one), ("2.tar", &two)])
    };
    let plain = with_manifest(&named, &[("1/layer.tar", &one), ("2/layer.tar", &two)]);
    let same_twice = {
        let damaged = tarball(&[("1/layer.tar", b"from a run that was cut")]);
        // Two archives in one: the first one without its end.
        [&damaged[..1024], &plain].concat()
    };
    let unnamed = |tags: Value| with_manifest(&tags, &[("1.tar", &one), ("2.tar", &two)]);
    let other = tarball(&[("other", b"other")]);
    let several = saved(&[
        ("example.org/other:1", &[&other]),
        (REFERENCE, &[&one, &two]),
    ]);
    let containerd = "io.containerd.image.name";
    let spec = "org.opencontainers.image.ref.name";
    let odd = |name: fn(&str) -> String| renamed(&plain, name);
    vec![
        case("names from the root", odd(|name| format!("/{name}")), true),
        case(
            "names with ..",
            odd(|name| format!("x/y/../../{name}")),
            true,
        ),
        case("plain", plain.clone(), true),
        case("plain, gzip", gzip(&plain), true),
        case("plain, xz", xz(&plain), false),
        case("plain, zstd", zstd(&plain), false),
        case("plain, bzip2", bzip2(&plain), true),
        case("layers, gzip", compressed(gzip), true),
        case("layers, bzip2", compressed(bzip2), true),
        case("layers, xz", compressed(xz), false),
        case("layers, zstd", compressed(zstd), false),
        case("a file twice", same_twice, true),
        case(
            "symbolic link",
            linked(tar::EntryType::Symlink, "../c/layer.tar"),
            true,
        ),
        case(
            "hard link",
            linked(tar::EntryType::Link, "c/layer.tar"),
            true,
        ),
        case("no names", unnamed(Value::Null), true),
        case("empty names", unnamed(json!([])), true),
        case("several images", several, true),
        case(
            "layout, plain",
            layout(spec, REFERENCE, <[u8]>::to_vec, false),
            false,
        ),
        case(
            "layout, gzip",
            layout(containerd, REFERENCE, gzip, false),
            false,
        ),
        case(
            "layout, zstd, gzip",
            gzip(&layout(spec, "3.0", zstd, false)),
            false,
        ),
        case(
            "layout without a name",
            layout(spec, "", gzip, false),
            false,
        ),
        case(
            "layout, several",
            layout(containerd, REFERENCE, gzip, true),
            false,
        ),
    ]
}

/// Packs the tarball as the component `pause`; returns its ID and the tarball that a node gets.
fn packed(content: &[u8]) -> anyhow::Result<(String, Vec<u8>)> {
    let workshop = Workshop::new();
    workshop.put("components/pause.tar", content);
    let manifest = workshop.pack("payload")?;
    let id = manifest.images().next().unwrap().image_id.clone().unwrap();
    let file = workshop.unpack()?.join("images/pause.tar");
    Ok((id, fs::read(file)?))
}

#[test]
fn an_image_is_the_same_in_every_form() {
    let id = format!("sha256:{}", Sha256::of(&image_config()));
    let mut tarballs: Vec<Vec<u8>> = Vec::new();
    for case in cases() {
        let result = packed(&case.content);
        let (found, tarball) = result.unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
        assert_eq!(found, id, "{}", case.name);
        // What docker saves in its own form stays as it is.
        let as_it_is = ["plain", "a file twice", "symbolic link", "hard link"];
        if !as_it_is.contains(&case.name) && !case.name.starts_with("names") {
            tarballs.push(tarball);
        }
    }
    assert!(tarballs.len() > 10 && tarballs.iter().all(|tarball| *tarball == tarballs[0]));
}

#[test]
fn a_name_that_docker_shortens_is_the_same_name() {
    let [one, two] = layers();
    let reference = "library/pause:3.0";
    for name in [
        "docker.io/library/pause:3.0",
        "index.docker.io/library/pause:3.0",
    ] {
        let workshop = Workshop::new();
        let definition = String::from_utf8(workshop.get("definition/bundle.toml")).unwrap();
        let definition = definition.replace(REFERENCE, &format!("docker.io/{reference}"));
        workshop.put("definition/bundle.toml", definition.as_bytes());
        workshop.put("components/pause.tar", &saved(&[(name, &[&one, &two])]));
        workshop.pack("payload").unwrap();
    }
    let local = saved(&[("localhost/pause:3.0", &[&one, &two])]);
    let error = format!("{:#}", packed(&local).unwrap_err());
    assert!(
        error.contains(&format!("docker save {REFERENCE} -o FILE")),
        "{error}"
    );
}

#[test]
fn a_tarball_that_no_docker_takes_is_refused_with_the_command_that_makes_a_good_one() {
    let [one, two] = layers();
    let plain = with_manifest(&json!([REFERENCE]), &[("1.tar", &one), ("2.tar", &two)]);
    let foreign = {
        let text = layout("a", "", gzip, false);
        let manifest = String::from_utf8_lossy(&text).into_owned();
        assert!(manifest.contains("index.json"));
        tarball(&[(
            "index.json",
            br#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":1,"platform":{"os":"linux","architecture":"arm64"}}]}"#,
        )])
    };
    for (content, expected) in [
        (b"no tar".repeat(200), "docker save NAME:TAG -o FILE"),
        (tarball(&[("x", b"{}")]), "docker save NAME:TAG -o FILE"),
        (
            bzip2(&plain)[..60].to_vec(),
            "compressed with bzip2, but cannot be unpacked",
        ),
        (
            gzip(&plain)[..300].to_vec(),
            "compressed with gzip, but cannot be unpacked",
        ),
        (
            foreign,
            "skopeo copy --override-os linux --override-arch amd64",
        ),
        (
            renamed(&plain, |name| format!("x/../../{name}")),
            "leads outside the archive",
        ),
        (
            linked(tar::EntryType::Symlink, "layer.tar"),
            "circle of links",
        ),
        (
            linked(tar::EntryType::Symlink, "../../../etc/passwd"),
            "it has no b/layer.tar",
        ),
    ] {
        let error = format!("{:#}", packed(&content).unwrap_err());
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn an_image_that_an_old_docker_saved_is_packed() {
    let (id, tarball) = packed(&legacy()).unwrap();
    let (again, same) = packed(&tarball).unwrap();
    assert_eq!((id, tarball), (again, same));
}

#[test]
fn a_real_docker_agrees_on_the_image_in_every_form() {
    let docker = Docker::start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    let load = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        docker.run(&["load", "--input", path.to_str().unwrap()]);
    };
    let mut loaded = 0;
    for case in cases() {
        let (id, tarball) = packed(&case.content).unwrap();
        let of = |name: &str| docker.run(&["image", "inspect", "--format", "{{.Id}}", name]);
        if case.docker {
            load(&case.content);
            assert_eq!(of(&id).trim(), id, "{}", case.name);
            docker.run(&["rmi", "--force", &id]);
            loaded += 1;
        }
        load(&tarball);
        assert_eq!(of(REFERENCE).trim(), id, "{}", case.name);
        docker.run(&["rmi", "--force", &id]);
    }
    let (id, tarball) = packed(&legacy()).unwrap();
    load(&tarball);
    let found = docker.run(&[
        "image",
        "inspect",
        "--format",
        "{{.Id}} {{.Config.Entrypoint}}",
        REFERENCE,
    ]);
    assert_eq!(found.trim(), format!("{id} [/bin/pause]"));
    println!(
        "docker loaded {loaded} of {} tarballs as they are",
        cases().len()
    );
}

#[test]
fn a_workloads_tarball_may_be_compressed_and_in_any_form_that_an_old_docker_takes() {
    let yaml = "workloads: [{name: a, images: [/mnt/a.tar], manifest: '{apiVersion: v1, kind: Pod, \
                metadata: {name: p}, spec: {containers: [{name: c, image: \"calico/pause:3.0\"}]}}'}]\n";
    let [one, two] = layers();
    let plain = saved(&[("docker.io/calico/pause:3.0", &[&one, &two])]);
    let machine = |content: &[u8]| {
        let machine = Machine::new();
        machine.put("etc/appliance/config.yaml", yaml);
        machine.put("mnt/other", "");
        fs::write(machine.root().join("mnt/a.tar"), content).unwrap();
        machine
    };
    for content in [plain.clone(), gzip(&plain), xz(&plain)] {
        machine(&content).installed(&["--role", "single"]);
    }
    for (content, expected) in [
        (zstd(&plain), "zstd -d FILE"),
        (
            layout("a", "", gzip, false),
            "skopeo copy oci-archive:FILE docker-archive:",
        ),
        (legacy(), "docker load -i FILE"),
        (
            with_manifest(&Value::Null, &[("1", &one), ("2", &two)]),
            "docker save NAME:TAG -o FILE",
        ),
    ] {
        let said = machine(&content).refusal(&["--role", "single"]);
        assert!(said.contains(expected), "{expected}: {said}");
    }
    machine(&plain).planned(&["--role", "single"]);
}
