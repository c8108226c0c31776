//! Checks the masters of a cluster with several masters: which are lost, whether etcd has a
//! majority, and what to do.

use core::net::Ipv4Addr;
use std::thread;

use anyhow::{Context, Result};
use reqwest::blocking::Client;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HEALTH_TIMEOUT, Report};
use crate::clients::etcd::{Member, peer_url};
use crate::clients::mtls;
use crate::components::{CALICO_CERTIFICATE, ETCD_CERTIFICATE};
use crate::language::{message, tr, translated};
use crate::nodespec::Role;
use crate::nodespec::master::Master;
use crate::nodespec::ports::{API_SERVER, CALICO_DATASTORE, ETCD_CLIENTS};
use crate::records::state::State;
use crate::sys::root::Root;
use crate::sys::{http, parallel};

/// The documentation of the recovery.
const DOCUMENT: &str =
    message!("\"When most masters are lost\" in `appliance help high-availability`");

/// The masters of a cluster.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MastersReport {
    /// All masters that the settings name.
    pub masters: Vec<MasterReport>,
    /// The problem of the whole group, if it has one.
    pub problem: Option<String>,
}

/// One master.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MasterReport {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The state of its etcd member, in words.
    pub etcd: String,
    /// The state of its API server, in words.
    pub api_server: String,
    /// The problem, if it has one. Only a master reports it: other nodes keep working.
    pub problem: Option<String>,
}

/// The result of a request to a server's health endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Health {
    Healthy,
    /// It answers, but not that it is healthy.
    Answers(String),
    /// No answer.
    NotReached,
}

impl Health {
    fn words(&self) -> String {
        match self {
            Health::Healthy => "healthy".to_owned(),
            Health::Answers(what) => tr!("not healthy ({what})", what),
            Health::NotReached => tr!("not reached"),
        }
    }
}

/// The answers of one master.
struct Answers {
    etcd: Health,
    api_server: Health,
    members: Option<Vec<Member>>,
}

/// Asks all masters of this node's cluster; `None` if there is only one.
pub fn ask(root: &Root, state: &State) -> Result<Option<MastersReport>> {
    if state.masters.len() < 2 {
        return Ok(None);
    }
    let role: Role = state.shape()?.role;
    let clients = &Clients::of(root, role)?;
    let answers = parallel::map(&state.masters, state.masters.len(), |master| {
        ask_one(clients, master.address)
    });
    Ok(Some(judge(&state.masters, &answers, role.is_master())))
}

/// The clients for the servers of the masters.
struct Clients {
    /// For the API server and for Calico's data, with the certificate that every node has.
    node: Client,
    /// For etcd, on a master.
    etcd: Option<Client>,
}

impl Clients {
    fn of(root: &Root, role: Role) -> Result<Clients> {
        let etcd = || mtls::client(root, ETCD_CERTIFICATE, HEALTH_TIMEOUT);
        Ok(Clients {
            node: mtls::client(root, CALICO_CERTIFICATE, HEALTH_TIMEOUT)?,
            etcd: role.is_master().then(etcd).transpose()?,
        })
    }

    /// The state of etcd, directly or, on a worker, by the server of Calico's data.
    fn health_of_etcd(&self, address: Ipv4Addr) -> Health {
        let (client, port) = match &self.etcd {
            Some(client) => (client, ETCD_CLIENTS),
            None => (&self.node, CALICO_DATASTORE),
        };
        health(client, &format!("https://{address}:{port}/health"))
    }
}

fn ask_one(clients: &Clients, address: Ipv4Addr) -> Answers {
    let url = |port: u16, path: &str| format!("https://{address}:{port}{path}");
    let ask_etcd = || clients.health_of_etcd(address);
    let ask_members = || {
        let client = clients.etcd.as_ref()?;
        members(client, &url(ETCD_CLIENTS, "/v2/members")).ok()
    };
    thread::scope(|scope| {
        // Ask in parallel: each request to a machine that is off waits until its timeout. If the system gives
        // no more threads, ask one after the other.
        let etcd = thread::Builder::new().spawn_scoped(scope, ask_etcd);
        let members = thread::Builder::new().spawn_scoped(scope, ask_members);
        let api_server = health(&clients.node, &url(API_SERVER, "/healthz"));
        Answers {
            etcd: etcd.map_or_else(
                |_| ask_etcd(),
                |one| one.join().unwrap_or(Health::NotReached),
            ),
            api_server,
            members: members.map_or_else(|_| ask_members(), |one| one.join().ok().flatten()),
        }
    })
}

