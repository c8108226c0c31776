//! Plans for a running system, and the programs that they run, without such a system.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::Result;
use appliance::apply::Executor;
use appliance::clients::docker::Docker;
use appliance::desired::{Content, Desired, File, Objects, ProgramOf, Purpose, RunningService};
use appliance::nodespec::{Profile, Role, Shape};
use appliance::observe::records;
use appliance::pki::Secret;
use appliance::plan::{Current, CurrentFile, Live, OBJECTS, Plan, Step, UnitState};
use appliance::records::images::NodeImage;
use appliance::removal::teardown;
use appliance::sys::change::Change;
use appliance::sys::process::{Command, Output, Runner};
use appliance::sys::root::Root;

/// The step that gives the cluster its objects.
pub const APPLY: &str = "apply /etc/kubernetes/appliance-objects.yaml to the cluster";

fn service(name: &'static str, needs_images: bool) -> RunningService {
    RunningService {
        name,
        program: ProgramOf::Machine,
        needs_images,
        image: None,
        may_end: false,
        files: vec![format!("/etc/{name}")],
        inputs: format!("inputs of {name}"),
    }
}

pub fn desired() -> Desired {
    Desired {
        bundle: "d1".to_owned(),
        directories: vec![],
        files: vec![],
        links: vec![],
        modules: vec!["br_netfilter".to_owned()],
        sysctls: vec![(
            "net.bridge.bridge-nf-call-iptables".to_owned(),
            "1".to_owned(),
        )],
        images: vec![NodeImage {
            reference: "example.org/calico/node:v2.6.2".to_owned(),
            id: "sha256:ab".to_owned(),
            tarball: "/opt/appliance/current/images/calico-node.tar".to_owned(),
        }],
        services: vec![
            service("etcd", false),
            service("docker", false),
            service("kube-calico", true),
        ],
        users: vec![],
        tokens: vec![],
        kubelet_server: None,
        etcd: None,
        objects: Some(Objects {
            path: "/etc/kubernetes/appliance-objects.yaml".to_owned(),
            digest: "o1".to_owned(),
        }),
    }
}

/// A machine on which everything runs as desired.
fn running() -> Current {
    let desired = desired();
    let services = desired.services.iter();
    let started_with = services.map(|s| (s.name.to_owned(), s.inputs.clone()));
    Current {
        bundle_is_whole: true,
        program_is_there: true,
        started_with: started_with
            .chain([(OBJECTS.to_owned(), "o1".to_owned())])
            .collect(),
        live: Some(Live {
            modules: desired.modules.iter().cloned().collect(),
            sysctls: desired.sysctls.iter().cloned().collect(),
            units: desired
                .services
                .iter()
                .map(|s| (s.name.to_owned(), UnitState::Running))
                .collect(),
            images: Some(
                desired
                    .images
                    .iter()
                    .map(|i| (i.reference.clone(), i.id.clone()))
                    .collect(),
            ),
            ..Live::default()
        }),
        ..Current::default()
    }
}

