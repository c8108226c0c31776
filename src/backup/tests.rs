//! Backups that are damaged, or that nobody should have made.

#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::Digest;
use tar::{Builder, EntryType, Header};
use time::OffsetDateTime;

use super::read::{Contents, pass, read};
use super::seal::{Keys, Seal, new_key};
use crate::clients::etcd::keys::Keys as EtcdKeys;
use crate::digest::Sha256;
use crate::nodespec::Refused;
use crate::paths;
use crate::pki::Secret;
use crate::records::backup::{FORMAT, KEYS, MANIFEST, Manifest, Member, SNAPSHOT, name_of};
use crate::records::state::State;

/// A backup in the making, by parts.
struct Bench {
    seal: Seal,
    keys: Keys,
    parts: Vec<(String, Vec<u8>)>,
}

fn snapshot() -> Vec<u8> {
    let mut bytes = vec![7; 100_000];
    bytes.extend(sha2::Sha256::digest(&bytes).as_slice());
    bytes
}

impl Bench {
    fn new() -> Bench {
        let (key, recipient) = new_key();
        let secret = Secret::new(key.as_bytes().to_vec());
        let keys = EtcdKeys {
            index: 7,
            values: [("/calico/v1/Ready".to_owned(), "true".to_owned())].into(),
        };
        Bench {
            seal: Seal::new(&[recipient], None).unwrap(),
            keys: Keys::new(Some(&secret), None).unwrap(),
            parts: vec![
                (name_of(paths::CA_CERTIFICATE), b"a certificate".to_vec()),
                (SNAPSHOT.to_owned(), snapshot()),
                (KEYS.to_owned(), serde_json::to_vec(&keys).unwrap()),
            ],
        }
    }

    fn manifest(&self) -> Manifest {
        let members = self.parts.iter().map(|(name, content)| {
            let member = Member {
                size: content.len() as u64,
                sha256: Sha256::of(content),
                mode: 0o600,
            };
            (name.clone(), member)
        });
        let state = r#"{"appliance": "0.1.0", "bundle": "demo", "kubernetes": "v1.9.0", "digest": "0",
            "demonstration": true, "role": "master", "profile": "with-ca", "node": "server02", "address": "192.0.2.2"}"#;
        Manifest {
            format: FORMAT,
            created: OffsetDateTime::UNIX_EPOCH,
            master: serde_json::from_str::<State>(state).unwrap(),
            etcd: "3.4.23".to_owned(),
            revision: 9,
            authority: vec!["0".to_owned()],
            members: members.collect(),
        }
    }

    /// The file with all parts, and this manifest at its end.
    fn file(&self, manifest: &Manifest) -> Vec<u8> {
        let text = serde_json::to_vec(manifest).unwrap();
        let mut parts = self.parts.clone();
        parts.push((MANIFEST.to_owned(), text));
        self.sealed(|tar| {
            for (name, content) in &parts {
                append(tar, name, EntryType::Regular, content);
            }
        })
    }

    fn sealed(&self, fill: impl Fn(&mut Builder<&mut Vec<u8>>)) -> Vec<u8> {
        let mut archive = Vec::new();
        let mut tar = Builder::new(&mut archive);
        fill(&mut tar);
        tar.into_inner().unwrap();
        self.encrypted(&archive)
    }

    fn encrypted(&self, archive: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let encrypting = self.seal.encrypting(&mut file).unwrap();
        let mut packed = GzEncoder::new(encrypting, Compression::fast());
        packed.write_all(archive).unwrap();
        packed.finish().unwrap().finish().unwrap();
        file
    }

    fn read(&self, file: &[u8]) -> Result<Contents> {
        read(file, &self.keys, &mut pass)
    }

    #[track_caller]
    fn refuses(&self, file: &[u8], why: &str) {
        let Err(error) = self.read(file) else {
            panic!("it was read, and should be refused: {why}");
        };
        assert!(error.is::<Refused>(), "{error:#}");
        assert!(error.to_string().contains(why), "{error:#}");
    }
}

