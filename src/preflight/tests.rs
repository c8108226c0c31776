//! The table itself.
#![allow(clippy::unwrap_used)]

use super::docker::daemon::{Docker, Info, Running};
use super::facts::{Firewall, Room, Rules, System, Wanted};
use super::firewall::iptables::hooks;
use super::*;
use crate::nodespec::Role;

#[test]
fn every_check_has_a_name_of_its_own() {
    let mut names: Vec<&str> = checks().map(|check| check.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    let is_plain = |name: &&str| name.bytes().all(|c| c == b'-' || c.is_ascii_lowercase());
    assert!(names.iter().all(is_plain), "{names:?}");
}

#[test]
fn only_some_checks_can_be_ignored() {
    assert_eq!("ports".parse(), Ok(Ignored("ports")));
    for (name, why) in [
        ("systemd", "no node works without it"),
        ("swap", "only warns"),
        ("port", "did you mean `ports`?"),
    ] {
        let error = name.parse::<Ignored>().unwrap_err();
        assert!(error.contains(why), "{name}: {error}");
    }
}

/// A running worker on which nothing is wrong.
fn sound() -> Facts {
    Facts {
        wanted: Wanted::without_settings(Role::Worker, vec![]),
        installed: false,
        system: System {
            has_systemd: true,
            ..System::default()
        },
        booted: None,
        clock: None,
        firewall: Some(Firewall::default()),
        room: None,
        docker_source: DockerSource::Machine,
        docker: Docker::default(),
    }
}

fn result(facts: &Facts, name: &str) -> Judged {
    let judged = judge(facts, &[]);
    judged.into_iter().find(|one| one.name == name).unwrap()
}

fn rules(own: usize, drops: usize) -> Option<Rules> {
    Some(Rules {
        own,
        drops,
        ..Rules::default()
    })
}

#[test]
fn rules_in_both_backends_are_told_if_one_of_them_drops() {
    for (legacy, nft, level) in [
        (rules(3, 1), rules(2, 0), Level::Warn),
        (rules(3, 0), rules(2, 0), Level::Pass),
        (rules(0, 0), rules(2, 1), Level::Pass),
        (None, None, Level::Pass),
    ] {
        let firewall = Firewall {
            legacy,
            nft,
            ..Firewall::default()
        };
        let facts = Facts {
            firewall: Some(firewall),
            ..sound()
        };
        assert_eq!(
            result(&facts, "iptables-backends").level,
            level,
            "{facts:?}"
        );
    }
}

#[test]
fn what_another_kubernetes_left_is_told_unless_this_is_a_node() {
    let left = Rules {
        chains: vec!["KUBE-SERVICES".to_owned()],
        ..Rules::default()
    };
    let facts = Facts {
        firewall: Some(Firewall {
            nft: Some(left),
            ..Firewall::default()
        }),
        ..sound()
    };
    let told = result(&facts, "other-chains");
    assert_eq!(told.level, Level::Warn);
    assert!(told.seen.contains("KUBE-SERVICES"), "{told:?}");
    assert_eq!(result(&sound(), "other-chains").level, Level::Pass);
    let node = Facts {
        installed: true,
        ..facts
    };
    assert_eq!(result(&node, "other-chains").level, Level::NotApplicable);
}

#[test]
fn a_firewall_is_told_with_what_it_drops() {
    let with = |text: &str, active: &[&str], reads_nftables| {
        let mut facts = sound();
        facts.wanted.role = Role::Worker;
        facts.firewall = Some(Firewall {
            hooks: hooks("iptables-save", text),
            reads_nftables,
            ..Firewall::default()
        });
        facts.system.firewalls = active.iter().map(|&name| name.to_owned()).collect();
        result(&facts, "firewall")
    };
    let told = with(
        "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 179 -j ACCEPT\n",
        &[],
        true,
    );
    assert_eq!(told.level, Level::Warn);
    assert!(
        told.seen
            .contains("TCP 10250, TCP 20000-40000, UDP 20000-40000"),
        "{told:?}"
    );
    assert!(
        told.seen.contains("(the policy of INPUT in iptables-save)"),
        "{told:?}"
    );
    assert!(!told.seen.contains("179"), "{told:?}");

    let told = with(
        "*filter\n:INPUT DROP [0:0]\n-A INPUT -s 192.0.2.0/24 -j ACCEPT\n",
        &[],
        true,
    );
    assert_eq!(told.level, Level::Warn);
    assert!(told.seen.contains("cannot tell"), "{told:?}");

    let open = "*filter\n:INPUT DROP [0:0]\n-A INPUT -j ACCEPT\n";
    assert_eq!(with(open, &["ufw"], false).level, Level::Pass);
    assert_eq!(with(open, &["firewalld"], true).level, Level::Pass);
    let told = with(open, &["firewalld"], false);
    assert_eq!(told.level, Level::Warn);
    assert!(
        told.seen.contains("cannot be read without the program nft"),
        "{told:?}"
    );
}

#[test]
fn a_docker_that_hangs_is_refused() {
    let with = |running| Facts {
        docker: Docker {
            running,
            ..Docker::default()
        },
        ..sound()
    };
    let hangs = result(&with(Running::Hangs), "docker-answers");
    assert_eq!(hangs.level, Level::Fail);
    assert!(
        hangs.command.contains("systemctl restart docker"),
        "{hangs:?}"
    );
    for (running, level) in [
        (Running::Unknown, Level::NotApplicable),
        (Running::Stopped, Level::Pass),
        (Running::Answers(Info::default()), Level::Pass),
    ] {
        assert_eq!(result(&with(running), "docker-answers").level, level);
    }
}

#[test]
fn a_docker_that_runs_with_another_cgroup_driver_than_its_settings_say_is_refused() {
    let with = |driver: &str| {
        let info = Info {
            cgroup_driver: driver.to_owned(),
            ..Info::default()
        };
        Facts {
            docker: Docker {
                running: Running::Answers(info),
                ..Docker::default()
            },
            ..sound()
        }
    };
    let other = result(&with("systemd"), "docker-cgroup-driver");
    assert_eq!(other.level, Level::Fail);
    assert!(
        other.command.contains("native.cgroupdriver=systemd"),
        "{other:?}"
    );
    for same in ["cgroupfs", ""] {
        assert_eq!(
            result(&with(same), "docker-cgroup-driver").level,
            Level::Pass
        );
    }
}

#[test]
fn too_little_room_is_told_with_the_numbers() {
    let with = |free, files| Facts {
        room: Some(vec![Room {
            place: "/opt/appliance".to_owned(),
            needed: 1 << 30,
            free,
            files,
        }]),
        ..sound()
    };
    let short = result(&with(1 << 30, None), "space");
    assert_eq!(short.level, Level::Fail);
    let words = "needs 1024 MiB and 256 MiB to spare, but only 1024 MiB are free";
    assert!(short.seen.contains(words), "{short:?}");
    assert_eq!(result(&with(4 << 30, None), "space").level, Level::Pass);
    assert_eq!(
        result(&with(4 << 30, Some(900)), "inodes").level,
        Level::Warn
    );
    assert_eq!(
        result(&with(4 << 30, Some(900_000)), "inodes").level,
        Level::Pass
    );
    assert_eq!(
        result(&with(4 << 30, None), "inodes").level,
        Level::NotApplicable
    );
}

#[test]
fn a_bridge_of_docker_with_the_address_of_the_node_is_refused() {
    let facts = Facts {
        wanted: Wanted {
            address: Some([172, 17, 3, 4].into()),
            ..sound().wanted
        },
        ..sound()
    };
    let told = result(&facts, "docker-networks");
    assert_eq!(told.level, Level::Fail);
    assert!(
        told.seen.contains("172.17.0.0/16") && told.seen.contains("172.17.3.4"),
        "{told:?}"
    );
}
