//! What the masters of a cluster answer, where there are several: which are lost, whether etcd has
//! a majority, and what to do.

use core::net::Ipv4Addr;
use std::thread;

use anyhow::{Context, Result};
use reqwest::blocking::Client;
use serde::{Deserialize, Serialize};

use super::{HEALTH_TIMEOUT, Overall, Report};
use crate::clients::etcd::{Member, peer_url};
use crate::clients::mtls;
use crate::nodespec::Role;
use crate::nodespec::masters::Master;
use crate::nodespec::ports::{API_SERVER, ETCD_CLIENTS};
use crate::records::state::State;
use crate::sys::http;
use crate::sys::root::Root;

/// The certificate that every node has and every master takes.
const SHOWN: &str = "calico";
/// Where the way out is told of.
const DOCUMENT: &str = "docs/join.md, \"When most masters are lost\"";

/// The masters of a cluster.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MastersReport {
    /// All of them, as the settings name them.
    pub masters: Vec<MasterReport>,
    /// What is wrong with them together, if anything is.
    pub problem: Option<String>,
}

/// One master.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MasterReport {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// How its member of etcd stands, in words.
    pub etcd: String,
    /// How its API server stands, in words.
    pub api_server: String,
    /// What is wrong, if anything is, on a master: other nodes do their work all the same.
    pub problem: Option<String>,
}

/// What came of asking a server for its health.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Health {
    Healthy,
    /// It answers, and says something else.
    Answers(String),
    /// Nobody answers.
    NotReached,
}

impl Health {
    fn words(&self) -> String {
        match self {
            Health::Healthy => "healthy".to_owned(),
            Health::Answers(what) => format!("not healthy ({what})"),
            Health::NotReached => "not reached".to_owned(),
        }
    }
}

/// What one master answered.
struct Answers {
    etcd: Health,
    api_server: Health,
    members: Option<Vec<Member>>,
}

/// Asks all masters of the cluster of this node; `None` where there is but one.
pub fn ask(root: &Root, state: &State) -> Result<Option<MastersReport>> {
    if state.masters.len() < 2 {
        return Ok(None);
    }
    let client = &mtls::client(root, SHOWN, HEALTH_TIMEOUT)?;
    let answers: Vec<Answers> = thread::scope(|scope| {
        let ask = |master: &Master| {
            let address = master.address;
            scope.spawn(move || ask_one(client, address))
        };
        let asked: Vec<_> = state.masters.iter().map(ask).collect();
        let answers = asked.into_iter().map(|asked| asked.join().ok());
        let answers: Option<Vec<Answers>> = answers.collect();
        answers.context("a thread that asks a master")
    })?;
    let role: Role = state.shape()?.role;
    Ok(Some(judge(&state.masters, &answers, role.is_master())))
}

fn ask_one(client: &Client, address: Ipv4Addr) -> Answers {
    let url = |port: u16, path: &str| format!("https://{address}:{port}{path}");
    thread::scope(|scope| {
        // A machine that is off lets each of them wait.
        let etcd = scope.spawn(|| health(client, &url(ETCD_CLIENTS, "/health")));
        let members = scope.spawn(|| members(client, &url(ETCD_CLIENTS, "/v2/members")).ok());
        let api_server = health(client, &url(API_SERVER, "/healthz"));
        Answers {
            etcd: etcd.join().unwrap_or(Health::NotReached),
            api_server,
            members: members.join().ok().flatten(),
        }
    })
}

fn health(client: &Client, url: &str) -> Health {
    match client.get(url).send() {
        Err(_) => Health::NotReached,
        Ok(response) if response.status().is_success() => Health::Healthy,
        Ok(response) => Health::Answers(format!("answers {}", response.status())),
    }
}

