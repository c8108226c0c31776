//! Tokens and names that masters share, in a real etcd.

use std::net::Ipv4Addr;
use std::thread;

use appliance::clients::mtls;
use appliance::components::ETCD_CERTIFICATE;
use appliance::join::gate::{Ask, Gate};
use appliance::join::message::{Reason, Refusal};
use appliance::join::nodes::{Nodes, Presence};
use appliance::join::registry;
use appliance::join::tokens::Tokens;
use appliance::nodespec::master::Master;
use appliance::nodespec::token::Token;
use appliance::paths;
use appliance::records::names::NodeNames;
use appliance::records::nodes::NodeRecord;
use appliance::records::tokens::TokenRecord;
use appliance::sys::change::Change;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::bed::{Node, authority, cluster, record};
use super::faults::{asker, hello, prove, requests};
use crate::etcd::{Member, NAMES, masters};

/// Three masters, of which the first runs etcd, where they all keep their records.
pub struct Shared {
    pub members: Vec<Member>,
    _dir: tempfile::TempDir,
}

impl Shared {
    pub fn new(network: u8) -> Shared {
        let dir = tempfile::tempdir().unwrap();
        let members = masters(dir.path(), network);
        let all: Vec<Master> = (members.iter().zip(NAMES))
            .map(|(member, name)| Master {
                name: name.to_owned(),
                address: member.address(),
            })
            .collect();
        for (member, name) in members.iter().zip(NAMES) {
            let names = NodeNames {
                ipip: None,
                name: name.to_owned(),
                address: member.address(),
                hosts: [].into(),
                masters: all.clone(),
                api_server_names: vec![],
                api_server_addresses: vec![],
            };
            let names = serde_json::to_vec(&names).unwrap();
            let root = member.root();
            root.write(paths::JOIN_NAMES, &names, 0o644).unwrap();
            root.create_dir(paths::JOIN_DIR, 0o700).unwrap();
        }
        Shared { members, _dir: dir }
    }

    pub fn start(&mut self) {
        self.members[0].start_among(&[0]);
        self.members[0].wait_until_healthy();
    }

    fn tokens(&self, master: usize) -> Tokens {
        registry::open(&self.members[master].root()).unwrap().0
    }

    fn nodes(&self, master: usize) -> Nodes {
        registry::open(&self.members[master].root()).unwrap().1
    }

    /// The content of a master's own file.
    fn alone(&self, master: usize) -> Tokens {
        Tokens::new(
            &self.members[master]
                .root()
                .resolve(paths::JOIN_DIR)
                .unwrap(),
        )
    }

