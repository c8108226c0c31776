//! The rotation of the key that encrypts secrets: with a real etcd, over HTTP, and on an installed master.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use appliance::clients::api::Api;
use appliance::clients::{etcd, mtls};
use appliance::components::ETCD_CERTIFICATE;
use appliance::install::{Machine as Installed, Request, prepare};
use appliance::join::nodes::Nodes;
use appliance::join::registry;
use appliance::nodespec::Refused;
use appliance::observe::inputs::Typed;
use appliance::paths::{self, ENCRYPTION};
use appliance::pki::Secret;
use appliance::pki::encryption::{EncryptionKeys, resolve_encryption};
use appliance::records::nodes::NodeRecord;
use appliance::rotate::here::Here;
use appliance::rotate::masters::{Masters, Several, Subject};
use appliance::rotate::secrets::{HEAD, Node, SECRETS, State, Stored, rotate, show};
use appliance::sys::change::Change;
use appliance::sys::http;
use appliance_cloud::server::{Answer, Server};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::etcd::{Member, NAMES};
use crate::harness::Machine;
use crate::join::shared::Shared;
use crate::outputs::validate;
use crate::verify::assert_as_installed;

/// A master whose API server is the test: it encrypts nothing, but names the key in etcd as a genuine one does.
struct Master<'a> {
    own: &'a Member,
    etcd: &'a Member,
    runs: RefCell<Secret>,
}

impl Master<'_> {
    fn put(&self, name: &str) {
        let writing = EncryptionKeys::read(&self.runs.borrow()).unwrap().writing();
        let value = format!("k8s:enc:aescbc:v1:{writing}:{}", "x".repeat(4000));
        let key = format!("{SECRETS}{name}");
        // On a busy machine, etcd may have no leader for a moment.
        let is_stored = || self.etcd.etcdctl(&["put", &key, &value]).is_some();
        assert!((0..10).any(|_| is_stored()), "{key}");
    }
}

impl Node for Master<'_> {
    fn file(&self) -> Result<Secret> {
        Ok(Secret::new(self.own.root().read(ENCRYPTION)?.unwrap()))
    }

    fn take(&self, file: &Secret) -> Result<bool> {
        let changed = self.file()? != *file || *self.runs.borrow() != *file;
        self.own.root().write(ENCRYPTION, file.expose(), 0o600)?;
        *self.runs.borrow_mut() = file.clone();
        Ok(changed)
    }

    fn stored(&self) -> Result<Vec<Stored>> {
        let client = mtls::client(&self.own.root(), ETCD_CERTIFICATE, Duration::from_secs(10))?;
        let server = format!("https://{}:2379", self.etcd.address());
        let heads = etcd::heads(&client, &server, SECRETS, HEAD)?;
        assert!(heads.iter().all(|(_, head)| head.len() <= HEAD));
        heads
            .iter()
            .map(|(key, head)| Stored::read(key, head))
            .collect()
    }

    fn rewrite(&self, secret: &Stored) -> Result<()> {
        self.put(&format!("{}/{}", secret.namespace, secret.name));
        Ok(())
    }
}

#[test]
fn masters_that_share_a_real_etcd_follow_each_other_and_a_rebuilt_one_counts_as_new() {
    let mut shared = Shared::new(8);
    shared.start();
    let file = resolve_encryption(None).unwrap();
    for member in &shared.members {
        member
            .root()
            .write(ENCRYPTION, file.expose(), 0o600)
            .unwrap();
    }
    let etcd = &shared.members[0];
    let masters: Vec<Master<'_>> = (shared.members.iter())
        .map(|own| Master {
            own,
            etcd,
            runs: RefCell::new(file.clone()),
        })
        .collect();
    // More than one page, and keys beside them that are none.
    for number in 0..120 {
        masters[0].put(&format!("default/secret-{number}"));
    }
    etcd.etcdctl(&["put", "/registry/secretsofothers/a/b", "x"])
        .unwrap();
    assert_eq!(masters[1].stored().unwrap().len(), 120);

    let open = |number: usize| {
        Several::open(&shared.members[number].root(), Subject::Encryption)
            .unwrap()
            .unwrap()
    };
    let run = |number: usize, begin| rotate(&masters[number], &open(number), begin).unwrap();
    let report = run(0, true);
    validate("secrets-rotate", &report);
    let overview = show(&masters[0], &open(0)).unwrap();
    validate("secrets-show", &overview);
    assert_eq!(
        (report.state, &report.behind[..]),
        (State::Waiting, &NAMES.map(str::to_owned)[1..])
    );
    // The file travels through etcd, and whoever reads etcd does not find a key.
    let sealed = shared.value("encryption/agreed");
    assert!(!sealed.contains("key2") && sealed.len() > 100, "{sealed}");
    run(1, false);
    let report = run(2, false);
    assert_eq!(
        (report.keys, report.behind.len()),
        (vec!["key2".to_owned(), "key1".to_owned()], 2)
    );
    run(0, false);

    // The last master followed, then its machine was rebuilt: it has to follow again.
    let nodes: Nodes = registry::open(&shared.members[0].root()).unwrap().1;
    let rebuilt = NodeRecord {
        address: shared.members[2].address(),
        key: "another machine".to_owned(),
        machine: None,
        token: "abcdef".parse().unwrap(),
        seen: OffsetDateTime::now_utc(),
    };
    nodes.note(NAMES[2], &rebuilt).unwrap();
    let report = run(1, false);
    assert_eq!(report.behind, [NAMES[2]]);
    assert!(nodes.release(NAMES[2]).unwrap());

    let report = run(1, false);
    assert_eq!(
        (report.rewritten, &report.keys[..]),
        (120, &["key2".to_owned()][..])
    );
    run(0, false);
    assert_eq!(run(2, false).state, State::Complete);
    for (number, master) in masters.iter().enumerate() {
        let keys = EncryptionKeys::read(&master.file().unwrap()).unwrap();
        assert_eq!(keys.names(), ["key2"]);
        assert_eq!(run(number, false).state, State::Idle);
        assert!(open(number).agreed().unwrap().is_none());
        // No other file has the keys.
        let dir = master.own.root().resolve(paths::JOIN_DIR).unwrap();
        for entry in std::fs::read_dir(dir).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(!text.contains("aescbc"), "{text}");
        }
    }
}

