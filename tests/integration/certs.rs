//! Certificates by hand, and CAs of the operator: verified with openssl and cfssl.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Machine, said};

fn appliance(arguments: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap()
}

fn done(arguments: &[&str], dir: &Path) -> String {
    let output = appliance(arguments, dir);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

fn tool(program: &str, arguments: &[&str], dir: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        said(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// cfssl reads the certificate and finds the CA that signed it; for a server, it follows the chain
/// to the root.
fn cfssl_follows(leaf: &str, roots: &str, between: &str, dir: &Path) {
    let read = |path: &str| -> Value {
        serde_json::from_str(&tool("cfssl", &["certinfo", "-cert", path], dir)).unwrap()
    };
    // It takes one certificate at a time.
    tool("openssl", &["x509", "-in", leaf, "-out", "alone.pem"], dir);
    let (own, issuer) = (read("alone.pem"), read(between));
    assert_eq!(own["authority_key_id"], issuer["subject_key_id"], "{leaf}");
    let serves = ["/etcd.pem", "/kubernetes.pem", "/kubelet.pem"];
    if serves.iter().any(|name| leaf.ends_with(name)) {
        let bundle = [
            "bundle",
            "-ca-bundle",
            roots,
            "-int-bundle",
            between,
            "-cert",
            leaf,
        ];
        let bundle: Value = serde_json::from_str(&tool("cfssl", &bundle, dir)).unwrap();
        assert!(
            bundle["root"]
                .as_str()
                .unwrap()
                .contains("BEGIN CERTIFICATE"),
            "{bundle}"
        );
    }
}

const MASTER: [&str; 12] = [
    "certs",
    "issue",
    "--ca",
    "ca",
    "--role",
    "master",
    "--set",
    "nodeName=server02",
    "--set",
    "address=192.168.1.102",
    "--output",
    "server02",
];
const WORKER: [&str; 14] = [
    "certs",
    "issue",
    "--ca",
    "ca",
    "--role",
    "worker",
    "--set",
    "nodeName=server01",
    "--set",
    "address=192.168.1.101",
    "--set",
    "master=192.168.1.102",
    "--output",
    "server01",
];

/// Every certificate below `tree`, except the CA's own.
fn leaves(dir: &Path, tree: &str) -> Vec<String> {
    let found = tool(
        "find",
        &[tree, "-name", "*.pem", "-not", "-name", "*key.pem"],
        dir,
    );
    let own = found.lines().filter(|path| {
        !["ca.pem", "ca-issuer.pem", "etcd-ca.pem"]
            .iter()
            .any(|own| path.ends_with(&format!("/{own}")))
    });
    own.map(str::to_owned).collect()
}

/// The authority of etcd on a master.
const OF_ETCD: &str = "etc/kubernetes/ca/etcd-ca/etcd-ca.pem";

/// Whether the authority of etcd issues the certificate at this path.
fn is_etcds(leaf: &str) -> bool {
    leaf.ends_with("/etcd.pem") || leaf.ends_with("-etcd-client.pem")
}

#[test]
fn certificates_made_by_hand_are_what_openssl_and_cfssl_expect() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    done(&["certs", "init", "--ca", "ca"], dir);
    done(&MASTER, dir);
    done(&WORKER, dir);
    for tree in ["server01", "server02"] {
        let leaves = leaves(dir, tree);
        assert!(leaves.len() >= 4, "{leaves:?}");
        for leaf in &leaves {
            let authority = match is_etcds(leaf) {
                true => "ca/etcd-ca.pem",
                false => "ca/ca.pem",
            };
            let verify = ["verify", "-x509_strict", "-CAfile", authority, leaf];
            tool("openssl", &verify, dir);
            cfssl_follows(leaf, authority, authority, dir);
        }
    }
    let kubelet = tool(
        "cfssl",
        &[
            "certinfo",
            "-cert",
            "server01/etc/kubernetes/ca/kubelet/kubelet.pem",
        ],
        dir,
    );
    let kubelet: Value = serde_json::from_str(&kubelet).unwrap();
    assert_eq!(kubelet["subject"]["common_name"], "system:node:server01");
    assert_eq!(
        kubelet["sans"],
        serde_json::json!(["server01", "192.168.1.101"])
    );
    let modes = tool(
        "find",
        &[".", "-name", "*-key.pem", "-not", "-perm", "0600"],
        dir,
    );
    assert_eq!(modes, "", "keys that others can read");
    assert!(!dir.join("server01/etc/kubernetes/ca/ca-key.pem").exists());
    assert!(dir.join("server02/etc/kubernetes/ca/ca-key.pem").exists());
}

#[test]
fn what_is_there_is_kept_and_an_authority_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    done(&["certs", "init", "--ca", "ca"], dir);
    done(&WORKER, dir);
    let sums = || {
        tool(
            "sh",
            &["-c", "find . -type f -exec sha256sum {} + | sort"],
            dir,
        )
    };
    let before = sums();
    done(&WORKER, dir);
    let again = appliance(&["certs", "init", "--ca", "ca"], dir);
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    assert_eq!(sums(), before);
    let nowhere = appliance(
        &[
            "certs",
            "issue",
            "--ca",
            "server01",
            "--role",
            "worker",
            "--set",
            "nodeName=a",
            "--set",
            "address=192.168.1.9",
            "--set",
            "master=192.168.1.102",
            "-o",
            "x",
        ],
        dir,
    );
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(
        said(&nowhere).contains("appliance certs init --ca DIR"),
        "{}",
        said(&nowhere)
    );
}

#[test]
fn a_node_takes_what_was_made_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    done(&["certs", "init", "--ca", "ca"], dir.path());
    for (arguments, role, name) in [
        (&MASTER[..], "master", "server02"),
        (&WORKER[..], "worker", "server01"),
    ] {
        done(arguments, dir.path());
        let machine = Machine::new();
        let copied = format!("cp -r {name}/. {}", machine.root().display());
        tool("sh", &["-c", &copied], dir.path());
        let address = if role == "master" {
            "192.168.1.102"
        } else {
            "192.168.1.101"
        };
        let sums = || {
            tool(
                "sh",
                &[
                    "-c",
                    "find etc/kubernetes/ca -type f -exec sha256sum {} + | sort",
                ],
                &machine.root(),
            )
        };
        let before = sums();
        machine.installed(&[
            "--role",
            role,
            "--set",
            &format!("nodeName={name}"),
            "--set",
            &format!("address={address}"),
            "--set",
            "master=192.168.1.102",
        ]);
        let after = sums();
        // A master also has the token of kubelets that someone joins by hand, and the API server's key.
        let new: Vec<&str> = after
            .lines()
            .filter(|line| !before.contains(line))
            .collect();
        assert!(
            new.iter()
                .all(|line| line.ends_with("/token.csv") || line.ends_with("/encryption.yaml")),
            "{new:?}"
        );
        assert!(before.lines().all(|line| after.contains(line)));
    }
}

