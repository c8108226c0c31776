//! Machines of an operator, who has more on them than a node. What they have is compared before they become nodes and
//! after they were reset.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use appliance_vm::cluster::Server;
use appliance_vm::image::Image;
use appliance_vm::machine::{Clock, Machine};
use appliance_vm::{container, genuine};

use crate::vms::{APPLIANCE, Bed, Flavor, address};

/// What the operator has.
const OPERATOR: &str = include_str!("operator.sh");
/// Prints everything that a node changes.
const STATE: &str = include_str!("state.sh");
/// Where this test has its files on a machine.
const PLACE: &str = "/run/test";
/// The program as the operator has it.
const PROGRAM: &str = "/root/appliance";
/// This limit only ends a run that hangs.
const LIMIT: Duration = Duration::from_secs(2400);
/// The containers of the operator: never started again, and never another one.
const CONTAINER: &str = "docker inspect --format '{{.Id}} {{.State.StartedAt}} {{.RestartCount}} {{.State.Status}}' mine";
/// Pods of the operator's image with every kind of volume.
const SHOP: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop", "namespace": "default"},
        "data": {"word": "c2VjcmV0"}},
    {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "namespace": "default"}, "spec": {
        "replicas": 4, "selector": {"matchLabels": {"app": "shop"}},
        "template": {"metadata": {"labels": {"app": "shop"}}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "shop", "image": "mine:1", "imagePullPolicy": "IfNotPresent",
                "command": ["/root/appliance", "check", "serve", "--port", "8090"],
                "env": [{"name": "NODE_NAME", "value": "shop"}],
                "volumeMounts": [{"name": "memory", "mountPath": "/memory"}, {"name": "scratch", "mountPath": "/scratch"},
                    {"name": "secret", "mountPath": "/secret"}, {"name": "mine", "mountPath": "/mine"}]}],
            "volumes": [{"name": "memory", "emptyDir": {"medium": "Memory"}}, {"name": "scratch", "emptyDir": {}},
                {"name": "secret", "secret": {"secretName": "shop"}},
                {"name": "mine", "hostPath": {"path": "/srv/mine"}}]}}}}
    ]}"#;
/// The pods of the shop that run, each with its node.
const SHOPS: &str = "HOME=/root kubectl get pods -l app=shop -o \
    jsonpath='{range .items[*]}{.spec.nodeName} {.status.phase} {.metadata.deletionTimestamp}{\"\\n\"}{end}'";

/// The machines, switched on. None is a node, and nothing makes one a node but this test.
pub fn switched_on(servers: &[Server], memory: u32) -> Bed {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let image = Image::ensure(&project.join("out/vm")).unwrap();
    let flavor = Flavor {
        memory,
        cpus: 2,
        clock: Clock::OfTheWall,
        beside: None,
    };
    let mut bed = Bed::of(&image, servers, &flavor, |_| "#cloud-config\n{}\n".into());
    let names = bed.cluster.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bed.switch_on(&names);
    let settings = settings(&bed, servers);
    for name in names {
        run(&mut bed, name, OPERATOR);
        let write = format!(
            "mkdir -p /etc/appliance; umask 077; cat >/etc/appliance/config.yaml <<'END'\n{settings}END"
        );
        bed.shell(name, &write);
        note(&mut bed, name, "before");
    }
    bed.say("the machines are the operator's");
    bed
}

/// The settings of all machines: their roles, and a token to join with.
fn settings(bed: &Bed, servers: &[Server]) -> String {
    let mut text = String::new();
    if container::are_wanted() {
        text += "ipip: off\n";
    }
    if servers.len() == 1 {
        return text;
    }
    text += "inventory:\n";
    for server in servers {
        let (name, role) = (server.name(), server.role.unwrap_or("master"));
        let address = address(&name);
        writeln!(text, "- {{name: {name}, role: {role}, address: {address}}}").unwrap();
    }
    text + &format!("join: {{token: {}, ttl: 8h, uses: 9}}\n", bed.token)
}

/// Begins a command that takes long, as a unit of its own.
fn begin(bed: &mut Bed, name: &str, command: &str) {
    // A file needs no quotes, and its redirection is that of the whole command.
    bed.shell(
        name,
        &format!(
            "mkdir -p {PLACE}; rm -f {PLACE}/ended; cat >{PLACE}/command <<'END-OF-COMMAND'\n{command}\nEND-OF-COMMAND\n\
             systemd-run --quiet --collect /bin/sh -c \
             '/bin/sh {PLACE}/command >{PLACE}/said 2>&1; echo $? >{PLACE}/code; mv {PLACE}/code {PLACE}/ended'"
        ),
    );
}

/// Waits for the end of that command. Returns its exit code and its output.
fn end(bed: &mut Bed, name: &str) -> (i32, String) {
    let ended = |machine: &mut Machine| machine.shell(&format!("cat {PLACE}/ended")).ok();
    let machine = bed.machine(name);
    let limit = genuine::limit(LIMIT);
    let code = machine.wait_for("the command ends", limit, |_| {}, ended);
    let code = code.unwrap().trim().parse().unwrap();
    (code, bed.shell(name, &format!("cat {PLACE}/said")))
}

