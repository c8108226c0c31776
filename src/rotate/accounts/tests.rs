#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::{Agreement, Change, Files, Node, Report, Stage, Tokens, Wish, rotate, show};
use crate::nodespec::Refused;
use crate::pki::Secret;
use crate::pki::account::{AccountKey, verifying};
use crate::rotate::masters::{Alone, Masters};

const ENDLESS: usize = usize::MAX;
const BEGIN: Wish = Wish {
    begin: true,
    without_pods: false,
};
const GO_ON: Wish = Wish {
    begin: false,
    without_pods: false,
};

/// A token: the key that signed it, and whether its service account refers to it.
#[derive(Clone)]
struct Token {
    account: &'static str,
    by: Vec<u8>,
    is_referenced: bool,
}

struct Master {
    files: RefCell<Files>,
    /// The public keys with which its API server verifies, and the key with which its controller manager signs.
    runs: RefCell<(Vec<Vec<u8>>, Vec<u8>)>,
}

/// A cluster with service accounts and pods. Before each change, it can be cut.
struct Cluster {
    masters: Vec<Master>,
    /// The tokens by the names of their secrets. A user made `own`.
    tokens: RefCell<BTreeMap<String, Token>>,
    /// The secret that each pod has.
    pods: RefCell<BTreeMap<&'static str, String>>,
    agreed: RefCell<Option<Secret>>,
    notes: RefCell<BTreeMap<usize, Secret>>,
    fuse: Cell<usize>,
    /// How many changes there were: the controller manager that leads is another one each time.
    time: Cell<usize>,
}

struct At<'a>(&'a Cluster, usize);

const ACCOUNTS: [&str; 2] = ["default", "dns"];

fn public(key: &Secret) -> Vec<u8> {
    AccountKey::read(key).unwrap().public()
}

impl Cluster {
    fn new(masters: usize) -> Cluster {
        let key = AccountKey::generate().unwrap();
        let files = Files {
            public: AccountKey::read(&key).unwrap().public_pem(),
            key,
            next: None,
        };
        let by = public(&files.key);
        let token = |account| Token {
            account,
            by: by.clone(),
            is_referenced: true,
        };
        let mut tokens: BTreeMap<_, _> = ACCOUNTS
            .map(|account| (format!("{account}-token-0"), token(account)))
            .into();
        let own = Token {
            is_referenced: false,
            ..token("default")
        };
        tokens.insert("own".to_owned(), own);
        Cluster {
            masters: (0..masters)
                .map(|_| Master {
                    files: RefCell::new(files.clone()),
                    runs: RefCell::new((vec![by.clone()], by.clone())),
                })
                .collect(),
            pods: RefCell::new(ACCOUNTS.map(|pod| (pod, format!("{pod}-token-0"))).into()),
            tokens: RefCell::new(tokens),
            agreed: RefCell::default(),
            notes: RefCell::default(),
            fuse: Cell::new(ENDLESS),
            time: Cell::new(0),
        }
    }

    fn change(&self) -> Result<()> {
        let left = self.fuse.get();
        ensure!(left > 0, "cut");
        self.fuse.set(left.saturating_sub(1));
        self.look();
        Ok(())
    }

    /// The controller manager that leads makes missing tokens. Then every API server must accept the tokens of all pods,
    /// of new pods, and of the user.
    fn look(&self) {
        self.time.set(self.time.get() + 1);
        let leader = &self.masters[self.time.get() % self.masters.len()];
        let by = leader.runs.borrow().1.clone();
        let mut tokens = self.tokens.borrow_mut();
        for account in ACCOUNTS {
            let refers = |token: &Token| token.account == account && token.is_referenced;
            if !tokens.values().any(refers) {
                let name = format!("{account}-token-{}", self.time.get());
                let token = Token {
                    account,
                    by: by.clone(),
                    is_referenced: true,
                };
                tokens.insert(name, token);
            }
        }
        // New service accounts get their first token at any time.
        for signer in &self.masters {
            let by = signer.runs.borrow().1.clone();
            let all = self.masters.iter();
            assert!(
                all.clone()
                    .all(|master| master.runs.borrow().0.contains(&by)),
                "a new token is refused"
            );
        }
        let of_pods = self.pods.borrow();
        let of_pods = of_pods.values().map(|name| &tokens[name]);
        let used = tokens
            .iter()
            .filter(|(name, token)| token.is_referenced || *name == "own");
        for token in of_pods.chain(used.map(|(_, token)| token)) {
            for master in &self.masters {
                assert!(
                    master.runs.borrow().0.contains(&token.by),
                    "a token of {} is refused",
                    token.account
                );
            }
        }
    }

