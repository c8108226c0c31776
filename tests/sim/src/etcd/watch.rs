//! Watches every change in etcd, as the real API server does.

use std::io::{BufReader, Read};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Deserializer, Value, json};

use super::Store;

/// How long to wait before an interrupted watch starts again.
const REST: Duration = Duration::from_secs(1);

/// A change of a key.
pub struct Change {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub kind: &'static str,
    /// The value; of a deleted key, the last one.
    pub value: Vec<u8>,
    /// The revision of the change.
    pub revision: i64,
}

impl Change {
    fn of(event: &Value) -> Result<Self> {
        let pair = &event["kv"];
        let revision = super::number(&pair["mod_revision"])?;
        if event["type"] == json!("DELETE") {
            return Ok(Self {
                kind: "DELETED",
                value: super::entry(&event["prev_kv"])?.value,
                revision,
            });
        }
        let is_new = pair["create_revision"] == pair["mod_revision"];
        Ok(Self {
            kind: if is_new { "ADDED" } else { "MODIFIED" },
            value: super::entry(pair)?.value,
            revision,
        })
    }
}

impl Store {
    /// Watches the keys for as long as the program runs, so that [`Store::recent`] reads only
    /// changed lists from etcd. A watch that gets nothing for the timeout of a request is started
    /// again: each API server writes its lease more often.
    pub fn watch(&self) -> ! {
        loop {
            let ended = self.watch_once();
            self.recent.set_watched(false);
            if let Err(error) = ended {
                eprintln!("watching etcd: {error:#}");
            }
            thread::sleep(REST);
        }
    }

    fn watch_once(&self) -> Result<()> {
        let path = format!("{}/watch", self.gateway);
        let body = json!({"create_request": self.below("/")});
        let stream = self.members.ask(|member| member.stream(&path, &body))?;
        self.hear(stream)
    }

    /// Processes the events of a watch until it ends.
    fn hear(&self, stream: impl Read) -> Result<()> {
        for told in Deserializer::from_reader(BufReader::new(stream)).into_iter::<Value>() {
            let told = told?;
            let result = &told["result"];
            if !result.is_object() || result["canceled"] == json!(true) {
                bail!("etcd ended the watch: {told}");
            }
            if result["created"] == json!(true) {
                self.recent.set_watched(true);
            }
            for event in result["events"].as_array().into_iter().flatten() {
                self.recent.forget(&self.decode(&event["kv"]["key"])?);
            }
        }
        Ok(())
    }

    /// Reports every change below `start` after a revision, in order, until `tell` returns false
    /// or `goes_on` does.
    pub fn changes(
        &self,
        start: &str,
        mut after: i64,
        goes_on: impl Fn() -> bool,
        mut tell: impl FnMut(Change) -> bool,
    ) {
        while goes_on() {
            // A watch ends when nothing has changed for the timeout of a request.
            match self.changes_once(start, &mut after, &mut tell) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => eprintln!("watching {start}: {error:#}"),
            }
        }
    }

    /// Whether `tell` wants more.
    fn changes_once(
        &self,
        start: &str,
        after: &mut i64,
        tell: &mut impl FnMut(Change) -> bool,
    ) -> Result<bool> {
        let mut range = self.below(start);
        range["start_revision"] = json!((*after + 1).to_string());
        range["prev_kv"] = json!(true);
        let body = json!({"create_request": range});
        let path = format!("{}/watch", self.gateway);
        let stream = self.members.ask(|member| member.stream(&path, &body))?;
        for told in Deserializer::from_reader(BufReader::new(stream)).into_iter::<Value>() {
            let Ok(told) = told else {
                return Ok(true);
            };
            if told["result"]["canceled"] == json!(true) || !told["result"].is_object() {
                bail!("etcd ended the watch: {told}");
            }
            for event in told["result"]["events"].as_array().into_iter().flatten() {
                let change = Change::of(event)?;
                *after = change.revision.max(*after);
                if !tell(change) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// A key in the form that users of the store use.
    fn decode(&self, key: &Value) -> Result<String> {
        let key = STANDARD.decode(key.as_str().unwrap_or_default())?;
        let key = String::from_utf8(key).context("a key in etcd")?;
        let bare = key.strip_prefix(&self.prefix);
        Ok(bare.context("a key that is not watched")?.to_owned())
    }
}