/// Runs a command, which must succeed. Returns its output.
pub fn run(bed: &mut Bed, name: &str, command: &str) -> String {
    begin(bed, name, command);
    let (code, said) = end(bed, name);
    assert_eq!(code, 0, "{name}: {command}: {said}");
    said
}

/// Makes these machines nodes, all at once.
pub fn install(bed: &mut Bed, names: &[&str], role: &str) {
    for name in names {
        begin(bed, name, &format!("{PROGRAM} install {role}"));
    }
    for name in names {
        let (code, said) = end(bed, name);
        assert_eq!(code, 0, "{name}: {said}");
        assert!(said.contains("The node is healthy"), "{name}: {said}");
        bed.say(&format!("{name} is a healthy node"));
    }
}

/// Starts pods with volumes, and waits until some run on each of these nodes.
pub fn pods_run(bed: &mut Bed, master: &str, nodes: &[&str]) {
    let apply = format!("HOME=/root kubectl apply -f - <<'END'\n{SHOP}\nEND");
    bed.shell(master, &apply);
    bed.wait_at(master, "the pods run on each node", |machine| {
        let pods = shops(machine);
        let are_there = nodes.iter().all(|node| pods.iter().any(|pod| pod == node));
        if pods.len() == 4 && !are_there {
            // A node that was not ready yet got none.
            let again = "HOME=/root kubectl delete pods -l app=shop";
            machine.shell(again).unwrap();
        }
        pods.len() == 4 && are_there
    });
    for name in nodes {
        let mounts = bed.shell(
            name,
            "findmnt --list --noheadings | grep -c kubelet/pods; true",
        );
        let pods = "docker ps --quiet --filter label=io.kubernetes.pod.uid | wc -l";
        let pods = bed.shell(name, pods);
        bed.say(&format!(
            "{name}: {} containers of pods, {} mounts",
            pods.trim(),
            mounts.trim()
        ));
        // The stand-in for the kubelet mounts nothing.
        assert!(!genuine::is_genuine() || mounts.trim() != "0", "{name}");
    }
}

/// The nodes of the shop's pods that run, and do not end.
pub fn shops(machine: &mut Machine) -> Vec<String> {
    let said = machine.shell(SHOPS).unwrap_or_default();
    let pods = said.lines().map(|line| line.split_whitespace());
    pods.filter_map(
        |mut words| match (words.next(), words.next(), words.next()) {
            (Some(node), Some("Running"), None) => Some(node.to_owned()),
            _ => None,
        },
    )
    .collect()
}

/// Resets a machine with `options`. Nothing of the node is left, and everything of the operator is as it was.
pub fn reset(bed: &mut Bed, name: &str, program: &str, options: &str) {
    removed(bed, name, program, options);
    as_before(bed, name);
}

/// Resets a machine with `options`, without a look at what is left. Returns what was said.
pub fn removed(bed: &mut Bed, name: &str, program: &str, options: &str) -> String {
    let container = bed.shell(name, CONTAINER);
    let said = run(bed, name, &format!("{program} reset --yes {options}"));
    println!("{said}");
    bed.say(&format!("{name} is reset"));
    assert_eq!(bed.shell(name, CONTAINER), container, "{name}");
    said
}

/// Nothing of a node is left, and everything of the operator is as it was.
pub fn as_before(bed: &mut Bed, name: &str) {
    note(bed, name, "after");
    let differs = format!("diff -U 0 {PLACE}/before {PLACE}/after; true");
    let differs = bed.shell(name, &differs);
    assert!(differs.is_empty(), "{name}:\n{differs}");
    the_operators_work_goes_on(bed, name);
    bed.say(&format!("{name} is as before"));
}

/// The name of the program on a node, which removes itself.
pub const OF_NODE: &str = APPLIANCE;
/// The operator's own copy of it.
pub const OF_OPERATOR: &str = PROGRAM;

fn note(bed: &mut Bed, name: &str, file: &str) {
    let said = run(bed, name, STATE);
    // The command's own files are in place when this is written.
    bed.shell(name, &format!("mv {PLACE}/said {PLACE}/{file}"));
    assert!(said.lines().count() > 1000, "{name}: {said}");
}

/// The port of the container is reached, its data and the operator's service are there.
fn the_operators_work_goes_on(bed: &mut Bed, name: &str) {
    let address = address(name);
    let ask = format!("timeout 20 bash -c 'exec 3<>/dev/tcp/{address}/8089; echo reached'");
    assert_eq!(bed.shell(name, &ask), "reached\n", "{name}");
    assert_eq!(bed.shell(name, "cat /mnt/mine/data"), "data\n", "{name}");
    bed.shell(name, "systemctl is-active mine.service");
}
