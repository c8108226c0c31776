//! The order of a removal, and what stays.

use super::*;

fn member(healthy: &[&str]) -> Membership {
    Membership {
        id: "a1".to_owned(),
        name: "server02".to_owned(),
        members: 3,
        healthy: healthy.iter().map(|&name| name.to_owned()).collect(),
    }
}

/// A node that has everything.
fn everything() -> Found {
    let text = |text: &str| vec![text.to_owned()];
    Found {
        is_node: true,
        is_live: true,
        joined: Some("server01".to_owned()),
        running: vec!["kubelet.service".to_owned(), DOCKER_UNIT.to_owned()],
        known: text("kubelet.service"),
        docker: Docker::Answers {
            pods: true,
            containers: text("calico-node"),
            images: text("pause"),
        },
        mounts: text("/var/lib/kubelet/pods/a/volume"),
        tables: vec![Tables {
            save: "save".to_owned(),
            restore: "restore".to_owned(),
            rules: 2,
            chains: 3,
        }],
        sets: text("cali4-a"),
        interfaces: text("cali1"),
        files: text("/etc/systemd/system/kubelet.service"),
        trees: text("/var/lib/kubelet/pods"),
        parts: text("/etc/hosts"),
        directories: text("/etc/kubernetes"),
        data: text("/var/lib/etcd"),
        keys: text("/etc/kubernetes/ca"),
        users: text("appliance-join"),
        program: Some("/usr/local/bin/appliance".to_owned()),
        records: true,
        ..Found::default()
    }
}

fn wanted() -> Wanted {
    Wanted {
        copy: "/var/backups/copy.tar".to_owned(),
        stamp: "now".to_owned(),
        ..Wanted::default()
    }
}

fn told(found: &Found, wanted: &Wanted) -> Vec<String> {
    plan(found, wanted)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn all_goes_in_an_order_in_which_nothing_is_needed_any_more() {
    assert_eq!(
        told(&everything(), &wanted()),
        [
            "drain node server01",
            "stop kubelet.service",
            "remove the containers of all pods",
            "remove container calico-node",
            "remove image pause",
            "stop docker.service",
            "delete node server01 from the cluster",
            "unmount /var/lib/kubelet/pods/a/volume",
            "remove 2 rules and 3 chains of Kubernetes and Calico (restore)",
            "remove ipsets cali4-a",
            "remove interfaces cali1",
            "remove /var/lib/kubelet/pods",
            "remove /etc/systemd/system/kubelet.service",
            "remove this program's part of /etc/hosts",
            "reload systemd's units",
            "remove user appliance-join",
            "remove /usr/local/bin/appliance",
            "remove the directories of the node that are empty",
            "remove the records of this program",
        ]
    );
}

#[test]
fn data_and_keys_go_only_when_asked_and_after_a_copy() {
    let found = everything();
    let keeps: Vec<String> = kept(&found, &wanted())
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(keeps, ["/var/lib/etcd", "/etc/kubernetes/ca"]);
    let both = Wanted {
        data: true,
        keys: true,
        ..wanted()
    };
    assert!(kept(&found, &both).is_empty());
    let steps = told(&found, &both);
    let copy = "copy /var/lib/etcd, /etc/kubernetes/ca to /var/backups/copy.tar";
    let place = |wanted: &str| {
        steps
            .iter()
            .position(|step| step == wanted)
            .expect("a step")
    };
    assert!(place("stop kubelet.service") < place(copy));
    assert!(place(copy) < place("remove everything in /var/lib/etcd"));
    assert!(place(copy) < place("remove everything in /etc/kubernetes/ca"));
    // What an interrupted run has copied is not copied again: it may be half gone.
    let again = Found {
        copy: Some(LastCopy {
            path: "/var/backups/first.tar".to_owned(),
            of: vec!["/var/lib/etcd".to_owned(), "/etc/kubernetes/ca".to_owned()],
        }),
        ..found
    };
    assert!(!told(&again, &both).contains(&copy.to_owned()));
}

#[test]
fn a_member_leaves_etcd_first_and_its_data_is_put_aside() {
    let found = Found {
        etcd: Etcd::Member(member(&["server03", "server04"])),
        member: true,
        ..everything()
    };
    let steps = told(&found, &wanted());
    assert_eq!(
        steps[0],
        "leave etcd: remove member server02 (a1); server03, server04 stay"
    );
    let aside = "rename /var/lib/etcd/member to /var/lib/etcd/member.left-now";
    assert!(steps.contains(&aside.to_owned()), "{steps:?}");
    assert_eq!(
        kept(&found, &wanted())[0].0,
        "/var/lib/etcd/member.left-now"
    );
}

#[test]
fn a_docker_that_does_not_answer_keeps_its_records_and_nothing_else() {
    let found = Found {
        docker: Docker::Silent,
        stray_pods: true,
        ..everything()
    };
    let steps = told(&found, &wanted());
    let has = |wanted: &str| steps.iter().any(|step| step.contains(wanted));
    assert!(has("kill the processes of all pods") && !has("remove image"));
    assert!(has("/etc/systemd/system/kubelet.service"));
    assert!(!has("records of this program") && !has("/usr/local/bin/appliance"));
    let without = Wanted {
        without_docker: true,
        ..wanted()
    };
    assert!(told(&found, &without).contains(&"remove the records of this program".to_owned()));
}

#[test]
fn a_machine_without_a_node_loses_nothing() {
    let found = Found {
        is_node: false,
        records: false,
        directories: Vec::new(),
        ..everything()
    };
    assert!(plan(&found, &wanted()).is_empty());
    assert!(kept(&found, &wanted()).is_empty());
}

#[test]
fn a_second_run_has_nothing_to_do() {
    let found = Found {
        is_node: true,
        is_live: true,
        data: vec!["/var/lib/etcd".to_owned()],
        directories: vec!["/var/lib/etcd".to_owned()],
        ..Found::default()
    };
    assert!(plan(&found, &wanted()).is_empty());
}

#[test]
fn what_installs_a_machine_again_stays_when_it_becomes_a_node_at_once() {
    let boot = format!("{}/{BOOT_UNIT}", paths::UNITS_DIR);
    let link = format!("{}/multi-user.target.wants/{BOOT_UNIT}", paths::UNITS_DIR);
    let found = Found {
        files: vec![boot.clone(), link.clone(), paths::unit("kubelet.service")],
        ..everything()
    };
    let of_installer = |wanted: &Wanted| {
        let all = told(&found, wanted).into_iter();
        let is_of_it = |step: &String| step.contains(BOOT_UNIT) || step.contains(paths::PROGRAM);
        all.filter(is_of_it).count()
    };
    assert_eq!(of_installer(&wanted()), 3);
    let again = Wanted {
        becomes: Some(Role::Master),
        ..wanted()
    };
    assert_eq!(of_installer(&again), 0);
    assert!(
        told(&found, &again).contains(&"remove /etc/systemd/system/kubelet.service".to_owned())
    );
    // So a later reset removes the program, too.
    let forgets = |step: &&String| step.contains("records");
    assert_eq!(
        told(&found, &again).into_iter().find(|step| forgets(&step)),
        Some("remove the records of the node's role".to_owned())
    );
    // Of what stays, nothing is to be done again and again.
    let rest = Found {
        is_node: true,
        is_live: true,
        files: vec![boot, link],
        ..Found::default()
    };
    assert_eq!(told(&rest, &again), Vec::<String>::new());
    let commands = [&wanted(), &again].map(Wanted::command);
    assert_eq!(commands, ["reset", "node promote"]);
}
