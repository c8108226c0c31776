//! `appliance support-bundle`: no secret of a node is in it, wherever it was.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use flate2::read::GzDecoder;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;

use crate::harness::{document, said};
use crate::living::Living;

/// Secrets that no file of a node holds in this test, or that only a pattern finds.
const MADE: &[&str] = &[
    "hunter2-of-the-proxy",
    "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY+/",
    "FwoGZXIvYXdzEBYaDHVzZXItc2Vzc2lvbi10b2tlbg==",
    "correct horse battery staple",
    "0123456789abcdefghijklmnopqrstuv",
];
/// The access key of the object store: its identifier is no secret, but nobody needs it.
const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
/// A token of a service account (JWT), in parts: it is no real one.
const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg";

/// A program that prints what was planted.
const PRINTS: &str = "#!/bin/sh\nexec cat /run/planted\n";

/// The text of each file in the archive.
fn unpacked(archive: &Path) -> BTreeMap<String, String> {
    let file = fs::File::open(archive).unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let mut all = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        let path = entry.path().unwrap().display().to_string();
        let (_, name) = path.split_once('/').unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        all.insert(name.to_owned(), text);
    }
    all
}

/// Every file below a directory.
fn files(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            files(&path, all);
        } else if kind.is_file() {
            all.push(path);
        }
    }
}

/// The secrets in the files of the node, found by how they look and not by the program's own list: keys in PEM, each line
/// of one; the values of tokens and keys in other files.
fn secrets(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut all = Vec::new();
    for dir in [
        "etc/kubernetes",
        "var/lib/appliance",
        "var/lib/kubelet",
        "root",
        "etc/appliance",
    ] {
        if root.join(dir).is_dir() {
            files(&root.join(dir), &mut all);
        }
    }
    for path in all {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let mut add = |value: &str| {
            if value.len() >= 16 {
                found.insert(value.to_owned(), path.display().to_string());
            }
        };
        pem_lines(&text).iter().for_each(|line| add(line));
        for line in text.lines() {
            for name in ["client-key-data:", "secret:", "token:"] {
                let Some((_, value)) = line.split_once(name) else {
                    continue;
                };
                add(value.trim());
                let decoded = STANDARD.decode(value.trim()).unwrap_or_default();
                pem_lines(&String::from_utf8_lossy(&decoded))
                    .iter()
                    .for_each(|line| add(line));
            }
        }
        if path.ends_with("token.csv") {
            text.lines()
                .for_each(|line| add(line.split(',').next().unwrap()));
        }
    }
    found
}

fn pem_lines(text: &str) -> Vec<String> {
    let mut in_key = false;
    let lines = text.lines().filter_map(|line| {
        if line.contains("-----") {
            in_key = line.contains("BEGIN") && line.contains("PRIVATE");
            return None;
        }
        in_key.then(|| line.trim().to_owned())
    });
    lines.collect()
}

/// How a program may write a secret; each within a line.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![
        secret.to_owned(),
        percent_encode(secret.as_bytes(), NON_ALPHANUMERIC).to_string(),
        hex::encode(secret),
    ];
    for before in ["", "a", "ab"] {
        let long = format!("{before}{secret}zz");
        forms.push(STANDARD_NO_PAD.encode(&long));
        forms.push(URL_SAFE_NO_PAD.encode(&long));
    }
    forms
}

/// The part of each form that only the secret decides.
fn traces(secret: &str) -> Vec<String> {
    let mut traces = forms(secret);
    for trace in &mut traces[3..] {
        let all = trace.len();
        *trace = trace[4..all - 6].to_owned();
    }
    traces
}

fn program(living: &Living, path: &str, text: &str) {
    living.machine.put(path, text);
    let path = living.machine.root().join(path);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A node of each secret, which are also where they do not belong.
fn spoiled() -> (Living, BTreeMap<String, String>) {
    let living = Living::new(&["--role", "single"]);
    let put = |path: &str, text: &str| living.machine.put(path, text);
    let [proxy, key, session, passphrase, token] = MADE else {
        panic!("there are five");
    };
    put(
        "etc/appliance/config.yaml",
        &format!("role: single\njoin: {{token: abcdef.{token}}}\n"),
    );
    put("etc/appliance/passphrase", &format!("{passphrase}\n"));
    put(
        "etc/appliance/s3",
        &format!(
            "[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {key}\naws_session_token = {session}\n"
        ),
    );
    put(
        "etc/kubernetes/appliance-backup.json",
        r#"{"recipients": [], "passphraseFile": "/etc/appliance/passphrase", "to": "s3://backups/a",
            "s3": {"endpoint": "https://objects.example.org", "region": "r", "bucket": "backups", "prefix": "a",
                   "credentials": "/etc/appliance/s3"}}"#,
    );
    let mut all = secrets(&living.machine.root());
    for made in MADE.iter().chain([&JWT]) {
        all.insert((*made).to_owned(), "made".to_owned());
    }
    let mut planted = String::from("the first line\n");
    for secret in all.keys() {
        for form in forms(secret) {
            planted += &format!("kubelet[812]: it said {form} and went on\n");
        }
        planted += &format!("Authorization: Bearer {secret}\n--token {secret}\n");
    }
    planted +=
        &format!("HTTPS_PROXY=http://me:{proxy}@proxy.example:3128\n{ACCESS_KEY}\nthe last line\n");
    // Where a program does not know the secret, its name gives it away.
    put("run/planted", &planted);
    for name in [
        "usr/bin/journalctl",
        "usr/bin/timedatectl",
        "usr/sbin/iptables",
        "opt/appliance/current/bin/calicoctl",
    ] {
        program(&living, name, PRINTS);
    }
    let drop_in = format!(
        "[Service]\nEnvironment=HTTPS_PROXY=http://me:{proxy}@proxy.example:3128 PASSWORD={passphrase}\nEnvironment=AWS_SECRET_ACCESS_KEY={key}\n"
    );
    put("etc/systemd/system/kubelet.service.d/proxy.conf", &drop_in);
    put(
        "etc/docker/daemon.json",
        &format!("{{\"http-proxy\": \"http://me:{proxy}@proxy.example:3128\", \"x\": \"{JWT}\"}}"),
    );
    (living, all)
}

