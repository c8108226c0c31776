//! Backups of a real etcd, while others write to it.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use appliance::backup::check::check;
use appliance::backup::place::Place;
use appliance::backup::read::{Contents, read};
use appliance::backup::seal::{Keys, Seal, new_key};
use appliance::backup::write::{Made, Source};
use appliance::backup::{Target, make, names};
use appliance::clients::mtls;
use appliance::components::ETCD_CERTIFICATE;
use appliance::join::registry;
use appliance::nodespec::token::Token;
use appliance::observe::records;
use appliance::paths;
use appliance::pki::Secret;
use appliance::pki::encryption::resolve_encryption;
use appliance::pki::token::resolve_token_csv;
use appliance::records::state::State;
use appliance::sys::change::Change;
use appliance::sys::progress::Silent;
use appliance::sys::root::Root;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use time::OffsetDateTime;

use crate::etcd::Member;
use crate::join::bed::record;
use crate::join::shared::Shared;

/// A master with a real etcd, and who may open its backups.
pub struct Bed {
    pub shared: Shared,
    pub seal: Seal,
    pub keys: Keys,
    /// The text of the key that opens its backups.
    pub key: String,
    pub dir: tempfile::TempDir,
}

/// The record of the master at `address`.
pub fn state(address: Ipv4Addr) -> State {
    let text = format!(
        r#"{{"appliance": "0.1.0", "bundle": "demo", "kubernetes": "v1.9.0", "digest": "0", "demonstration": true,
            "role": "master", "profile": "with-ca", "node": "server02", "address": "{address}",
            "podCidr": "172.20.0.0/16", "serviceCidr": "10.68.0.0/16"}}"#
    );
    serde_json::from_str(&text).unwrap()
}

impl Bed {
    pub fn new(network: u8) -> Bed {
        let (key, recipient) = new_key();
        Bed::with_key(network, &key, recipient)
    }