fn health(client: &Client, url: &str) -> Health {
    match client.get(url).send() {
        Err(_) => Health::NotReached,
        Ok(response) if response.status().is_success() => Health::Healthy,
        Ok(response) => Health::Answers(tr!("answers {}", response.status())),
    }
}

fn members(client: &Client, url: &str) -> Result<Vec<Member>> {
    #[derive(Deserialize)]
    struct List {
        members: Vec<Member>,
    }
    let text = http::send(client.get(url))?.text()?;
    let list: List =
        serde_json::from_str(&text).context(tr!("the member list of etcd is not valid"))?;
    Ok(list.members)
}

/// Makes the report from the answers. `on_master` says whether this node is a master.
fn judge(masters: &[Master], answers: &[Answers], on_master: bool) -> MastersReport {
    let members = answers.iter().find_map(|answer| answer.members.as_deref());
    let has_quorum = answers.iter().any(|answer| answer.etcd == Health::Healthy);
    let report = |(master, answers): (&Master, &Answers)| {
        let member = members.map(|members| members.iter().find(|m| is_at(m, master.address)));
        let (etcd, problem) = standing(answers, member, has_quorum);
        MasterReport {
            name: master.name.clone(),
            address: master.address,
            etcd,
            api_server: answers.api_server.words(),
            problem: problem.filter(|_| on_master),
        }
    };
    let problem = match has_quorum {
        false => Some(no_quorum(masters, answers)),
        true => members.and_then(|members| stranger(masters, members)),
    };
    MastersReport {
        masters: masters.iter().zip(answers).map(report).collect(),
        problem,
    }
}

fn is_at(member: &Member, address: Ipv4Addr) -> bool {
    member.peer_urls.contains(&peer_url(address))
}

/// The state of a master's etcd member, and the next step. `member` is its entry in etcd's member
/// list, if that list is known.
fn standing(
    answers: &Answers,
    member: Option<Option<&Member>>,
    has_quorum: bool,
) -> (String, Option<String>) {
    let words = answers.etcd.words();
    match (&answers.etcd, member) {
        (_, Some(None)) => (
            tr!("no member"),
            Some(tr!(
                "run `appliance install` on that master: it adds the member to etcd"
            )),
        ),
        // The cluster or a new machine is still coming up.
        (Health::NotReached, Some(Some(member))) if member.client_urls.is_empty() => {
            (tr!("has not started yet"), None)
        }
        (Health::NotReached, _) => (
            words,
            Some(tr!(
                "start this VM again (`openstack server start NAME`); if it is gone for good, \
                 replace it by a new VM with its name, its address and the same user-data: the new \
                 VM replaces the member of etcd by itself"
            )),
        ),
        (Health::Answers(_), _) => (
            words,
            has_quorum.then(|| tr!("see journalctl -u etcd on that master")),
        ),
        (Health::Healthy, _) => {
            let sound = answers.api_server == Health::Healthy;
            let problem = (!sound).then(|| tr!("see journalctl -u kube-apiserver on that master"));
            (words, problem)
        }
    }
}

/// The message that etcd has no majority: which members are lost, and how to recover.
fn no_quorum(masters: &[Master], answers: &[Answers]) -> String {
    let lost = masters.iter().zip(answers);
    let lost = lost.filter(|(_, answers)| answers.etcd == Health::NotReached);
    let lost: Vec<String> = lost
        .map(|(master, _)| format!("{} ({})", master.name, master.address))
        .collect();
    let (all, reached) = (masters.len(), masters.len() - lost.len());
    let majority = all / 2 + 1;
    if reached >= majority {
        return tr!(
            "etcd has no quorum, although {reached} of its {all} members answer: allow TCP 2380 \
             between the masters in the security group, and set their clocks to the same time; on \
             each master, see journalctl -u etcd",
            reached,
            all
        );
    }
    tr!(
        "etcd has no quorum: {reached} of its {all} members can be reached, but it needs \
         {majority}. Until then, running pods keep running, but nothing in the cluster can change: \
         no pod is moved or restarted, and `kubectl` fails. Lost: {}. Start {} of them again with \
         the same disk: the cluster then recovers by itself, and no data is lost. If the disks are \
         gone for good, the remaining members still have all acknowledged data; to recover from \
         them, see {DOCUMENT}",
        lost.join(", "),
        majority - reached,
        reached,
        all,
        majority,
        DOCUMENT = translated(DOCUMENT)
    )
}