#[test]
fn no_secret_of_a_node_is_in_the_archive_in_any_form() {
    let (living, secrets) = spoiled();
    assert!(secrets.len() > 40, "only {} were found", secrets.len());
    let script = "bind /usr/bin/cat; appliance support-bundle --file /root/a.tar.gz -o json";
    let output = living.script(script, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let archive = living.machine.root().join("root/a.tar.gz");
    assert_eq!(
        fs::metadata(&archive).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let texts = unpacked(&archive);
    let whole: String = texts.values().map(String::as_str).collect();
    for (secret, place) in &secrets {
        for trace in traces(secret) {
            assert!(
                !whole.contains(&trace),
                "{trace} of {place} is in {:?}",
                places(&texts, &trace)
            );
        }
    }
    assert!(!whole.contains(ACCESS_KEY));
    // What is no secret stays.
    let journal = &texts["journal/kubelet.txt"];
    assert!(
        journal.starts_with("the first line\n") && journal.contains("the last line"),
        "{journal:.200}"
    );
    assert!(
        journal.contains("kubelet[812]: it said <secret>"),
        "{journal:.2000}"
    );
    let certificates = &texts["certificates.txt"];
    assert!(
        certificates.contains("subject: ") && certificates.contains("signed by"),
        "{certificates}"
    );
    let unit = &texts["files/etc/systemd/system/kubelet.service"];
    assert!(
        unit.contains("--kubeconfig=/etc/kubernetes/kubelet.kubeconfig"),
        "{unit}"
    );
    assert!(
        texts["files/etc/systemd/system/kubelet.service.d/proxy.conf"]
            .contains("proxy.example:3128")
    );
    assert!(texts["status.json"].contains("\"overall\""));
    assert!(texts["doctor.json"].contains("\"found\""));
    // Neither a key nor a kubeconfig is on the list.
    let is_secret = |name: &&String| {
        name.contains("-key") || name.contains("kubeconfig") || name.contains("token")
    };
    assert_eq!(texts.keys().find(is_secret), None);
    // The index and the document list what is inside.
    let listed: Value = document(&output);
    let listed: Vec<&str> = listed["inside"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(listed.len(), texts.len());
    for name in listed.iter().filter(|name| **name != "INDEX.txt") {
        assert!(texts["INDEX.txt"].contains(name), "{name}");
    }
}

fn places<'a>(texts: &'a BTreeMap<String, String>, trace: &str) -> Vec<&'a str> {
    let with = texts.iter().filter(|(_, text)| text.contains(trace));
    with.map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_program_that_is_missing_or_hangs_is_noted() {
    let living = Living::new(&[]);
    let hangs = "#!/bin/sh\nread x <>/run/hangs\n";
    program(&living, "usr/bin/docker", hangs);
    let script = "mkfifo \"$root/run/hangs\"; appliance support-bundle --file /root/a.tar.gz";
    let output = living.script(script, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let texts = unpacked(&living.machine.root().join("root/a.tar.gz"));
    let index = &texts["INDEX.txt"];
    assert!(index.contains("docker/info.txt: "), "{index}");
    assert!(index.contains("did not end within 10 s"), "{index}");
    assert!(
        index.contains("system/clock.txt: cannot run timedatectl"),
        "{index}"
    );
    assert!(texts.contains_key("files/var/lib/appliance/state.json"));
}

/// Makes the archive of a machine that does not run.
fn made(machine: &crate::harness::Machine, file: &Path) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["support-bundle", "--root"])
        .arg(machine.root())
        .arg("--file")
        .arg(file)
        .output()
        .unwrap()
}

#[test]
fn settings_whose_secrets_are_not_known_are_left_out() {
    let machine = crate::harness::Machine::new();
    machine.put(
        "etc/appliance/config.yaml",
        "join: {token: [hunter2-of-somebody]}\n",
    );
    let file = machine.root().join("a.tar.gz");
    let output = made(&machine, &file);
    assert!(output.status.success(), "{}", said(&output));
    let texts = unpacked(&file);
    assert!(!texts.contains_key("files/etc/appliance/config.yaml"));
    let index = &texts["INDEX.txt"];
    assert!(
        index.contains("/etc/appliance/config.yaml: its secrets are not known"),
        "{index}"
    );
    assert!(texts.values().all(|text| !text.contains("hunter2")));
}

#[test]
fn the_archive_can_go_to_another_machine_through_standard_output() {
    let machine = crate::harness::Machine::new();
    let output = made(&machine, Path::new("/dev/stdout"));
    assert!(output.status.success(), "{}", said(&output));
    let names = tar::Archive::new(GzDecoder::new(&output.stdout[..]))
        .entries()
        .unwrap()
        .count();
    assert!(names > 3, "{names}");
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_anything_is_read() {
    let machine = crate::harness::Machine::new();
    for (file, why) in [
        (machine.root().to_owned(), "is a directory; name a file"),
        (machine.root().join("missing/a.tar.gz"), "is no directory"),
    ] {
        let output = made(&machine, &file);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(!said.contains("read this node"), "{said}");
    }
}
