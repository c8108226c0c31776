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

    /// A key in the form that users of the store use.
    fn decode(&self, key: &Value) -> Result<String> {
        let key = STANDARD.decode(key.as_str().unwrap_or_default())?;
        let key = String::from_utf8(key).context("a key in etcd")?;
        let bare = key.strip_prefix(&self.prefix);
        Ok(bare.context("a key that is not watched")?.to_owned())
    }
}
