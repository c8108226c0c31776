//! `appliance kubeconfig`: the admin's kubeconfig for another machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use appliance::pki::inspect::inspect;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use time::OffsetDateTime;

use crate::harness::{Machine, said};

fn kubeconfig(machine: &Machine, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .arg("kubeconfig")
        .arg("--root")
        .arg(machine.root())
        .args(arguments)
        .output()
        .unwrap()
}

/// The file that was written, parsed.
fn parsed(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn master() -> Machine {
    let machine = Machine::new();
    machine.installed(&["--set", "apiServerSANs=k8s.example.org,203.0.113.7"]);
    machine
}

fn server(kubeconfig: &Value) -> &str {
    kubeconfig["clusters"][0]["cluster"]["server"]
        .as_str()
        .unwrap()
}

#[test]
fn another_machine_gets_its_address_and_all_certificates() {
    let machine = master();
    let own = parsed(&machine.read("etc/kubernetes/admin.kubeconfig"));
    for (wanted, url) in [
        (None, "https://192.168.1.102:6443"),
        (Some("203.0.113.7"), "https://203.0.113.7:6443"),
        (Some("k8s.example.org:443"), "https://k8s.example.org:443"),
        (Some("K8S.example.org"), "https://k8s.example.org:6443"),
        (Some("server02"), "https://server02:6443"),
    ] {
        let arguments: Vec<&str> = wanted.iter().flat_map(|&to| ["--server", to]).collect();
        let output = kubeconfig(&machine, &arguments);
        assert!(output.status.success(), "{}", said(&output));
        let mut made = parsed(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(server(&made), url);
        for data in ["client-certificate-data", "client-key-data"] {
            let (new, old) = (
                &made["users"][0]["user"][data],
                &own["users"][0]["user"][data],
            );
            assert!(new.is_string() && new != old, "{data}");
            made["users"][0]["user"][data] = old.clone();
        }
        // Everything else is as on the node itself.
        made["clusters"][0]["cluster"]["server"] = server(&own).into();
        assert_eq!(made, own);
    }
}

#[test]
fn with_several_masters_it_does_not_lead_to_the_nodes_own_port() {
    const MASTERS: &str =
        "masters=server02=192.168.1.102,server04=192.168.1.104,server05=192.168.1.105";
    let machine = Machine::new();
    // The keys of a cluster; without them, the machine would have to join.
    machine.installed(&[]);
    machine.installed(&["--set", MASTERS, "--change", "masters"]);
    let own = parsed(&machine.read("etc/kubernetes/admin.kubeconfig"));
    assert!(server(&own).contains("127.0.0.1:"), "{}", server(&own));
    for (arguments, url) in [
        (&[][..], "https://192.168.1.102:6443"),
        (&["--server", "192.168.1.104"], "https://192.168.1.104:6443"),
    ] {
        let output = kubeconfig(&machine, arguments);
        let made = parsed(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(server(&made), url);
    }
}

#[test]
fn an_address_that_is_not_in_the_certificate_is_refused() {
    let machine = master();
    for address in ["192.168.1.250", "other.example.org", "example.org"] {
        let output = kubeconfig(&machine, &["--server", address]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in [
            address,
            "k8s.example.org",
            "203.0.113.7",
            "192.168.1.102",
            "apiServerSANs",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
    for bad in ["", "https://192.168.1.102", "192.168.1.102:0", "a b", "::1"] {
        let output = kubeconfig(&machine, &["--server", bad]);
        assert_eq!(output.status.code(), Some(2), "{bad}: {}", said(&output));
        assert!(said(&output).contains("expected an IPv4 address or a DNS name"));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_is_its_owners_and_another_is_not_overwritten() {
    let machine = master();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubeconfig");
    let write = |more: &[&str]| {
        let mut arguments = vec!["-o", file.to_str().unwrap()];
        arguments.extend(more);
        kubeconfig(&machine, &arguments)
    };
    let first = write(&[]);
    assert!(
        first.status.success() && first.stdout.is_empty(),
        "{}",
        said(&first)
    );
    assert_eq!(mode(&file), 0o600);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, "mine").unwrap();
    let refused = write(&[]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("--force"), "{}", said(&refused));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert!(write(&["--force"]).status.success());
    parsed(&fs::read_to_string(&file).unwrap());
    assert_eq!(mode(&file), 0o600);
}

/// What an operator carries away is valid for a while only, and the master's own certificate stays.
#[test]
fn the_certificate_is_the_admins_for_ninety_days() {
    let machine = master();
    let own = machine.read("etc/kubernetes/ca/admin/admin.pem");
    let output = kubeconfig(&machine, &[]);
    let made = parsed(&String::from_utf8(output.stdout).unwrap());
    let data = made["users"][0]["user"]["client-certificate-data"].as_str();
    let pem = BASE64.decode(data.unwrap()).unwrap();
    let info = inspect(&pem).unwrap();
    assert_eq!(info.subject, "O=system:masters, CN=admin");
    assert_eq!(
        (info.not_after - OffsetDateTime::now_utc()).whole_days(),
        89
    );
    assert_eq!(machine.read("etc/kubernetes/ca/admin/admin.pem"), own);
}

#[test]
fn only_a_master_with_certificates_has_one() {
    let none = kubeconfig(&Machine::new(), &[]);
    assert_eq!(none.status.code(), Some(4), "{}", said(&none));
    let simple = Machine::new();
    simple.installed(&["--profile", "simple"]);
    let refused = kubeconfig(&simple, &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("kubectl --server http://192.168.1.102:8080"));
    let worker = Machine::new();
    worker.installed(&[
        "--profile",
        "simple",
        "--role",
        "worker",
        "--set",
        "master=192.168.1.110",
    ]);
    let refused = kubeconfig(&worker, &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused).contains("run this on a master"),
        "{}",
        said(&refused)
    );
}

#[test]
fn a_damaged_file_is_named_and_not_shown() {
    let machine = master();
    machine.put(
        "etc/kubernetes/admin.kubeconfig",
        "users: [{name: c2VjcmV0}]\n",
    );
    let output = kubeconfig(&machine, &["-v"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("/etc/kubernetes/admin.kubeconfig"), "{text}");
    assert!(text.contains("run `appliance install`"), "{text}");
    assert!(!text.contains("c2VjcmV0"), "{text}");
}

#[test]
fn a_pipe_gets_the_kubeconfig() {
    let machine = master();
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    let output = kubeconfig(&machine, &["-o", pipe.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let made = parsed(&reader.join().unwrap());
    assert_eq!(server(&made), "https://192.168.1.102:6443");
}

#[test]
fn a_damaged_state_is_named() {
    const STATE: &str = "var/lib/appliance/state.json";
    let machine = master();
    let state: Value = serde_json::from_str(&machine.read(STATE)).unwrap();
    for (name, value) in [
        ("address", "\u{1b}[31m\nerror: fake"),
        ("role", "mastre"),
        ("profile", "smiple"),
    ] {
        let mut damaged = state.clone();
        damaged[name] = value.into();
        machine.put(STATE, &damaged.to_string());
        let output = kubeconfig(&machine, &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let expected = format!("error: invalid `{name}` in /{STATE}; remove the file");
        assert!(text.contains(&expected), "{text}");
    }
    machine.put(STATE, "[]");
    let text = said(&kubeconfig(&machine, &[]));
    assert!(text.contains(&format!("/{STATE} is damaged")), "{text}");
}
