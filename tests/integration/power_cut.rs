//! The power of a node is cut, again and again, and each time the node comes up by itself with everything that it
//! acknowledged.
//!
//! `make test-power` runs it; APPLIANCE names the appliance to boot, CUTS says how many cuts to try, SEED which ones, and
//! KEEP a directory for the disk and the log of all writes to it. One run is recorded. Each cut makes a disk from the
//! log: what was flushed, and a part of the rest.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use appliance_vm::cluster::{SINGLE, unit_state};
use appliance_vm::machine::Clock;
use appliance_vm::write_log::{self, WriteLog};
use rand::{RngExt, SeedableRng};
use rand_xorshift::XorShiftRng;

use crate::vms::{APPLIANCE, Bed, ETCDCTL, Flavor};

const NODE: &str = "server02";
const FLAVOR: Flavor = Flavor {
    memory: 2048,
    cpus: 2,
    clock: Clock::OfTheWall,
    beside: None,
};
/// How many values are written to etcd, and how many tokens are made.
const WRITES: usize = 40;
const TOKENS: usize = 4;
/// All private keys of the node, and the files that are as secret.
const KEYS: &str = "cd /etc/kubernetes; find . -name '*-key.pem' -o -name encryption.yaml | sort | xargs sha256sum";
/// Temporary files of this program.
const LEFT_OVER: &str =
    "find /etc /opt /usr/local /var/lib /root -xdev -name '.appliance-tmp-*' | sort";

/// What the node acknowledged, and after how many entries of the log.
struct Acknowledged {
    at: usize,
    what: Fact,
}

enum Fact {
    /// The digests of all keys.
    Keys(String),
    /// A value in etcd.
    Value(usize),
    /// A token, by its ID.
    Token(String),
}

/// A number from the environment.
fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

#[test]
#[ignore = "boots a machine many times; make test-power runs it"]
fn a_node_outlives_power_cuts() {
    let (cuts, seed) = (number("CUTS", 3), number("SEED", 1));
    let mut bed = Bed::new(&SINGLE, &FLAVOR, |_| "clusterName: power\n".to_owned());
    let path = bed.cluster.log_writes(NODE).unwrap();
    let (begin, facts) = record(&mut bed, &path);
    bed.cluster.power_off(NODE).unwrap();
    let log = WriteLog::read(&path).unwrap();
    let end = facts.last().unwrap().at;
    fs::remove_file(&path).unwrap();
    assert!(log.safe(end) > begin, "no flush is logged");
    bed.say(&format!(
        "{} writes and flushes; cuts from {begin} to {end}",
        log.len()
    ));

    let mut chance = XorShiftRng::seed_from_u64(seed);
    let mut sum = Sum::default();
    for number in 1..=cuts {
        let cut = chance.random_range(begin..=end);
        bed.say(&format!("cut {number} of {cuts}: after {cut} of {end}"));
        bed.cluster
            .power_on_after_cut(NODE, &log, cut, |sectors| chance.random_range(0..=sectors))
            .unwrap();
        bed.cluster.wait_for_agents().unwrap();
        sum.look(&mut bed, facts.iter().filter(|fact| fact.at <= cut));
    }
    println!("seed {seed}: {sum}");
    assert!(sum.is_clean(), "{sum}");
}

/// Brings the node up and works with it. Returns where in the log cuts begin, and what was acknowledged.
fn record(bed: &mut Bed, log: &Path) -> (usize, Vec<Acknowledged>) {
    bed.switch_on(&[NODE]);
    // Before this, the power is cut while cloud-init writes the unit.
    bed.wait_at(NODE, "the program runs", |machine| {
        unit_state(machine).is_some_and(|state| state != "inactive")
    });
    bed.shell(NODE, "sync");
    let begin = write_log::length(log).unwrap();
    bed.wait_for_bring_up();
    bed.say("the node is healthy");
    let mut facts = Vec::new();
    let mut acknowledge = |what| {
        let at = write_log::length(log).unwrap();
        facts.push(Acknowledged { at, what });
    };
    acknowledge(Fact::Keys(bed.shell(NODE, KEYS)));
    for number in 0..WRITES {
        bed.shell(
            NODE,
            &format!("{ETCDCTL} put /power/{number} value-{number}"),
        );
        acknowledge(Fact::Value(number));
        if number % (WRITES / TOKENS) == 0 {
            let token = bed.shell(NODE, &format!("{APPLIANCE} token create --ttl 1h"));
            let id = token.split('.').next().unwrap().to_owned();
            acknowledge(Fact::Token(id));
        }
    }
    bed.shell(NODE, &format!("{APPLIANCE} certs renew --wait"));
    bed.shell(NODE, &format!("{APPLIANCE} install"));
    acknowledge(Fact::Keys(bed.shell(NODE, KEYS)));
    (begin, facts)
}

/// What was found after all cuts.
#[derive(Default)]
struct Sum {
    cuts: usize,
    diverged: usize,
    keys_lost: usize,
    data_lost: usize,
    left_over: usize,
}

impl Sum {
    /// Looks at a node whose power was cut after it acknowledged these facts.
    fn look<'a>(&mut self, bed: &mut Bed, facts: impl Iterator<Item = &'a Acknowledged>) {
        self.cuts += 1;
        bed.wait_until_healthy();
        let machine = bed.machine(NODE);
        let mut shell = |command: &str| machine.shell(command).unwrap();
        let keys = shell(KEYS);
        let values = shell(&format!("{ETCDCTL} get /power/ --prefix"));
        let values: BTreeSet<&str> = values.lines().collect();
        let tokens = shell(&format!("{APPLIANCE} token list"));
        let mut missing = Vec::new();
        for Acknowledged { what, .. } in facts {
            let (is_there, count, name) = match what {
                Fact::Keys(then) => (*then == keys, &mut self.keys_lost, "keys".to_owned()),
                Fact::Value(number) => {
                    let name = format!("value-{number}");
                    (values.contains(name.as_str()), &mut self.data_lost, name)
                }
                Fact::Token(id) => (
                    tokens.contains(id),
                    &mut self.data_lost,
                    format!("token {id}"),
                ),
            };
            if !is_there {
                *count += 1;
                missing.push(name);
            }
        }
        // The node is what an uncut run makes of it if another run changes nothing.
        let again = shell(&format!("{APPLIANCE} install 2>&1"));
        let diverged = !again.contains("nothing to change");
        self.diverged += usize::from(diverged);
        let left_over = shell(LEFT_OVER);
        self.left_over += left_over.lines().count();
        bed.say(&format!(
            "healthy; {} values; missing: {missing:?}; {}{left_over}",
            values.len() / 2,
            if diverged {
                &again
            } else {
                "nothing to change; "
            }
        ));
    }

    fn is_clean(&self) -> bool {
        self.diverged + self.keys_lost + self.data_lost + self.left_over == 0
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cuts {}, diverged {}, keys lost {}, data lost {}, left over {}",
            self.cuts, self.diverged, self.keys_lost, self.data_lost, self.left_over
        )
    }
}
