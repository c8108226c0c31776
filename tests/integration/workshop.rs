//! A place to build bundles: a definition, a directory of components, a cache, a payload.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use appliance::bundle::cache::Cache;
use appliance::bundle::definition::Definition;
use appliance::bundle::manifest::Manifest;
use appliance::bundle::pack::{Places, pack};
use appliance::bundle::payload::{self, Payload};
use appliance::bundle::unpack::unpack;
use appliance::sys::progress::Silent;

use crate::harness::{image, program, said};

const DEFINITION: &str = r#"
[bundle]
name = "test"
kubernetes = "v1.9.0"
description = "For tests."

[[component]]
name = "etcd"
kind = "program"
version = "3.1.10"
path = "bin/etcd"
file = "etcd"
source = "https://example.org/etcd.tar.gz"
member = "etcd-v3/etcd"
license = "Apache-2.0"
supplier = "CoreOS"

[[component]]
name = "kubectl"
kind = "program"
version = "v1.9.0"
path = "bin/kubectl"
file = "kubectl"
on-path = true

[[component]]
name = "pause"
kind = "image"
version = "3.0"
path = "images/pause.tar"
file = "pause.tar"
reference = "example.org/google/pause:3.0"
"#;

/// Packs the components of the definition, from the downloads, into the payload.
pub const PACK: [&str; 6] = [
    "bundle",
    "pack",
    "--bundle",
    "@definition",
    "--output",
    "@payload",
];

/// Where a bundle is built.
pub struct Workshop {
    dir: tempfile::TempDir,
}

impl Workshop {
    /// A workshop with a definition and all components, from which nothing is made yet.
    pub fn new() -> Workshop {
        let workshop = Workshop::empty();
        workshop.put("definition/bundle.toml", DEFINITION.as_bytes());
        workshop.put("components/etcd", &program("etcd", 300_000));
        workshop.put("components/kubectl", &program("kubectl", 200_000));
        workshop.put(
            "components/pause.tar",
            &image("example.org/google/pause:3.0"),
        );
        workshop
    }

    /// A workshop with empty directories.
    pub fn empty() -> Workshop {
        let workshop = Workshop {
            dir: tempfile::tempdir().unwrap(),
        };
        for dir in ["definition", "components", "opt", "cache"] {
            fs::create_dir(workshop.path(dir)).unwrap();
        }
        workshop
    }

    /// A workshop whose payload is packed.
    pub fn packed() -> Workshop {
        let workshop = Workshop::new();
        workshop.pack("payload").unwrap();
        workshop
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub fn put(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Reads a file.
    pub fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Moves the component `name` into the archive in which it is published.
    pub fn archive_etcd(&self) -> Vec<u8> {
        let etcd = self.get("components/etcd");
        fs::remove_file(self.path("components/etcd")).unwrap();
        gzip(&crate::harness::tarball(&[
            ("etcd-v3/README", b"no"),
            ("etcd-v3/etcd", &etcd),
        ]))
    }

    /// Packs the components into the payload of that name.
    pub fn pack(&self, output: &str) -> anyhow::Result<Manifest> {
        let definition = Definition::read(&self.path("definition"))?;
        let components = self.path("components");
        let cache = Cache::open(&self.path("cache"))?;
        let places = Places {
            components: Some(&components),
            cache: Some(&cache),
        };
        pack(&definition, places, None, &self.path(output), |_| {
            Box::new(Silent)
        })
    }

    /// Packing must fail, leave nothing behind, and report the reason.
    pub fn pack_refusal(&self) -> String {
        let before = names(self.dir.path());
        let error = format!("{:#}", self.pack("payload").unwrap_err());
        assert_eq!(names(self.dir.path()), before, "{error}");
        error
    }

    /// The payload.
    pub fn payload(&self) -> Payload {
        Payload::open(&self.path("payload")).unwrap()
    }

    /// Unpacks the payload to `opt`.
    pub fn unpack(&self) -> anyhow::Result<PathBuf> {
        unpack(
            &Payload::open(&self.path("payload"))?,
            &self.path("opt"),
            &Silent,
        )
    }

    /// Unpacking must fail, leave nothing behind, and report the reason.
    pub fn unpack_refusal(&self) -> String {
        let error = format!("{:#}", self.unpack().unwrap_err());
        assert_eq!(names(&self.path("opt")), Vec::<String>::new(), "{error}");
        error
    }

    /// Changes the payload like an attacker who cannot change this program: its manifest, and the
    /// stream of one pack.
    pub fn forge(&self, change: impl Fn(&mut Manifest), stream: Option<(&str, &[u8])>) {
        self.forge_signed(change, stream, None);
    }

    /// Like [`Workshop::forge`], with a signature.
    pub fn forge_signed(
        &self,
        change: impl Fn(&mut Manifest),
        stream: Option<(&str, &[u8])>,
        signature: Option<&str>,
    ) {
        let payload = self.payload();
        let mut manifest = payload.manifest().clone();
        let mut streams = Vec::new();
        for pack in &manifest.packs {
            let path = self.path(&format!("forged-{}", pack.name));
            match stream.filter(|(name, _)| *name == pack.name) {
                Some((_, bytes)) => fs::write(&path, bytes).unwrap(),
                None => {
                    let mut file = fs::File::create(&path).unwrap();
                    std::io::copy(&mut payload.pack(&pack.name).unwrap(), &mut file).unwrap();
                }
            }
            streams.push((pack.name.clone(), path));
        }
        change(&mut manifest);
        let streams: Vec<(&str, &Path)> = streams
            .iter()
            .map(|(name, path)| (name.as_str(), path.as_path()))
            .collect();
        let text = serde_json::to_vec(&manifest).unwrap();
        let forged = self.path("forged");
        let mut file = fs::File::options();
        let file = file.read(true).write(true).create_new(true);
        let file = file.open(&forged).unwrap();
        payload::write(file, &text, signature, &streams).unwrap();
        fs::rename(forged, self.path("payload")).unwrap();
    }

    /// The position of the compressed stream with that name in the payload's file.
    pub fn stream(&self, name: &str) -> std::ops::Range<usize> {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut self.payload().pack(name).unwrap(), &mut bytes).unwrap();
        let all = self.get("payload");
        let start = all
            .windows(bytes.len())
            .position(|window| window == bytes)
            .unwrap();
        start..start + bytes.len()
    }

    /// Runs `appliance` with these arguments; `@NAME` is replaced by a path in this place.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The command of [`Workshop::run`], before it runs.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
        for argument in arguments {
            match argument.strip_prefix('@') {
                Some(name) => command.arg(self.path(name)),
                None => command.arg(argument),
            };
        }
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(proxy).env_remove(proxy.to_uppercase());
        }
        command.env("APPLIANCE_CACHE", self.path("cache"));
        command
    }

    /// Like [`Workshop::run`], but it must succeed. Returns its output.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    /// Like [`Workshop::run`], but it must fail. Returns its output.
    pub fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{}", said(&output));
        said(&output)
    }
}

/// The names of all entries of a directory.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The bytes, compressed with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
