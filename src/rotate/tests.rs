#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::masters::{Alone, Masters};
use super::secrets::{Node, Report, State, Stored, Under, rotate, show};
use crate::nodespec::Refused;
use crate::paths::ENCRYPTION;
use crate::pki::Secret;
use crate::pki::encryption::{EncryptionKeys, Stage, resolve_encryption};
use crate::sys::change::Change;
use crate::sys::root::Root;

/// A key as the API server has it: its name and its secret.
type Key = (String, String);

/// A cluster: secrets in etcd, and masters with a file and an API server each. Before each change, it can be cut.
struct Cluster {
    masters: Vec<Master>,
    /// The key of each secret in etcd; `None` for one that is not encrypted.
    etcd: RefCell<BTreeMap<String, Option<Key>>>,
    agreed: RefCell<Option<Secret>>,
    notes: RefCell<BTreeMap<usize, Secret>>,
    /// How many changes are left before the run is cut.
    fuse: Cell<usize>,
    /// Whether the API servers encrypt what is written again.
    encrypts: Cell<bool>,
    /// Whether a secret cannot be read from the beginning.
    has_lost: Cell<bool>,
}

struct Master {
    _dir: tempfile::TempDir,
    root: Root,
    /// The file with which its API server was started.
    runs: RefCell<Secret>,
}

/// One master of a cluster.
struct At<'a>(&'a Cluster, usize);

const ENDLESS: usize = usize::MAX;

fn keys(file: &Secret) -> Vec<Key> {
    let value: serde_json::Value =
        serde_saphyr::from_str(str::from_utf8(file.expose()).unwrap()).unwrap();
    let keys = value["resources"][0]["providers"][0]["aescbc"]["keys"]
        .as_array()
        .unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    keys.iter()
        .map(|key| (text(&key["name"]), text(&key["secret"])))
        .collect()
}

impl Cluster {
    fn new(masters: usize) -> Cluster {
        let file = resolve_encryption(None).unwrap();
        let master = |_| {
            let dir = tempfile::tempdir().unwrap();
            let root = Root::open(dir.path()).unwrap();
            root.write(ENCRYPTION, file.expose(), 0o600).unwrap();
            Master {
                _dir: dir,
                root,
                runs: RefCell::new(file.clone()),
            }
        };
        let own = keys(&file).remove(0);
        let etcd = ["default/a", "default/b", "kube-system/c"];
        let mut etcd: BTreeMap<_, _> = etcd.map(|name| (name.to_owned(), Some(own.clone()))).into();
        etcd.insert("default/of-an-older-version".to_owned(), None);
        Cluster {
            masters: (0..masters).map(master).collect(),
            etcd: RefCell::new(etcd),
            agreed: RefCell::default(),
            notes: RefCell::default(),
            fuse: Cell::new(ENDLESS),
            encrypts: Cell::new(true),
            has_lost: Cell::new(false),
        }
    }

    /// Before a change: fails if the run is cut here. Meanwhile users write secrets at every API server, and
    /// every API server must be able to read all secrets.
    fn change(&self) -> Result<()> {
        let left = self.fuse.get();
        ensure!(left > 0, "cut");
        self.fuse.set(left.saturating_sub(1));
        self.users();
        Ok(())
    }

    fn users(&self) {
        for (number, master) in self.masters.iter().enumerate() {
            let first = keys(&master.runs.borrow()).remove(0);
            self.etcd
                .borrow_mut()
                .insert(format!("users/at-{number}"), Some(first));
        }
        if self.has_lost.get() {
            return;
        }
        for master in &self.masters {
            let known = keys(&master.runs.borrow());
            for (name, key) in &*self.etcd.borrow() {
                assert!(
                    key.as_ref().is_none_or(|key| known.contains(key)),
                    "{name} cannot be read"
                );
            }
        }
    }

    fn file(&self, master: usize) -> Secret {
        Secret::new(self.masters[master].root.read(ENCRYPTION).unwrap().unwrap())
    }

