//! The pods of this node: each has its own thread.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::container::{NAMESPACE, POD, UID};
use super::pod::Pod;
use super::settings::Settings;

/// How often to read the pods: the real kubelet watches them.
const LOOK: Duration = Duration::from_secs(3);

/// The required state of a pod, for its thread; `None` after the pod was deleted.
type Wanted = Arc<Mutex<Option<Value>>>;

/// A pod with a thread.
struct Worker {
    wanted: Wanted,
    thread: JoinHandle<()>,
}

/// Runs the pods of this node, as long as the program runs.
pub fn keep(settings: &Arc<Settings>) {
    let mut workers = HashMap::new();
    loop {
        if let Err(error) = look(settings, &mut workers) {
            eprintln!("pods: {error:#}");
        }
        thread::sleep(LOOK);
    }
}

/// The pods that are bound to this node.
///
/// # Errors
/// The API does not answer or refuses.
pub fn bound(settings: &Settings) -> Result<Vec<Value>> {
    let path = format!(
        "/api/v1/pods?fieldSelector=spec.nodeName%3D{}",
        settings.node
    );
    settings.api.list(&path)
}

fn look(settings: &Arc<Settings>, workers: &mut HashMap<String, Worker>) -> Result<()> {
    let mut pods: HashMap<String, Value> = HashMap::new();
    for pod in bound(settings)? {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        pods.insert(uid.to_owned(), pod);
    }
    workers.retain(|_, worker| !worker.thread.is_finished());
    // Containers in docker that are not in the API belong to deleted pods.
    for container in settings.docker.labelled(UID)? {
        let labels = &container["Labels"];
        let uid = labels[UID].as_str().unwrap_or_default();
        if !pods.contains_key(uid) && !workers.contains_key(uid) {
            let metadata = json!({
                "uid": uid, "name": labels[POD], "namespace": labels[NAMESPACE],
            });
            let worker = Worker::start(settings, uid, json!({"metadata": metadata}));
            worker.tell(None);
            workers.insert(uid.to_owned(), worker);
        }
    }
    for (uid, worker) in workers.iter() {
        worker.tell(pods.remove(uid));
    }
    for (uid, pod) in pods {
        let worker = Worker::start(settings, &uid, pod);
        workers.insert(uid, worker);
    }
    Ok(())
}

impl Worker {
    fn start(settings: &Arc<Settings>, uid: &str, pod: Value) -> Self {
        let wanted: Wanted = Arc::new(Mutex::new(Some(pod.clone())));
        let (seen, settings, uid) = (wanted.clone(), settings.clone(), uid.to_owned());
        Self {
            wanted,
            thread: thread::spawn(move || look_after(&settings, &uid, pod, &seen)),
        }
    }

    fn tell(&self, pod: Option<Value>) {
        if let Ok(mut wanted) = self.wanted.lock() {
            *wanted = pod;
        }
    }
}

/// Brings the pod into its required state, until it is deleted.
fn look_after(settings: &Arc<Settings>, uid: &str, first: Value, wanted: &Wanted) {
    let mut work = Pod::new(settings.clone());
    let mut known = first;
    loop {
        let now = wanted.lock().ok().and_then(|wanted| wanted.clone());
        let is_gone = now.is_none();
        if let Some(pod) = now {
            known = pod;
        }
        let ends = is_gone || !known["metadata"]["deletionTimestamp"].is_null();
        let done = if ends {
            work.end(uid, &known)
                .and_then(|()| forget(settings, &known, is_gone))
        } else {
            work.sync(&known)
        };
        match done {
            Ok(()) if ends => return,
            Ok(()) => {}
            Err(error) => eprintln!("pod {}: {error:#}", known["metadata"]["name"]),
        }
        thread::sleep(LOOK);
    }
}

/// Reports to the API that nothing of the pod is left.
fn forget(settings: &Settings, pod: &Value, is_gone: bool) -> Result<()> {
    if is_gone {
        return Ok(());
    }
    let text = |member: &str| pod["metadata"][member].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0");
    let reply = settings.api.delete(&path)?;
    if reply.status != 404 {
        reply.json().context("the pod's deletion")?;
    }
    Ok(())
}