#[test]
fn show_tells_names_ends_and_what_renewing_restarts() {
    let machine = Machine::new();
    machine.installed(&[]);
    let root = machine.root().display().to_string();
    let text = done(&["certs", "show", "--root", &root], Path::new("/"));
    let part = |name: &str| {
        let mut parts = text.split("\n\n");
        parts.find(|part| part.contains(&format!("CERTIFICATE       {name}\n")))
    };
    for name in ["etcd", "kube-scheduler"] {
        assert!(part(name).unwrap().contains("by "), "{text}");
    }
    let json = done(
        &["certs", "show", "--root", &root, "-o", "json"],
        Path::new("/"),
    );
    let rows: Value = serde_json::from_str(&json).unwrap();
    let of = |name: &str| {
        let rows = rows.as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap().clone()
    };
    assert_eq!(
        of("kubernetes")["restarts"],
        serde_json::json!(["kube-apiserver"])
    );
    assert_eq!(
        of("kube-controller-manager")["restarts"],
        serde_json::json!(["kube-controller-manager"])
    );
    assert_eq!(of("kubernetes")["signedByAuthority"], true);
    let names = of("etcd")["sans"].to_string();
    assert!(names.contains("192.168.1.102"), "{names}");
    for (name, restarted) in [
        (
            "ca",
            ["kube-apiserver", "kube-calico", "calico-kube-controllers"],
        ),
        (
            "etcd-ca",
            ["etcd", "kube-apiserver", "appliance-calico-datastore"],
        ),
    ] {
        let restarts = of(name)["restarts"].to_string();
        for restarted in restarted {
            assert!(
                restarts.contains(restarted),
                "{name} {restarted}: {restarts}"
            );
        }
    }
}

/// The operator's own CA: an RSA root, and below it an ECDSA CA that issues.
fn existing_authority(dir: &Path) {
    let script = "
        openssl genrsa -traditional -out root-key.pem 2048
        openssl req -x509 -new -key root-key.pem -days 3650 -subj '/O=Example/CN=Root' -out root.pem
        openssl ecparam -name prime256v1 -genkey -noout -out issuing-key.pem
        openssl req -new -key issuing-key.pem -subj '/O=Example/CN=Issuing' -out issuing.csr
        printf 'basicConstraints=critical,CA:TRUE\\nkeyUsage=critical,keyCertSign,cRLSign\\nsubjectKeyIdentifier=hash\\n' > ext
        openssl x509 -req -in issuing.csr -CA root.pem -CAkey root-key.pem -CAcreateserial -days 1825 -extfile ext -out issuing.pem
        cat issuing.pem root.pem > chain.pem
        cat root.pem issuing.pem > reversed.pem";
    tool("sh", &["-ec", &format!("exec 2>/dev/null\n{script}")], dir);
}

/// A machine whose master uses the CA in these files.
fn with_authority(certificate: &str, key: &str) -> Machine {
    let machine = Machine::new();
    let dir = machine.root().join("etc/site");
    std::fs::create_dir_all(&dir).unwrap();
    existing_authority(&dir);
    use_authority(&machine, certificate, key);
    machine
}

