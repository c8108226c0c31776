//! Three members of a real etcd, on loopback addresses: how they start, and how a member that lost
//! its data returns.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use appliance::apply::etcd::{Beginning, Entry, announce, prepare};
use appliance::clients::etcd::move_member;
use appliance::components::{self, AUTHORITY, ETCD_AUTHORITY};
use appliance::desired::{Desired, EtcdMember};
use appliance::nodespec::Profile;
use appliance::paths;
use appliance::pki::{self, PkiRequest};
use appliance::sys::change::Change;
use appliance::sys::root::Root;
use time::OffsetDateTime;

/// The files of a node.
struct OnDisk<'a>(&'a Root);

impl pki::Existing for OnDisk<'_> {
    fn read(&self, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        self.0.read(path)
    }
}

pub const NAMES: [&str; 3] = ["server02", "server04", "server05"];

/// Runs a program until standard input ends, and kills it then: it never outlives the tests.
const KEEPER: &str =
    "exec 3<&0; \"$@\" & running=$!; (cat <&3 >/dev/null; kill -KILL $running) & wait $running";

/// A machine with a member of etcd. The members of a test are in their own network.
pub struct Member {
    dir: PathBuf,
    network: u8,
    number: usize,
    /// Its address, if it has moved since the beginning.
    moved: Option<Ipv4Addr>,
    runs: Option<Child>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Member {
    pub fn root(&self) -> Root {
        Root::open(&self.dir).unwrap()
    }

    /// The address of a master in the network of this one.
    fn address_of(&self, number: usize) -> Ipv4Addr {
        Ipv4Addr::new(127, 86, self.network, 2 + u8::try_from(number).unwrap())
    }

    pub fn address(&self) -> Ipv4Addr {
        self.moved.unwrap_or(self.address_of(self.number))
    }

    /// Makes its keys and certificates, or those that do not name its address.
    fn issue(&self) {
        let request = PkiRequest {
            authority: components::cluster_authority(),
            etcd: Some(components::etcd_authority()),
            certificates: vec![components::etcd_member(NAMES[self.number], self.address())],
            service_account: components::service_account(),
        };
        let root = self.root();
        let made = pki::resolve(&request, &OnDisk(&root), OffsetDateTime::now_utc()).unwrap();
        for file in Desired::of_pki(&made) {
            root.write(&file.path, file.content.bytes(), file.mode)
                .unwrap();
        }
    }

    /// Stops it, and starts it with its data at another address of its network.
    fn move_to(&mut self, last: u8) -> Ipv4Addr {
        self.stop();
        let address = Ipv4Addr::new(127, 86, self.network, last);
        self.moved = Some(address);
        self.issue();
        let entry = Entry {
            beginning: Beginning::New,
            cluster: format!("{}=https://{address}:2380", NAMES[self.number]),
        };
        self.start(&entry, &[]);
        address
    }

    fn file(&self, path: &str) -> String {
        self.dir.join(&path[1..]).display().to_string()
    }

    fn prepare(&self) -> Entry {
        let others = (0..NAMES.len()).filter(|number| *number != self.number);
        let member = EtcdMember {
            name: NAMES[self.number].to_owned(),
            address: self.address(),
            others: others.map(|number| self.address_of(number)).collect(),
            cluster: self.cluster_of(&[0, 1, 2]),
            founds: false,
        };
        prepare(&self.root(), &member).unwrap()
    }

    /// These masters in the form for etcd's members.
    fn cluster_of(&self, numbers: &[usize]) -> String {
        let member =
            |&number: &usize| format!("{}=https://{}:2380", NAMES[number], self.address_of(number));
        let all: Vec<String> = numbers.iter().map(member).collect();
        all.join(",")
    }

    /// Starts it in a new cluster of the masters with these numbers.
    pub fn start_among(&mut self, numbers: &[usize]) {
        let entry = Entry {
            beginning: Beginning::New,
            cluster: self.cluster_of(numbers),
        };
        self.start(&entry, &[]);
    }

    fn start(&mut self, entry: &Entry, environment: &[(&str, &str)]) {
        let own = self.address();
        let entry = entry.environment();
        let entry = entry.lines().map(|line| line.split_once('=').unwrap());
        let certificate = self.file(&paths::certificate("etcd"));
        let (key, ca) = (
            self.file(&paths::key("etcd")),
            self.file(&paths::certificate(ETCD_AUTHORITY)),
        );
        let child = Command::new("sh")
            .args(["-c", KEEPER, "etcd", "etcd"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .envs(entry)
            .envs(environment.iter().copied())
            .args(["--name", NAMES[self.number], "--enable-v2=true"])
            .args(["--data-dir", &self.file("/var/lib/etcd")])
            .arg(format!("--listen-client-urls=https://{own}:2379"))
            .arg(format!("--advertise-client-urls=https://{own}:2379"))
            .arg(format!("--listen-peer-urls=https://{own}:2380"))
            .arg(format!("--initial-advertise-peer-urls=https://{own}:2380"))
            .args(["--client-cert-auth", "--trusted-ca-file", &ca])
            .args(["--cert-file", &certificate, "--key-file", &key])
            .args(["--peer-client-cert-auth", "--peer-trusted-ca-file", &ca])
            .args(["--peer-cert-file", &certificate, "--peer-key-file", &key])
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd (Debian package etcd-server)");
        self.runs = Some(child);
    }

    /// Starts it as a new member of the cluster that the others run.
    pub fn join(&mut self) {
        let entry = self.prepare();
        assert_eq!(entry.beginning, Beginning::Existing);
        self.start(&entry, &[]);
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.runs.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }

    pub fn etcdctl(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg("--command-timeout=2s")
            .arg(format!("--endpoints=https://{}:2379", self.address()))
            // As in the tutorial: etcd sends a cross-certificate of the cluster's CA.
            .arg(format!("--cacert={}", self.file(paths::CA_CERTIFICATE)))
            .arg(format!("--cert={}", self.file(&paths::certificate("etcd"))))
            .arg(format!("--key={}", self.file(&paths::key("etcd"))))
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(text)
    }

    pub fn wait_until_healthy(&self) {
        for _ in 0..300 {
            if self.etcdctl(&["endpoint", "health"]).is_some() {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
        panic!("{} does not become healthy", NAMES[self.number]);
    }
}

/// The machines of three masters that share a CA, in the network with that number.
pub fn masters(dir: &Path, network: u8) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for (number, name) in NAMES.iter().enumerate() {
        let member = Member {
            dir: dir.join(name),
            network,
            number,
            moved: None,
            runs: None,
        };
        let etcd = paths::certificate(ETCD_AUTHORITY);
        let etcd = Path::new(&etcd[1..]).parent().unwrap();
        std::fs::create_dir_all(member.dir.join(etcd)).unwrap();
        if let Some(first) = members.first() {
            for name in [AUTHORITY, ETCD_AUTHORITY] {
                for path in [paths::certificate(name), paths::key(name)] {
                    std::fs::copy(first.file(&path), member.file(&path)).unwrap();
                }
            }
        }
        member.issue();
        members.push(member);
    }
    members
}

#[test]
fn members_begin_together_and_one_that_lost_its_data_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = masters(dir.path(), 0);
    members[0].start_among(&[0, 1, 2]);
    // The first member waits for another one, and announces the new cluster.
    for member in &mut members[1..] {
        let entry = member.prepare();
        assert_eq!(entry.beginning, Beginning::New);
        member.start(&entry, &[]);
    }
    members.iter().for_each(Member::wait_until_healthy);
    members[0]
        .etcdctl(&["put", "kept", "by the others"])
        .unwrap();

    members[2].stop();
    std::fs::remove_dir_all(members[2].file("/var/lib/etcd")).unwrap();
    let entry = members[2].prepare();
    assert_eq!(entry.beginning, Beginning::Existing);
    // It was interrupted before etcd started, and finds itself added already.
    assert_eq!(members[2].prepare(), entry);
    members[2].start(&entry, &[]);
    members[2].wait_until_healthy();
    let kept = members[2].etcdctl(&["get", "kept", "--print-value-only"]);
    assert_eq!(kept.unwrap().trim(), "by the others");
    let list = members[2].etcdctl(&["member", "list"]).unwrap();
    assert_eq!(list.lines().count(), 3, "{list}");
}

/// The procedure of docs/high-availability.md if the disks of most masters are lost.
#[test]
fn the_member_that_is_left_goes_on_alone_with_all_data_and_others_join_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = masters(dir.path(), 6);
    for member in &mut members {
        member.start_among(&[0, 1, 2]);
    }
    members.iter().for_each(Member::wait_until_healthy);
    members[1].etcdctl(&["put", "kept", "by the last"]).unwrap();
    for lost in &mut members[1..] {
        lost.stop();
        std::fs::remove_dir_all(lost.file("/var/lib/etcd")).unwrap();
    }
    let lost = members[0].etcdctl(&["put", "lost", "without a majority"]);
    assert_eq!(lost, None);
    members[0].stop();
    let entry = Entry {
        beginning: Beginning::New,
        cluster: members[0].cluster_of(&[0, 1, 2]),
    };
    members[0].start(&entry, &[("ETCD_FORCE_NEW_CLUSTER", "true")]);
    members[0].wait_until_healthy();
    // Started again as usual, it stays alone until others come.
    members[0].stop();
    members[0].start(&entry, &[]);
    members[0].wait_until_healthy();
    for number in [1, 2] {
        let entry = members[number].prepare();
        assert_eq!(entry.beginning, Beginning::Existing);
        members[number].start(&entry, &[]);
        members[number].wait_until_healthy();
    }
    for member in &members {
        let kept = member.etcdctl(&["get", "kept", "--print-value-only"]);
        assert_eq!(kept.unwrap().trim(), "by the last");
    }
}

/// A VM that moved to another subnet: the only master, then one of three.
#[test]
fn a_member_with_another_address_keeps_its_data_and_the_others_find_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = masters(dir.path(), 8);
    members[0].start_among(&[0]);
    members[0].wait_until_healthy();
    members[0].etcdctl(&["put", "first", "written"]).unwrap();
    let told = |member: &Member, others: &[Ipv4Addr]| {
        let own = (NAMES[member.number], member.address());
        announce(&member.root(), Profile::WithCa, own, others).unwrap();
    };
    let address = members[0].move_to(20);
    members[0].wait_until_healthy();
    told(&members[0], &[]);
    // Again, it changes nothing.
    told(&members[0], &[]);
    let listed = members[0].etcdctl(&["member", "list"]).unwrap();
    assert!(
        listed.contains(&format!("https://{address}:2380")),
        "{listed}"
    );
    assert!(!listed.contains("https://127.86.8.2:2380"), "{listed}");
    drop(members);

    let dir = tempfile::tempdir().unwrap();
    let mut members = masters(dir.path(), 9);
    for member in &mut members {
        member.start_among(&[0, 1, 2]);
    }
    members.iter().for_each(Member::wait_until_healthy);
    members[0].etcdctl(&["put", "first", "written"]).unwrap();
    let address = members[1].move_to(30);
    told(&members[1], &[members[0].address(), members[2].address()]);
    members[1].wait_until_healthy();
    for member in &members {
        let listed = member.etcdctl(&["member", "list"]).unwrap();
        assert!(
            listed.contains(&format!("https://{address}:2380")),
            "{listed}"
        );
        assert!(!listed.contains("https://127.86.9.3:2380"), "{listed}");
        let read = member
            .etcdctl(&["get", "first", "--print-value-only"])
            .unwrap();
        assert_eq!(read.trim(), "written");
    }
    // The cluster lives on with it when another one stops, once it has a leader again.
    members[2].stop();
    members[0].wait_until_healthy();
    let (own, others) = ((NAMES[1], address), [members[0].address(), address]);
    members[0].etcdctl(&["put", "second", "written"]).unwrap();
    move_member(&members[1].root(), Profile::WithCa, own, &others).unwrap();
    members[0].stop();
    let elsewhere = (NAMES[1], Ipv4Addr::new(127, 86, 9, 40));
    let refused = move_member(&members[1].root(), Profile::WithCa, elsewhere, &others);
    let refused = format!("{:#}", refused.unwrap_err());
    assert!(
        refused.contains("does not know the new address"),
        "{refused}"
    );
}
