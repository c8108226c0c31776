//! A backup of a real etcd is restored, to another master.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use appliance::backup::Target as To;
use appliance::backup::read::{Contents, pass, read};
use appliance::clients::etcd::{keys, revision};
use appliance::clients::mtls;
use appliance::components::ETCD_CERTIFICATE;
use appliance::join::registry;
use appliance::join::tokens::Tokens;
use appliance::nodespec::NodeSpec;
use appliance::nodespec::master::Master;
use appliance::nodespec::settings::Settings;
use appliance::nodespec::token::Token;
use appliance::observe::records;
use appliance::paths;
use appliance::records::restored::Phase;
use appliance::records::tokens::Standing;
use appliance::restore::alone::Programs;
use appliance::restore::fit::{self, Todo};
use appliance::restore::{Placed, Target, begin, files, place};
use appliance::sys::change::Change;
use appliance::sys::root::Root;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use time::OffsetDateTime;

use crate::backup::{Bed, put};
use crate::etcd::{Member, NAMES};
use crate::harness::etcd_programs;
use crate::join::bed::record;
use crate::rendered;

/// The specification of the master that runs this member.
fn spec(member: &Member, number: usize, several: &[Member]) -> NodeSpec {
    let mut spec = rendered::spec(("master", "with-ca"), Settings::default());
    NAMES[number].clone_into(&mut spec.name.value);
    spec.address.value = member.address();
    spec.cluster.masters.value = several
        .iter()
        .zip(NAMES)
        .map(|(member, name)| Master {
            name: name.to_owned(),
            address: member.address(),
        })
        .collect();
    spec
}

fn restore(bed: &Bed, file: &Path, root: &Root, spec: &NodeSpec) -> anyhow::Result<Placed> {
    let directory = etcd_programs();
    let arguments = ["--enable-v2=true".to_owned()];
    let now = OffsetDateTime::now_utc();
    let contents = contents(bed, file)?;
    begin(root, &contents.manifest, now)?;
    let target = Target {
        root,
        spec,
        programs: Programs {
            directory: &directory,
            arguments: &arguments,
        },
        keeps_tokens: false,
        now,
    };
    place(&target, &contents, |take| {
        read(BufReader::new(File::open(file)?), &bed.keys, take).map(drop)
    })
}

fn contents(bed: &Bed, file: &Path) -> anyhow::Result<Contents> {
    read(BufReader::new(File::open(file)?), &bed.keys, &mut pass)
}

pub fn backed_up(bed: &Bed) -> PathBuf {
    let file = bed.dir.path().join("backup.age");
    bed.back_up(&To::File(file.clone())).unwrap();
    file
}

/// Forgets everything that a new machine does not have.
fn emptied(member: &Member) -> Root {
    let root = member.root();
    root.remove_tree(paths::ETCD_DIR).unwrap();
    root.remove_tree(paths::JOIN_DIR).unwrap();
    root
}

fn ask(member: &Member, path: &str, body: Option<String>) -> (u16, String) {
    let client = mtls::client(&member.root(), ETCD_CERTIFICATE, Duration::from_secs(10)).unwrap();
    let url = format!("https://{}:2379{path}", member.address());
    let request = match body {
        None => client.get(url),
        Some(body) => client.post(url).body(body),
    };
    let answer = request.send().unwrap();
    (answer.status().as_u16(), answer.text().unwrap())
}