    /// Pods start again, and get a token to which their service account refers.
    fn restart_pods(&self) {
        let tokens = self.tokens.borrow();
        for (pod, name) in self.pods.borrow_mut().iter_mut() {
            let refers =
                |(_, token): &(&String, &Token)| token.account == *pod && token.is_referenced;
            name.clone_from(tokens.iter().find(refers).unwrap().0);
        }
    }

    fn at(&self, master: usize, wish: Wish) -> Result<Report> {
        let at = At(self, master);
        match self.masters.len() {
            1 => rotate(&at, &Alone::default(), &at, wish),
            _ => rotate(&at, &at, &at, wish),
        }
    }

    /// Runs on each master in turn, from the first, until the rotation is complete. Pods start again when they have to.
    fn complete(&self, mut wish: Wish) -> Result<()> {
        for run in 0..40 {
            let report = self.at(run % self.masters.len(), wish)?;
            wish = GO_ON;
            self.look();
            if !report.pods.is_empty() {
                self.restart_pods();
            }
            if report.complete {
                return Ok(());
            }
        }
        panic!("the rotation does not end");
    }

    /// Every master has one key, which is not `old`, and no token of another one is left.
    fn has_only_a_new_key(&self, old: &Secret) {
        self.look();
        let first = self.masters[0].files.borrow().key.clone();
        assert_ne!(first, *old);
        for (number, master) in self.masters.iter().enumerate() {
            // The others forget the new key with their next run.
            self.at(number, GO_ON).unwrap();
            let files = master.files.borrow();
            assert_eq!((&files.key, &files.next), (&first, &None));
            assert_eq!(verifying(&files.public).unwrap(), [public(&first)]);
            assert_eq!(
                *master.runs.borrow(),
                (vec![public(&first)], public(&first))
            );
        }
        let tokens = self.tokens.borrow();
        assert_eq!(tokens.len(), 3, "{:?}", tokens.keys());
        assert!(tokens.values().all(|token| token.by == public(&first)));
        assert!(self.agreed.borrow().is_none());
    }
}

impl Node for At<'_> {
    fn files(&self) -> Result<Files> {
        Ok(self.0.masters[self.1].files.borrow().clone())
    }

    fn change(&self, change: Change) -> Result<()> {
        self.0.change()?;
        let mut files = self.0.masters[self.1].files.borrow_mut();
        match change {
            Change::Next(key) => files.next = Some(key),
            Change::Public(text) => files.public = text,
            Change::Key(key) => files.key = key,
            Change::Forget => files.next = None,
        }
        Ok(())
    }

    fn start(&self) -> Result<()> {
        let master = &self.0.masters[self.1];
        let files = master.files.borrow().clone();
        let wanted = (verifying(&files.public).unwrap(), public(&files.key));
        if *master.runs.borrow() == wanted {
            return Ok(());
        }
        // The API server and the controller manager start one after the other.
        self.0.change()?;
        master.runs.borrow_mut().0 = wanted.0;
        self.0.change()?;
        master.runs.borrow_mut().1 = wanted.1;
        self.0.look();
        Ok(())
    }

    fn refuse_other_changes(&self) -> Result<()> {
        Ok(())
    }
}

