//! What three masters share in a real etcd during a rotation of the authorities, or of the key of service accounts.

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Result, bail};
use appliance::components::{AUTHORITY, ETCD_AUTHORITY, ETCD_CERTIFICATE};
use appliance::join::followers::Taken;
use appliance::join::registry;
use appliance::nodespec::token::Token;
use appliance::paths::{
    self, JOIN_DIR, NEXT_SERVICE_ACCOUNT, SERVICE_ACCOUNT_PRIVATE, SERVICE_ACCOUNT_PUBLIC,
};
use appliance::pki::Secret;
use appliance::pki::account::{AccountKey, verifying};
use appliance::rotate::accounts::{self, Files, Node, Report, Stage};
use appliance::rotate::authority::Members;
use appliance::rotate::masters::{Masters, Several, Subject};
use appliance::rotate::members::Turns;
use appliance::rotate::node::digest;
use appliance::sys::change::Change;
use appliance::sys::root::Root;
use rcgen::KeyPair;
use time::OffsetDateTime;

use crate::etcd::{Member, NAMES};
use crate::join::bed::record;
use crate::join::shared::Shared;
use crate::rotate_accounts::{BEGIN, GO_ON, NoTokens};

fn key(shared: &Member) -> KeyPair {
    let pem = shared.root().read(&paths::key(AUTHORITY)).unwrap().unwrap();
    appliance::pki::key::read(&pem).unwrap()
}

fn all_members(shared: &mut Shared) {
    for member in &mut shared.members {
        member.start_among(&[0, 1, 2]);
    }
    shared.members.iter().for_each(Member::wait_until_healthy);
}

#[test]
fn members_of_a_real_etcd_restart_one_after_the_other_while_the_others_are_healthy() {
    let mut shared = Shared::new(11);
    all_members(&mut shared);
    let turns = |shared: &Shared, number: usize| {
        let root = shared.members[number].root();
        let names = registry::names(&root).unwrap().unwrap();
        Turns::new(&root, names, Duration::from_secs(3))
    };
    let worked = Cell::new(0);
    let work = || {
        worked.set(worked.get() + 1);
        Ok(())
    };
    turns(&shared, 0)
        .in_turn(&|| {
            let error = turns(&shared, 1).in_turn(&work).unwrap_err().to_string();
            assert!(
                error.starts_with("server02 restarts its services"),
                "{error}"
            );
            Ok(())
        })
        .unwrap();
    assert_eq!(worked.get(), 0);
    turns(&shared, 1).in_turn(&work).unwrap();
    assert_eq!(worked.get(), 1);
    // A run that failed or was cut keeps the turn for the next run on its master.
    assert!(turns(&shared, 1).in_turn(&|| bail!("cut")).is_err());
    assert!(turns(&shared, 2).in_turn(&work).is_err());
    turns(&shared, 1).in_turn(&work).unwrap();
    turns(&shared, 2).in_turn(&work).unwrap();
    assert_eq!(worked.get(), 3);

    shared.members[2].stop();
    let error = format!("{:#}", turns(&shared, 0).in_turn(&work).unwrap_err());
    let address = shared.members[2].address();
    assert!(
        error.contains(&format!("etcd at {address} is not healthy")),
        "{error}"
    );
    assert_eq!(worked.get(), 3);
    // It gave the turn back.
    let error = format!("{:#}", turns(&shared, 1).in_turn(&work).unwrap_err());
    assert!(error.contains("is not healthy"), "{error}");
}

#[test]
fn the_turn_of_a_master_that_is_gone_is_taken() {
    let mut shared = Shared::new(14);
    all_members(&mut shared);
    let root = shared.members[2].root();
    let names = registry::names(&root).unwrap().unwrap();
    let gone = Turns::new(&root, names, Duration::from_secs(3));
    assert!(gone.in_turn(&|| bail!("cut")).is_err());
    let root = shared.members[0].root();
    let mut names = registry::names(&root).unwrap().unwrap();
    names.masters.retain(|master| master.name != NAMES[2]);
    let left = Turns::new(&root, names, Duration::from_secs(3));
    // The names here may be older than the cluster.
    let error = left.in_turn(&|| Ok(())).unwrap_err().to_string();
    assert!(
        error.starts_with("server05 restarts its services"),
        "{error}"
    );
    let list = shared.members[0].etcdctl(&["member", "list"]).unwrap();
    let line = list.lines().find(|line| line.contains(NAMES[2])).unwrap();
    let id = line.split(',').next().unwrap();
    // etcd removes no member until the others have been connected for some seconds.
    let removed = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(200));
        let remove = shared.members[0].etcdctl(&["member", "remove", id]);
        remove.is_some()
    });
    assert!(removed);
    shared.members[2].stop();
    let worked = Cell::new(false);
    left.in_turn(&|| {
        worked.set(true);
        Ok(())
    })
    .unwrap();
    assert!(worked.get() && !left.has_turn().unwrap());
}