#[test]
fn nothing_that_was_acknowledged_before_the_backup_is_lost_and_no_number_goes_back() {
    let mut bed = Bed::new(43);
    for number in 0..30 {
        let key = format!("/registry/{number:02}");
        put(&bed.shared.members[0], &key, key.as_bytes());
    }
    bed.shared.set("a%2525b", "x%3Dy%26z%C3%A4");
    let tokens = registry::open(&bed.root()).unwrap().0;
    let (live, revoked) = (Token::generate().unwrap(), Token::generate().unwrap());
    for token in [&live, &revoked] {
        tokens.add(token.id(), &record(token)).unwrap();
    }
    let now = OffsetDateTime::now_utc();
    tokens
        .revoke(revoked.id(), now)
        .unwrap()
        .then_some(())
        .unwrap();
    let of = |member: &Member| {
        let client = mtls::client(&member.root(), ETCD_CERTIFICATE, Duration::from_secs(10));
        (
            client.unwrap(),
            format!("https://{}:2379", member.address()),
        )
    };
    let (client, server) = of(&bed.shared.members[0]);
    let before = (
        revision(&client, &server).unwrap(),
        keys::all(&client, &server).unwrap(),
        ask(&bed.shared.members[0], "/v2/stats/self", None),
    );
    let file = backed_up(&bed);
    let identity = ask(
        &bed.shared.members[0],
        "/v3/cluster/member/list",
        Some("{}".to_owned()),
    )
    .1;
    for member in &mut bed.shared.members {
        member.stop();
    }

    let several = &bed.shared.members;
    let spec = spec(&several[1], 1, several);
    let root = emptied(&several[1]);
    let placed = restore(&bed, &file, &root, &spec).unwrap();
    assert_eq!(placed.revoked, [live.id().clone()]);
    assert!(placed.gone.is_empty());
    assert_eq!(
        records::restored(&root).unwrap().unwrap().phase,
        Phase::Placed
    );
    // Nothing else is left of the work.
    assert_eq!(root.list(paths::ETCD_DIR).unwrap(), ["member"]);
    // Also before etcd runs, no token can be used.
    let own = Tokens::new(&root.resolve(paths::JOIN_DIR).unwrap());
    for (id, token) in own.all().unwrap() {
        assert_eq!(token.standing(now), Standing::Revoked, "{id}");
    }

    bed.shared.members[1].start_among(&[1]);
    let restored = &bed.shared.members[1];
    restored.wait_until_healthy();
    for number in 0..30 {
        let key = format!("/registry/{number:02}");
        let value = restored.etcdctl(&["get", &key, "--print-value-only"]);
        assert_eq!(value.unwrap().trim(), key);
    }
    let (client, server) = of(restored);
    let after = keys::all(&client, &server).unwrap();
    assert_eq!(after.values, before.1.values);
    assert!(
        after.index > before.1.index + 1_000_000_000,
        "{}",
        after.index
    );
    let now_at = revision(&client, &server).unwrap();
    assert!(now_at >= before.0 + 1_000_000_000, "{now_at}");
    let list = restored.etcdctl(&["member", "list"]).unwrap();
    assert_eq!(list.lines().count(), 1, "{list}");
    let other = ask(restored, "/v3/cluster/member/list", Some("{}".to_owned())).1;
    let cluster = |text: &str| {
        let answer: serde_json::Value = serde_json::from_str(text).unwrap();
        answer["header"]["cluster_id"].as_str().unwrap().to_owned()
    };
    assert_ne!(cluster(&identity), cluster(&other));

    // Who goes on from an old number is told so, and does not wait for ever.
    let path = format!(
        "/v2/keys/?wait=true&recursive=true&waitIndex={}",
        before.1.index + 5
    );
    let (_, answer) = ask(restored, &path, None);
    assert!(answer.contains("\"errorCode\":401"), "{answer}");
    let range = serde_json::json!({"key": BASE64.encode("/registry/01"), "revision": before.0});
    let (_, answer) = ask(restored, "/v3/kv/range", Some(range.to_string()));
    assert!(answer.contains("has been compacted"), "{answer}");
    // The token stays revoked for all masters.
    put(restored, "/registry/new", b"after");
    let shared = registry::open(&root).unwrap().0;
    for (id, token) in shared.all().unwrap() {
        assert_eq!(token.standing(now), Standing::Revoked, "{id}");
    }
}

#[test]
fn two_other_masters_join_the_restored_one() {
    let mut bed = Bed::new(44);
    put(&bed.shared.members[0], "kept", b"in the backup");
    let file = backed_up(&bed);
    bed.shared.members[0].stop();
    let roots: Vec<Root> = bed.shared.members.iter().map(emptied).collect();
    let several = &bed.shared.members;
    restore(&bed, &file, &roots[0], &spec(&several[0], 0, several)).unwrap();
    bed.shared.members[0].start_among(&[0]);
    bed.shared.members[0].wait_until_healthy();
    for member in &mut bed.shared.members[1..] {
        member.join();
        member.wait_until_healthy();
    }
    for member in &bed.shared.members {
        let kept = member.etcdctl(&["get", "kept", "--print-value-only"]);
        assert_eq!(kept.unwrap().trim(), "in the backup");
        let list = member.etcdctl(&["member", "list"]).unwrap();
        assert_eq!(list.lines().count(), 3, "{list}");
    }
    // A second restoration of the same numbers goes on above them.
    let again = bed.dir.path().join("again.age");
    bed.back_up(&To::File(again.clone())).unwrap();
    let first = contents(&bed, &again).unwrap().manifest.revision;
    bed.shared.members.iter_mut().for_each(Member::stop);
    let root = emptied(&bed.shared.members[0]);
    let several = &bed.shared.members;
    restore(&bed, &again, &root, &spec(&several[0], 0, several)).unwrap();
    bed.shared.members[0].start_among(&[0]);
    bed.shared.members[0].wait_until_healthy();
    bed.back_up(&To::File(again.clone())).unwrap();
    let second = contents(&bed, &again).unwrap().manifest.revision;
    assert!(second >= first + 1_000_000_000, "{first}, {second}");
}

