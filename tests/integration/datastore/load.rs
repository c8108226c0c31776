//! What the server of Calico's data costs while many nodes watch: a measurement, not a test.
//!
//! `tests/with-tools.sh cargo test --test integration datastore::load -- --ignored --nocapture`

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use appliance::components::{AUTHORITY, ETCD_AUTHORITY};
use appliance::sys::tls::{self, Identity};
use reqwest::{Client, Response};
use tokio::task::JoinSet;

use super::Bed;

/// Nodes, each at an address of its own, and the watches of each: Felix, confd's and those of others.
const NODES: u8 = 100;
const WATCHES: usize = 4;
/// How many changes are measured.
const CHANGES: usize = 300;
const CHANGED: &str = "/v2/keys/calico/v1/host/server01/metadata";

/// Where nodes reach Calico's keys, and how.
#[derive(Clone, Copy)]
struct Way<'a> {
    bed: &'a Bed,
    port: u16,
    certificate: &'static str,
    authority: &'static str,
}

impl Way<'_> {
    fn client(&self, node: u8) -> Client {
        let [certificate, key] = self
            .bed
            .files(self.certificate)
            .map(|path| fs::read(path).unwrap());
        let identity = Identity {
            certificate: &certificate,
            key: &key,
        };
        let authority = fs::read(&self.bed.files(self.authority)[0]).unwrap();
        Client::builder()
            .tls_backend_preconfigured(tls::client(&authority, Some(&identity)).unwrap())
            .local_address(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 1, node)))
            .no_proxy()
            .build()
            .unwrap()
    }

    /// How long each change takes while all nodes watch: the median, and the 99th of 100.
    async fn measure(&self) -> (Duration, Duration) {
        let mut watching = JoinSet::new();
        for node in 1..=NODES {
            let client = self.client(node);
            for _ in 0..WATCHES {
                let url = self
                    .bed
                    .url(self.port, "/v2/keys/calico?wait=true&recursive=true");
                watching.spawn(watch(client.clone(), url));
            }
        }
        let (client, url) = (self.client(NODES + 1), self.bed.url(self.port, CHANGED));
        // Each watch has a connection now.
        for number in 0..50 {
            put(&client, &url, number).await;
        }
        let mut took = Vec::new();
        for number in 0..CHANGES {
            let begun = Instant::now();
            put(&client, &url, number).await;
            took.push(begun.elapsed());
        }
        watching.shutdown().await;
        took.sort_unstable();
        (took[CHANGES / 2], took[CHANGES * 99 / 100])
    }
}

async fn put(client: &Client, url: &str, number: usize) {
    let kind = "application/x-www-form-urlencoded";
    let put = client.put(url).header("content-type", kind);
    let put = put.body(format!("value={number}")).send().await.unwrap();
    assert!(put.status().is_success(), "{}", put.status());
    put.bytes().await.unwrap();
}

async fn watch(client: Client, url: String) {
    loop {
        let seen = client
            .get(&url)
            .send()
            .await
            .and_then(Response::error_for_status);
        seen.unwrap().bytes().await.unwrap();
    }
}

/// The most memory that the process has had, in MB.
fn peak_mb(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<u64>().unwrap() / 1024
}

#[test]
#[ignore = "a measurement"]
fn what_the_server_of_calicos_data_costs_while_many_nodes_watch() {
    let bed = Bed::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let direct = Way {
        bed: &bed,
        port: bed.etcd,
        certificate: "etcd",
        authority: ETCD_AUTHORITY,
    };
    let forwarded = Way {
        bed: &bed,
        port: bed.datastore,
        certificate: "calico",
        authority: AUTHORITY,
    };
    let etcd = || peak_mb(bed.runs[0].id());
    println!("peak_mb_etcd_idle {}", etcd());
    // First through the server: the peak of etcd cannot fall again.
    let forwarded = runtime.block_on(forwarded.measure());
    println!("peak_mb_etcd_forwarded {}", etcd());
    let direct = runtime.block_on(direct.measure());
    println!("peak_mb_etcd_direct {}", etcd());
    let ratio = |part: fn((Duration, Duration)) -> Duration| {
        part(forwarded).as_secs_f64() / part(direct).as_secs_f64()
    };
    println!("datastore_median_ratio {:.2}", ratio(|both| both.0));
    println!("datastore_p99_ratio {:.2}", ratio(|both| both.1));
    let server = bed.runs.last().unwrap().id();
    println!("peak_mb_datastore {}", peak_mb(server));
}