impl Tokens for At<'_> {
    fn renew(&self, public: &[u8]) -> Result<()> {
        let old = |token: &Token| token.is_referenced && token.by != public;
        loop {
            let tokens = self.0.tokens.borrow().clone();
            let Some((name, _)) = tokens.iter().find(|(_, token)| old(token)) else {
                return Ok(());
            };
            self.0.change()?;
            self.0
                .tokens
                .borrow_mut()
                .get_mut(name)
                .unwrap()
                .is_referenced = false;
            self.0.look();
        }
    }

    fn pods(&self, public: &[u8]) -> Result<Vec<String>> {
        let (pods, tokens) = (self.0.pods.borrow(), self.0.tokens.borrow());
        let old = pods.iter().filter(|(_, name)| tokens[*name].by != public);
        Ok(old.map(|(pod, _)| (*pod).to_owned()).collect())
    }

    fn renew_others(&self, public: &[u8]) -> Result<Vec<String>> {
        if self.0.tokens.borrow()["own"].by == public {
            return Ok(vec![]);
        }
        self.0.change()?;
        self.0.tokens.borrow_mut().get_mut("own").unwrap().by = public.to_vec();
        Ok(vec!["own".to_owned()])
    }

    fn remove_old(&self, public: &[u8]) -> Result<usize> {
        let tokens = self.0.tokens.borrow().clone();
        let old: Vec<_> = tokens
            .iter()
            .filter(|(_, token)| token.by != public)
            .collect();
        for (name, _) in &old {
            self.0.change()?;
            self.0.tokens.borrow_mut().remove(*name);
        }
        Ok(old.len())
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
        let all = 0..self.0.masters.len();
        Ok(all
            .filter(|number| notes.get(number) != Some(text))
            .map(|number| number.to_string())
            .collect())
    }

    fn end(&self, _text: &Secret) -> Result<()> {
        self.0.change()?;
        *self.0.agreed.borrow_mut() = None;
        Ok(())
    }
}

#[test]
fn one_master_waits_for_pods_and_then_completes() {
    let cluster = Cluster::new(1);
    let old = cluster.masters[0].files.borrow().key.clone();
    assert_eq!(cluster.at(0, GO_ON).unwrap().stage, Stage::None);
    let report = cluster.at(0, BEGIN).unwrap();
    assert_eq!(
        (report.stage, &report.pods[..]),
        (Stage::Anew, &ACCOUNTS.map(str::to_owned)[..])
    );
    let shown = show(&At(&cluster, 0), &Alone::default(), &At(&cluster, 0)).unwrap();
    assert_eq!((shown.stage, shown.pods), (Stage::Anew, report.pods));
    cluster.restart_pods();
    let report = cluster.at(0, BEGIN).unwrap();
    assert!(report.complete && report.stage == Stage::None, "{report:?}");
    assert_eq!(
        (&report.renewed[..], report.removed),
        (&["own".to_owned()][..], 2)
    );
    cluster.has_only_a_new_key(&old);
}

#[test]
fn a_run_that_is_cut_anywhere_is_continued_by_the_next_one() {
    for masters in [1, 3] {
        let mut cuts = 0;
        loop {
            let cluster = Cluster::new(masters);
            let old = cluster.masters[0].files.borrow().key.clone();
            cluster.fuse.set(cuts);
            let outcome = cluster.complete(BEGIN);
            cluster.fuse.set(ENDLESS);
            cluster.look();
            let Err(error) = outcome else {
                cluster.has_only_a_new_key(&old);
                break;
            };
            assert_eq!(error.to_string(), "cut");
            // As the operator who sees that it did not begin, or that it has completed.
            let changed = cluster
                .masters
                .iter()
                .any(|master| master.files.borrow().key != old);
            let is_over = changed
                && cluster.agreed.borrow().is_none()
                && (masters > 1 || cluster.masters[0].files.borrow().next.is_none());
            if !is_over {
                cluster.complete(BEGIN).unwrap();
            }
            cluster.has_only_a_new_key(&old);
            cuts += 1;
        }
        assert!(cuts >= 14 * masters, "{cuts} with {masters} masters");
    }
}