#[test]
fn a_strange_record_is_removed_by_the_command_that_the_error_gives() {
    let mut shared = Shared::new(15);
    shared.start();
    let member = &shared.members[0];
    shared.set("authorities/agreed", "strange");
    let several = Several::open(&member.root(), Subject::Authorities).unwrap();
    let several = several.unwrap();
    let error = several.agreed().unwrap_err().to_string();
    let command = error.split('`').nth(1).unwrap();
    // The appliance as it is on this master.
    let bin = tempfile::tempdir().unwrap();
    let appliance = bin.path().join("appliance");
    fs::write(&appliance, "#!/bin/sh\nexec \"$@\"\n").unwrap();
    fs::set_permissions(&appliance, fs::Permissions::from_mode(0o755)).unwrap();
    let search = format!("{}:{}", bin.path().display(), env::var("PATH").unwrap());
    let file = |path: String| member.root().resolve(&path).unwrap();
    let removed = Command::new("sh")
        .args(["-c", command])
        .env("PATH", search)
        .env(
            "ETCDCTL_ENDPOINTS",
            format!("https://{}:2379", member.address()),
        )
        .env("ETCDCTL_CA_FILE", file(paths::certificate(ETCD_AUTHORITY)))
        .env(
            "ETCDCTL_CERT_FILE",
            file(paths::certificate(ETCD_CERTIFICATE)),
        )
        .env("ETCDCTL_KEY_FILE", file(paths::key(ETCD_CERTIFICATE)))
        .output()
        .unwrap();
    assert!(removed.status.success(), "{removed:?}");
    assert!(several.agreed().unwrap().is_none());
}

#[test]
fn records_are_read_by_masters_with_the_old_key_with_the_new_one_and_with_both() {
    let mut shared = Shared::new(12);
    shared.start();
    let roots: Vec<_> = shared.members.iter().map(Member::root).collect();
    let tokens = |number: usize| registry::open(&roots[number]).unwrap().0;
    let token = Token::generate().unwrap();
    tokens(0).add(token.id(), &record(&token)).unwrap();
    let old = shared.value(&format!("tokens/{}", token.id()));

    // The first master has both keys, the second one the old key, the third one the new key alone.
    let next = appliance::pki::key::generate().unwrap().serialize_pem();
    roots[0]
        .write(paths::NEXT_AUTHORITY_KEY, next.as_bytes(), 0o600)
        .unwrap();
    let own = key(&shared.members[2]).serialize_pem();
    roots[2]
        .write(&paths::key(AUTHORITY), next.as_bytes(), 0o600)
        .unwrap();
    assert!(tokens(2).all().unwrap().is_empty());
    let turns = |number: usize| {
        let names = registry::names(&roots[number]).unwrap().unwrap();
        Turns::new(&roots[number], names, Duration::from_secs(3))
    };
    turns(0).seal_again().unwrap();
    assert_ne!(shared.value(&format!("tokens/{}", token.id())), old);
    for number in 0..3 {
        assert!(
            tokens(number).all().unwrap().contains_key(token.id()),
            "{number}"
        );
    }
    // What all are to follow, and who has followed.
    let open = |number: usize| {
        Several::open(&roots[number], Subject::Authorities)
            .unwrap()
            .unwrap()
    };
    let text = Secret::new(b"a new key".to_vec());
    assert!(open(0).agree(None, &text).unwrap());
    for number in [1, 2] {
        assert_eq!(open(number).agreed().unwrap(), Some(text.clone()));
    }
    assert!(!shared.value("authorities/agreed").contains("key"));
    open(0).note(&text).unwrap();
    assert_eq!(open(1).behind(&text).unwrap(), &NAMES[1..]);
    // What a worker told one master, another one knows.
    let taken = Taken {
        digest: digest(&roots[0]).unwrap(),
        key: "its key".to_owned(),
        seen: OffsetDateTime::UNIX_EPOCH,
    };
    registry::followers(&roots[0])
        .unwrap()
        .note("server01", &taken)
        .unwrap();
    for number in [1, 2] {
        let all = registry::followers(&roots[number]).unwrap().all().unwrap();
        assert_eq!(all["server01"], taken);
    }
    // At the end, the old key opens nothing any longer.
    turns(2).seal_again().unwrap();
    assert!(tokens(2).all().unwrap().contains_key(token.id()));
    assert!(tokens(0).all().unwrap().contains_key(token.id()));
    roots[2]
        .write(&paths::key(AUTHORITY), own.as_bytes(), 0o600)
        .unwrap();
    let listed = registry::etcd(&roots[2])
        .unwrap()
        .unwrap()
        .list("tokens")
        .unwrap();
    assert!(listed.records.values().all(|found| found.text.is_none()));
}

