//! How many workers a master can accept: a measurement for docs/scale.md, not a test.
//!
//! `cargo test --test integration join::pace -- --ignored --nocapture`

use std::time::Duration;

use appliance::join::message::Hello;
use appliance::join::nodes::All;
use appliance::records::nodes::NodeRecord;

use super::bed::{Node, WORKER};
use super::faults::{Direct, NOW, asker, requests};

/// The processor time of this thread: other programs do not count.
fn spent() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "a measurement"]
fn what_one_exchange_costs_the_process_that_signs() {
    const EXCHANGES: u32 = 50;
    for known in [0, 1000] {
        let bed = Direct::new();
        let mut gate = bed.gate();
        let record = NodeRecord {
            address: WORKER,
            key: "0".repeat(64),
            machine: None,
            token: "abcdef".parse().unwrap(),
            seen: NOW,
        };
        let all = (0..known).map(|number| (format!("worker{number}"), record.clone()));
        let all = serde_json::to_vec_pretty(&all.collect::<All>()).unwrap();
        std::fs::write(bed.dir.path().join("nodes.json"), all).unwrap();
        let mut cost = Duration::ZERO;
        for number in 0..EXCHANGES {
            let name: &'static str = format!("new{known}-{number}").leak();
            let node = Node::new(name);
            let hello = Hello {
                node_name: name.to_owned(),
                ..bed.hello()
            };
            let before = spent();
            let welcome = gate.hello(&asker(), hello.clone(), NOW).unwrap().unwrap();
            let greeted = spent();
            let join = bed.prove(&hello, &welcome, requests(&node));
            let proved = spent();
            gate.join(&asker(), &join, NOW).unwrap().unwrap();
            cost += (greeted - before) + (spent() - proved);
        }
        println!(
            "{known} nodes known: {:?} for each exchange",
            cost / EXCHANGES
        );
    }
}