    fn names(&self, master: usize) -> Vec<String> {
        EncryptionKeys::read(&self.file(master)).unwrap().names()
    }

    fn at(&self, master: usize, begin: bool) -> Result<Report> {
        let at = At(self, master);
        match self.masters.len() {
            1 => rotate(&at, &Alone::default(), begin),
            _ => rotate(&at, &at, begin),
        }
    }

    /// All secrets are encrypted with the only key of every master, which is `name`.
    fn has_only(&self, name: &str) {
        self.users();
        for number in 0..self.masters.len() {
            assert_eq!(self.names(number), [name]);
            assert_eq!(self.file(number), *self.masters[number].runs.borrow());
            assert_eq!(
                self.masters[number].root.mode(ENCRYPTION).unwrap(),
                Some(0o600)
            );
        }
        let etcd = self.etcd.borrow();
        assert!(
            etcd.values()
                .all(|key| key.as_ref().is_some_and(|key| key.0 == name)),
            "{:?}",
            etcd.keys()
        );
    }

    /// No text has the content of a key.
    fn is_secret(&self, text: &str) {
        for number in 0..self.masters.len() {
            for (_, secret) in keys(&self.file(number)) {
                assert!(!text.contains(&secret), "{text}");
            }
        }
    }
}

impl Node for At<'_> {
    fn file(&self) -> Result<Secret> {
        Ok(self.0.file(self.1))
    }

    fn take(&self, file: &Secret) -> Result<bool> {
        let master = &self.0.masters[self.1];
        let mut changed = false;
        if self.0.file(self.1) != *file {
            self.0.change()?;
            master.root.write(ENCRYPTION, file.expose(), 0o600)?;
            changed = true;
        }
        if *master.runs.borrow() != *file {
            self.0.change()?;
            *master.runs.borrow_mut() = file.clone();
            changed = true;
        }
        self.0.users();
        Ok(changed)
    }

    fn stored(&self) -> Result<Vec<Stored>> {
        let etcd = self.0.etcd.borrow();
        let stored = etcd.iter().map(|(name, key)| {
            let head = key.as_ref().map_or("k8s\0".to_owned(), |(name, _)| {
                format!("k8s:enc:aescbc:v1:{name}:…")
            });
            Stored::read(&format!("/registry/secrets/{name}"), head.as_bytes())
        });
        stored.collect()
    }

    fn rewrite(&self, secret: &Stored) -> Result<()> {
        self.0.change()?;
        let own = keys(&self.0.masters[self.1].runs.borrow()).remove(0);
        let name = format!("{}/{}", secret.namespace, secret.name);
        if self.0.encrypts.get() {
            self.0.etcd.borrow_mut().insert(name, Some(own));
        }
        Ok(())
    }
}

impl Masters for At<'_> {
    fn are_several(&self) -> bool {
        true
    }

    fn agreed(&self) -> Result<Option<Secret>> {
        Ok(self.0.agreed.borrow().clone())
    }

    fn agree(&self, before: Option<&Secret>, file: &Secret) -> Result<bool> {
        self.0.change()?;
        if self.0.agreed.borrow().as_ref() != before {
            return Ok(false);
        }
        *self.0.agreed.borrow_mut() = Some(file.clone());
        Ok(true)
    }

    fn note(&self, file: &Secret) -> Result<()> {
        self.0.change()?;
        self.0.notes.borrow_mut().insert(self.1, file.clone());
        Ok(())
    }

    fn behind(&self, file: &Secret) -> Result<Vec<String>> {
        let notes = self.0.notes.borrow();
        let all = 0..self.0.masters.len();
        Ok(all
            .filter(|number| notes.get(number) != Some(file))
            .map(|number| number.to_string())
            .collect())
    }

    fn end(&self, _file: &Secret) -> Result<()> {
        self.0.change()?;
        *self.0.agreed.borrow_mut() = None;
        Ok(())
    }
}

