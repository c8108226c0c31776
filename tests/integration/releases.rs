//! The artifacts of a bundle, laid out as the projects publish them, with made-up programs: archives,
//! `docker save` tarballs in archives, images in registries. A server here serves them under their own
//! paths.

use std::collections::BTreeMap;

use appliance::digest::Sha256;
use appliance_cloud::server::{Answer, Server};
use serde_json::json;

use crate::harness::{config, program, tarball};
use crate::workshop::gzip;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const BYTES: &str = "application/octet-stream";
/// The bytes of each program. Different programs differ, so that a wrong one is noticed.
const LENGTH: usize = 30_000;

/// The releases of everything that a bundle lists.
pub struct Releases {
    /// Type and content, by path.
    files: BTreeMap<String, (&'static str, Vec<u8>)>,
    /// The checksum of each artifact, by its first source.
    sums: BTreeMap<String, Sha256>,
    /// The hosts of all sources.
    hosts: Vec<String>,
}

/// A component of a bundle, as its definition has it.
struct Component {
    name: String,
    is_image: bool,
    member: Option<String>,
    image_file: Option<String>,
}

/// The name of the program at that place, which decides its bytes.
pub fn bytes_of(place: &str) -> Vec<u8> {
    program(place, LENGTH)
}

impl Releases {
    /// The releases for the text of a bundle.toml.
    pub fn of(definition: &str) -> Releases {
        let mut releases = Releases {
            files: BTreeMap::new(),
            sums: BTreeMap::new(),
            hosts: Vec::new(),
        };
        for (source, components) in by_source(definition, &mut releases.hosts) {
            let sum = match source.strip_prefix("docker://") {
                Some(reference) => releases.publish_image(reference),
                None => releases.publish_file(&source, &components),
            };
            releases.sums.insert(source, sum);
        }
        releases.hosts.sort();
        releases.hosts.dedup();
        releases
    }

    /// The text of a bundle.lock with the checksum of every artifact, except that of the artifacts
    /// whose source contains one of the words: theirs were not published.
    pub fn lock(&self, unpublished: &[&str]) -> String {
        let entry = |(source, sum): (&String, &Sha256)| {
            let is_known = !unpublished.iter().any(|word| source.contains(word));
            let sum = if is_known {
                sum.to_string()
            } else {
                "unverified".to_owned()
            };
            format!("[[artifact]]\nurl = \"{source}\"\nsha256 = \"{sum}\"\n")
        };
        self.sums.iter().map(entry).collect::<Vec<_>>().join("\n")
    }

    /// Replaces the artifact whose source ends with `name` by another file.
    pub fn replace(&mut self, name: &str, content: &[u8]) {
        let path = self.files.keys().find(|path| path.ends_with(name));
        let path = path.unwrap().clone();
        self.files.insert(path, (BYTES, content.to_vec()));
    }

    /// The artifacts, by their first source.
    pub fn sources(&self) -> Vec<&str> {
        self.sums.keys().map(String::as_str).collect()
    }

    /// Serves them. Returns the server and the mirrors, `HOST=URL`, of all sources.
    pub fn serve(self) -> (Server, Vec<String>) {
        let files = self.files;
        let server = Server::start(move |request| match files.get(&request.target) {
            Some((kind, bytes)) => Answer::file(bytes, request).header("Content-Type", kind),
            None => Answer::status("404 Not Found"),
        });
        let hosts = self.hosts.iter();
        let mirrors = hosts.map(|host| format!("{host}={}", server.url()));
        let mirrors = mirrors.collect();
        (server, mirrors)
    }

    fn publish_file(&mut self, source: &str, components: &[Component]) -> Sha256 {
        let path = path_of(source);
        let bytes = if components
            .iter()
            .all(|component| component.member.is_none())
        {
            bytes_of(&path)
        } else {
            archive(components)
        };
        let sum = Sha256::of(&bytes);
        self.files.insert(path, (BYTES, bytes));
        sum
    }

    /// Publishes an image of two layers under its tag. Returns the digest of its manifest.
    fn publish_image(&mut self, reference: &str) -> Sha256 {
        let (_, path) = reference.split_once('/').unwrap();
        let (repository, tag) = path.split_once(':').unwrap();
        let layers = layers(&[("/program", &bytes_of(reference))]);
        let config = config("amd64", &[&layers[0], &layers[1]]);
        let packed = layers.map(|layer| gzip(&layer));
        let describe = |bytes: &Vec<u8>| {
            let digest = format!("sha256:{}", Sha256::of(bytes));
            json!({"mediaType": BYTES, "size": bytes.len(), "digest": digest})
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": describe(&config),
            "layers": packed.each_ref().map(describe),
        });
        let manifest = manifest.to_string().into_bytes();
        let sum = Sha256::of(&manifest);
        for bytes in packed.into_iter().chain([config]) {
            let path = format!("/v2/{repository}/blobs/sha256:{}", Sha256::of(&bytes));
            self.files.insert(path, (BYTES, bytes));
        }
        for name in [tag.to_owned(), format!("sha256:{sum}")] {
            let path = format!("/v2/{repository}/manifests/{name}");
            self.files.insert(path, (MANIFEST, manifest.clone()));
        }
        sum
    }
}

