//! The replacement of the authorities on three installed masters.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use appliance::components::{
    AUTHORITY, ETCD_AUTHORITY, ETCD_CERTIFICATE, authority_of, certificate_names,
};
use appliance::install::Machine as Installed;
use appliance::nodespec::{Refused, Role};
use appliance::paths;
use appliance::pki::Secret;
use appliance::pki::inspect::is_signed_by;
use appliance::rotate::authority::{Around, Cluster, Members, Report, Stage, Wish, rotate};
use appliance::rotate::masters::Masters;

use crate::etcd::NAMES;
use crate::harness::Machine;
use crate::rotate::prepared;
use crate::rotate_ca::{of_authorities, read, trusted};

/// What a master says in the turn of another one.
const NOT_ITS_TURN: &str = "not its turn";
const ENDLESS: usize = usize::MAX;
const MASTERS: &str =
    "masters=server02=192.168.1.102,server04=192.168.1.104,server05=192.168.1.105";
const ADDRESSES: [&str; 3] = ["192.168.1.102", "192.168.1.104", "192.168.1.105"];

/// Three installed masters, a worker, and what they tell each other. Before each change, a run can be cut.
struct Three {
    machines: Vec<Machine>,
    /// The files that depend on the authorities, as they were installed.
    first: Vec<BTreeMap<PathBuf, Vec<u8>>>,
    /// The digest of the authorities that the worker has taken.
    worker: RefCell<String>,
    /// Whether the worker follows before a master asks.
    follows: Cell<bool>,
    agreed: RefCell<Option<Secret>>,
    notes: RefCell<BTreeMap<usize, Secret>>,
    turn: Cell<Option<usize>>,
    fuse: Cell<usize>,
}

struct At<'a>(&'a Three, usize);

impl Three {
    fn new() -> Three {
        let single = Machine::new();
        single.installed(&[]);
        let machine = |number: usize| {
            let machine = Machine::new();
            let mut shared = vec![
                paths::SERVICE_ACCOUNT_PRIVATE.to_owned(),
                paths::SERVICE_ACCOUNT_PUBLIC.to_owned(),
                paths::TOKEN_FILE.to_owned(),
                paths::ENCRYPTION.to_owned(),
            ];
            for name in [AUTHORITY, ETCD_AUTHORITY] {
                shared.extend([paths::certificate(name), paths::key(name)]);
            }
            for path in shared {
                machine.put(&path[1..], &read(&single, &path));
            }
            let own: Vec<String> = Three::settings(number)
                .iter()
                .flat_map(|setting| ["--set".to_owned(), setting.clone()])
                .collect();
            let own: Vec<&str> = own.iter().map(String::as_str).collect();
            machine.installed(&own);
            machine
        };
        let machines: Vec<Machine> = (0..3).map(machine).collect();
        Three {
            first: machines.iter().map(of_authorities).collect(),
            machines,
            worker: RefCell::default(),
            follows: Cell::new(true),
            agreed: RefCell::default(),
            notes: RefCell::default(),
            turn: Cell::new(None),
            fuse: Cell::new(ENDLESS),
        }
    }

    fn settings(number: usize) -> [String; 3] {
        [
            MASTERS.to_owned(),
            format!("nodeName={}", NAMES[number]),
            format!("address={}", ADDRESSES[number]),
        ]
    }

    /// Everything as it was installed.
    fn restore(&self) {
        for (machine, first) in self.machines.iter().zip(&self.first) {
            for path in of_authorities(machine).into_keys() {
                if !first.contains_key(&path) {
                    fs::remove_file(path).unwrap();
                }
            }
            for (path, content) in first {
                if fs::read(path).ok().as_ref() != Some(content) {
                    fs::write(path, content).unwrap();
                }
            }
        }
        *self.agreed.borrow_mut() = None;
        self.notes.borrow_mut().clear();
        self.turn.set(None);
        *self.worker.borrow_mut() = String::new();
    }

    fn change(&self) -> Result<()> {
        let left = self.fuse.get();
        ensure!(left > 0, "cut");
        self.fuse.set(left.saturating_sub(1));
        self.look();
        Ok(())
    }

    /// Every master trusts what every other one shows.
    fn look(&self) {
        for own in &self.machines {
            for other in &self.machines {
                for name in [ETCD_CERTIFICATE, "kubernetes", "admin"] {
                    let shown = read(own, &paths::certificate(name));
                    let trusted = trusted(other, authority_of(name));
                    let mut all = trusted.iter();
                    assert!(
                        all.any(|pem| is_signed_by(shown.as_bytes(), pem.as_bytes()).unwrap()),
                        "{name} is not trusted"
                    );
                }
            }
        }
    }