fn steps(current: &Current) -> Vec<String> {
    Plan::build(&desired(), current)
        .steps
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn with_live(change: impl Fn(&mut Live)) -> Vec<String> {
    let mut current = running();
    change(current.live.as_mut().unwrap());
    steps(&current)
}

#[test]
fn a_machine_that_runs_as_desired_has_an_empty_plan() {
    assert_eq!(steps(&running()), Vec::<String>::new());
}

#[test]
fn a_service_that_ends_by_itself_is_left_to_do_so_while_nobody_needs_it() {
    let mut desired = desired();
    desired.services = vec![RunningService {
        may_end: true,
        ..service("appliance-join", false)
    }];
    let plan = |state, any_live_token| {
        let mut current = running();
        current.any_live_token = any_live_token;
        let live = current.live.as_mut().unwrap();
        live.units.insert("appliance-join".to_owned(), state);
        let plan = Plan::build(&desired, &current);
        plan.steps
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    // A boot starts it; it checks for a token and ends.
    for state in [UnitState::Running, UnitState::Stopped] {
        assert_eq!(plan(state, false), Vec::<String>::new(), "{state:?}");
    }
    assert_eq!(plan(UnitState::Stopped, true), ["start appliance-join"]);
    assert_eq!(plan(UnitState::Running, true), ["restart appliance-join"]);
}

#[test]
fn a_service_that_was_started_with_other_inputs_is_restarted() {
    let mut current = running();
    current
        .started_with
        .insert("etcd".to_owned(), "older".to_owned());
    assert_eq!(steps(&current), ["restart etcd"]);
    // Also if a run was interrupted between writing the files and restarting.
    current.started_with.clear();
    assert_eq!(
        steps(&current),
        [
            "restart etcd",
            "restart docker",
            APPLY,
            "restart kube-calico",
            "restart the containers calico-kube-controllers",
        ]
    );
}

/// It reads the address of the API server from the file that it wrote itself when it joined.
#[test]
fn a_kubelet_that_would_look_for_the_api_server_where_it_was_is_pointed_and_restarted() {
    let mut desired = desired();
    desired.services.push(service("kubelet", false));
    desired.kubelet_server = Some("https://192.168.2.102:6443".to_owned());
    let mut current = running();
    let inputs = "inputs of kubelet".to_owned();
    current.started_with.insert("kubelet".to_owned(), inputs);
    let live = current.live.as_mut().unwrap();
    live.units.insert("kubelet".to_owned(), UnitState::Running);
    let words = |current: &Current| Plan::build(&desired, current).words();
    assert!(words(&current).is_empty());
    let kubeconfig = |server: &str| Some(format!("    server: {server}\n").into_bytes());
    current.kubelet_kubeconfig = kubeconfig("https://192.168.2.102:6443");
    assert!(words(&current).is_empty());
    current.kubelet_kubeconfig = kubeconfig("https://192.168.1.102:6443");
    let expected = [
        "change /etc/kubernetes/kubelet.kubeconfig (0600)",
        "restart kubelet",
    ];
    assert_eq!(words(&current), expected);
    // Not one without the other.
    let renewal = Plan::build(&desired, &current).of_renewal();
    assert_eq!(renewal.words(), expected);
}

/// It may have been restarted with the edit, too.
#[test]
fn a_service_whose_file_someone_edited_is_restarted() {
    let file = |path: &str| File {
        path: path.to_owned(),
        mode: 0o644,
        content: Content::Whole(b"ours".to_vec()),
        purpose: Purpose::Unit,
    };
    let desired = Desired {
        files: vec![file("/etc/etcd"), file("/etc/docker")],
        ..desired()
    };
    let mut current = running();
    for (path, content) in [("/etc/etcd", "edited"), ("/etc/docker", "ours")] {
        let found = CurrentFile {
            mode: 0o644,
            sha256: Content::Whole(content.into()).sha256(),
            content: Some(content.into()),
            is_owned: true,
            is_edited: true,
            copy: None,
        };
        current.files.insert(path.to_owned(), found);
    }
    let plan = Plan::build(&desired, &current);
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "keep /etc/etcd, which someone else wrote or changed, as /etc/etcd.appliance-old",
            "change /etc/etcd (0644)",
            "reload systemd's units",
            "restart etcd",
        ]
    );
}

#[test]
fn a_stopped_service_is_started() {
    let stopped = with_live(|live| {
        live.units.insert("etcd".to_owned(), UnitState::Stopped);
    });
    assert_eq!(stopped, ["start etcd"]);
}

/// Workers request certificates while the master loads images, so the roles must exist.
#[test]
fn objects_are_applied_and_images_loaded_when_docker_runs_and_before_images_are_needed() {
    let fresh = Current {
        live: Some(Live::default()),
        ..Current::default()
    };
    assert_eq!(
        steps(&fresh),
        [
            "unpack bundle d1",
            "install /usr/local/bin/appliance",
            "load kernel module br_netfilter",
            "set net.bridge.bridge-nf-call-iptables = 1",
            "start etcd",
            "start docker",
            APPLY,
            "load image example.org/calico/node:v2.6.2",
            "start kube-calico",
        ]
    );
}