/// A master whose services are the test.
struct Master<'a>(&'a Member);

impl Node for Master<'_> {
    fn files(&self) -> Result<Files> {
        let root = self.0.root();
        Ok(Files {
            key: Secret::new(root.read(SERVICE_ACCOUNT_PRIVATE)?.unwrap()),
            public: String::from_utf8(root.read(SERVICE_ACCOUNT_PUBLIC)?.unwrap())?,
            next: root.read(NEXT_SERVICE_ACCOUNT)?.map(Secret::new),
        })
    }

    fn change(&self, change: accounts::Change) -> Result<()> {
        let root: Root = self.0.root();
        match change {
            accounts::Change::Next(key) => root.write(NEXT_SERVICE_ACCOUNT, key.expose(), 0o600),
            accounts::Change::Key(key) => root.write(SERVICE_ACCOUNT_PRIVATE, key.expose(), 0o600),
            accounts::Change::Public(text) => {
                root.write(SERVICE_ACCOUNT_PUBLIC, text.as_bytes(), 0o644)
            }
            accounts::Change::Forget => root.remove_file(NEXT_SERVICE_ACCOUNT),
        }
    }

    fn start(&self) -> Result<()> {
        Ok(())
    }

    fn refuse_other_changes(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn masters_that_share_a_real_etcd_get_the_new_key_sealed_and_drop_the_old_one_together() {
    let mut shared = Shared::new(10);
    shared.start();
    let masters: Vec<Master<'_>> = shared.members.iter().map(Master).collect();
    // As masters that joined: all have the pair of the first.
    let pair = masters[0].files().unwrap();
    for master in &masters[1..] {
        master
            .change(accounts::Change::Key(pair.key.clone()))
            .unwrap();
        master
            .change(accounts::Change::Public(pair.public.clone()))
            .unwrap();
    }
    let tokens = NoTokens::default();
    let run = |number: usize, wish: accounts::Wish| -> Report {
        let root = shared.members[number].root();
        let several = Several::open(&root, Subject::ServiceAccounts).unwrap();
        accounts::rotate(&masters[number], &several.unwrap(), &tokens, wish).unwrap()
    };
    let report = run(0, BEGIN);
    assert_eq!(
        (report.stage, &report.behind[..]),
        (Stage::Both, &NAMES.map(str::to_owned)[1..])
    );
    let sealed = shared.value("service-accounts/agreed");
    assert!(
        !sealed.contains("PRIVATE") && sealed.len() > 100,
        "{sealed}"
    );
    run(1, GO_ON);
    assert_eq!(run(2, GO_ON).stage, Stage::Anew);
    assert_eq!(masters[0].files().unwrap().key, pair.key);
    *tokens.0.borrow_mut() = vec!["default/a".to_owned()];
    run(0, GO_ON);
    assert_eq!(run(1, GO_ON).pods.len(), 1);
    tokens.0.borrow_mut().clear();
    assert_eq!(run(0, GO_ON).stage, Stage::Dropped);
    assert_eq!(
        verifying(&masters[1].files().unwrap().public)
            .unwrap()
            .len(),
        2
    );
    run(1, GO_ON);
    assert!(run(2, GO_ON).complete);
    for (number, master) in masters.iter().enumerate() {
        assert_eq!(run(number, GO_ON).stage, Stage::None);
        let files = master.files().unwrap();
        let own = AccountKey::read(&files.key).unwrap();
        assert_ne!(files.key, pair.key);
        assert_eq!((files.public, files.next), (own.public_pem(), None));
        // No other file has the key.
        let dir = shared.members[number].root().resolve(JOIN_DIR).unwrap();
        for entry in fs::read_dir(dir).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(!text.contains("PRIVATE"), "{text}");
        }
    }
}