#[test]
fn a_machine_with_a_cluster_is_refused_and_what_it_has_is_moved_aside_on_demand() {
    let bed = Bed::new(45);
    let file = backed_up(&bed);
    let contents = contents(&bed, &file).unwrap();
    let root = bed.root();
    let error = fit::todo(&root, &contents.manifest, false).unwrap_err();
    let error = error.to_string();
    assert!(error.contains(paths::ETCD_MEMBER_DATA), "{error}");
    assert!(error.contains("--replace"), "{error}");
    assert_eq!(
        fit::todo(&root, &contents.manifest, true).unwrap(),
        Todo::Place
    );
    assert!(begin(&root, &contents.manifest, OffsetDateTime::now_utc()).unwrap());
    let key = root.read(&paths::key("ca")).unwrap().unwrap();
    let moved = files::move_aside(&root, "stamp").unwrap();
    assert!(
        moved.contains(&"/var/lib/etcd/member.replaced-stamp".to_owned()),
        "{moved:?}"
    );
    assert_eq!(files::occupied(&root).unwrap(), Vec::<&str>::new());
    let kept = root
        .read("/etc/kubernetes/ca.replaced-stamp/ca-key.pem")
        .unwrap();
    assert_eq!(kept.unwrap(), key);
    // While it is under way, nothing else begins; the same restoration goes on.
    assert!(
        records::restored(&root)
            .unwrap()
            .unwrap()
            .hinders()
            .is_some()
    );
    assert_eq!(
        fit::todo(&root, &contents.manifest, false).unwrap(),
        Todo::Place
    );
    let mut other = contents.manifest.clone();
    other.revision += 1;
    let error = fit::todo(&root, &other, false).unwrap_err().to_string();
    assert!(
        error.contains("another restoration was interrupted"),
        "{error}"
    );
}

#[test]
fn a_cluster_that_still_runs_is_not_brought_back_a_second_time() {
    let bed = Bed::new(46);
    let contents = contents(&bed, &backed_up(&bed)).unwrap();
    let spec = spec(&bed.shared.members[1], 1, &[]);
    let error = fit::refuse_beside(&spec, &contents.manifest).unwrap_err();
    let error = error.to_string();
    assert!(error.contains(&bed.address().to_string()), "{error}");
    fit::check_spec(&spec, &contents.manifest).unwrap();
    let mut other = spec.clone();
    other.cluster.pod_cidr.value = "10.9.0.0/16".parse().unwrap();
    let error = fit::check_spec(&other, &contents.manifest).unwrap_err();
    assert!(
        error.to_string().contains("podCIDR 172.20.0.0/16"),
        "{error}"
    );
}

#[test]
fn a_restoration_that_fails_leaves_no_data_and_can_be_run_again() {
    let bed = Bed::new(47);
    let file = backed_up(&bed);
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let spec = spec(&bed.shared.members[1], 1, &[]);
    // As if the disk were full while the snapshot is written.
    let contents = contents(&bed, &file).unwrap();
    begin(&root, &contents.manifest, OffsetDateTime::now_utc()).unwrap();
    let directory = etcd_programs();
    let target = Target {
        root: &root,
        spec: &spec,
        programs: Programs {
            directory: &directory,
            arguments: &[],
        },
        keeps_tokens: true,
        now: OffsetDateTime::now_utc(),
    };
    let failed = place(&target, &contents, |_| anyhow::bail!("no space left"));
    assert!(failed.is_err());
    assert_eq!(root.list(paths::ETCD_DIR).unwrap(), Vec::<String>::new());
    let record = records::restored(&root).unwrap().unwrap();
    assert_eq!(record.phase, Phase::Placing);
    // Keys that are there by now are of this restoration: nothing is moved aside again.
    assert!(!begin(&root, &contents.manifest, OffsetDateTime::now_utc()).unwrap());
    restore(&bed, &file, &root, &spec).unwrap();
    assert!(root.exists(paths::ETCD_MEMBER_DATA).unwrap());
    let mode = root.mode(&paths::key("ca")).unwrap();
    assert_eq!(mode, Some(0o600));
    assert_eq!(
        fit::todo(&root, &contents.manifest, false).unwrap(),
        Todo::Install
    );
    assert!(fs::exists(dir.path().join("etc/kubernetes/ca/ca.pem")).unwrap());
}