#[test]
fn another_image_under_the_same_reference_is_replaced() {
    let other = with_live(|live| {
        let reference = "example.org/calico/node:v2.6.2".to_owned();
        live.images = Some(BTreeMap::from([(reference, "sha256:cd".to_owned())]));
    });
    assert_eq!(other, ["load image example.org/calico/node:v2.6.2"]);
}

/// Records the commands instead of running them. Docker has no image but two containers, and
/// `fails` returns an error.
#[derive(Default)]
pub struct Recorder {
    pub ran: Mutex<Vec<String>>,
    pub fails: Option<&'static str>,
}

impl Runner for Recorder {
    fn run(&self, command: &Command) -> Result<Output> {
        let line = command.to_string();
        let has_loaded = self
            .ran
            .lock()
            .unwrap()
            .iter()
            .any(|ran| ran.contains(" load "));
        let lacks = line.contains("inspect") && !has_loaded;
        let fails = self.fails.is_some_and(|part| line.contains(part)) || lacks;
        let containers = if line.contains(" ps ") {
            "c1\nc2\n"
        } else if line.contains("inspect") {
            "sha256:ab"
        } else {
            ""
        };
        self.ran.lock().unwrap().push(line);
        let code = Some(i32::from(fails));
        Ok(Output {
            code,
            stdout: containers.to_owned(),
            stderr: "no such luck".to_owned(),
        })
    }
}

fn carry_out(root: &Root, recorder: &Recorder) -> Result<()> {
    let mut plan = Plan::build(
        &desired(),
        &Current {
            live: Some(Live::default()),
            ..Current::default()
        },
    );
    // The kernel's settings are those of the test machine.
    plan.steps
        .retain(|step| matches!(step, Step::Start { .. } | Step::LoadImage(_)));
    carry_out_plan(root, recorder, &plan)
}

#[test]
fn a_simple_node_is_taken_down_and_nothing_of_worth_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let put = |path: &str| root.write(path, b"data", 0o600).unwrap();
    for path in [
        "/var/lib/etcd/member/wal",
        "/var/lib/kubelet/pods/a/volume",
        "/var/lib/kubelet/config",
        "/etc/kubernetes/kubelet.kubeconfig",
        "/var/lib/appliance/state.json",
        "/etc/kubernetes/ca/ca-key.pem",
    ] {
        put(path);
    }
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("kept"), "").unwrap();
    let link = dir.path().join("var/lib/kubelet/link");
    std::os::unix::fs::symlink(outside.path(), link).unwrap();
    let recorder = Recorder::default();
    let shape = Shape {
        role: Role::Single,
        profile: Profile::Simple,
        balanced: false,
    };
    let plan = Plan::of_removal(teardown(shape, "now"));
    carry_out_plan(&root, &recorder, &plan).unwrap();
    let ran = recorder.ran.lock().unwrap().clone();
    let stopped: Vec<&str> = ran
        .iter()
        .filter_map(|command| command.strip_prefix("systemctl stop "))
        .collect();
    assert_eq!(stopped.first(), Some(&"appliance-etcd.timer"));
    assert!(stopped.contains(&"kube-proxy.service"), "{stopped:?}");
    let last = ["etcd.service", "appliance-machine.service"];
    assert!(stopped.ends_with(&last), "{stopped:?}");
    assert!(!stopped.contains(&"docker.service"), "{stopped:?}");
    for command in [
        "/usr/bin/docker ps --quiet --all --filter=label=io.kubernetes.pod.uid",
        "/usr/bin/docker rm --force --volumes c1 c2",
    ] {
        assert!(ran.iter().any(|ran| ran == command), "{ran:?}");
    }
    let aside = "/var/lib/etcd.simple-now/member/wal";
    assert_eq!(root.read(aside).unwrap().unwrap(), b"data");
    for gone in [
        "/var/lib/etcd",
        "/var/lib/kubelet/pods",
        "/var/lib/kubelet/link",
        "/etc/kubernetes/kubelet.kubeconfig",
        "/var/lib/appliance/state.json",
    ] {
        assert!(!root.exists(gone).unwrap(), "{gone}");
    }
    assert!(root.exists("/etc/kubernetes/ca/ca-key.pem").unwrap());
    assert!(outside.path().join("kept").exists(), "a link was followed");
    // Interrupted after any step and run again, it completes.
    carry_out_plan(&root, &recorder, &plan).unwrap();
}