/// Adds an entry with any name. The library would refuse some.
fn append(tar: &mut Builder<&mut Vec<u8>>, name: &str, kind: EntryType, content: &[u8]) {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o600);
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

#[test]
fn a_whole_backup_is_read_and_its_snapshot_is_handed_on() {
    let bench = Bench::new();
    let file = bench.file(&bench.manifest());
    let mut taken = Vec::new();
    let contents = read(&file[..], &bench.keys, &mut |size, content| {
        content.read_to_end(&mut taken)?;
        assert_eq!(size, taken.len() as u64);
        Ok(())
    })
    .unwrap();
    assert_eq!(taken, snapshot());
    assert_eq!(contents.manifest, bench.manifest());
    assert_eq!(contents.keys.values["/calico/v1/Ready"], "true");
    let certificate = &contents.files[paths::CA_CERTIFICATE];
    assert_eq!(certificate.expose(), b"a certificate");
}

#[test]
fn a_backup_that_is_cut_anywhere_is_refused() {
    let bench = Bench::new();
    let file = bench.file(&bench.manifest());
    for length in (0..file.len())
        .step_by(97)
        .chain(file.len() - 40..file.len())
    {
        let error = bench.read(&file[..length]).err();
        let error = error.unwrap_or_else(|| panic!("{length} of {} were read", file.len()));
        assert!(error.is::<Refused>(), "{length}: {error:#}");
    }
    let longer = [&file[..], b"more"].concat();
    bench.refuses(&longer, "damaged");
}

#[test]
fn a_backup_with_another_byte_anywhere_is_refused() {
    let bench = Bench::new();
    let file = bench.file(&bench.manifest());
    for place in (0..file.len()).step_by(61) {
        let mut other = file.clone();
        other[place] ^= 0x10;
        let error = bench.read(&other).err();
        let error = error.unwrap_or_else(|| panic!("byte {place} of {}", file.len()));
        assert!(error.is::<Refused>(), "{place}: {error:#}");
    }
}

#[test]
fn names_that_climb_or_do_not_belong_there_are_refused() {
    for name in [
        "files/etc/kubernetes/ca/../../passwd",
        "../files/etc/kubernetes/ca/ca.pem",
        "/etc/passwd",
        "files/etc/shadow",
        "etcd/other",
        "",
    ] {
        let mut bench = Bench::new();
        bench.parts.push((name.to_owned(), b"x".to_vec()));
        bench.refuses(&bench.file(&bench.manifest()), "does not belong there");
    }
}

#[test]
fn anything_else_than_a_file_is_refused() {
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Char,
        EntryType::GNULongName,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::GNUSparse,
    ] {
        let bench = Bench::new();
        let file = bench.sealed(|tar| append(tar, &name_of(paths::CONFIG), kind, b"x"));
        bench.refuses(&file, "something else than files");
    }
}

#[test]
fn a_backup_is_exactly_what_its_manifest_says() {
    let bench = Bench::new();
    let good = bench.manifest();
    let changed = |change: &dyn Fn(&mut BTreeMap<String, Member>)| {
        let mut manifest = good.clone();
        change(&mut manifest.members);
        bench.file(&manifest)
    };
    let ca = name_of(paths::CA_CERTIFICATE);
    let more = changed(&|members| {
        let member = members[&ca].clone();
        members.insert(name_of(paths::CONFIG), member);
    });
    bench.refuses(&more, "is not as its manifest says");
    let fewer = changed(&|members| drop(members.remove(&ca)));
    bench.refuses(&fewer, "does not name");
    let other = changed(&|members| members.get_mut(&ca).unwrap().mode = 0o644);
    bench.refuses(&other, "is not as its manifest says");

    let text = serde_json::to_vec(&good).unwrap();
    let twice = bench.sealed(|tar| {
        append(tar, &ca, EntryType::Regular, b"a");
        append(tar, &ca, EntryType::Regular, b"b");
    });
    bench.refuses(&twice, "in it twice");
    let behind = bench.sealed(|tar| {
        append(tar, MANIFEST, EntryType::Regular, &text);
        append(tar, &ca, EntryType::Regular, b"a");
    });
    bench.refuses(&behind, "follows the manifest");
    bench.refuses(&bench.sealed(|_| ()), "it has no manifest");
}

