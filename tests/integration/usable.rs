//! A node that is healthy, in a cluster that is not yet, or is: what `status` and `install` say, how they end, and what
//! systemd hears. The node's own servers and the API server are a small program; what they answer is in files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::harness::{document, said};
use crate::living::Living;

/// The address of the API server.
const MASTER: &str = "192.168.1.50";

/// Answers at the health endpoints of a node and as the API server of a worker, which has the node in `/run/node.json`.
/// Writes a line to a pipe when it listens.
const SERVERS: &str = r#"
import http.server, os, sys, threading

root, master, listening = sys.argv[1:]

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        node = root + "/run/node.json"
        is_known = "/nodes/" not in self.path or os.path.exists(node)
        body = open(node, "rb").read() if "/nodes/" in self.path and is_known else b"ok"
        self.send_response(200 if is_known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

places = [("127.0.0.1", port) for port in (8080, 9099, 10248, 10251, 10252, 10256)]
for place in places + [(master, 8080), ("192.168.1.102", 2379)]:
    server = http.server.ThreadingHTTPServer(place, Answers)
    threading.Thread(target=server.serve_forever).start()
open(listening, "w").write("yes\n")
"#;

/// Begins each script: the network, the servers, and words for what changes.
const BEGIN: &str = r#"
ip link set lo up
ip address add "$1/32" dev lo
ip link add ens3 type veth peer name wire
ip link set wire up
ip link set ens3 up
ip address add 192.168.1.102/24 dev ens3
rm -f "$root/run/listening" "$root/run/lines"
mkfifo "$root/run/listening" "$root/run/lines"
python3 "$root/run/servers.py" "$root" "$1" "$root/run/listening" &
read -r _ <"$root/run/listening"
becomes() {
    cp "$root/run/$1.json" "$root/run/new.json"
    mv "$root/run/new.json" "$root/run/node.json"
}
# Reads lines until one contains these words.
until_says() {
    while read -r line; do
        echo "$line"
        case $line in *"$1"*) return 0 ;; esac
    done
    echo "it never said: $1"
    exit 99
}
# The servers have the ports of the node.
install() {
    appliance install --metadata-dir /config-drive --profile simple --set ipip=off --ignore-preflight ports "$@"
}
mkdir -p "$root/run/systemd/system"
(
    cd /proc/sys/net/ipv4
    echo 1 >ip_forward
    echo 1 >conf/all/rp_filter
    echo 20000-40000 >ip_local_reserved_ports
)
"#;

/// kubectl of a master: the API server has the list of nodes in `/run/node.json`, and no other objects.
const KUBECTL: &str = r#"#!/bin/sh
nodes='{"items": []}'
case "$*" in
*/healthz) echo ok ;;
*"get nodes -o json")
    [ ! -e /run/node.json ] || read -r nodes </run/node.json
    echo "$nodes"
    ;;
*"-o json") echo "$nodes" ;;
esac
"#;

/// A node that has been in this state since now, or for a year.
fn node(ready: &str) -> String {
    let since = match ready {
        "Unknown" => OffsetDateTime::now_utc() - Duration::days(365),
        _ => OffsetDateTime::now_utc(),
    };
    let condition = json!({
        "type": "Ready", "status": ready, "message": "cni config uninitialized",
        "lastTransitionTime": since.format(&Rfc3339).unwrap(),
    });
    json!({
        "metadata": {"name": "server02"}, "spec": {}, "status": {"conditions": [condition]},
    })
    .to_string()
}

/// A worker whose services run. Its cluster has a node with the name of each file.
fn worker() -> Living {
    let setting = format!("master={MASTER}");
    let living = Living::new(&["--profile", "simple", "--role", "worker", "--set", &setting]);
    living.machine.put("run/servers.py", SERVERS);
    living.machine.put("run/Ready.json", &node("True"));
    living.machine.put("run/NotReady.json", &node("False"));
    living.machine.put("run/Lost.json", &node("Unknown"));
    living
}