#[test]
fn one_master_rotates_in_one_run() {
    let cluster = Cluster::new(1);
    let report = cluster.at(0, true).unwrap();
    assert_eq!(
        (report.state, report.keys),
        (State::Complete, vec!["key2".to_owned()])
    );
    assert!(report.rewritten >= 4, "{}", report.rewritten);
    cluster.has_only("key2");
    assert_eq!(cluster.at(0, false).unwrap().state, State::Idle);
    cluster.has_only("key2");
    cluster.at(0, true).unwrap();
    cluster.has_only("key3");
}

#[test]
fn a_run_that_is_cut_anywhere_is_continued_by_the_next_one() {
    let mut cuts = 0;
    loop {
        let cluster = Cluster::new(1);
        cluster.fuse.set(cuts);
        let cut = cluster.at(0, true);
        cluster.fuse.set(ENDLESS);
        cluster.users();
        let Err(error) = cut else { break };
        assert_eq!(error.to_string(), "cut");
        let began = cuts > 0;
        let report = cluster.at(0, !began).unwrap();
        assert_eq!(report.state, State::Complete, "after {cuts} changes");
        cluster.has_only("key2");
        cuts += 1;
    }
    // Two changes for each of three steps, and the secrets.
    assert!(cuts >= 10, "{cuts}");
}

#[test]
fn three_masters_follow_each_other_and_each_may_be_cut_anywhere() {
    let mut cuts = 0;
    loop {
        let cluster = Cluster::new(3);
        cluster.fuse.set(cuts);
        let mut was_cut = false;
        let mut complete = false;
        for run in 0..30 {
            let report = match cluster.at(run % 3, run == 0) {
                Err(error) => {
                    assert_eq!(error.to_string(), "cut");
                    was_cut = true;
                    cluster.fuse.set(ENDLESS);
                    cluster.users();
                    // As the operator who sees that it did not begin.
                    let begin = run == 0 && cluster.agreed.borrow().is_none();
                    cluster.at(run % 3, begin).unwrap()
                }
                Ok(report) => report,
            };
            cluster.users();
            if report.state == State::Waiting {
                assert!(!report.behind.is_empty());
                continue;
            }
            complete = true;
            break;
        }
        assert!(complete, "after {cuts} changes");
        cluster.has_only("key2");
        for master in 0..3 {
            assert_eq!(cluster.at(master, false).unwrap().state, State::Idle);
        }
        if !was_cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 20, "{cuts}");
}

#[test]
fn nothing_is_dropped_while_a_master_has_not_followed() {
    let cluster = Cluster::new(3);
    for run in 0..10 {
        let report = cluster.at(run % 2, run == 0).unwrap();
        assert_eq!(report.state, State::Waiting);
        assert!(
            report.behind.contains(&"2".to_owned()),
            "{:?}",
            report.behind
        );
    }
    let stage = |master| EncryptionKeys::read(&cluster.file(master)).unwrap().stage();
    assert_eq!(
        [stage(0), stage(1), stage(2)],
        [Stage::Added, Stage::Added, Stage::Settled]
    );
    // It takes one step, and the others have to follow again.
    cluster.at(2, false).unwrap();
    let report = cluster.at(0, false).unwrap();
    assert_eq!(
        (stage(0), report.behind),
        (Stage::First, vec!["1".to_owned()])
    );
}

#[test]
fn the_old_key_stays_while_a_secret_is_not_written_again() {
    let cluster = Cluster::new(1);
    cluster.encrypts.set(false);
    let error = cluster.at(0, true).unwrap_err().to_string();
    assert!(
        error.contains("still not encrypted with key2") && error.contains("default/"),
        "{error}"
    );
    assert_eq!(cluster.names(0), ["key2", "key1"]);
    cluster.is_secret(&error);
    cluster.encrypts.set(true);
    assert_eq!(cluster.at(0, true).unwrap().state, State::Complete);
    cluster.has_only("key2");
}