    /// With the key that opens its backups, and for whom they are encrypted.
    pub fn with_key(network: u8, key: &str, recipient: String) -> Bed {
        let mut shared = Shared::new(network);
        shared.start();
        let text = key.to_owned();
        let key = Secret::new(key.as_bytes().to_vec());
        let root = shared.members[0].root();
        for (path, secret) in [
            (paths::ENCRYPTION, resolve_encryption(None)),
            (paths::TOKEN_FILE, resolve_token_csv(None)),
        ] {
            root.write(path, secret.unwrap().expose(), 0o600).unwrap();
        }
        Bed {
            shared,
            seal: Seal::new(&[recipient], None).unwrap(),
            keys: Keys::new(Some(&key), None).unwrap(),
            key: text,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn root(&self) -> Root {
        self.shared.members[0].root()
    }

    pub fn address(&self) -> Ipv4Addr {
        self.shared.members[0].address()
    }

    pub fn back_up(&self, target: &Target) -> anyhow::Result<Made> {
        let (root, state) = (self.root(), state(self.address()));
        let source = Source {
            root: &root,
            state: &state,
            address: self.address(),
            created: OffsetDateTime::now_utc(),
            progress: &Silent,
        };
        Ok(make(&source, &self.seal, target)?.made)
    }

    /// The content of a backup; its snapshot is written to `snapshot`.
    pub fn read(&self, file: &Path, snapshot: &Path) -> anyhow::Result<Contents> {
        let file = BufReader::new(File::open(file)?);
        read(file, &self.keys, &mut |_, content| {
            io::copy(content, &mut File::create(snapshot)?)?;
            Ok(())
        })
    }
}

/// Puts a key of API v3, with an acknowledgement.
pub fn put(member: &Member, key: &str, value: &[u8]) {
    let client = mtls::client(&member.root(), ETCD_CERTIFICATE, Duration::from_secs(10)).unwrap();
    let body = serde_json::json!({"key": BASE64.encode(key), "value": BASE64.encode(value)});
    let url = format!("https://{}:2379/v3/kv/put", member.address());
    let answer = client.post(url).body(body.to_string()).send().unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

#[test]
fn a_backup_under_writers_has_everything_that_was_acknowledged_before_it() {
    let bed = Bed::new(40);
    let member = &bed.shared.members[0];
    // More than one message of etcd's snapshot.
    for number in 0..40 {
        put(member, &format!("/big/{number}"), &vec![7; 100_000]);
    }
    bed.shared.set("other/a%20key", "v2");
    let token = Token::generate().unwrap();
    let tokens = registry::open(&bed.root()).unwrap().0;
    tokens.add(token.id(), &record(&token)).unwrap();

    let (acknowledged, ends) = (AtomicU64::new(0), AtomicBool::new(false));
    let file = bed.dir.path().join("backup.age");
    let before = thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                let number = acknowledged.load(Ordering::Relaxed);
                put(member, &format!("/written/{number:06}"), b"x");
                acknowledged.store(number + 1, Ordering::Relaxed);
            }
        });
        while acknowledged.load(Ordering::Relaxed) < 50 {
            thread::yield_now();
        }
        let before = acknowledged.load(Ordering::Relaxed);
        let made = bed.back_up(&Target::File(file.clone()));
        ends.store(true, Ordering::Relaxed);
        made.unwrap();
        before
    });
    let snapshot = bed.dir.path().join("snapshot.db");
    let contents = bed.read(&file, &snapshot).unwrap();
    check(&contents).unwrap();
    // The revision in the manifest, and that of the snapshot, have all of them.
    let manifest = &contents.manifest;
    assert!(manifest.revision > 40 + before, "{}", manifest.revision);
    let status = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["snapshot", "status", "-w", "json"])
        .arg(&snapshot)
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert!(status["revision"].as_u64().unwrap() >= manifest.revision);
    assert!(status["totalKey"].as_u64().unwrap() >= 40 + before);
    assert_eq!(contents.keys.values["/appliance/join/other/a key"], "v2");
    assert!(
        contents
            .keys
            .values
            .contains_key(&format!("/appliance/join/tokens/{}", token.id()))
    );
    // etcd itself makes the same.
    let saved = bed.dir.path().join("saved.db");
    bed.shared.members[0]
        .etcdctl(&["snapshot", "save", saved.to_str().unwrap()])
        .unwrap();
    assert_eq!(
        fs::metadata(&saved).unwrap().len() % 4096,
        fs::metadata(&snapshot).unwrap().len() % 4096
    );
}

#[test]
fn a_backup_is_for_its_owner_only_and_nothing_is_left_of_one_that_fails() {
    let mut bed = Bed::new(41);
    let place = Place::Directory(bed.dir.path().to_owned());
    let made = bed.back_up(&Target::Place(place.clone())).unwrap();
    let names = names(&bed.root(), "server02").unwrap();
    let kept = place.list(&names).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].bytes, made.bytes);
    let path = bed.dir.path().join(&kept[0].name);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // No key is in it in the clear.
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(11).any(|part| part == b"PRIVATE KEY"));
    let last = records::backup(&bed.root()).unwrap().unwrap();
    assert_eq!(last.sha256, made.sha256);
    assert_eq!(last.place, path.display().to_string());

    bed.shared.members[0].stop();
    assert!(bed.back_up(&Target::Place(place)).is_err());
    assert_eq!(fs::read_dir(bed.dir.path()).unwrap().count(), 1);
    assert_eq!(records::backup(&bed.root()).unwrap().unwrap(), last);
}

#[test]
fn a_master_that_lacks_a_key_makes_no_backup() {
    let bed = Bed::new(42);
    let file = bed.dir.path().join("backup.age");
    bed.root().remove_file(paths::ENCRYPTION).unwrap();
    let error = bed.back_up(&Target::File(file.clone())).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains(paths::ENCRYPTION), "{error}");
    assert!(!file.exists());
}
