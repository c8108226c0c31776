//! What is applied to the cluster and what `appliance status` shows of it, with recorded answers of
//! kubectl instead of a cluster.

use std::sync::Mutex;

use anyhow::Result;
use appliance::addons::Addon;
use appliance::apply::{addons, images};
use appliance::bundle::manifest::Manifest;
use appliance::check::facts;
use appliance::clients::calicoctl;
use appliance::clients::docker::Docker;
use appliance::observe::records;
use appliance::status::{AddonReport, InstalledNode, Overall};
use appliance::sys::change::Change;
use appliance::sys::lock::{Busy, Lock, Patience};
use appliance::sys::process::{Command, Output, Runner};
use appliance::sys::root::Root;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::harness::Machine;

const NODES: &str = r#"{"items": [{"metadata": {"name": "server01"}, "spec": {}, "status": {
    "addresses": [{"type": "InternalIP", "address": "192.168.1.101"}],
    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}]}"#;

/// A cluster with these answers of kubectl: a part of the command line, the exit code, the output.
#[derive(Default)]
struct Cluster {
    answers: Vec<(&'static str, i32, String)>,
    ran: Mutex<Vec<String>>,
    /// How many requests for each add-on come before it is available.
    delay: usize,
}

impl Cluster {
    fn answering(answers: &[(&'static str, i32, &str)]) -> Cluster {
        let own = |&(part, code, text): &(&'static str, i32, &str)| (part, code, text.to_owned());
        Cluster {
            answers: answers.iter().map(own).collect(),
            ..Cluster::default()
        }
    }

    fn applied(&self) -> Vec<String> {
        let ran = self.ran.lock().unwrap();
        let files = ran.iter().filter_map(|line| line.split_once("apply -f "));
        files
            .map(|(_, path)| path.rsplit('/').next().unwrap().to_owned())
            .collect()
    }
}

impl Runner for Cluster {
    fn run(&self, command: &Command) -> Result<Output> {
        let line = command.to_string();
        let seen = self
            .ran
            .lock()
            .unwrap()
            .iter()
            .filter(|ran| **ran == line)
            .count();
        self.ran.lock().unwrap().push(line.clone());
        let fitting = self.answers.iter().find(|(part, ..)| line.contains(part));
        let (code, text) = match fitting {
            Some((_, code, text)) => (*code, text.clone()),
            None if line.contains("get -f") => {
                (0, deployment(u64::from(seen >= self.delay)).to_string())
            }
            None => (0, r#"{"items": []}"#.to_owned()),
        };
        let (stdout, stderr) = if code == 0 {
            (text, String::new())
        } else {
            (String::new(), text)
        };
        Ok(Output {
            code: Some(code),
            stdout,
            stderr,
        })
    }
}

fn deployment(available: u64) -> Value {
    json!({"kind": "Deployment", "metadata": {"name": "d", "namespace": "kube-system"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "d"}}},
        "status": {"availableReplicas": available, "updatedReplicas": 1}})
}

fn root_with(addons: &[Addon]) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let index = serde_json::to_vec(addons).unwrap();
    root.write("/etc/kubernetes/addons/index.json", &index, 0o644)
        .unwrap();
    (dir, root)
}

fn addon(name: &str, after: &[&str]) -> Addon {
    Addon {
        name: name.to_owned(),
        path: format!("/etc/kubernetes/addons/{name}.yaml"),
        digest: format!("digest of {name}"),
        after: after.iter().map(|&a| a.to_owned()).collect(),
    }
}

#[test]
fn each_is_applied_once_and_after_what_it_needs_is_available() {
    let (_dir, root) = root_with(&[addon("dns", &[]), addon("app", &["dns"])]);
    let cluster = Cluster {
        delay: 1,
        ..Cluster::answering(&[("get nodes", 0, NODES)])
    };
    addons::settle(&root, &cluster).unwrap();
    assert_eq!(cluster.applied(), ["dns.yaml", "app.yaml"]);
    let ran = cluster.ran.lock().unwrap();
    let place = |part: &str| ran.iter().position(|line| line.contains(part)).unwrap();
    let looks: Vec<usize> = (0..ran.len())
        .filter(|&i| ran[i].contains("get -f /etc/kubernetes/addons/dns.yaml"))
        .collect();
    assert!(
        looks[1] < place("apply -f /etc/kubernetes/addons/app.yaml"),
        "{ran:?}"
    );
    let notes = appliance::observe::addons::notes(&root).unwrap();
    assert_eq!(notes["app"].applied.as_deref(), Some("digest of app"));
}

const REFUSAL: &str = "The Service \"app\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated";

/// A master that was installed long before the recorded answers of the cluster.
fn reported(
    answers: &[(&'static str, i32, &str)],
    settings: &[&str],
) -> (Overall, Vec<AddonReport>) {
    let machine = Machine::new();
    machine.installed(settings);
    let root = Root::open(&machine.root()).unwrap();
    let note = json!({"kube-dns": {"refused": null}});
    root.write(
        "/var/lib/appliance/addons.json",
        note.to_string().as_bytes(),
        0o644,
    )
    .unwrap();
    report(&root, answers)
}

fn report(root: &Root, answers: &[(&'static str, i32, &str)]) -> (Overall, Vec<AddonReport>) {
    let state = records::state(root).unwrap().unwrap();
    let path = "/opt/appliance/current/manifest.json";
    let manifest = Manifest::parse(&root.read(path).unwrap().unwrap()).unwrap();
    let cluster = Cluster::answering(answers);
    let docker = Docker::new("/usr/bin/docker");
    let node = InstalledNode::with(root, &cluster, &state, manifest, docker);
    let now = OffsetDateTime::now_utc();
    let report = node.report(now).unwrap();
    let report = report.with_cluster(node.cluster(now).unwrap());
    (report.overall, report.addons)
}

#[track_caller]
fn dns(addons: &[AddonReport]) -> (String, Option<String>) {
    let dns = addons
        .iter()
        .find(|addon| addon.name == "kube-dns")
        .unwrap();
    (dns.state.clone(), dns.problem.clone())
}

#[test]
fn what_is_available_is_told() {
    let (_, addons) = reported(&[("get nodes", 0, NODES)], &[]);
    let names: Vec<&str> = addons.iter().map(|addon| addon.name.as_str()).collect();
    assert_eq!(names, ["calico", "kube-dns"]);
    assert_eq!(dns(&addons), ("available, 1 of 1".to_owned(), None));
}

#[test]
fn without_a_node_for_pods_add_ons_wait_and_that_is_no_problem() {
    let lacking = deployment(0).to_string();
    let answers = [
        ("get nodes", 0, r#"{"items": []}"#),
        ("get -f", 0, lacking.as_str()),
    ];
    let (state, problem) = dns(&reported(&answers, &[]).1);
    assert_eq!(state, "waiting: 0 of 1 available: no node can run pods yet");
    assert_eq!(problem, None);
    let silent = [("get nodes", 1, "connection refused")];
    let (state, problem) = dns(&reported(&silent, &[]).1);
    assert_eq!(
        (state.as_str(), problem),
        ("the API server does not answer", None)
    );
}

#[test]
fn a_dns_image_that_no_node_has_is_a_problem_with_its_name() {
    let pods = json!({"items": [{
        "metadata": {"name": "d-1", "namespace": "kube-system", "labels": {"app": "d"}},
        "spec": {"nodeName": "server01"},
        "status": {"containerStatuses": [{"name": "kubedns", "image": "example.org/kube-dns:1.14.5",
            "state": {"waiting": {"reason": "ErrImagePull"}}}]}}]});
    let (lacking, pods) = (deployment(0).to_string(), pods.to_string());
    let answers = [
        ("get nodes", 0, NODES),
        ("get -f", 0, lacking.as_str()),
        ("get pods", 0, pods.as_str()),
    ];
    let (overall, addons) = reported(&answers, &[]);
    let (state, problem) = dns(&addons);
    assert_eq!(state, "stuck");
    let problem = problem.unwrap();
    assert!(
        problem.contains("image example.org/kube-dns:1.14.5 is missing on node server01"),
        "{problem}"
    );
    assert_eq!(overall, Overall::Degraded);
}

#[test]
fn what_is_late_is_a_problem_that_says_where_to_look() {
    let answers = [
        ("get nodes", 0, NODES),
        (
            "get -f",
            1,
            "Error from server (NotFound): deployments.apps \"kube-dns\" not found",
        ),
    ];
    let (state, problem) = dns(&reported(&answers, &[]).1);
    assert_eq!(state, "waiting: not applied yet");
    assert_eq!(
        problem.as_deref(),
        Some("see journalctl -u appliance-addons")
    );
}

#[test]
fn what_the_api_server_refuses_is_explained_in_status() {
    let machine = Machine::new();
    machine.installed(&[]);
    let root = Root::open(&machine.root()).unwrap();
    let note = json!({"kube-dns": {"refused": REFUSAL}});
    root.write(
        "/var/lib/appliance/addons.json",
        note.to_string().as_bytes(),
        0o644,
    )
    .unwrap();
    let (state, problem) = dns(&report(&root, &[("get nodes", 0, NODES)]).1);
    assert_eq!(state, "refused");
    assert!(problem.unwrap().contains("already allocated"));
}

#[test]
fn images_that_docker_lost_are_loaded_again_and_only_those() {
    let machine = Machine::new();
    machine.installed(&["--role", "single"]);
    let root = Root::open(&machine.root()).unwrap();
    let wanted = records::images(&root).unwrap();
    assert!(wanted.len() > 5, "{wanted:?}");
    let all = wanted
        .iter()
        .map(|image| (image.reference.clone(), image.id.clone()));
    let (lost, has) = all.partition(|(reference, _)| reference.contains("pause"));
    let docker = Lossy {
        has: Mutex::new(has),
        lost: Mutex::new(lost),
        ran: Mutex::default(),
    };
    let ensure = |docker| images::ensure(&root, docker, &Docker::new("docker"), Patience::None);
    let other_run = Lock::take(&root, Patience::None).unwrap();
    let busy = ensure(&docker).unwrap_err();
    assert!(busy.is::<Busy>(), "{busy:#}");
    drop(other_run);
    ensure(&docker).unwrap();
    let ran = docker.ran.lock().unwrap();
    let loads: Vec<&String> = ran
        .iter()
        .filter(|line| line.contains("load --input"))
        .collect();
    assert_eq!(loads.len(), 1, "{ran:?}");
    assert!(loads[0].ends_with("/images/pause.tar"), "{loads:?}");
}

#[test]
fn a_look_at_the_images_asks_docker_once_and_locks_nothing() {
    let machine = Machine::new();
    machine.installed(&["--role", "single"]);
    let root = Root::open(&machine.root()).unwrap();
    let wanted = records::images(&root).unwrap();
    let docker = Whole {
        ids: wanted.iter().map(|image| image.id.clone()).collect(),
        ran: Mutex::default(),
    };
    let _other_run = Lock::take(&root, Patience::None).unwrap();
    let found = images::ensure(&root, &docker, &Docker::new("docker"), Patience::None).unwrap();
    assert_eq!(found, format!("docker has all {} images", wanted.len()));
    let ran = docker.ran.lock().unwrap();
    let inspections = ran.iter().filter(|line| line.contains("inspect"));
    assert_eq!(inspections.count(), 1, "{ran:?}");
}

/// A docker that has all images that it is asked for.
struct Whole {
    ids: Vec<String>,
    ran: Mutex<Vec<String>>,
}

impl Runner for Whole {
    fn run(&self, command: &Command) -> Result<Output> {
        self.ran.lock().unwrap().push(command.to_string());
        Ok(Output {
            code: Some(0),
            stdout: self.ids.join("\n"),
            stderr: String::new(),
        })
    }
}

/// A docker that has images, and lost others. It has all after it loaded one.
struct Lossy {
    has: Mutex<Vec<(String, String)>>,
    lost: Mutex<Vec<(String, String)>>,
    ran: Mutex<Vec<String>>,
}

impl Runner for Lossy {
    fn run(&self, command: &Command) -> Result<Output> {
        let line = command.to_string();
        if line.contains("load --input") {
            self.has
                .lock()
                .unwrap()
                .append(&mut self.lost.lock().unwrap());
        }
        let has = self.has.lock().unwrap();
        let image = has
            .iter()
            .find(|(reference, _)| line.ends_with(reference.as_str()));
        let is_inspection = line.contains("inspect");
        self.ran.lock().unwrap().push(line);
        Ok(Output {
            code: Some(i32::from(is_inspection && image.is_none())),
            stdout: image.map_or(String::new(), |(_, id)| id.clone()),
            stderr: String::new(),
        })
    }
}

#[test]
fn what_the_real_programs_print_is_understood() {
    let cluster = Cluster::answering(&[
        (
            "version --short",
            0,
            "Client Version: v1.9.0\nServer Version: v1.9.0\n",
        ),
        (
            "get componentstatuses",
            0,
            r#"{"items": [{"metadata": {"name": "etcd-0"}, "conditions": [{"type": "Healthy",
                "status": "True", "message": "{\"health\": \"true\"}"}]},
               {"metadata": {"name": "scheduler"}, "conditions": [{"type": "Healthy", "status": "False",
                "error": "dial tcp 127.0.0.1:10251: getsockopt: connection refused"}]}]}"#,
        ),
        ("get nodes", 0, NODES),
        (
            "get ipPool",
            0,
            r#"[{"kind": "ipPool", "apiVersion": "v1", "metadata": {"cidr": "172.20.0.0/16"},
                "spec": {"nat-outgoing": true}},
               {"kind": "ipPool", "apiVersion": "v1", "metadata": {"cidr": "fd80:24e2:f998:72d6::/64"}, "spec": {}}]"#,
        ),
    ]);
    assert_eq!(facts::versions(&cluster).unwrap().server, "v1.9.0");
    let components = facts::components(&cluster).unwrap();
    assert!(components[0].healthy && !components[1].healthy);
    assert!(components[1].message.contains("connection refused"));
    let nodes = facts::nodes(&cluster).unwrap();
    assert_eq!(
        (nodes[0].address.as_str(), nodes[0].ready),
        ("192.168.1.101", true)
    );
    let pools = calicoctl::pools(&cluster).unwrap();
    let cidrs: Vec<&str> = pools.iter().map(|pool| pool.cidr.as_str()).collect();
    assert_eq!(cidrs, ["172.20.0.0/16"]);
}
