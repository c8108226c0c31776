//! Watches: the changes of the objects of a kind, for as long as the client reads them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::Url;
use serde_json::{Value, json};

use crate::etcd::{Change, Store};
use crate::kinds::Kind;
use crate::server::{Response, Sink};

use super::answers;
use super::attributes::Resource;
use super::objects::{directory, shown};
use super::selector::Selector;

/// How long a watch lasts if the client does not say it: as long as the shortest of the real ones.
const LASTS: Duration = Duration::from_secs(1800);

/// Whether the query asks for a watch.
pub fn is_watch(query: &str) -> bool {
    query
        .split('&')
        .any(|pair| matches!(pair, "watch" | "watch=1" | "watch=true"))
}

/// A watch of the objects of one kind.
struct Watch {
    kind: &'static Kind,
    directory: String,
    selector: Selector,
    end: Instant,
}

/// Answers with the changes after the revision in the query; without one, with the objects that
/// exist and then with the changes.
///
/// # Errors
/// etcd does not answer.
pub fn answer(
    store: &Arc<Store>,
    kind: &'static Kind,
    resource: &Resource,
    query: &str,
) -> Result<Response> {
    let selector = match Selector::of(query) {
        Ok(selector) => selector,
        Err(problem) => return Ok(answers::bad_request(&problem.to_string())),
    };
    let lasts = parameter(query, "timeoutSeconds").map_or(LASTS, Duration::from_secs);
    let watch = Watch {
        kind,
        directory: directory(kind, &resource.namespace),
        selector,
        end: Instant::now() + lasts,
    };
    let after = parameter(query, "resourceVersion").unwrap_or_default();
    let mut first = Vec::new();
    let mut after = i64::try_from(after).unwrap_or_default();
    if after == 0 {
        let (entries, revision) = store.list_at(&watch.directory)?;
        let events = entries
            .iter()
            .map(|entry| watch.event("ADDED", &entry.value, entry.revision));
        first = events.flatten().collect();
        after = revision;
    }
    let store = store.clone();
    Ok(Response::lines(Box::new(move |sink| {
        if first.into_iter().all(|event| sink.send(event)) {
            watch.run(&store, after, &sink);
        }
    })))
}

/// A number in the query.
fn parameter(query: &str, name: &str) -> Option<u64> {
    let url = Url::parse(&format!("http://query/?{query}")).ok()?;
    let (_, value) = url.query_pairs().find(|(known, _)| known == name)?;
    value.parse().ok()
}

impl Watch {
    fn run(&self, store: &Store, after: i64, sink: &Sink) {
        let is_over = || Instant::now() >= self.end || !sink.is_open();
        store.changes(
            &self.directory,
            after,
            || !is_over(),
            |Change {
                 kind,
                 value,
                 revision,
             }| {
                let event = self.event(kind, &value, revision);
                event.is_none_or(|event| sink.send(event)) && !is_over()
            },
        );
    }

    /// A line for the client, if it selects the object.
    fn event(&self, kind: &str, value: &[u8], revision: i64) -> Option<Vec<u8>> {
        let object: Value = serde_json::from_slice(value).ok()?;
        self.selector.selects(&object).then(|| {
            let object = shown(self.kind, object, revision);
            let mut line = json!({"type": kind, "object": object}).to_string();
            line.push('\n');
            line.into_bytes()
        })
    }
}