fn use_authority(machine: &Machine, certificate: &str, key: &str) {
    machine.put(
        "etc/appliance/config.yaml",
        &format!("ca: {{certificate: /etc/site/{certificate}, key: /etc/site/{key}}}\n"),
    );
}

#[test]
fn an_authority_with_an_intermediate_is_used_as_it_is() {
    let machine = with_authority("chain.pem", "issuing-key.pem");
    machine.installed(&[]);
    assert_eq!(
        machine.read("etc/kubernetes/ca/ca.pem"),
        machine.read("etc/site/chain.pem")
    );
    let unit = machine.read("etc/systemd/system/kube-controller-manager.service");
    assert!(
        unit.contains("--cluster-signing-cert-file=/etc/kubernetes/ca/ca-issuer.pem"),
        "{unit}"
    );
    let issuer = machine.read("etc/kubernetes/ca/ca-issuer.pem");
    assert_eq!(issuer.matches("BEGIN CERTIFICATE").count(), 1);
    let root = machine.root();
    for leaf in leaves(&root, "etc/kubernetes/ca") {
        let (own, top, issuing) = match is_etcds(&leaf) {
            true => (OF_ETCD, OF_ETCD, OF_ETCD),
            false => (
                "etc/kubernetes/ca/ca.pem",
                "etc/site/root.pem",
                "etc/site/issuing.pem",
            ),
        };
        // A client that trusts only the root can verify a server's chain.
        let from_root = [
            "verify",
            "-CAfile",
            "etc/site/root.pem",
            "-untrusted",
            &leaf,
            &leaf,
        ];
        if !leaf.ends_with("-etcd-client.pem") {
            tool("openssl", &from_root, &root);
        }
        tool("openssl", &["verify", "-CAfile", own, &leaf], &root);
        cfssl_follows(&leaf, top, issuing, &root);
    }
    let key = machine.read("etc/kubernetes/ca/ca-key.pem");
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(machine.mode("etc/kubernetes/ca/ca-key.pem"), 0o600);
    assert!(machine.installed(&[]).contains("nothing to change"));
    // Later, the settings may omit the operator's files, but must not name others.
    std::fs::remove_file(root.join("etc/appliance/config.yaml")).unwrap();
    assert!(machine.installed(&[]).contains("nothing to change"));
    use_authority(&machine, "root.pem", "root-key.pem");
    let refusal = machine.refusal(&[]);
    assert!(
        refusal.contains("is not the certificate authority of this cluster"),
        "{refusal}"
    );
}

#[test]
fn an_rsa_authority_as_the_tutorials_tool_writes_it_is_used() {
    let machine = Machine::new();
    let dir = machine.root().join("etc/site");
    std::fs::create_dir_all(&dir).unwrap();
    let request =
        r#"{"CN": "kubernetes", "key": {"algo": "rsa", "size": 2048}, "names": [{"O": "k8s"}]}"#;
    let made = format!("echo '{request}' | cfssl gencert -initca - 2>/dev/null");
    let made: Value = serde_json::from_str(&tool("sh", &["-c", &made], &dir)).unwrap();
    for (file, part) in [("ca.pem", "cert"), ("ca-key.pem", "key")] {
        std::fs::write(dir.join(file), made[part].as_str().unwrap()).unwrap();
    }
    assert!(made["key"].as_str().unwrap().contains("RSA PRIVATE KEY"));
    use_authority(&machine, "ca.pem", "ca-key.pem");
    machine.installed(&[]);
    let root = machine.root();
    for leaf in leaves(&root, "etc/kubernetes/ca") {
        let authority = match is_etcds(&leaf) {
            true => OF_ETCD,
            false => "etc/site/ca.pem",
        };
        tool("openssl", &["verify", "-CAfile", authority, &leaf], &root);
    }
    assert!(!root.join("etc/kubernetes/ca/ca-issuer.pem").exists());
}

#[test]
fn an_authority_that_cannot_be_one_is_refused_before_anything_is_written() {
    for (certificate, key, why) in [
        ("chain.pem", "root-key.pem", "do not belong together"),
        ("reversed.pem", "issuing-key.pem", "do not belong together"),
        (
            "issuing.pem",
            "issuing-key.pem",
            "is not signed by the one after it",
        ),
        ("absent.pem", "issuing-key.pem", "there is no such file"),
        ("chain.pem", "chain.pem", "it has no private key"),
        ("root-key.pem", "root-key.pem", "has no certificate"),
    ] {
        let machine = with_authority(certificate, key);
        let refusal = machine.refusal(&[]);
        assert!(refusal.contains(why), "{certificate}, {key}: {refusal}");
        assert!(refusal.contains("/etc/appliance/config.yaml"), "{refusal}");
        assert!(!refusal.contains("PRIVATE KEY-----"), "{refusal}");
    }
    let machine = Machine::new();
    machine.put(
        "etc/appliance/config.yaml",
        "ca: {certificate: ca.pem, key: /etc/k.pem}\n",
    );
    assert!(machine.refusal(&[]).contains("expected an absolute path"));
}
