//! Files of a rotation that are missing or are others, and nodes that a rotation left out.

use std::cell::Cell;
use std::fs;
use std::process::Command;

use appliance::components::{AUTHORITY, ETCD_AUTHORITY};
use appliance::install::Machine as Installed;
use appliance::join::nodes::Presence;
use appliance::nodespec::Refused;
use appliance::paths;
use appliance::pki::account::AccountKey;
use appliance::rotate::authority::{Stage, Wish};
use appliance::rotate::cluster::since;
use appliance::rotate::node::{digest, taken};
use appliance::sys::change::Change;
use appliance::sys::root::Root;
use appliance::sys::tls::Identity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::harness::Machine;
use crate::join::bed::{Bed, Node, authority, told};
use crate::rotate_ca::{
    BEGIN, GO_ON, Others, Then, ca_files, installed, read, rotated, run, set, trusted,
};

/// The files of the next authorities.
const NEXT: [&str; 4] = [
    paths::NEXT_AUTHORITY_KEY,
    "/etc/kubernetes/ca/rotation/ca.pem",
    paths::NEXT_ETCD_AUTHORITY_KEY,
    "/etc/kubernetes/ca/rotation/etcd-ca.pem",
];

/// A master at this step, because a worker is behind.
fn at(stage: Stage) -> (Machine, Installed, Others) {
    let (machine, master) = installed();
    let (waiting, followed) = (Others::default(), Others::default());
    set(&waiting.behind, &["server01"]);
    run(&master, &waiting, &BEGIN);
    if stage == Stage::Anew {
        rotated(&master, &Then(&followed, &waiting, Cell::new(1)), &GO_ON).unwrap();
    }
    (machine, master, waiting)
}

/// Refuses and changes nothing, with and without `--continue`. Returns the text.
fn refuses(machine: &Machine, master: &Installed, cluster: &Others) -> String {
    let before = ca_files(machine);
    let [error, _] = [&GO_ON, &BEGIN].map(|wish: &Wish| {
        let error = rotated(master, cluster, wish).unwrap_err();
        assert!(error.is::<Refused>(), "{error:#}");
        assert!(ca_files(machine) == before, "{error:#}");
        error.to_string()
    });
    error
}

/// Runs the first command that `text` gives, on the machine.
fn obey(machine: &Machine, text: &str) {
    let command = text.split('`').nth(1).unwrap();
    let root = machine.root().display().to_string();
    let command = command.replace("/etc/kubernetes", &format!("{root}/etc/kubernetes"));
    let status = Command::new("sh").args(["-ec", &command]).status().unwrap();
    assert!(status.success(), "{command}");
}

fn place(machine: &Machine, path: &str) -> std::path::PathBuf {
    machine.root().join(&path[1..])
}

#[test]
fn a_file_that_is_missing_in_a_rotation_is_never_a_step_that_was_taken() {
    for stage in [Stage::Both, Stage::Anew] {
        let (machine, master, waiting) = at(stage);
        let followed = Others::default();
        for path in NEXT {
            let content = fs::read(place(&machine, path)).unwrap();
            fs::remove_file(place(&machine, path)).unwrap();
            // Nobody waits any longer, and still nothing happens.
            let text = refuses(&machine, &master, &followed);
            assert!(text.contains(&format!("{path} is missing")), "{text}");
            assert!(!text.contains("new cluster"), "{text}");
            if stage == Stage::Both && path.ends_with("-key.pem") {
                // The new key is nowhere else.
                assert!(text.contains("from a backup of this machine"), "{text}");
                fs::write(place(&machine, path), &content).unwrap();
            } else {
                obey(&machine, &text);
            }
            assert!(
                fs::read(place(&machine, path)).unwrap() == content,
                "{path}"
            );
            assert_eq!(run(&master, &waiting, &GO_ON).stage, stage, "{path}");
        }
        fs::remove_dir_all(place(&machine, paths::ROTATION_DIR)).unwrap();
        let text = refuses(&machine, &master, &followed);
        assert_eq!(text.matches("are missing").count(), 2, "{text}");
        if stage == Stage::Anew {
            for line in text.lines().skip(1) {
                obey(&machine, line);
            }
            assert!(run(&master, &followed, &GO_ON).complete);
            assert_eq!(trusted(&machine, AUTHORITY).len(), 1);
        }
    }
}