/// The components of each artifact, by its first source.
fn by_source(definition: &str, hosts: &mut Vec<String>) -> BTreeMap<String, Vec<Component>> {
    let definition: toml::Table = toml::from_str(definition).unwrap();
    let components = definition["component"].as_array().unwrap();
    let mut all: BTreeMap<String, Vec<Component>> = BTreeMap::new();
    for component in components {
        let text = |key: &str| Some(component.get(key)?.as_str()?.to_owned());
        let sources: Vec<String> = match &component["source"] {
            toml::Value::Array(list) => list
                .iter()
                .map(|source| source.as_str().unwrap().to_owned())
                .collect(),
            one => vec![one.as_str().unwrap().to_owned()],
        };
        let host = |source: &String| {
            let (_, rest) = source.split_once("://").unwrap();
            rest.split('/').next().unwrap().to_owned()
        };
        hosts.extend(sources.iter().map(host));
        all.entry(sources[0].clone()).or_default().push(Component {
            name: text("name").unwrap(),
            is_image: text("kind").unwrap() == "image",
            member: text("member"),
            image_file: text("image-file"),
        });
    }
    all
}

fn path_of(source: &str) -> String {
    let (_, rest) = source.split_once("://").unwrap();
    rest[rest.find('/').unwrap()..].to_owned()
}

/// The archive in which these components are published: programs, saved images with a tag of their
/// own, programs in saved images, and other files around them.
fn archive(components: &[Component]) -> Vec<u8> {
    let mut members: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut in_images: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for component in components {
        let member = component.member.clone();
        let member = member.unwrap_or_else(|| panic!("{} names no member", component.name));
        if let Some(top) = member.split_once('/').map(|(top, _)| top) {
            members.insert(format!("{top}/README.md"), b"# A release\n".to_vec());
        }
        if let Some(file) = &component.image_file {
            in_images.entry(member).or_default().push(file.clone());
            continue;
        }
        let bytes = if component.is_image {
            let own = bytes_of(&component.name);
            saved(&member, &[(&format!("/{}", component.name), &own)])
        } else {
            bytes_of(&member)
        };
        members.insert(member, bytes);
    }
    for (member, files) in in_images {
        let files: Vec<(&str, Vec<u8>)> = files
            .iter()
            .map(|file| (file.as_str(), bytes_of(file)))
            .collect();
        let files = borrowed(&files);
        let beside = member.replace("calico-cni", "calico-typha");
        members.insert(
            beside.clone(),
            saved(&beside, &[("/typha", b"no part of a bundle")]),
        );
        members.insert(member.clone(), saved(&member, &files));
    }
    let members: Vec<(&str, Vec<u8>)> = members
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.clone()))
        .collect();
    gzip(&tarball(&borrowed(&members)))
}

fn borrowed<'a>(files: &'a [(&'a str, Vec<u8>)]) -> Vec<(&'a str, &'a [u8])> {
    let files = files.iter();
    files
        .map(|(name, bytes)| (*name, bytes.as_slice()))
        .collect()
}

/// A tarball of `docker save`, of an image that has no version yet: `images/calico-node.tar` is
/// `calico/node:latest`.
fn saved(member: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let stem = member.rsplit('/').next().unwrap().trim_end_matches(".tar");
    let repository = stem.replacen('-', "/", 1);
    let layers = layers(files);
    let config = config("amd64", &[&layers[0], &layers[1]]);
    let name = format!("{}.json", Sha256::of(&config));
    let ids = layers.each_ref().map(|layer| Sha256::of(layer).to_string());
    let paths = ids.each_ref().map(|id| format!("{id}/layer.tar"));
    let manifest = json!([{
        "Config": name, "RepoTags": [format!("{repository}:latest")], "Layers": paths,
    }]);
    let repositories = json!({repository: {"latest": ids[1]}});
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    for (id, layer) in ids.iter().zip(layers) {
        entries.push((format!("{id}/VERSION"), b"1.0".to_vec()));
        entries.push((
            format!("{id}/json"),
            json!({"id": id}).to_string().into_bytes(),
        ));
        entries.push((format!("{id}/layer.tar"), layer));
    }
    entries.push((name, config));
    entries.push((
        "manifest.json".to_owned(),
        manifest.to_string().into_bytes(),
    ));
    entries.push((
        "repositories".to_owned(),
        repositories.to_string().into_bytes(),
    ));
    let entries: Vec<(&str, Vec<u8>)> = entries
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.clone()))
        .collect();
    tarball(&borrowed(&entries))
}

/// The layers of an image: the upper one replaces the files of the lower one.
fn layers(files: &[(&str, &[u8])]) -> [Vec<u8>; 2] {
    let relative = |content: Option<&'static [u8]>| {
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(path, bytes)| (path.trim_start_matches('/'), content.unwrap_or(bytes)))
            .collect();
        tarball(&files)
    };
    [relative(Some(b"an older build")), relative(None)]
}
