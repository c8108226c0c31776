//! The databases of etcd's members: size, alarms, compaction and defragmentation. etcd 3.1 and later serve these
//! calls of API v3 as JSON, with numbers of 64 bits as texts.

use anyhow::{Context, Result};
use reqwest::blocking::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::gateway::Gateway;

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its identifier, in decimal.
    pub id: String,
    /// Its name. It is empty until a member that was added has started.
    pub name: String,
    /// The URLs at which clients reach it.
    pub urls: Vec<String>,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its version of etcd.
    pub version: String,
    /// The size of its database on the disk, in bytes.
    pub bytes: u64,
    /// How much of that is in use, in bytes. etcd before 3.4 does not say it.
    pub in_use: Option<u64>,
    /// Whether it leads the cluster.
    pub leads: bool,
    /// Whether it knows a leader.
    pub has_leader: bool,
    /// The newest revision.
    pub revision: u64,
}

/// What stops writes in the whole cluster until someone clears it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Alarm {
    /// The identifier of the member that raised it, in decimal.
    #[serde(default, rename = "memberID")]
    pub member: String,
    /// Its kind, such as [`Alarm::NO_SPACE`].
    #[serde(default, rename = "alarm")]
    pub kind: String,
}

impl Alarm {
    /// The kind of the alarm of a database that has reached its quota.
    pub const NO_SPACE: &str = "NOSPACE";
}

/// The members of the cluster, from the member at the URL `server`.
pub fn members(client: &Client, server: &str) -> Result<Vec<Listed>> {
    #[derive(Deserialize)]
    struct Answer {
        members: Vec<OfList>,
    }
    #[derive(Deserialize)]
    struct OfList {
        #[serde(rename = "ID")]
        id: String,
        #[serde(default)]
        name: String,
        #[serde(default, rename = "clientURLs")]
        urls: Vec<String>,
    }
    let answer: Answer = call(client, server, "cluster/member/list", &json!({}))?;
    let listed = answer.members.into_iter().map(|member| Listed {
        id: member.id,
        name: member.name,
        urls: member.urls,
    });
    Ok(listed.collect())
}

/// What the member at the URL `server` says of itself.
pub fn database(client: &Client, server: &str) -> Result<Database> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        header: Header,
        #[serde(default)]
        version: String,
        #[serde(default)]
        db_size: Option<String>,
        #[serde(default)]
        db_size_in_use: Option<String>,
        #[serde(default)]
        leader: Option<String>,
    }
    #[derive(Deserialize)]
    struct Header {
        member_id: String,
        #[serde(default)]
        revision: Option<String>,
    }
    let answer: Answer = call(client, server, "maintenance/status", &json!({}))?;
    let number = |text: &str| text.parse().context("etcd's status is not valid");
    let or_zero = |text: Option<&String>| text.map_or(Ok(0), |text| number(text));
    let leader = answer.leader.filter(|leader| leader != "0");
    Ok(Database {
        version: answer.version,
        bytes: or_zero(answer.db_size.as_ref())?,
        in_use: answer.db_size_in_use.as_deref().map(number).transpose()?,
        leads: leader.as_ref() == Some(&answer.header.member_id),
        has_leader: leader.is_some(),
        revision: or_zero(answer.header.revision.as_ref())?,
    })
}

/// The alarms of the cluster.
pub fn alarms(client: &Client, server: &str) -> Result<Vec<Alarm>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        alarms: Vec<Alarm>,
    }
    let wanted = json!({ "action": "GET" });
    let answer: Answer = call(client, server, "maintenance/alarm", &wanted)?;
    Ok(answer.alarms)
}

/// Clears an alarm.
pub fn clear(client: &Client, server: &str, alarm: &Alarm) -> Result<()> {
    let alarm = json!({
        "action": "DEACTIVATE", "memberID": alarm.member, "alarm": alarm.kind,
    });
    call::<Value>(client, server, "maintenance/alarm", &alarm).map(drop)
}

/// Forgets what was before `revision`, on all members.
pub fn compact(client: &Client, server: &str, revision: u64) -> Result<()> {
    let wanted = json!({ "revision": revision.to_string(), "physical": true });
    call::<Value>(client, server, "kv/compaction", &wanted).map(drop)
}

/// Writes the database of the member at the URL `server` anew, without the room of what it forgot. Meanwhile it
/// answers nothing.
pub fn defragment(client: &Client, server: &str) -> Result<()> {
    call::<Value>(client, server, "maintenance/defragment", &json!({})).map(drop)
}

fn call<T: DeserializeOwned>(
    client: &Client,
    server: &str,
    method: &str,
    body: &Value,
) -> Result<T> {
    Gateway::of(client, server)?.call(method, body)
}
