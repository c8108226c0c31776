//! Makes the data of the only member of a new cluster of etcd from a backup.

use core::net::Ipv4Addr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::alone::{Alone, Programs};
use super::{bolt, proto};
use crate::clients::etcd::gateway::Gateway;
use crate::clients::etcd::{self, database, keys};
use crate::sys::process::{Command, Runner, System, argument};

/// How far the numbers of changes are raised above those of the backup: more than an etcd makes in years. etcd's own
/// documentation advises the same number.
const RAISED: u64 = 1_000_000_000;
/// How long etcdctl may take to restore a snapshot.
const LONGEST: Duration = Duration::from_secs(3600);
/// What the value of the mark has at least, so that a longer number fits in.
const ROOM: usize = 32;

/// The member.
pub struct Member<'a> {
    /// etcd and etcdctl.
    pub programs: Programs<'a>,
    /// Its name.
    pub name: &'a str,
    /// Its address.
    pub address: Ipv4Addr,
    /// What tells its cluster from the lost one, which may have had the same member: clients that find another cluster,
    /// read everything anew.
    pub token: &'a str,
}

/// Where it is made: in a directory of its own.
#[derive(Clone, Debug)]
pub struct Workshop {
    dir: PathBuf,
}

impl Workshop {
    /// In the empty directory `dir`, for its owner only.
    pub fn new(dir: &Path) -> Workshop {
        Workshop {
            dir: dir.to_owned(),
        }
    }

    fn snapshot(&self) -> PathBuf {
        self.dir.join("snapshot.db")
    }

    /// The data of the member, to be renamed to etcd's `member`.
    pub fn member(&self) -> PathBuf {
        self.dir.join("data/member")
    }

    /// Takes the snapshot in.
    pub fn take(&self, content: &mut dyn Read) -> Result<()> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .open(self.snapshot())?;
        io::copy(content, &mut file)?;
        Ok(())
    }

    /// Makes the data of `member` of the snapshot and of the `values` of API v2. `revision` and `index` are the numbers of
    /// the last changes in the backup: the member's are far above them.
    ///
    /// # Errors
    /// If one of etcd's programs fails.
    pub fn make(&self, member: &Member<'_>, wanted: &Wanted<'_>) -> Result<()> {
        self.restore(member)?;
        fs::remove_file(self.snapshot())?;
        self.raise_index(wanted.index + RAISED)?;
        let etcd = Alone::start(&member.programs, member.name, &self.dir)?;
        for (key, value) in wanted.values {
            keys::set(etcd.client(), etcd.url(), key, value)?;
        }
        self.mark(&etcd, wanted.note)?;
        let revision = etcd::revision(etcd.client(), etcd.url())?;
        etcd.stop()?;
        let raised = revision.max(wanted.revision) + RAISED;
        bolt::raise(&self.member().join("snap/db"), raised)?;
        // A client that goes on from a lower revision is told so, and reads everything anew.
        let etcd = Alone::start(&member.programs, member.name, &self.dir)?;
        let found = etcd::revision(etcd.client(), etcd.url())?;
        ensure!(
            found == raised,
            "etcd has the revision {found} instead of {raised}"
        );
        database::compact(etcd.client(), etcd.url(), raised)?;
        etcd.stop()
    }

    fn restore(&self, member: &Member<'_>) -> Result<()> {
        let url = etcd::peer_url(member.address);
        let (snapshot, data) = (self.snapshot(), self.dir.join("data"));
        let etcdctl = member.programs.directory.join("etcdctl");
        let arguments = [
            // The default of etcd 3.1 to 3.3 is the other one.
            "ETCDCTL_API=3".to_owned(),
            argument(&etcdctl)?.to_owned(),
            "snapshot".to_owned(),
            "restore".to_owned(),
            argument(&snapshot)?.to_owned(),
            format!("--data-dir={}", argument(&data)?),
            format!("--name={}", member.name),
            format!("--initial-cluster={}={url}", member.name),
            format!("--initial-cluster-token={}", member.token),
            format!("--initial-advertise-peer-urls={url}"),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let command = Command::new("env", &arguments).within(LONGEST);
        System.check(&command).context("etcd's snapshot").map(drop)
    }

    /// Raises the number of the last change in API v2, for clients that wait for the next one.
    fn raise_index(&self, index: u64) -> Result<()> {
        let snap = self.member().join("snap");
        let mut changed = 0;
        for entry in fs::read_dir(&snap)? {
            let path = entry?.path();
            if path.extension().is_none_or(|end| end != "snap") {
                continue;
            }
            let place = || path.display().to_string();
            let file = fs::read(&path).with_context(place)?;
            let with_index = |store: &[u8]| {
                let mut store: Value = serde_json::from_slice(store)?;
                raise_index(&mut store, index).context("it has another form")?;
                Ok(serde_json::to_vec(&store)?)
            };
            let file = proto::with_store(&file, with_index).with_context(place)?;
            fs::write(&path, file).with_context(place)?;
            changed += 1;
        }
        ensure!(changed == 1, "etcdctl made {changed} snapshots of API v2");
        Ok(())
    }

    /// Puts a key, so that the newest change has one key whose revision can be raised.
    fn mark(&self, etcd: &Alone, note: &str) -> Result<()> {
        let note = format!("{note:<ROOM$}");
        let body = json!({"key": BASE64.encode(bolt::MARK), "value": BASE64.encode(note)});
        let gateway = Gateway::of(etcd.client(), etcd.url())?;
        gateway.send("kv/put", &body).map(drop)
    }
}

/// Sets the number of the last change in a store of API v2 (`v2store`, version 2 of its format). The changes that it
/// remembers are forgotten: etcd looks for one by its distance from the oldest one.
fn raise_index(store: &mut Value, index: u64) -> Option<()> {
    let history = store.get_mut("WatcherHub")?.get_mut("EventHistory")?;
    let capacity = history.get("Queue")?.get("Capacity")?.as_u64()?;
    let events = vec![Value::Null; usize::try_from(capacity).ok()?];
    *history = json!({
        "Queue": {"Events": events, "Size": 0, "Front": 0, "Back": 0, "Capacity": capacity},
        "StartIndex": index + 1,
        "LastIndex": index,
    });
    *store.get_mut("CurrentIndex")? = index.into();
    Some(())
}

/// What the data has besides the snapshot.
pub struct Wanted<'a> {
    /// The keys of API v2 with their values.
    pub values: &'a [(&'a str, &'a str)],
    /// The number of the last change of API v2 in the backup.
    pub index: u64,
    /// The same of API v3.
    pub revision: u64,
    /// What to note in etcd about the restoration.
    pub note: &'a str,
}