#[test]
fn another_format_is_told() {
    let bench = Bench::new();
    let mut manifest = bench.manifest();
    manifest.format = FORMAT + 1;
    manifest.master.appliance = "9.8.7".to_owned();
    bench.refuses(&bench.file(&manifest), "use appliance 9.8.7 or newer");
    manifest.format = 0;
    bench.refuses(&bench.file(&manifest), "the format 0");
}

#[test]
fn a_snapshot_without_its_checksum_is_refused() {
    let mut bench = Bench::new();
    let mut damaged = snapshot();
    damaged[50_000] ^= 1;
    bench.parts[1].1 = damaged;
    bench.refuses(&bench.file(&bench.manifest()), "does not have its checksum");
}

#[test]
fn what_unpacks_to_much_more_is_refused_before_it_is_unpacked() {
    let bench = Bench::new();
    let claims = |name: &str, size: u64| {
        let mut header = Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let huge = claims(SNAPSHOT, 1 << 40);
    bench.refuses(&bench.encrypted(&huge), "at most");
    // 32 MiB of zeros are some kilobytes in the file.
    let mut file = claims(&name_of(paths::CONFIG), 32 << 20);
    file.resize(32 << 20, 0);
    let file = bench.encrypted(&file);
    assert!(file.len() < 200_000, "{}", file.len());
    bench.refuses(&file, "an entry has more than");
    let mut end = Vec::new();
    append(
        &mut Builder::new(&mut end),
        MANIFEST,
        EntryType::Regular,
        &serde_json::to_vec(&bench.manifest()).unwrap(),
    );
    end.resize(64 << 20, 0);
    bench.refuses(&bench.encrypted(&end), "follows the last entry");
}

#[test]
fn a_snapshot_that_cannot_be_kept_is_no_fault_of_the_backup() {
    let bench = Bench::new();
    let file = bench.file(&bench.manifest());
    let full = read(&file[..], &bench.keys, &mut |_, _| bail!("no space left"));
    let full = full.err().unwrap();
    assert!(!full.is::<Refused>(), "{full:#}");
    assert_eq!(full.to_string(), "no space left");
}

/// A backup of the first format, and the key that opens it, as files. `APPLIANCE_BLESS=1` writes them if they are
/// missing, and never again.
#[test]
fn a_backup_of_the_first_format_is_read() {
    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/formats");
    let [file, key] = ["backup-1.age", "backup-1.key"].map(|name| Path::new(FIXTURES).join(name));
    if !file.exists() && std::env::var_os("APPLIANCE_BLESS").is_some() {
        let (text, recipient) = new_key();
        let bench = Bench {
            seal: Seal::new(&[recipient], None).unwrap(),
            ..Bench::new()
        };
        std::fs::write(&file, bench.file(&bench.manifest())).unwrap();
        std::fs::write(&key, text.as_bytes()).unwrap();
    }
    let keys = Keys::new(Some(&Secret::new(std::fs::read(&key).unwrap())), None).unwrap();
    let contents = read(std::fs::read(&file).unwrap().as_slice(), &keys, &mut pass).unwrap();
    assert_eq!(contents.manifest.format, 1);
    assert_eq!(contents.manifest.master.node, "server02");
    assert_eq!(
        contents.files[paths::CA_CERTIFICATE].expose(),
        b"a certificate"
    );
    assert_eq!(contents.keys.values["/calico/v1/Ready"], "true");
}
