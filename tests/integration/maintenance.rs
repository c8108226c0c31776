//! The database of a real etcd reaches its quota, and is brought back.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use appliance::clients::etcd::database;
use appliance::maintenance::etcd::{Cluster, EtcdReport};
use appliance::sys::http;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::blocking::Client;
use serde_json::json;

use crate::datastore::free_port;
use crate::outputs::validate;

/// The quota, in bytes: the smallest with which etcd works for a while.
const QUOTA: u64 = 4 << 20;

struct Etcd {
    _dir: tempfile::TempDir,
    child: Child,
    url: String,
    client: Client,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Etcd {
    fn start() -> Etcd {
        let dir = tempfile::tempdir().unwrap();
        let (clients, peers) = (free_port(), free_port());
        let url = format!("http://127.0.0.1:{clients}");
        let peer = format!("http://127.0.0.1:{peers}");
        let child = Command::new("etcd")
            .arg(format!("--quota-backend-bytes={QUOTA}"))
            .arg("--name=server02")
            .args(["--data-dir".as_ref(), dir.path().as_os_str()])
            .arg(format!("--listen-client-urls={url}"))
            .arg(format!("--advertise-client-urls={url}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=server02={peer}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd (Debian package etcd-server)");
        let client = http::client(&[], None, Duration::from_secs(60)).unwrap();
        let etcd = Etcd {
            _dir: dir,
            child,
            url,
            client,
        };
        while !etcd.is_healthy() {
            std::thread::yield_now();
        }
        etcd
    }

    fn is_healthy(&self) -> bool {
        http::get(&self.client, &format!("{}/health", self.url)).is_ok()
    }

    /// Writes a value of this size. Returns whether etcd took it.
    fn put(&self, size: usize) -> bool {
        let body = json!({ "key": BASE64.encode("a"), "value": BASE64.encode(vec![b'x'; size]) });
        let request = self.client.post(format!("{}/v3/kv/put", self.url));
        let answer = request.body(body.to_string()).send().unwrap();
        let is_taken = answer.status().is_success();
        let text = answer.text().unwrap();
        assert!(
            is_taken || text.contains("database space exceeded"),
            "{text}"
        );
        is_taken
    }

    fn cluster(&self) -> Cluster {
        Cluster::at(self.client.clone(), self.url.clone(), QUOTA)
    }
}

fn alarms(report: &EtcdReport) -> &[String] {
    &report.members[0].alarms
}

#[test]
fn a_full_database_is_compacted_and_defragmented_and_takes_writes_again() {
    let etcd = Etcd::start();
    let before = etcd.cluster().report().unwrap();
    validate("etcd-status", &before);
    assert!(before.is_sound() && !before.is_due(), "{before:?}");
    assert_eq!(before.members[0].name, "server02");
    while etcd.put(200_000) {}
    let full = etcd.cluster().report().unwrap();
    assert_eq!(alarms(&full), ["NOSPACE"]);
    assert!(full.is_full() && full.is_due() && !full.is_sound());

    let told = std::cell::RefCell::new(Vec::new());
    let announce = |step: &str| told.borrow_mut().push(step.to_owned());
    let after = etcd.cluster().maintain(&announce).unwrap();
    validate("etcd-maintain", &after);
    assert_eq!(*told.borrow(), after.done);
    assert!(after.is_sound() && !after.is_due(), "{after:?}");
    assert!(after.members[0].bytes < full.members[0].bytes / 2);
    assert!(etcd.put(200_000));
    let again = etcd.cluster().maintain(&|_| ()).unwrap();
    assert_eq!(again.done, ["defragment etcd on server02"]);
}

#[test]
fn a_maintenance_that_was_cut_after_the_compaction_is_repeated() {
    let etcd = Etcd::start();
    while etcd.put(200_000) {}
    // The cluster refuses to write, so its revision stays.
    let full = database::database(&etcd.client, &etcd.url).unwrap();
    database::compact(&etcd.client, &etcd.url, full.revision).unwrap();
    let after = etcd.cluster().maintain(&|_| ()).unwrap();
    assert!(after.is_sound(), "{after:?}");
    assert!(etcd.put(200_000));
}

#[test]
fn a_database_full_of_what_is_in_use_takes_writes_and_the_report_says_so() {
    let etcd = Etcd::start();
    // Each under a key of its own, so that nothing can be forgotten.
    for number in 0.. {
        let key = BASE64.encode(format!("key-{number}"));
        let body = json!({ "key": key, "value": BASE64.encode(vec![b'x'; 200_000]) });
        let request = etcd.client.post(format!("{}/v3/kv/put", etcd.url));
        let answer = request.body(body.to_string()).send().unwrap();
        if !answer.status().is_success() {
            break;
        }
    }
    let after = etcd.cluster().maintain(&|_| ()).unwrap();
    assert!(alarms(&after).is_empty() && !after.is_sound(), "{after:?}");
    let problem = after.members[0].problem.as_deref().unwrap();
    assert!(problem.contains("of 4 MiB are in use"), "{problem}");
}