#[test]
fn a_record_that_no_master_wrote_stops_the_rotation() {
    let mut shared = Shared::new(9);
    shared.start();
    shared.set("encryption/agreed", "AAAA");
    let several = Several::open(&shared.members[1].root(), Subject::Encryption)
        .unwrap()
        .unwrap();
    let error = several.agreed().unwrap_err().to_string();
    assert!(
        error.contains("`ETCDCTL_API=2 appliance etcdctl rm /appliance/join/encryption/agreed`"),
        "{error}"
    );
}

/// As kube-apiserver v1.9.0 does, this one writes nothing that does not change.
#[test]
fn a_secret_is_written_again_though_others_change_it() {
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |request| match (&*request.method, &*request.target) {
        ("PATCH", "/api/v1/namespaces/default/secrets/a") => {
            match tries.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Answer::status("409 Conflict"),
                _ => Answer::status("200 OK"),
            }
        }
        ("PATCH", "/api/v1/namespaces/default/secrets/refused") => {
            Answer::status("403 Forbidden").body(b"hunter2")
        }
        _ => Answer::status("404 Not Found"),
    });
    let client = http::client(b"", None, Duration::from_secs(10)).unwrap();
    let api = Api::at(client, server.url().trim_end_matches('/'));
    api.rewrite_secret("default", "a").unwrap();
    let patches: Vec<Value> = server
        .asked()
        .iter()
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect();
    let annotation =
        |patch: &Value| patch["metadata"]["annotations"]["appliance/written-again"].to_owned();
    // The first is tried three times. The last one removes the annotation.
    let values: Vec<Value> = patches.iter().map(annotation).collect();
    assert_eq!(
        values,
        [json!("yes"), json!("yes"), json!("yes"), json!(null)]
    );
    api.rewrite_secret("default", "gone").unwrap();
    let error = format!(
        "{:#}",
        api.rewrite_secret("default", "refused").unwrap_err()
    );
    assert!(
        error.contains("403") && error.contains("default/refused") && !error.contains("hunter2"),
        "{error}"
    );
}

pub fn prepared(machine: &Machine, set: &[&str]) -> Installed {
    // The program that is installed: this process is another one.
    let payload = machine.root().join("usr/local/bin/appliance");
    let (root, metadata) = (machine.root(), machine.metadata());
    let request = Request {
        root: &root,
        payload: Some(&payload),
        keys: vec![],
        typed: Typed {
            role: None,
            profile: None,
            set: set.iter().map(|&setting| setting.to_owned()).collect(),
            config: None,
            sources: vec![appliance::metadata::Source::Directory(metadata)],
            content: None,
            patience: Duration::ZERO,
        },
    };
    prepare(&request).unwrap()
}

#[test]
fn on_an_installed_master_only_the_file_with_the_keys_changes() {
    let machine = Machine::new();
    machine.installed(&[]);
    let installed = prepared(&machine, &[]);
    let here = Here::new(&installed).unwrap();
    let before = machine.snapshot();
    let old = here.file().unwrap();
    assert!(!here.take(&old).unwrap());
    assert_eq!(machine.snapshot(), before);
    let next = EncryptionKeys::read(&old)
        .unwrap()
        .with_new()
        .unwrap()
        .file();
    assert!(here.take(&next).unwrap());
    assert_eq!(here.file().unwrap(), next);
    let after = machine.snapshot();
    assert!(before.keys().eq(after.keys()));
    let changed = after
        .iter()
        .filter(|(path, of)| before.get(*path) != Some(of));
    let changed = changed.map(|(path, _)| path.strip_prefix(machine.root()).unwrap());
    let changed: Vec<_> = changed.map(|path| path.to_str().unwrap()).collect();
    // The directory of the records had the journal of the run, which is gone.
    let (dir, _) = ENCRYPTION.rsplit_once('/').unwrap();
    let expected = [dir, ENCRYPTION, paths::RECORDS_DIR, paths::WRITTEN_RECORD];
    assert_eq!(changed, expected.map(|path| &path[1..]));
    // A run that changes nothing has no journal.
    assert!(!here.take(&next).unwrap());
    assert_eq!(machine.snapshot(), after);
    assert_eq!(machine.mode(&ENCRYPTION[1..]), 0o600);
    assert_as_installed(&machine);
    // A repeated installation keeps both keys.
    machine.installed(&[]);
    assert_eq!(here.file().unwrap(), next);

    let others = prepared(&machine, &["mtu=1400"]);
    let error = Here::new(&others).unwrap().take(&old).unwrap_err();
    assert!(
        error.is::<Refused>() && error.to_string().contains("run `appliance install` first"),
        "{error:#}"
    );
    assert_eq!(here.file().unwrap(), next);
}