/// A master of the profile simple whose services run. The lists of nodes have the states of the files.
fn master() -> Living {
    let living = Living::new(&["--profile", "simple", "--set", "ipip=off"]);
    living.machine.put("run/servers.py", SERVERS);
    for (name, ready) in [("Ready", "True"), ("NotReady", "False")] {
        let list = format!("{{\"items\": [{}]}}\n", node(ready));
        living.machine.put(&format!("run/{name}.json"), &list);
    }
    // As large as the program in its place: the size tells whether the bundle is unpacked.
    let path = "opt/appliance/current/bin/kubectl";
    living.machine.put(path, &format!("{KUBECTL:\n<4096}"));
    let path = living.machine.root().join(path);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    living
}

fn run(living: &Living, script: &str) -> Output {
    living.script(&format!("{BEGIN}\n{script}"), &[MASTER])
}

/// What a script that changes nothing says of the node and its disk.
fn examine(living: &Living, script: &str) -> Output {
    living.script_with_room(&format!("{BEGIN}\n{script}"), &[MASTER])
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The words of the verdict, in a document.
fn words(output: &Output) -> String {
    let report: Value = document(output);
    report["verdict"]["words"].as_str().unwrap().to_owned()
}

#[test]
fn status_tells_the_node_and_its_cluster_apart() {
    let living = worker();
    for (state, code, expected) in [
        (
            "",
            8,
            "node healthy; cluster not yet: node server02 not registered",
        ),
        (
            "becomes NotReady",
            8,
            "node healthy; cluster not yet: node server02 NotReady (",
        ),
        (
            "becomes Lost",
            8,
            "node healthy; cluster NOT ready: node server02 NotReady (",
        ),
        ("becomes Ready", 0, "node healthy; cluster ready"),
    ] {
        let output = examine(&living, &format!("{state}\nappliance status -o json"));
        assert_eq!(
            output.status.code(),
            Some(code),
            "{state}: {}",
            said(&output)
        );
        assert!(words(&output).starts_with(expected), "{}", words(&output));
    }
}

#[test]
fn a_healthy_node_is_ten_lines_and_what_is_wrong_is_shown() {
    let living = worker();
    let output = examine(&living, "becomes Ready\nappliance status");
    let shown = text(&output);
    assert!(shown.lines().count() <= 10, "{shown}");
    assert!(
        shown.lines().all(|line| line.chars().count() <= 80),
        "{shown}"
    );
    assert!(shown.contains("nodes         1 of 1 Ready\n"), "{shown}");
    let last = shown.lines().last().unwrap();
    assert_eq!(
        last,
        "worker server02, 192.168.1.102: node healthy; cluster ready"
    );

    living.machine.put("run/stopped/kubelet.service", "");
    let output = examine(&living, "becomes NotReady\nappliance status");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let shown = text(&output);
    for words in [
        "see journalctl -u kubelet",
        "cni config uninitialized",
        "node NOT healthy: kubelet failed; cluster not yet: node server02 NotReady",
    ] {
        let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("kube-proxy"), "{shown}");
    let all = text(&examine(&living, "appliance status --all"));
    assert!(all.contains("kube-proxy"), "{all}");
}

#[test]
fn an_installation_ends_with_its_node_or_waits_for_the_cluster() {
    let living = master();
    let output = run(&living, "becomes NotReady\ninstall --wait 60");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let flat = text(&output)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(
        flat.contains(
            "master server02, 192.168.1.102: node healthy; cluster not yet: node server02 NotReady"
        ),
        "{}",
        said(&output)
    );
    assert!(
        flat.ends_with("watch it: `appliance status --watch`"),
        "{flat}"
    );

    let output = run(&living, "install --wait cluster=1");
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));

    let output = run(
        &living,
        r#"
        install --wait cluster=120 >"$root/run/lines" 2>&1 &
        waiting=$!
        {
            until_says "waiting for the cluster: node server02 NotReady"
            becomes Ready
            until_says "node healthy; cluster ready"
        } <"$root/run/lines"
        wait "$waiting"
        "#,
    );
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        text(&output).contains("node healthy after "),
        "{}",
        said(&output)
    );
}

