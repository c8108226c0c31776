//! A node that leaves its cluster: what the API server is asked, and what etcd's members say.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use appliance::apply::Remover;
use appliance::clients::docker::Docker;
use appliance::observe::removal::etcd;
use appliance::paths;
use appliance::removal::{Etcd, Step};
use appliance::sys::change::Change;
use appliance::sys::process::System;
use appliance::sys::root::Root;
use serde_json::Value;

use crate::etcd::{Member, NAMES};
use crate::join::shared::Shared;

/// The pods of the node. Only the first has to go.
const PODS: &str = r#"{"items": [
    {"metadata": {"namespace": "shop", "name": "web"}, "status": {"phase": "Running"}},
    {"metadata": {"namespace": "shop", "name": "agent", "ownerReferences": [{"kind": "DaemonSet"}]}}
]}"#;

/// An API server that allows the eviction of the pod at the second request. Returns its URL, and what it was asked.
fn api_server() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &log);
        }
    });
    (url, asked)
}

fn answer(mut stream: TcpStream, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = request.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let evicts = |asked: &String| asked.ends_with("/eviction");
    let mut log = log.lock().unwrap();
    log.push(request.clone());
    let evictions = log.iter().filter(|asked| evicts(asked)).count();
    let options =
        serde_json::from_slice::<Value>(&body).unwrap_or_default()["deleteOptions"].take();
    let (status, body) = if evicts(&request) && !options.is_object() {
        // v1.9 would give the pod no time to end.
        ("500 Internal Server Error", "{}")
    } else if evicts(&request) && evictions == 1 {
        ("429 Too Many Requests", "{}")
    } else if request.starts_with("GET ") && evictions < 2 {
        ("200 OK", PODS)
    } else if request.starts_with("GET ") {
        ("200 OK", r#"{"items": []}"#)
    } else {
        ("200 OK", "{}")
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
}

/// A worker whose kubelet has that kubeconfig leaves its cluster.
fn leave(kubeconfig: &str, node: &str) {
    let dir = tempfile::tempdir().unwrap();
    let kubernetes = dir.path().join("etc/kubernetes");
    fs::create_dir_all(&kubernetes).unwrap();
    fs::write(kubernetes.join("kubelet.kubeconfig"), kubeconfig).unwrap();
    let (root, docker) = (
        Root::open(dir.path()).unwrap(),
        Docker::new("/nonexistent/docker"),
    );
    let remover = Remover {
        root: &root,
        runner: &System,
        docker: &docker,
    };
    for step in [
        Step::Drain(node.to_owned()),
        Step::DeleteNode(node.to_owned()),
    ] {
        remover.carry_out(&step).unwrap();
    }
}

#[test]
fn a_worker_moves_its_pods_and_deletes_its_node() {
    let (url, asked) = api_server();
    leave(
        &format!("clusters:\n- name: default\n  cluster:\n    server: {url}\nusers: []\n"),
        "server01",
    );
    let list = "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dserver01";
    let evict = "POST /api/v1/namespaces/shop/pods/web/eviction";
    assert_eq!(
        *asked.lock().unwrap(),
        [
            "PATCH /api/v1/nodes/server01",
            list,
            evict,
            list,
            evict,
            list,
            "DELETE /api/v1/nodes/server01",
        ]
    );
}

#[test]
fn a_cluster_that_does_not_answer_holds_nobody_up() {
    leave(
        "clusters:\n- name: default\n  cluster: {server: 'http://127.0.0.1:9'}\n",
        "a",
    );
}

/// What is left of a master's own records if somebody removed the program's directory.
fn has_units_only(root: &Root, own: &Member, all: &[Member]) {
    let unit = format!(
        "ConditionPathExists=!{}\nExecStart=docker run -e NODENAME=server04 -e IP={} -e ETCD_CERT_FILE=a \
         -e CALICO_IPV4POOL_CIDR=172.20.0.0/16\n",
        paths::COPY,
        own.address()
    );
    let members = all.iter().zip(NAMES);
    let members = members.map(|(member, name)| format!("{name}=https://{}:2380", member.address()));
    let members: Vec<String> = members.collect();
    let environment = format!("ETCD_INITIAL_CLUSTER={}\n", members.join(","));
    for (path, text) in [
        (&*paths::unit("kube-calico.service"), &unit),
        (&*paths::unit("etcd.service"), &unit),
        (paths::ETCD_ENVIRONMENT, &environment),
    ] {
        root.write(path, text.as_bytes(), 0o644).unwrap();
    }
}

#[test]
fn a_master_leaves_a_real_etcd_unless_the_others_would_have_no_majority() {
    let mut shared = Shared::new(13);
    for member in &mut shared.members {
        member.start_among(&[0, 1, 2]);
    }
    shared.members.iter().for_each(Member::wait_until_healthy);
    let root = shared.members[1].root();
    has_units_only(&root, &shared.members[1], &shared.members);
    let Etcd::Member(member) = etcd(&root).unwrap() else {
        panic!("it is a member")
    };
    let mut healthy = member.healthy.clone();
    healthy.sort();
    assert_eq!((&*member.name, member.members), (NAMES[1], 3));
    assert_eq!(healthy, [NAMES[0], NAMES[2]]);

    let docker = Docker::new("/nonexistent/docker");
    let remover = Remover {
        root: &root,
        runner: &System,
        docker: &docker,
    };
    let leave = Step::LeaveEtcd(member);
    shared.members[2].stop();
    // The others may have to elect a leader.
    shared.members[0].wait_until_healthy();
    let error = format!("{:#}", remover.carry_out(&leave).unwrap_err());
    assert!(
        error.contains("needs 2 that are healthy; it has 1 (server02)"),
        "{error}"
    );
    let members = |shared: &Shared| {
        let list = shared.members[0].etcdctl(&["member", "list"]).unwrap();
        list.lines().count()
    };
    assert_eq!(members(&shared), 3);

    shared.members[2].start_among(&[0, 1, 2]);
    shared.members[2].wait_until_healthy();
    remover.carry_out(&leave).unwrap();
    assert_eq!(members(&shared), 2);
    assert_eq!(etcd(&root).unwrap(), Etcd::Left);
    // An interrupted run does it again.
    remover.carry_out(&leave).unwrap();
    assert_eq!(members(&shared), 2);
}