/// Finds a member of etcd that is no longer a master. It still counts for etcd's majority.
fn stranger(masters: &[Master], members: &[Member]) -> Option<String> {
    let is_known = |member: &&Member| masters.iter().any(|m| is_at(member, m.address));
    let stranger = members.iter().find(|member| !is_known(member))?;
    Some(tr!(
        "etcd has a member {} at {}, which is not one of the masters in the settings; if that VM \
         is gone for good, run `appliance etcdctl member remove {}` on a master",
        stranger.name.escape_debug(),
        stranger.peer_urls.join(", ").escape_debug(),
        stranger.id
    ))
}

impl Report {
    /// The report with the state of the masters.
    #[must_use]
    pub fn with_masters(self, masters: Option<MastersReport>) -> Report {
        Report { masters, ..self }.judged()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn masters() -> Vec<Master> {
        [2, 4, 5]
            .map(|number| Master {
                name: format!("server0{number}"),
                address: Ipv4Addr::new(192, 168, 1, 100 + number),
            })
            .into()
    }

    fn member(number: u8, started: bool) -> Member {
        let url = |port: u16| format!("https://192.168.1.{}:{port}", 100 + number);
        Member {
            id: format!("{number:x}"),
            name: format!("server0{number}"),
            peer_urls: vec![url(2380)],
            client_urls: if started { vec![url(2379)] } else { vec![] },
        }
    }

    fn healthy(members: &[Member]) -> Answers {
        Answers {
            etcd: Health::Healthy,
            api_server: Health::Healthy,
            members: Some(members.to_vec()),
        }
    }

    fn silent() -> Answers {
        Answers {
            etcd: Health::NotReached,
            api_server: Health::NotReached,
            members: None,
        }
    }

    fn leaderless() -> Answers {
        Answers {
            etcd: Health::Answers("answers 503".to_owned()),
            api_server: Health::Answers("answers 500".to_owned()),
            members: None,
        }
    }

    fn all() -> Vec<Member> {
        [2, 4, 5].map(|number| member(number, true)).into()
    }

    #[test]
    fn three_sound_masters_have_no_problem() {
        let answers = [healthy(&all()), healthy(&all()), healthy(&all())];
        let report = judge(&masters(), &answers, true);
        assert!(report.problem.is_none());
        assert!(report.masters.iter().all(|m| m.problem.is_none()));
    }

    #[test]
    fn one_lost_master_is_named_with_how_to_replace_it_but_a_worker_works_on() {
        let answers = [healthy(&all()), silent(), healthy(&all())];
        let report = judge(&masters(), &answers, true);
        assert_eq!(report.problem, None);
        let lost = &report.masters[1];
        assert_eq!((&*lost.name, &*lost.etcd), ("server04", "not reached"));
        assert!(lost.problem.as_ref().unwrap().contains("replace it"));
        let seen_by_worker = judge(&masters(), &answers, false);
        assert_eq!(seen_by_worker.masters[1].etcd, "not reached");
        assert!(seen_by_worker.masters.iter().all(|m| m.problem.is_none()));
    }

    #[test]
    fn two_lost_masters_are_no_quorum_and_every_node_says_who_is_missing() {
        for on_master in [true, false] {
            let report = judge(&masters(), &[leaderless(), silent(), silent()], on_master);
            let problem = report.problem.unwrap();
            for words in [
                "no quorum: 1 of its 3 members can be reached, but it needs 2",
                "Lost: server04 (192.168.1.104), server05 (192.168.1.105)",
                "Start 1 of them again",
                DOCUMENT,
            ] {
                assert!(problem.contains(words), "{words:?} is not in: {problem}");
            }
        }
        let apart = judge(&masters(), &[leaderless(), leaderless(), silent()], true);
        assert!(apart.problem.unwrap().contains("TCP 2380"));
    }

    #[test]
    fn a_member_that_has_not_started_yet_is_not_lost() {
        let members = [member(2, true), member(4, true), member(5, false)];
        let answers = [healthy(&members), healthy(&members), silent()];
        let report = judge(&masters(), &answers, true);
        assert_eq!(report.masters[2].etcd, "has not started yet");
        assert_eq!(report.masters[2].problem, None);
    }

    #[test]
    fn a_master_that_is_no_member_and_a_member_that_is_no_master_are_told() {
        let members = [member(2, true), member(4, true), member(9, true)];
        let answers = [healthy(&members), healthy(&members), silent()];
        let report = judge(&masters(), &answers, true);
        assert_eq!(report.masters[2].etcd, "no member");
        let problem = report.problem.unwrap();
        assert!(
            problem.contains("appliance etcdctl member remove 9"),
            "{problem}"
        );
    }
}
