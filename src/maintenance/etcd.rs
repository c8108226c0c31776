//! etcd's databases: what was deleted leaves room that only defragmentation gives back. A database that reaches its
//! quota raises an alarm, and from then on the whole cluster refuses to write.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use reqwest::blocking::Client;
use schemars::JsonSchema;
use serde::Serialize;

use super::mebibytes;
use crate::clients::etcd::database::{self, Alarm, Database};
use crate::clients::etcd::reach;
use crate::language::tr;
use crate::nodespec::ports::ETCD_CLIENTS;
use crate::paths;
use crate::records::state::State;
use crate::sys::retry::transient;
use crate::sys::root::Root;
use crate::sys::waiting::awaited;

/// etcd's own quota if its unit names none, in bytes (etcd 3.1 to 3.4).
const QUOTA: u64 = 2 << 30;
/// The option of etcd that sets another one.
const OPTION: &str = "--quota-backend-bytes=";
/// From this part of the quota on, in percent, a database is nearly full.
pub const NEARLY: u64 = 80;
/// How long a call may take. A database of two gigabytes takes minutes on a slow disk.
const ANSWER: Duration = Duration::from_secs(600);
/// How long to wait until a member has a leader again.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest pause between two looks at it.
const PAUSE: Duration = Duration::from_secs(2);

/// A member of etcd and its database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberReport {
    /// Its name.
    pub name: String,
    /// The URL at which it was asked.
    pub endpoint: String,
    /// Its version of etcd; `null` if it does not answer.
    pub version: Option<String>,
    /// The size of its database on the disk, in bytes.
    pub bytes: u64,
    /// How much of that is in use, in bytes; `null` if it does not say (etcd before 3.4).
    pub in_use: Option<u64>,
    /// Whether it leads the cluster.
    pub leads: bool,
    /// Its alarms, such as `NOSPACE`.
    pub alarms: Vec<String>,
    /// Why it could not be asked, or why it is nearly full even after defragmentation.
    pub problem: Option<String>,
}

/// The members of etcd and their databases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdReport {
    /// The size at which a database raises the alarm `NOSPACE`, in bytes.
    pub quota: u64,
    /// The members.
    pub members: Vec<MemberReport>,
    /// What was done, in words.
    pub done: Vec<String>,
}

impl EtcdReport {
    /// Whether the cluster refuses to write because a database reached the quota.
    pub fn is_full(&self) -> bool {
        let mut alarms = self.members.iter().flat_map(|member| &member.alarms);
        alarms.any(|alarm| alarm == Alarm::NO_SPACE)
    }

    /// Whether defragmentation is due: a database has half of its quota, or the cluster is full.
    pub fn is_due(&self) -> bool {
        let mut members = self.members.iter();
        self.is_full() || members.any(|member| member.bytes >= self.quota / 2)
    }

    /// Whether every member answers, and there is no alarm.
    pub fn is_sound(&self) -> bool {
        let mut members = self.members.iter();
        members.all(|member| member.problem.is_none() && member.alarms.is_empty())
    }
}

/// The quota of the member at `root`, from its unit.
pub fn quota(root: &Root) -> Result<u64> {
    let unit = root.read(&paths::unit("etcd.service"))?.unwrap_or_default();
    Ok(quota_of(&String::from_utf8_lossy(&unit)))
}

fn quota_of(unit: &str) -> u64 {
    let mut words = unit.split_whitespace();
    let set = words.find_map(|word| {
        word.trim_matches(['"', '\''])
            .strip_prefix(OPTION)?
            .parse()
            .ok()
    });
    // For etcd, 0 means its own quota.
    set.filter(|quota| *quota > 0).unwrap_or(QUOTA)
}

/// etcd's cluster, asked through one member.
pub struct Cluster {
    client: Client,
    server: String,
    quota: u64,
}

impl Cluster {
    /// The cluster of the master at `root`, whose recorded state is `state`.
    pub fn of(root: &Root, state: &State) -> Result<Cluster> {
        let (scheme, client) = reach(root, state.shape()?.profile, ANSWER)?;
        let server = format!("{scheme}://127.0.0.1:{ETCD_CLIENTS}");
        Ok(Cluster::at(client, server, quota(root)?))
    }

    /// The cluster of the member at the URL `server`, whose databases have this quota.
    pub fn at(client: Client, server: String, quota: u64) -> Cluster {
        Cluster {
            client,
            server,
            quota,
        }
    }

    /// Asks every member. One that does not answer has a problem.
    ///
    /// # Errors
    /// If the member of this master does not answer.
    pub fn report(&self) -> Result<EtcdReport> {
        let (client, server) = (&self.client, &self.server);
        let what = || tr!("etcd on this master does not answer; see `appliance status`");
        let alarms = database::alarms(client, server).with_context(what)?;
        let members = database::members(client, server).with_context(what)?;
        let members = members.into_iter().map(|member| {
            let endpoint = member.urls.first().cloned().unwrap_or_default();
            let own = alarms.iter().filter(|alarm| alarm.member == member.id);
            let asked = self.database(&endpoint);
            let database = asked.as_ref().ok();
            MemberReport {
                version: database.map(|database| database.version.clone()),
                bytes: database.map_or(0, |database| database.bytes),
                in_use: database.and_then(|database| database.in_use),
                leads: database.is_some_and(|database| database.leads),
                alarms: own.map(|alarm| alarm.kind.clone()).collect(),
                problem: asked.err().map(|error| format!("{error:#}")),
                name: member.name,
                endpoint,
            }
        });
        Ok(EtcdReport {
            quota: self.quota,
            members: members.collect(),
            done: Vec::new(),
        })
    }