fn members(client: &Client, url: &str) -> Result<Vec<Member>> {
    #[derive(Deserialize)]
    struct List {
        members: Vec<Member>,
    }
    let text = http::send(client.get(url))?.text()?;
    let list: List = serde_json::from_str(&text).context("etcd's list of its members")?;
    Ok(list.members)
}

/// What the answers mean. `on_master` tells whether it is a master that asks.
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

/// How a master's member of etcd stands, and what is to be done. `member` is what etcd says of it,
/// if etcd says anything.
fn standing(
    answers: &Answers,
    member: Option<Option<&Member>>,
    has_quorum: bool,
) -> (String, Option<String>) {
    let words = answers.etcd.words();
    match (&answers.etcd, member) {
        (_, Some(None)) => (
            "no member".to_owned(),
            Some("run `appliance install` there: it makes it a member".to_owned()),
        ),
        // The cluster is on its way up, or a new machine is.
        (Health::NotReached, Some(Some(member))) if member.client_urls.is_empty() => {
            ("has not started yet".to_owned(), None)
        }
        (Health::NotReached, _) => (
            words,
            Some(
                "start it again; if it is gone for good, replace it by a new VM with its name, its \
                 address and the same user-data, which takes its place in etcd by itself"
                    .to_owned(),
            ),
        ),
        (Health::Answers(_), _) => (
            words,
            has_quorum.then(|| "there: journalctl -u etcd".to_owned()),
        ),
        (Health::Healthy, _) => {
            let sound = answers.api_server == Health::Healthy;
            let problem = (!sound).then(|| "there: journalctl -u kube-apiserver".to_owned());
            (words, problem)
        }
    }
}

/// That etcd has no majority, whom it lacks, and the way out.
fn no_quorum(masters: &[Master], answers: &[Answers]) -> String {
    let lost = masters.iter().zip(answers);
    let lost = lost.filter(|(_, answers)| answers.etcd == Health::NotReached);
    let lost: Vec<String> = lost
        .map(|(master, _)| format!("{} ({})", master.name, master.address))
        .collect();
    let (all, reached) = (masters.len(), masters.len() - lost.len());
    let majority = all / 2 + 1;
    if reached >= majority {
        return format!(
            "etcd has no quorum, though {reached} of its {all} members answer: their ports TCP 2380 \
             have to reach each other, and their clocks must not differ; on each: journalctl -u etcd"
        );
    }
    format!(
        "etcd has no quorum: {reached} of its {all} members can be reached, and it takes {majority}. \
         Until then nothing in the cluster can be changed, no pod is moved or started anew, and \
         `kubectl` fails; pods that run go on. Lost: {}. Start {} of them again, with the disk it \
         had: the cluster goes on by itself, and no data is lost. If the disks are gone for good, \
         the members left have all that was ever acknowledged: {DOCUMENT}",
        lost.join(", "),
        majority - reached
    )
}

/// A member of etcd that is no master any more counts for its majority all the same.
fn stranger(masters: &[Master], members: &[Member]) -> Option<String> {
    let is_known = |member: &&Member| masters.iter().any(|m| is_at(member, m.address));
    let stranger = members.iter().find(|member| !is_known(member))?;
    Some(format!(
        "etcd has a member {} at {}, which is none of the masters: if it is gone, \
         `etcdctl member remove {}`",
        stranger.name.escape_debug(),
        stranger.peer_urls.join(", ").escape_debug(),
        stranger.id
    ))
}

impl Report {
    /// The report with what the masters answer.
    #[must_use]
    pub fn with_masters(mut self, masters: Option<MastersReport>) -> Report {
        let sound = masters.as_ref().is_none_or(|all| {
            all.problem.is_none() && all.masters.iter().all(|one| one.problem.is_none())
        });
        if !sound {
            self.overall = Overall::Degraded;
        }
        self.masters = masters;
        self
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
                "no quorum: 1 of its 3 members can be reached, and it takes 2",
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
        assert!(problem.contains("etcdctl member remove 9"), "{problem}");
    }
}