    /// A request to etcd as everyone with a certificate of the cluster can send it.
    fn etcd(&self, method: reqwest::Method, path: &str, body: String) -> Value {
        let root = self.members[0].root();
        let client = mtls::client(&root, ETCD_CERTIFICATE, std::time::Duration::from_secs(5));
        let url = format!("https://{}:2379{path}", self.members[0].address());
        let response = client
            .unwrap()
            .request(method, url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send();
        serde_json::from_str(&response.unwrap().text().unwrap()).unwrap()
    }

    pub fn value(&self, key: &str) -> String {
        let found = self.etcd(
            reqwest::Method::GET,
            &format!("/v2/keys/appliance/join/{key}"),
            String::new(),
        );
        found["node"]["value"].as_str().unwrap().to_owned()
    }

    pub fn set(&self, key: &str, value: &str) {
        let path = format!("/v2/keys/appliance/join/{key}");
        let set = self.etcd(reqwest::Method::PUT, &path, format!("value={value}"));
        assert_eq!(set["action"], "set", "{set}");
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn reason(outcome: anyhow::Result<Result<(), Refusal>>) -> Reason {
    outcome.unwrap().unwrap_err().reason
}

#[test]
fn a_token_made_on_one_master_serves_at_the_others_as_often_as_it_may_in_all() {
    const USES: u32 = 5;
    let mut shared = Shared::new(1);
    shared.start();
    let token = Token::generate().unwrap();
    let limited = TokenRecord {
        uses: Some(USES),
        ..record(&token)
    };
    assert!(shared.tokens(0).add(token.id(), &limited).unwrap());
    assert!(!shared.tokens(1).add(token.id(), &limited).unwrap());
    // All masters at once, more often than the token allows.
    let served: u32 = thread::scope(|scope| {
        let spend = |master: usize| {
            let (tokens, id) = (shared.tokens(master), token.id());
            scope.spawn(move || {
                let spend = |_| u32::from(tokens.spend(id, now(), false).unwrap().is_ok());
                (0..USES).map(spend).sum::<u32>()
            })
        };
        let all: Vec<_> = [0, 1, 2, 0, 1, 2].map(spend).into();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(served, USES);
    for master in 0..3 {
        let found = &shared.tokens(master).all().unwrap()[token.id()];
        assert_eq!((found.used, &found.verifier), (USES, &limited.verifier));
    }

    let other = Token::generate().unwrap();
    shared.tokens(1).add(other.id(), &record(&other)).unwrap();
    assert!(shared.tokens(2).usable(other.id(), now()).unwrap().is_ok());
    assert!(shared.tokens(0).revoke(other.id(), now()).unwrap());
    assert_eq!(
        reason(shared.tokens(2).spend(other.id(), now(), false)),
        Reason::RevokedToken
    );
}

#[test]
fn nodes_that_join_at_two_masters_at_once_use_a_token_as_often_as_it_may_be() {
    const USES: usize = 3;
    let mut shared = Shared::new(6);
    shared.start();
    let token = Token::generate().unwrap();
    let limited = TokenRecord {
        uses: u32::try_from(USES).ok(),
        ..record(&token)
    };
    shared.tokens(0).add(token.id(), &limited).unwrap();
    let at_each = |master: usize| -> Vec<Result<(), Reason>> {
        let ask = Ask {
            node: &|_| Ok(Presence::Absent),
            master: &|_| Ok(Presence::Absent),
        };
        let (tokens, nodes) = (shared.tokens(master), shared.nodes(master));
        let mut gate = Gate::new(cluster(authority(now())), tokens, nodes, ask);
        let join = |number: usize| {
            let name: &'static str = format!("worker{master}{number}").leak();
            let hello = hello(&token, name);
            let welcome = gate.hello(&asker(), hello.clone(), now()).unwrap();
            let welcome = welcome.map_err(|refusal| refusal.reason)?;
            let join = prove(&token, &hello, &welcome, requests(&Node::new(name)));
            let joined = gate.join(&asker(), &join, now()).unwrap();
            joined.map(drop).map_err(|refusal| refusal.reason)
        };
        (0..USES + 1).map(join).collect()
    };
    let outcomes: Vec<Result<(), Reason>> = thread::scope(|scope| {
        let both = [0, 1].map(|master| scope.spawn(move || at_each(master)));
        both.into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    let joined = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(joined, USES, "{outcomes:?}");
    let refused = |outcome: &&Result<(), Reason>| **outcome == Err(Reason::UsedUpToken);
    assert_eq!(outcomes.iter().filter(refused).count(), USES + 2);
    let used = shared.tokens(2).all().unwrap()[token.id()].used;
    assert_eq!(used as usize, USES);
    assert_eq!(shared.nodes(2).all().unwrap().len(), USES);
}

#[test]
fn whoever_can_only_write_to_etcd_makes_no_token_and_brings_none_back() {
    let mut shared = Shared::new(2);
    shared.start();
    let token = Token::generate().unwrap();
    let tokens = shared.tokens(0);
    tokens.add(token.id(), &record(&token)).unwrap();
    let text = serde_json::to_string(&tokens.all().unwrap()[token.id()]).unwrap();
    let live = shared.value(&format!("tokens/{}", token.id()));
    assert!(!live.contains("verifier") && !live.contains('{'), "{live}");
    // A copy under another name, the unchanged record, and anything else.
    shared.set("tokens/copied", &live);
    shared.set("tokens/bbbbbb", &hex::encode(&text));
    shared.set("tokens/cccccc", "anything");
    for id in ["copied", "bbbbbb", "cccccc"] {
        let id = id.parse().unwrap();
        let refused = shared.tokens(1).usable(&id, now()).unwrap().unwrap_err();
        assert_eq!(refused.reason, Reason::UnknownToken, "{id}");
    }
    // A revocation stays at every master that knew it, whatever someone writes there.
    shared.tokens(1).revoke(token.id(), now()).unwrap();
    shared.set(&format!("tokens/{}", token.id()), &live);
    assert_eq!(
        reason(shared.tokens(1).spend(token.id(), now(), false)),
        Reason::RevokedToken
    );
    assert_eq!(
        reason(shared.tokens(0).spend(token.id(), now(), false)),
        Reason::RevokedToken
    );
    // A damaged record is repaired.
    shared.set(&format!("tokens/{}", token.id()), "damaged");
    assert_eq!(
        reason(shared.tokens(0).spend(token.id(), now(), false)),
        Reason::RevokedToken
    );
}

#[test]
fn the_founder_lets_masters_in_before_there_is_etcd_and_no_use_is_forgotten() {
    let mut shared = Shared::new(3);
    let token = Token::generate().unwrap();
    let limited = TokenRecord {
        uses: Some(3),
        ..record(&token)
    };
    // Like a token that all masters get from user-data.
    for master in 0..3 {
        shared.alone(master).add(token.id(), &limited).unwrap();
    }
    shared
        .tokens(0)
        .spend(token.id(), now(), false)
        .unwrap()
        .unwrap();
    shared
        .tokens(1)
        .spend(token.id(), now(), false)
        .unwrap()
        .unwrap();
    shared.start();
    for master in [0, 1, 2, 0, 1] {
        shared.tokens(master).all().unwrap();
    }
    for master in 0..3 {
        let found = shared.tokens(master).all().unwrap();
        assert_eq!(found[token.id()].used, 2, "{master}");
    }
    shared
        .tokens(2)
        .spend(token.id(), now(), false)
        .unwrap()
        .unwrap();
    assert_eq!(
        reason(shared.tokens(0).spend(token.id(), now(), false)),
        Reason::UsedUpToken
    );
}

#[test]
fn while_etcd_does_not_answer_nobody_is_let_in_and_what_was_made_is_told_later() {
    let mut shared = Shared::new(4);
    shared.start();
    let (known, made) = (Token::generate().unwrap(), Token::generate().unwrap());
    shared.tokens(0).add(known.id(), &record(&known)).unwrap();
    shared.tokens(1).all().unwrap();
    shared.members[0].stop();
    for master in [0, 1] {
        let refused = shared.tokens(master).usable(known.id(), now()).unwrap();
        assert_eq!(refused.unwrap_err().reason, Reason::Unavailable);
    }
    assert!(shared.tokens(0).spend(known.id(), now(), false).is_err());
    assert!(shared.tokens(0).revoke(known.id(), now()).is_err());
    assert!(shared.tokens(1).add(made.id(), &record(&made)).unwrap());
    assert_eq!(shared.tokens(1).live(now()).unwrap().len(), 2);
    shared.start();
    shared.tokens(1).all().unwrap();
    assert!(shared.tokens(2).usable(made.id(), now()).unwrap().is_ok());
    assert_eq!(shared.tokens(0).all().unwrap()[known.id()].used, 0);
}

#[test]
fn a_node_is_known_at_every_master_and_released_at_any() {
    let mut shared = Shared::new(5);
    let joined = |key: &str, ago: i64| NodeRecord {
        address: Ipv4Addr::new(192, 168, 1, 101),
        machine: None,
        key: key.to_owned(),
        token: "abcdef".parse().unwrap(),
        seen: now() - Duration::minutes(ago),
    };
    // Recorded by the founder before etcd was up.
    shared.nodes(0).note("server04", &joined("old", 9)).unwrap();
    shared.start();
    shared.nodes(1).note("server01", &joined("new", 0)).unwrap();
    shared.nodes(0).all().unwrap();
    for master in 0..3 {
        let all = shared.nodes(master).all().unwrap();
        let keys: Vec<_> = all.values().map(|node| node.key.as_str()).collect();
        assert_eq!(keys, ["new", "old"], "{master}");
    }
    assert!(shared.nodes(2).release("server01").unwrap());
    assert!(!shared.nodes(1).release("server01").unwrap());
    assert_eq!(shared.nodes(0).all().unwrap().len(), 1);
}

/// The records of a master, when it has no others, and when it has some again.
#[test]
fn a_master_that_becomes_the_only_one_takes_its_records_home_and_gives_them_back() {
    let mut shared = Shared::new(7);
    shared.start();
    let root = shared.members[0].root();
    let several = root.read(paths::JOIN_NAMES).unwrap().unwrap();
    let names = |masters: usize| {
        let mut names: NodeNames = serde_json::from_slice(&several).unwrap();
        names.masters.truncate(masters);
        let names = serde_json::to_vec(&names).unwrap();
        root.write(paths::JOIN_NAMES, &names, 0o644).unwrap();
    };
    let token = Token::generate().unwrap();
    shared.tokens(1).add(token.id(), &record(&token)).unwrap();
    let node = |number: u8| NodeRecord {
        key: format!("{number}"),
        address: Ipv4Addr::new(192, 168, 1, number),
        token: token.id().clone(),
        seen: now(),
        machine: None,
    };
    for number in [1, 3] {
        let name = format!("server0{number}");
        shared.nodes(0).note(&name, &node(number)).unwrap();
    }

    names(0);
    // An earlier run was cut before it removed anything from etcd.
    let home = format!("{}/nodes.home", paths::JOIN_DIR);
    root.write(&home, b"", 0o600).unwrap();
    let all = shared.nodes(0).all().unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["server01", "server03"]);
    assert!(shared.tokens(0).all().unwrap().contains_key(token.id()));
    let left = shared.etcd(
        reqwest::Method::GET,
        "/v2/keys/appliance/join/nodes",
        String::new(),
    );
    assert_eq!(left["node"]["nodes"], Value::Null, "{left}");
    // While it is alone: one goes, one comes.
    assert!(shared.nodes(0).release("server01").unwrap());
    shared.nodes(0).note("server06", &node(6)).unwrap();

    names(3);
    for master in [0, 1] {
        let all = shared.nodes(master).all().unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["server03", "server06"]);
        assert!(
            shared
                .tokens(master)
                .usable(token.id(), now())
                .unwrap()
                .is_ok()
        );
    }
}