    fn prepared(&self, number: usize) -> Installed {
        let settings = Three::settings(number);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        prepared(&self.machines[number], &settings)
    }

    fn run(&self, number: usize, begin: bool) -> Result<Report> {
        let at = At(self, number);
        let around = Around {
            cluster: &at,
            masters: &at,
            members: &at,
        };
        let wish = Wish {
            begin,
            ..Wish::default()
        };
        rotate(&self.prepared(number), around, &wish)
    }

    /// Runs on each master in turn until one says that the rotation is complete, then once more on each. A master may
    /// have been cut in its turn: the others say so, and it goes on when it runs again.
    fn complete(&self, mut begin: bool) -> Result<()> {
        let mut done = false;
        for run in 0..20 {
            match self.run(run % 3, begin) {
                Ok(report) => {
                    done = report.complete;
                    begin = false;
                }
                Err(error) if error.to_string() == NOT_ITS_TURN => {}
                Err(error) => return Err(error),
            }
            self.look();
            if done {
                break;
            }
        }
        assert!(done, "the rotation does not end");
        for number in 0..3 {
            self.run(number, false)?;
        }
        Ok(())
    }

    fn is_rotated(&self) {
        let names = [AUTHORITY, ETCD_AUTHORITY];
        let new = names.map(|name| trusted(&self.machines[0], name));
        for (number, machine) in self.machines.iter().enumerate() {
            for (name, new) in names.iter().zip(&new) {
                assert_eq!(trusted(machine, name), *new);
                let before = &self.first[number][&machine.root().join(&paths::key(name)[1..])];
                assert_ne!(read(machine, &paths::key(name)).as_bytes(), before);
                assert_eq!(
                    read(machine, &paths::key(name)),
                    read(&self.machines[0], &paths::key(name))
                );
                assert_eq!(new.len(), 1);
            }
            for name in certificate_names(Role::Master) {
                let shown = read(machine, &paths::certificate(name));
                let by = &trusted(machine, authority_of(name))[0];
                assert!(
                    is_signed_by(shown.as_bytes(), by.as_bytes()).unwrap(),
                    "{name}"
                );
            }
            let left = machine.root().join(&paths::ROTATION_DIR[1..]);
            assert_eq!(fs::read_dir(left).map_or(0, Iterator::count), 0);
        }
        assert!(self.agreed.borrow().is_none() && self.turn.get().is_none());
    }
}

impl Cluster for At<'_> {
    fn behind(&self, digest: &str) -> Result<Vec<String>> {
        if self.0.follows.get() {
            *self.0.worker.borrow_mut() = digest.to_owned();
        }
        let is_behind = *self.0.worker.borrow() != digest;
        Ok(is_behind
            .then(|| "server01".to_owned())
            .into_iter()
            .collect())
    }

    fn blind(&self, _pem: &str) -> Result<Vec<String>> {
        Ok(vec![])
    }
}

impl Members for At<'_> {
    fn in_turn(&self, work: &dyn Fn() -> Result<()>) -> Result<()> {
        self.0.change()?;
        ensure!(
            self.0.turn.get().is_none_or(|turn| turn == self.1),
            NOT_ITS_TURN
        );
        self.0.turn.set(Some(self.1));
        self.0.change()?;
        work()?;
        self.0.change()?;
        self.0.turn.set(None);
        Ok(())
    }

    fn has_turn(&self) -> Result<bool> {
        Ok(self.0.turn.get() == Some(self.1))
    }

    fn seal_again(&self) -> Result<()> {
        self.0.change()
    }
}

impl Masters for At<'_> {
    fn are_several(&self) -> bool {
        true
    }

    fn agreed(&self) -> Result<Option<Secret>> {
        Ok(self.0.agreed.borrow().clone())
    }

    fn agree(&self, before: Option<&Secret>, text: &Secret) -> Result<bool> {
        self.0.change()?;
        if self.0.agreed.borrow().as_ref() != before {
            return Ok(false);
        }
        *self.0.agreed.borrow_mut() = Some(text.clone());
        Ok(true)
    }

    fn note(&self, text: &Secret) -> Result<()> {
        self.0.change()?;
        self.0.notes.borrow_mut().insert(self.1, text.clone());
        Ok(())
    }

    fn behind(&self, text: &Secret) -> Result<Vec<String>> {
        let notes = self.0.notes.borrow();
        let lacks = |number: &usize| notes.get(number) != Some(text);
        Ok((0..3)
            .filter(lacks)
            .map(|number| NAMES[number].to_owned())
            .collect())
    }

    fn end(&self, _text: &Secret) -> Result<()> {
        self.0.change()?;
        *self.0.agreed.borrow_mut() = None;
        Ok(())
    }
}