#[test]
fn a_key_that_is_not_that_of_the_new_certificate_never_becomes_the_key_of_the_authority() {
    for stage in [Stage::Both, Stage::Anew] {
        let (machine, master, _) = at(stage);
        let followed = Others::default();
        for (name, path) in [
            (AUTHORITY, paths::NEXT_AUTHORITY_KEY),
            (ETCD_AUTHORITY, paths::NEXT_ETCD_AUTHORITY_KEY),
        ] {
            let content = fs::read(place(&machine, path)).unwrap();
            let live = read(&machine, &paths::key(name));
            let other = AccountKey::generate().unwrap();
            for wrong in [&b"nonsense\n"[..], other.expose()] {
                fs::write(place(&machine, path), wrong).unwrap();
                let text = refuses(&machine, &master, &followed);
                assert!(
                    text.contains(&format!("{path} is not the private key of")),
                    "{text}"
                );
                assert_eq!(read(&machine, &paths::key(name)), live);
            }
            fs::write(place(&machine, path), content).unwrap();
        }
        assert!(run(&master, &followed, &GO_ON).complete);
    }
}

#[test]
fn a_new_authority_without_its_key_that_nobody_trusts_is_made_again() {
    let (machine, master) = installed();
    let live = [AUTHORITY, ETCD_AUTHORITY].map(paths::certificate);
    let before = live.clone().map(|path| read(&machine, &path));
    let waiting = Others::default();
    set(&waiting.behind, &["server01"]);
    run(&master, &waiting, &BEGIN);
    // As a run that was cut before it changed the first of them, and the second.
    for (count, lost) in [
        (2, paths::NEXT_AUTHORITY_KEY),
        (1, paths::NEXT_ETCD_AUTHORITY_KEY),
    ] {
        let from = live.iter().zip(&before).rev().take(count);
        from.for_each(|(path, pem)| fs::write(place(&machine, path), pem).unwrap());
        fs::remove_file(place(&machine, lost)).unwrap();
        let text = refuses(&machine, &master, &waiting);
        assert!(text.contains("move it away"), "{text}");
        obey(&machine, &text);
        assert_eq!(run(&master, &waiting, &GO_ON).stage, Stage::Both);
        assert_eq!(trusted(&machine, AUTHORITY).len(), 2);
        assert_eq!(trusted(&machine, ETCD_AUTHORITY).len(), 2);
    }
    assert!(run(&master, &Others::default(), &GO_ON).complete);
}

#[test]
fn a_worker_has_followed_only_if_its_files_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let put = |path: &str, text: &str| root.write(path, text.as_bytes(), 0o644).unwrap();
    let kubeconfig = |pem: &str| format!("certificate-authority-data: {}\n", BASE64.encode(pem));
    put(paths::CA_CERTIFICATE, "both");
    assert_eq!(taken(&root).unwrap(), None);
    let own = digest(&root).unwrap();
    put(paths::TAKEN, &own);
    for path in [
        paths::PROXY_KUBECONFIG,
        paths::CALICO_KUBECONFIG,
        paths::KUBELET_KUBECONFIG,
    ] {
        put(path, &kubeconfig("old"));
        assert_eq!(taken(&root).unwrap(), None, "{path}");
        put(path, &kubeconfig("both"));
        assert_eq!(taken(&root).unwrap().as_ref(), Some(&own), "{path}");
    }
    // A restore brings the old file back.
    put(paths::CA_CERTIFICATE, "old");
    assert_eq!(taken(&root).unwrap(), None);
    put(paths::CA_CERTIFICATE, "both");
    put(paths::TAKEN, "taking others");
    assert_eq!(taken(&root).unwrap(), None);
}

#[test]
fn a_node_that_a_rotation_left_out_is_told_how_to_join_again() {
    let now = OffsetDateTime::now_utc();
    let (old, new) = (authority(now - Duration::hours(1)), authority(now));
    let node = Node::new("server01");
    let first = Bed::with_authority((old.0.clone(), old.1), Presence::Absent);
    node.keep(&first.join(&node).unwrap());
    let [certificate, key] = &node.own();
    let identity = Identity { certificate, key };
    let bed = Bed::with_authority(new, Presence::Absent);
    let left_out = node.worker(bed.port, Some(&old.0));
    // The other master does not know the node: it was released there.
    first.nodes().release("server01").unwrap();
    let released = node.worker(first.port, Some(&old.0));
    for worker in [left_out, released] {
        let (error, transient) = told(worker.trust(&identity, None).unwrap_err());
        assert!(!transient, "{error}");
        for part in [
            "`appliance token create`",
            "`mv /etc/kubernetes/ca /etc/kubernetes/ca.old && appliance install`",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("two machines"), "{error}");
    }
}

#[test]
fn a_time_in_the_future_since_which_tokens_are_new_counts_as_now() {
    let (machine, master) = installed();
    let later = OffsetDateTime::now_utc() + Duration::days(365);
    let text = later.format(&Rfc3339).unwrap();
    machine.put(&paths::ROTATION_SINCE[1..], &text);
    let counted = since(&master.root, "").unwrap();
    assert!(
        counted <= OffsetDateTime::now_utc() + Duration::SECOND,
        "{counted}"
    );
    // It is recorded: pods that start from now on are new enough.
    assert_eq!(since(&master.root, "").unwrap(), counted);
}