/// Prints each message that systemd would hear.
const SYSTEMD: &str = r#"
import socket, sys
heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
heard.bind(sys.argv[1])
open(sys.argv[2], "w").write("yes\n")
while True:
    print(heard.recv(4096).decode(), flush=True)
"#;

#[test]
fn systemd_hears_that_the_node_is_healthy_before_its_cluster_is() {
    let living = master();
    living.machine.put("run/systemd.py", SYSTEMD);
    let output = run(
        &living,
        r#"
        becomes NotReady
        python3 "$root/run/systemd.py" "$root/run/notify" "$root/run/listening" >"$root/run/lines" &
        exec 3<"$root/run/lines"
        read -r _ <"$root/run/listening"
        export NOTIFY_SOCKET=/run/notify
        install --wait cluster=120 3<&- &
        waiting=$!
        until_says "READY=1" <&3
        until_says "STATUS=node healthy after " <&3
        becomes Ready
        wait "$waiting"
        "#,
    );
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_boot_that_fails_says_what_the_machine_is_and_what_to_do() {
    let living = master();
    let output = run(
        &living,
        "export NOTIFY_SOCKET=/run/notify\ninstall --set mtu=none",
    );
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let expected = "warning: master server02, 192.168.1.102: it stays as it is: the installation failed; do what the error \
                    says, then run `systemctl restart appliance-install.service`";
    assert!(said(&output).contains(expected), "{}", said(&output));
}

#[test]
fn on_a_pipe_a_watch_prints_what_changed_and_ends_with_the_last_state() {
    let living = worker();
    let script = |change: &str| {
        format!(
            r#"
            becomes NotReady
            # No function: the signal has to reach the program itself.
            chroot "$root" /usr/local/bin/appliance status --watch >"$root/run/lines" &
            watch=$!
            exec 3<"$root/run/lines"
            until_says "worker server02, 192.168.1.102: node healthy; cluster not yet" <&3
            {change}
            kill -INT "$watch"
            wait "$watch"
            "#
        )
    };
    let output = examine(&living, &script(""));
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));
    let change = "becomes Ready\nuntil_says \"node healthy; cluster ready\" <&3";
    let output = examine(&living, &script(change));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(text(&output).lines().count(), 2, "{}", said(&output));
}

#[test]
fn at_a_login_one_line_says_what_runs_and_nothing_hangs() {
    let living = worker();
    assert!(
        Path::new("/usr/bin/timeout").exists(),
        "Debian package coreutils"
    );
    let login = |before: &str| {
        let script = format!(
            "bind /usr/bin/timeout\n{before}\nchroot \"$root\" /bin/sh /etc/update-motd.d/60-appliance"
        );
        let output = living.script(&script, &[]);
        assert!(output.status.success(), "{}", said(&output));
        text(&output)
    };
    assert_eq!(living.machine.mode("etc/update-motd.d/60-appliance"), 0o755);
    let whose = "Kubernetes node server02, worker at 192.168.1.102: ";
    let fine = login("");
    assert!(fine.starts_with(&format!("{whose}all ")), "{fine}");
    assert_eq!(fine.lines().count(), 1, "{fine}");
    let stopped = login(": >\"$root/run/stopped/kubelet.service\"");
    let expected = "these services do not run: kubelet.service; see: appliance status";
    assert_eq!(stopped.trim_end(), format!("{whose}{expected}"));
    let hangs = login(": >\"$root/run/systemd-hangs\"");
    let expected = "systemd does not answer; see: appliance status";
    assert_eq!(hangs.trim_end(), format!("{whose}{expected}"));
}