#[test]
fn three_masters_follow_each_other_and_each_may_be_cut_anywhere() {
    let three = Three::new();
    let mut cuts = 0;
    loop {
        three.restore();
        three.fuse.set(cuts);
        let outcome = three.complete(true);
        three.fuse.set(ENDLESS);
        three.look();
        let Err(error) = outcome else {
            break three.is_rotated();
        };
        assert_eq!(error.to_string(), "cut");
        // As the operator who sees that it did not begin, or that it has completed.
        let mut stages = (0..3).map(|number| {
            appliance::rotate::authority::stage(&three.prepared(number).root).unwrap()
        });
        let is_over = three.agreed.borrow().is_none() && !three.notes.borrow().is_empty();
        let begins = !is_over && stages.all(|stage| stage == Stage::None);
        if is_over {
            for number in 0..3 {
                three.run(number, false).unwrap();
            }
        } else {
            three.complete(begins).unwrap();
        }
        three.is_rotated();
        // Not each of them: each is a whole rotation.
        cuts += 5;
    }
    assert!(cuts >= 36, "{cuts}");
}

#[test]
fn nothing_is_dropped_while_a_master_or_a_worker_has_not_followed() {
    let three = Three::new();
    let old = trusted(&three.machines[0], AUTHORITY);
    let report = three.run(0, true).unwrap();
    assert_eq!(
        (report.stage, &report.masters[..]),
        (Stage::Both, &NAMES.map(str::to_owned)[1..])
    );
    for _ in 0..2 {
        assert_eq!(three.run(1, false).unwrap().masters, [NAMES[2]]);
        assert_eq!(three.run(0, false).unwrap().masters, [NAMES[2]]);
    }
    let both = trusted(&three.machines[0], AUTHORITY);
    assert_eq!((both.len(), &both[0]), (2, &old[0]));
    assert_eq!(trusted(&three.machines[2], AUTHORITY), old);
    // All masters have followed, and a worker has not.
    three.follows.set(false);
    let report = three.run(2, false).unwrap();
    assert_eq!(
        (report.stage, &report.behind[..]),
        (Stage::Both, &["server01".to_owned()][..])
    );
    three.follows.set(true);
    assert_eq!(three.run(2, false).unwrap().stage, Stage::Anew);
    three.run(0, false).unwrap();
    three.follows.set(false);
    let report = three.run(1, false).unwrap();
    assert_eq!(
        (report.stage, &report.behind[..]),
        (Stage::Anew, &["server01".to_owned()][..])
    );
    // The key that opens records of other masters is kept as long, readable for root alone.
    let previous = &paths::PREVIOUS_AUTHORITY_KEY[1..];
    assert_eq!(three.machines[1].mode(previous), 0o600);
    for machine in &three.machines {
        assert!(trusted(machine, AUTHORITY).contains(&old[0]));
    }
    three.follows.set(true);
    three.complete(false).unwrap();
    three.is_rotated();
}

#[test]
fn a_master_that_rotates_to_other_authorities_keeps_them_and_one_that_only_made_them_follows() {
    let three = Three::new();
    three.run(0, true).unwrap();
    let agreed = three.agreed.borrow_mut().take();
    three.run(1, true).unwrap();
    let own = trusted(&three.machines[1], AUTHORITY);
    *three.agreed.borrow_mut() = agreed;
    let error = three.run(1, false).unwrap_err();
    assert!(
        error.is::<Refused>() && error.to_string().contains("is another authority"),
        "{error:#}"
    );
    assert_eq!(trusted(&three.machines[1], AUTHORITY), own);

    three.restore();
    three.fuse.set(0);
    assert!(three.run(1, true).is_err());
    three.fuse.set(ENDLESS);
    let stage =
        |number: usize| appliance::rotate::authority::stage(&three.prepared(number).root).unwrap();
    assert_eq!(stage(1), Stage::Made);
    three.complete(true).unwrap();
    three.is_rotated();
}

#[test]
fn a_master_gets_a_lost_key_from_the_others_and_takes_no_other_one() {
    let three = Three::new();
    for number in 0..2 {
        three.run(number, number == 0).unwrap();
    }
    let path = three.machines[1]
        .root()
        .join(&paths::NEXT_AUTHORITY_KEY[1..]);
    let key = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    three.run(1, false).unwrap();
    assert!(fs::read(&path).unwrap() == key);
    fs::write(&path, "nonsense").unwrap();
    let error = three.run(1, false).unwrap_err();
    assert!(
        error.is::<Refused>() && error.to_string().contains("is not the private key of"),
        "{error:#}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "nonsense");
    fs::rename(&path, path.with_extension("old")).unwrap();
    three.run(1, false).unwrap();
    fs::remove_file(path.with_extension("old")).unwrap();
    three.complete(false).unwrap();
    three.is_rotated();
}