#[test]
fn nothing_is_dropped_while_a_master_has_not_followed() {
    let cluster = Cluster::new(3);
    for run in 0..10 {
        let report = cluster
            .at(run % 2, if run == 0 { BEGIN } else { GO_ON })
            .unwrap();
        assert!(report.behind.contains(&"2".to_owned()), "{report:?}");
        cluster.look();
    }
    let stage = |master: usize| cluster.masters[master].files.borrow().stage().unwrap();
    assert_eq!(
        [stage(0), stage(1), stage(2)],
        [Stage::Both, Stage::Both, Stage::None]
    );
}

#[test]
fn a_master_that_was_made_anew_during_a_rotation_follows() {
    for sender in [0, 1] {
        let cluster = Cluster::new(3);
        let old = cluster.masters[0].files.borrow().key.clone();
        for master in 0..3 {
            cluster
                .at(master, if master == 0 { BEGIN } else { GO_ON })
                .unwrap();
        }
        // The last one has moved on, the others not yet. One of them sends its keys to a machine in place of the second.
        let sent = cluster.masters[if sender == 0 { 0 } else { 2 }]
            .files
            .borrow()
            .clone();
        let runs = (verifying(&sent.public).unwrap(), public(&sent.key));
        *cluster.masters[1].files.borrow_mut() = Files { next: None, ..sent };
        *cluster.masters[1].runs.borrow_mut() = runs;
        cluster.notes.borrow_mut().remove(&1);
        cluster.look();
        cluster.complete(GO_ON).unwrap();
        cluster.has_only_a_new_key(&old);
    }
}

#[test]
fn a_key_that_other_masters_do_not_know_is_kept() {
    let cluster = Cluster::new(3);
    cluster.at(0, BEGIN).unwrap();
    // A rotation of its own, whose record is lost.
    let other = AccountKey::generate().unwrap();
    {
        let mut files = cluster.masters[1].files.borrow_mut();
        files.public += &AccountKey::read(&other).unwrap().public_pem();
        files.next = Some(other.clone());
    }
    let error = cluster.at(1, GO_ON).unwrap_err();
    assert!(error.is::<Refused>(), "{error:#}");
    assert_eq!(cluster.masters[1].files.borrow().next, Some(other));
    // Nobody has used it, so a run that was cut leaves it to the others.
    let cluster = Cluster::new(3);
    cluster.at(0, BEGIN).unwrap();
    cluster.masters[1].files.borrow_mut().next = Some(AccountKey::generate().unwrap());
    let old = cluster.masters[0].files.borrow().key.clone();
    cluster.complete(GO_ON).unwrap();
    cluster.has_only_a_new_key(&old);
}

#[test]
fn a_new_key_that_is_lost_does_not_end_the_rotation() {
    let cluster = Cluster::new(1);
    let old = cluster.masters[0].files.borrow().key.clone();
    // Pods have old tokens: the new key signs, and the old one is trusted.
    let report = cluster.at(0, BEGIN).unwrap();
    assert_eq!(report.stage, Stage::Anew);
    let lost = cluster.masters[0].files.borrow_mut().next.take();
    let error = cluster.at(0, GO_ON).unwrap_err();
    let text = error.to_string();
    assert!(
        error.is::<Refused>() && text.contains("install -D -m 0600"),
        "{text}"
    );
    cluster.masters[0].files.borrow_mut().next = Some(Secret::new(b"nonsense".to_vec()));
    let error = cluster.at(0, GO_ON).unwrap_err();
    assert!(error.is::<Refused>(), "{error:#}");
    cluster.masters[0].files.borrow_mut().next = lost;
    cluster.complete(GO_ON).unwrap();
    cluster.has_only_a_new_key(&old);
}

#[test]
fn what_masters_of_the_first_format_agreed_on_is_read() {
    let frozen = include_str!("../../../tests/fixtures/formats/rotation-1.json");
    let frozen: serde_json::Value = serde_json::from_str(frozen).unwrap();
    let text = Secret::new(frozen["serviceAccounts"].to_string().into_bytes());
    let agreement = Agreement::read(&text).unwrap();
    let again = Agreement::text(agreement.stage, &agreement.key()).unwrap();
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(again.expose()).unwrap(),
        frozen["serviceAccounts"]
    );
}