    /// Defragments every member, one after the other, the leader last. If the cluster is full, it first forgets all
    /// old revisions, and in the end clears the alarm. `announce` gets each step in words before it begins.
    ///
    /// # Errors
    /// If a member does not answer and the cluster is not full; if a member does not come back.
    pub fn maintain(&self, announce: &dyn Fn(&str)) -> Result<EtcdReport> {
        let before = self.report()?;
        let full = before.is_full();
        let silent = before
            .members
            .iter()
            .find(|member| member.problem.is_some());
        if let Some(member) = silent.filter(|_| !full) {
            bail!(tr!(
                "etcd on {name} does not answer ({why}): while a member is defragmented, the others have to be a majority; see `appliance etcd status`",
                name = member.name,
                why = member.problem.as_deref().unwrap_or_default()
            ));
        }
        let mut done = Vec::new();
        let mut tell = |step: String| {
            announce(&step);
            done.push(step);
        };
        if full {
            let revision = self.database(&self.server)?.revision;
            tell(tr!(
                "compact all revisions before {revision}",
                revision = revision
            ));
            self.compact(revision)?;
        }
        let mut members: Vec<&MemberReport> = before
            .members
            .iter()
            .filter(|member| member.problem.is_none())
            .collect();
        members.sort_by_key(|member| member.leads);
        for member in members {
            tell(tr!("defragment etcd on {name}", name = member.name));
            database::defragment(&self.client, &member.endpoint)
                .with_context(|| tr!("cannot defragment etcd on {name}", name = member.name))?;
            self.wait_for(member)?;
        }
        if full {
            tell(tr!("clear the alarm NOSPACE"));
            self.clear()?;
        }
        let mut after = self.report()?;
        for member in &mut after.members {
            member.problem = member.problem.take().or_else(|| self.problem(member));
        }
        Ok(EtcdReport { done, ..after })
    }

    fn database(&self, server: &str) -> Result<Database> {
        ensure!(!server.is_empty(), tr!("it has not started yet"));
        database::database(&self.client, server)
    }

    /// Compacts. Another run may have done it already.
    fn compact(&self, revision: u64) -> Result<()> {
        match database::compact(&self.client, &self.server, revision) {
            Err(error) if !format!("{error:#}").contains("has been compacted") => Err(error),
            _ => Ok(()),
        }
    }

    fn wait_for(&self, member: &MemberReport) -> Result<()> {
        let what = tr!("etcd on {name} to have a leader", name = member.name);
        awaited(&what, PATIENCE, PAUSE, || {
            let database = self.database(&member.endpoint).map_err(transient)?;
            match database.has_leader {
                true => Ok(()),
                false => Err(transient(anyhow!(tr!("it has no leader")))),
            }
        })
    }

    /// Clears the alarms about room.
    fn clear(&self) -> Result<()> {
        for alarm in database::alarms(&self.client, &self.server)? {
            if alarm.kind == Alarm::NO_SPACE {
                database::clear(&self.client, &self.server, &alarm)?;
            }
        }
        Ok(())
    }

    /// What defragmentation could not give back is in use.
    fn problem(&self, member: &MemberReport) -> Option<String> {
        let nearly = member.bytes * 100 >= self.quota * NEARLY;
        nearly.then(|| {
            tr!(
                "{used} of {quota} are in use: delete objects that nobody needs (look at `kubectl get events --all-namespaces`), then run `appliance etcd maintain`; or give etcd the argument {option}BYTES in the bundle",
                used = mebibytes(member.bytes),
                quota = mebibytes(self.quota),
                option = OPTION
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_is_that_of_the_unit() {
        let unit = |option: &str| format!("ExecStart=/x/etcd \\\n  --name=a \\\n  {option} \\\n");
        assert_eq!(quota_of(&unit("--quota-backend-bytes=8589934592")), 8 << 30);
        assert_eq!(
            quota_of(&unit("\"--quota-backend-bytes=1048576\"")),
            1 << 20
        );
        for other in ["--quota-backend-bytes=0", "--quota-backend-bytes=x", ""] {
            assert_eq!(quota_of(&unit(other)), QUOTA);
        }
    }

    #[test]
    fn half_of_the_quota_or_an_alarm_is_due() {
        let with = |bytes, alarms: &[&str]| EtcdReport {
            quota: 100,
            members: vec![MemberReport {
                name: "server02".to_owned(),
                endpoint: String::new(),
                version: None,
                bytes,
                in_use: None,
                leads: true,
                alarms: alarms.iter().map(|&alarm| alarm.to_owned()).collect(),
                problem: None,
            }],
            done: Vec::new(),
        };
        assert!(!with(49, &[]).is_due());
        assert!(with(50, &[]).is_due());
        assert!(with(1, &["NOSPACE"]).is_due());
        assert!(!with(1, &["CORRUPT"]).is_due() && !with(1, &["CORRUPT"]).is_sound());
    }
}
