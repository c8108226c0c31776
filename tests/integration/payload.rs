//! Packing and unpacking: what goes in comes out, and nothing else ever does.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use appliance::bundle::definition::Definition;
use appliance::bundle::manifest::{FILE_NAME, Manifest};
use appliance::bundle::pack::pack;
use appliance::bundle::payload::Payload;
use appliance::bundle::unpack::{is_complete, unpack};
use appliance::sys::progress::Silent;
use sha2::{Digest, Sha256};

use crate::harness::{SmallDisk, image, tarball};

const PACK: &str = "pack-0.tar.xz";

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
archive = "etcd.tar.gz"
member = "etcd-v3/etcd"
source = "https://example.org/etcd.tar.gz"

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
reference = "example.org/pause:3.0"
"#;

struct Bundle {
    dir: tempfile::TempDir,
}

/// The start of an ELF file for x86-64, and bytes that compress neither too well nor too badly.
fn program(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0".to_vec();
    let mut state = u32::from(seed) + 1;
    bytes.resize_with(length, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 27) as u8
    });
    bytes
}

impl Bundle {
    fn new() -> Bundle {
        let bundle = Bundle {
            dir: tempfile::tempdir().unwrap(),
        };
        for dir in ["definition", "components", "opt"] {
            fs::create_dir(bundle.dir.path().join(dir)).unwrap();
        }
        bundle.put("definition/bundle.toml", DEFINITION.as_bytes());
        bundle.put("components/etcd", &program(1, 300_000));
        bundle.put("components/kubectl", &program(2, 200_000));
        bundle.put("components/pause.tar", &image("example.org/pause:3.0"));
        bundle
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    fn pack(&self, output: &str) -> anyhow::Result<Manifest> {
        let definition = Definition::read(&self.path("definition"))?;
        pack(
            &definition,
            &self.path("components"),
            &self.path(output),
            &Silent,
        )
    }

    fn packed() -> Bundle {
        let bundle = Bundle::new();
        bundle.pack("payload").unwrap();
        bundle
    }

    fn unpack(&self) -> anyhow::Result<PathBuf> {
        unpack(
            &Payload::open(&self.path("payload"))?,
            &self.path("opt"),
            &Silent,
        )
    }

    /// Unpacking fails, leaves nothing behind, and says why.
    fn refusal(&self) -> String {
        let error = format!("{:#}", self.unpack().unwrap_err());
        assert_eq!(names(&self.path("opt")), Vec::<String>::new(), "{error}");
        error
    }

    /// Changes the manifest as an attacker would, who cannot change this program.
    fn forge(&self, change: impl Fn(&mut Manifest)) {
        let path = self.path("payload").join(FILE_NAME);
        let mut manifest: Manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut manifest);
        fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    }