#[test]
fn what_reads_certificates_only_when_it_starts_is_started_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (root, recorder) = (Root::open(dir.path()).unwrap(), Recorder::default());
    let steps = vec![Step::EndContainers("calico-kube-controllers")];
    carry_out_plan(&root, &recorder, &Plan { steps }).unwrap();
    let named = "--filter=label=io.kubernetes.container.name=calico-kube-controllers";
    assert_eq!(
        *recorder.ran.lock().unwrap(),
        [
            format!("/usr/bin/docker ps --quiet {named}"),
            "/usr/bin/docker stop --time=1 c1 c2".to_owned(),
        ]
    );
}

fn carry_out_plan(root: &Root, recorder: &Recorder, plan: &Plan) -> Result<()> {
    Executor {
        root,
        runner: recorder,
        docker: &Docker::new("/usr/bin/docker"),
        unpack: &|_, _| Ok(()),
        install_program: &|_| Ok(()),
        command: None,
        at_once: 1,
        watch: None,
    }
    .run(plan)
}

#[test]
fn a_file_that_appeared_after_the_plan_was_made_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let write = |content: &str, new: bool| Step::WriteFile {
        path: "/etc/kubernetes/ca/ca-key.pem".to_owned(),
        mode: 0o600,
        content: Content::Secret(Secret::new(content.into())),
        replaces: None,
        new,
        purpose: Purpose::Identity,
    };
    let run = |step: Step| carry_out_plan(&root, &Recorder::default(), &Plan { steps: vec![step] });
    run(write("one run's key", true)).unwrap();
    let error = format!("{:#}", run(write("another run's key", true)).unwrap_err());
    assert!(
        error.contains("File exists") && !error.contains("run's key"),
        "{error}"
    );
    assert_eq!(
        root.read("/etc/kubernetes/ca/ca-key.pem").unwrap().unwrap(),
        b"one run's key"
    );
}

#[test]
fn only_docker_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (root, recorder) = (Root::open(dir.path()).unwrap(), Recorder::default());
    carry_out(&root, &recorder).unwrap();
    let image = root
        .resolve("/opt/appliance/current/images/calico-node.tar")
        .unwrap();
    assert_eq!(
        *recorder.ran.lock().unwrap(),
        [
            "systemctl --no-block start etcd.service".to_owned(),
            "systemctl start docker.service".to_owned(),
            "/usr/bin/docker inspect --type=image --format={{.Id}} example.org/calico/node:v2.6.2"
                .to_owned(),
            "/usr/bin/docker images --quiet --no-trunc example.org/calico/node:v2.6.2".to_owned(),
            "/usr/bin/docker inspect --type=image --format={{.Id}} example.org/calico/node:v2.6.2"
                .to_owned(),
            format!("/usr/bin/docker load --input {}", image.display()),
            "/usr/bin/docker inspect --type=image --format={{.Id}} example.org/calico/node:v2.6.2"
                .to_owned(),
            "systemctl --no-block start kube-calico.service".to_owned(),
        ]
    );
    assert_eq!(records::started_with(&root).unwrap().len(), 3);
}

#[test]
fn a_step_that_fails_is_named_and_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder {
        fails: Some("start docker"),
        ..Recorder::default()
    };
    let root = Root::open(dir.path()).unwrap();
    let error = format!("{:#}", carry_out(&root, &recorder).unwrap_err());
    assert!(error.contains("step 2 of 4: start docker"), "{error}");
    assert!(
        error.contains("`systemctl start docker.service` ended with status 1: no such luck"),
        "{error}"
    );
    // Started services are recorded; the others are tried again.
    let started = records::started_with(&root).unwrap();
    assert_eq!(started.keys().collect::<Vec<_>>(), ["etcd"]);
}