#[test]
fn a_key_that_is_lost_or_another_one_of_the_same_name_is_refused() {
    let cluster = Cluster::new(1);
    let lost = ("key7".to_owned(), String::new());
    cluster.has_lost.set(true);
    let put = |key| {
        cluster
            .etcd
            .borrow_mut()
            .insert("default/a".to_owned(), Some(key))
    };
    let own = put(lost).unwrap().unwrap();
    let error = rotate(&At(&cluster, 0), &Alone::default(), true).unwrap_err();
    assert!(
        error.is::<Refused>() && error.to_string().contains("key7"),
        "{error:#}"
    );
    assert_eq!(cluster.names(0), ["key1"]);
    put(own);

    let cluster = Cluster::new(3);
    cluster.at(0, true).unwrap();
    let other = resolve_encryption(None).unwrap();
    cluster.masters[1]
        .root
        .write(ENCRYPTION, other.expose(), 0o600)
        .unwrap();
    let error = cluster.at(1, false).unwrap_err();
    assert!(error.is::<Refused>(), "{error:#}");
    let error = format!("{error:#}");
    assert!(
        error.contains("two different keys have the name key1"),
        "{error}"
    );
    cluster.is_secret(&error);
    assert_eq!(cluster.file(1), other);
}

#[test]
fn a_master_keeps_a_key_that_is_in_use_though_the_others_dropped_it() {
    let cluster = Cluster::new(3);
    for run in 0..6 {
        cluster.at(run % 3, run == 0).unwrap();
    }
    assert_eq!(
        (cluster.names(0), cluster.names(2)),
        (
            vec!["key2".to_owned(), "key1".to_owned()],
            vec!["key2".to_owned()]
        )
    );
    let old = keys(&cluster.file(0)).remove(1);
    let restored = cluster.etcd.borrow().clone();
    cluster
        .etcd
        .borrow_mut()
        .insert("default/restored".to_owned(), Some(old));
    let error = rotate(&At(&cluster, 0), &At(&cluster, 0), false).unwrap_err();
    assert!(
        error.is::<Refused>() && error.to_string().contains("default/restored"),
        "{error:#}"
    );
    assert_eq!(cluster.names(0), ["key2", "key1"]);
    *cluster.etcd.borrow_mut() = restored;
    for run in 0..3 {
        cluster.at(run, false).unwrap();
    }
    cluster.has_only("key2");
}

#[test]
fn what_is_shown_counts_the_secrets_of_each_key_and_has_no_key() {
    let cluster = Cluster::new(3);
    cluster.at(0, true).unwrap();
    let overview = show(&At(&cluster, 0), &At(&cluster, 0)).unwrap();
    assert!(overview.under_way);
    assert_eq!(overview.keys, ["key1", "key2"]);
    assert_eq!((overview.secrets["key2"], overview.plain), (0, 1));
    assert!(overview.secrets["key1"] >= 3);
    assert_eq!(overview.behind, ["1", "2"]);
    cluster.is_secret(&serde_json::to_string(&overview).unwrap());
    cluster.is_secret(&format!("{overview:?}{:?}", cluster.file(0)));
}

#[test]
fn the_key_of_a_value_is_read_from_its_beginning() {
    let under = |head: &[u8]| {
        Stored::read("/registry/secrets/default/a", head)
            .unwrap()
            .under
    };
    assert_eq!(
        under(b"k8s:enc:aescbc:v1:key1:\x00\xff"),
        Under::Key("key1".to_owned())
    );
    assert_eq!(under(b"k8s:enc:secretbox:v1:key1:"), Under::Another);
    assert_eq!(under(b"k8s\0\n\x0c"), Under::Nothing);
    for key in [
        "/registry/secrets/a",
        "/registry/secrets/a/b/c",
        "/registry/secrets/a/../b",
        "/registry/pods/a/b",
        "/registry/secrets/a/b?x",
    ] {
        assert!(Stored::read(key, b"").is_err(), "{key}");
    }
}