    /// Puts another archive in the pack's place, with a manifest that agrees to it.
    fn forge_pack(&self, archive: &[u8]) {
        let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(archive).unwrap();
        let packed = encoder.finish().unwrap();
        fs::write(self.path("payload").join(PACK), &packed).unwrap();
        self.forge(|manifest| {
            manifest.packs[0].size = packed.len() as u64;
            manifest.packs[0].sha256 = hex::encode(Sha256::digest(&packed));
        });
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_goes_in_comes_out() {
    let bundle = Bundle::packed();
    let dir = bundle.unpack().unwrap();
    for (packed, original) in [
        ("bin/etcd", "etcd"),
        ("bin/kubectl", "kubectl"),
        ("images/pause.tar", "pause.tar"),
    ] {
        let expected = fs::read(bundle.path("components").join(original)).unwrap();
        assert_eq!(fs::read(dir.join(packed)).unwrap(), expected, "{packed}");
    }
    let payload = Payload::open(&bundle.path("payload")).unwrap();
    assert_eq!(dir.file_name().unwrap().to_str().unwrap(), payload.digest());
    assert!(is_complete(&bundle.path("opt"), &payload));
    assert_eq!(names(&bundle.path("opt")), [payload.digest()]);
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let bundle = Bundle::packed();
    bundle.pack("again").unwrap();
    for name in [PACK, FILE_NAME] {
        let read = |dir: &str| fs::read(bundle.path(dir).join(name)).unwrap();
        assert_eq!(read("payload"), read("again"), "{name}");
    }
}

#[test]
fn a_flipped_byte_anywhere_in_the_pack_is_found() {
    let bundle = Bundle::packed();
    let path = bundle.path("payload").join(PACK);
    let good = fs::read(&path).unwrap();
    for position in [
        0,
        8,
        20,
        good.len() / 3,
        good.len() / 2,
        good.len() - 20,
        good.len() - 1,
    ] {
        let mut bad = good.clone();
        bad[position] ^= 0x10;
        fs::write(&path, bad).unwrap();
        let error = bundle.refusal();
        assert!(
            error.contains(PACK) && error.contains("damaged"),
            "byte {position}: {error}"
        );
    }
}

#[test]
fn a_cut_pack_is_found() {
    let bundle = Bundle::packed();
    let path = bundle.path("payload").join(PACK);
    let good = fs::read(&path).unwrap();
    for length in [0, 5, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        let error = bundle.refusal();
        assert!(
            error.contains(PACK) && error.contains("damaged"),
            "{length} bytes: {error}"
        );
    }
}

#[test]
fn trailing_bytes_are_found() {
    let bundle = Bundle::packed();
    let path = bundle.path("payload").join(PACK);
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"x")
        .unwrap();
    let error = bundle.refusal();
    assert!(
        error.contains(PACK) && error.contains("bytes where"),
        "{error}"
    );
}

#[test]
fn a_manifest_whose_paths_escape_is_refused() {
    for path in ["../etc/passwd", "/etc/passwd", "bin/../../x"] {
        let bundle = Bundle::packed();
        bundle.forge(|manifest| {
            manifest.components[0].path = path.to_owned();
            manifest.packs[0].components[0] = path.to_owned();
        });
        let error = bundle.refusal();
        assert!(error.contains("would escape"), "{error}");
    }
}

#[test]
fn an_archive_that_is_not_what_the_manifest_says_is_refused() {
    let link = {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive
            .append_link(&mut header, "bin/etcd", "/etc/passwd")
            .unwrap();
        archive.into_inner().unwrap()
    };
    let etcd = program(1, 300_000);
    let parts: Vec<(&str, Vec<u8>)> = [
        ("bin/etcd", "etcd"),
        ("bin/kubectl", "kubectl"),
        ("images/pause.tar", "pause.tar"),
    ]
    .map(|(path, file)| {
        (
            path,
            fs::read(Bundle::new().path("components").join(file)).unwrap(),
        )
    })
    .into();
    let mut more: Vec<(&str, &[u8])> = parts
        .iter()
        .map(|(path, bytes)| (*path, bytes.as_slice()))
        .collect();
    more.push(("bin/etcd", &etcd));
    let cases: [(&str, Vec<u8>); 6] = [
        ("\"bin/etcd\" was not packed", tarball(&more)),
        ("is not a regular file", link),
        (
            "is where bin/etcd was packed",
            tarball(&[("bin/evil", b"x")]),
        ),
        ("ends before bin/kubectl", tarball(&[("bin/etcd", &etcd)])),
        (
            "bytes where 300000 were packed",
            tarball(&[("bin/etcd", &etcd[..1000])]),
        ),
        (
            "its sha256 is",
            tarball(&[("bin/etcd", &program(9, 300_000))]),
        ),
    ];
    for (expected, archive) in cases {
        let bundle = Bundle::packed();
        bundle.forge_pack(&archive);
        let error = bundle.refusal();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn what_a_crash_left_is_cleared_away() {
    let bundle = Bundle::packed();
    let leftover = bundle.path("opt").join(".unpacking-abc/bin");
    fs::create_dir_all(&leftover).unwrap();
    fs::write(leftover.join("etcd"), b"half").unwrap();
    let dir = bundle.unpack().unwrap();
    assert_eq!(
        names(&bundle.path("opt")),
        [dir.file_name().unwrap().to_str().unwrap()]
    );
}

#[test]
fn a_file_that_was_cut_later_is_unpacked_again() {
    let bundle = Bundle::packed();
    let dir = bundle.unpack().unwrap();
    let payload = Payload::open(&bundle.path("payload")).unwrap();
    fs::write(dir.join("bin/etcd"), b"short").unwrap();
    assert!(!is_complete(&bundle.path("opt"), &payload));
    bundle.unpack().unwrap();
    assert!(is_complete(&bundle.path("opt"), &payload));
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let bundle = Bundle::packed();
    let _disk = SmallDisk::at(bundle.path("opt"), "128k");
    let error = bundle.refusal();
    assert!(
        error.contains("No space left on device") && error.contains("bin/etcd"),
        "{error}"
    );
}

#[test]
fn missing_components_are_listed_together_with_their_source() {
    let bundle = Bundle::new();
    fs::remove_file(bundle.path("components/etcd")).unwrap();
    fs::remove_file(bundle.path("components/pause.tar")).unwrap();
    let error = bundle.pack("payload").unwrap_err().to_string();
    assert!(
        error.contains("etcd (or etcd.tar.gz, from https://example.org/etcd.tar.gz)"),
        "{error}"
    );
    assert!(error.contains("pause.tar"), "{error}");
    assert!(!bundle.path("payload").exists());
}

#[test]
fn a_member_is_taken_out_of_its_archive_and_the_archive_checked_against_the_lock() {
    let bundle = Bundle::new();
    let etcd = fs::read(bundle.path("components/etcd")).unwrap();
    fs::remove_file(bundle.path("components/etcd")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tarball(&[
        ("etcd-v3/README", b"no"),
        ("etcd-v3/etcd", &etcd),
    ]))
    .unwrap();
    let archive = gzip.finish().unwrap();
    bundle.put("components/etcd.tar.gz", &archive);

    let lock = |sha256: &str| {
        format!(
            "[[artifact]]\nname = \"etcd.tar.gz\"\nurl = \"https://example.org/\"\nsha256 = \"{sha256}\"\n"
        )
    };
    bundle.put("definition/bundle.lock", lock(&"0".repeat(64)).as_bytes());
    let error = bundle.pack("payload").unwrap_err().to_string();
    assert!(
        error.contains("etcd.tar.gz: sha256 is") && error.contains("fetch it again"),
        "{error}"
    );

    bundle.put(
        "definition/bundle.lock",
        lock(&hex::encode(Sha256::digest(&archive))).as_bytes(),
    );
    bundle.pack("payload").unwrap();
    assert_eq!(
        fs::read(bundle.unpack().unwrap().join("bin/etcd")).unwrap(),
        etcd
    );
}

#[test]
fn what_is_no_program_or_another_image_is_not_packed() {
    let bundle = Bundle::new();
    bundle.put("components/kubectl", b"<html>404 Not Found</html>");
    let error = format!("{:#}", bundle.pack("payload").unwrap_err());
    assert!(
        error.contains("kubectl is not a program for x86-64 Linux"),
        "{error}"
    );

    let bundle = Bundle::new();
    bundle.put("components/pause.tar", &image("example.org/other:1"));
    let error = format!("{:#}", bundle.pack("payload").unwrap_err());
    assert!(
        error.contains("is tagged example.org/other:1, not example.org/pause:3.0"),
        "{error}"
    );
}

#[test]
fn the_image_is_known_by_the_digest_docker_will_give_it() {
    let manifest = Bundle::new().pack("payload").unwrap();
    assert_eq!(
        manifest.images().next().unwrap().image_id,
        Some(format!("sha256:{}", "ab".repeat(32)))
    );
}

#[test]
fn a_directory_that_is_no_payload_is_never_replaced() {
    let bundle = Bundle::new();
    fs::create_dir(bundle.path("mine")).unwrap();
    bundle.put("mine/thesis.txt", b"years of work");
    let error = bundle.pack("mine").unwrap_err().to_string();
    assert!(error.contains("is not a payload"), "{error}");
    assert!(bundle.path("mine/thesis.txt").exists());
}
