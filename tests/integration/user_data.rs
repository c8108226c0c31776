//! `appliance user-data`: how cloud-init and this program read it, and the input that is refused.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use appliance::nodespec::settings::Settings;
use appliance::nodespec::user_data;
use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};
use serde_json::{Value, json};

use crate::cloud_init::{python_of_cloud_init, python_of_newer_cloud_init};
use crate::harness::{Machine, detected, document, said, setting};

const TOKEN: &str = "TOKEN";
const CLUSTER: &str = "\
# The tutorial's servers.
inventory:
- {name: server01, role: worker, address: 192.168.1.101}
- {name: server02, role: master, address: 192.168.1.102}
- {name: server03, role: worker, address: 192.168.1.103}
podCIDR: 10.9.0.0/16
ipip: off
mtu: 1450
apiServerSANs: [k8s.example.org, 203.0.113.7]
join: {token: TOKEN, ttl: 24h, uses: 2}
";

/// Runs `appliance user-data`.
fn user_data(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .arg("user-data")
        .args(arguments)
        .output()
        .unwrap()
}

/// The output of a run that must succeed.
pub fn made(arguments: &[&str]) -> String {
    let output = user_data(arguments);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn token() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["token", "create", "--offline"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A file with these settings.
fn cluster(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// The result of cloud-init's own parser: the types and contents of the parts.
pub fn parts(text: &str) -> Vec<(String, String)> {
    const READ: &str = "\
import json, sys
from cloudinit import helpers, user_data
processor = user_data.UserDataProcessor(helpers.Paths({}))
message = processor.process(sys.stdin.buffer.read())
parts = [part for part in message.walk() if not part.is_multipart()]
print(json.dumps([[part.get_content_type(), part.get_payload(decode=True).decode()] for part in parts]))
";
    serde_json::from_str(&python(READ, text)).unwrap()
}

fn python(program: &str, input: &str) -> String {
    let mut child = python_of_cloud_init()
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{input}");
    String::from_utf8(output.stdout).unwrap()
}

/// The result of cloud-init's YAML parser.
fn yaml(text: &str) -> Value {
    let read = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin.buffer)))";
    serde_json::from_str(&python(read, text)).unwrap()
}

/// Every delivery and every form.
fn forms() -> Vec<Vec<String>> {
    let digest = "0".repeat(64);
    let ways: [&[&str]; 4] = [
        &[],
        &["--baked"],
        &["--volume", "APPLIANCE"],
        &[
            "--from",
            "https://example.org/a?temp_url_sig=5ec2e7",
            "--sha256",
            &digest,
        ],
    ];
    let mut forms = Vec::new();
    for (number, way) in ways.into_iter().enumerate() {
        let way: Vec<String> = way.iter().map(|&word| word.to_owned()).collect();
        if number >= 2 {
            forms.push([way.clone(), vec!["--boothook".to_owned()]].concat());
        }
        forms.push(way);
    }
    forms
}

#[test]
fn cloud_inits_own_check_accepts_every_form() {
    let cluster = cluster(&CLUSTER.replace(TOKEN, &token()));
    for form in forms() {
        let mut arguments = vec!["--cluster", path(&cluster)];
        arguments.extend(form.iter().map(String::as_str));
        let text = made(&arguments);
        let parts = parts(&text);
        let has_boothook = form.contains(&"--boothook".to_owned());
        let types: Vec<&str> = parts.iter().map(|(kind, _)| kind.as_str()).collect();
        match has_boothook {
            true => assert_eq!(types, ["text/cloud-boothook", "text/cloud-config"]),
            false => assert_eq!(types, ["text/cloud-config"]),
        }
        let text = &parts.last().unwrap().1;
        // Since 23.4, cloud-init refuses keys that are not its own.
        let keys: Vec<String> = yaml(text).as_object().unwrap().keys().cloned().collect();
        assert!(
            keys.iter()
                .all(|key| ["write_files", "runcmd"].contains(&key.as_str())),
            "{keys:?}"
        );
        accepted(text);
    }
}

/// The result of cloud-init's own check of a cloud-config, by this Python.
fn check(mut python: Command, text: &str) -> Output {
    let config = cluster(text);
    python
        .args(["-m", "cloudinit.cmd.main", "schema", "--config-file"])
        .arg(path(&config))
        .output()
        .unwrap()
}

/// Checks that cloud-init of both ages takes the cloud-config, without a word against it.
fn accepted(text: &str) {
    for python in std::iter::once(python_of_cloud_init()).chain(python_of_newer_cloud_init()) {
        let output = check(python, text);
        let said = said(&output);
        assert!(output.status.success(), "{text}\n{said}");
        let word = said.trim().lines().collect::<Vec<_>>();
        assert!(
            word.len() == 1 && word[0].starts_with("Valid"),
            "{text}\n{said}"
        );
    }
}

/// Every cloud-config in the documentation.
fn documented() -> Vec<(String, String)> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(project.join("docs")).unwrap();
    let pages = pages.map(|entry| entry.unwrap().path());
    let others = ["README.md", "deploy/README.md"].map(|name| project.join(name));
    let mut found = Vec::new();
    for page in pages
        .chain(others)
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = fs::read_to_string(&page).unwrap();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let is_code = |line: &str| line.is_empty() || line.starts_with("    ");
            if line != "    #cloud-config" {
                continue;
            }
            let mut example = "#cloud-config\n".to_owned();
            while let Some(line) = lines.next_if(|line| is_code(line)) {
                example += line.get(4..).unwrap_or_default();
                example.push('\n');
            }
            found.push((page.display().to_string(), example));
        }
    }
    let seed = fs::read_to_string(project.join("packer/seed/user-data")).unwrap();
    found.push(("packer/seed/user-data".to_owned(), seed));
    found
}

#[test]
fn cloud_inits_own_check_accepts_every_example_of_the_documentation() {
    let examples = documented();
    assert!(examples.len() >= 3, "{examples:?}");
    for (place, example) in examples {
        println!("{place}");
        accepted(&example);
    }
    // What the check refuses: a key of its own at the top.
    if let Some(python) = python_of_newer_cloud_init() {
        let output = check(python, "#cloud-config\nappliance: {role: single}\n");
        assert!(!output.status.success(), "{}", said(&output));
    }
}

#[test]
fn a_server_reads_back_what_was_said() {
    let token = token();
    let cluster = cluster(&CLUSTER.replace(TOKEN, &token));
    let wanted = Settings::from_yaml("cluster", &CLUSTER.replace(TOKEN, &token)).unwrap();
    for form in forms() {
        let mut arguments = vec!["--cluster", path(&cluster), "--set", "mtu=1400"];
        arguments.extend(form.iter().map(String::as_str));
        let text = made(&arguments);
        let read = user_data::settings(text.as_bytes()).unwrap().unwrap();
        let wanted = Settings {
            mtu: Some("1400".to_owned()),
            ..wanted.clone()
        };
        assert_eq!(read, wanted, "{form:?}");

        let machine = Machine::new();
        machine.put_metadata("{}");
        fs::write(machine.metadata().join("openstack/latest/user_data"), text).unwrap();
        let metadata = machine.metadata();
        let found = document(&detected(&[
            "--output",
            "json",
            "--metadata-dir",
            metadata.to_str().unwrap(),
        ]));
        let value = |name| setting(&found, name).0;
        assert_eq!(value("role"), "master", "{form:?}");
        assert_eq!(value("mtu"), "1400");
        assert_eq!(value("podCIDR"), "10.9.0.0/16");
    }
}

#[test]
fn the_file_is_its_owners_alone_and_secrets_are_named_but_not_shown() {
    let token = token();
    let cluster = cluster(&CLUSTER.replace(TOKEN, &token));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("user-data");
    let digest = "0".repeat(64);
    let output = user_data(&[
        "--cluster",
        path(&cluster),
        "--from",
        "https://example.org/a?temp_url_sig=5ec2e7",
        "--sha256",
        &digest,
        "--output",
        file.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let said = said(&output);
    assert!(
        said.contains("join token") && said.contains("URL of the appliance"),
        "{said}"
    );
    assert!(!said.contains(&token) && !said.contains("5ec2e7"), "{said}");
    assert!(fs::read_to_string(&file).unwrap().contains(&token));
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("user-data");
    let unknown = cluster("podCDIR: 10.9.0.0/16\n");
    let overlapping = cluster("podCIDR: 10.9.0.0/16\n");
    let large = cluster(&format!(
        "workloads:\n- name: w\n  manifest: '{}'\n",
        "x".repeat(50_000)
    ));
    let digest = "0".repeat(64);
    let cases: [(&[&str], &str); 12] = [
        (&[], "--role"),
        (&["--role", "mastre"], "expected master, worker or single"),
        (
            &["--role", "master", "--set", "podCDIR=x"],
            "did you mean `podCIDR`?",
        ),
        (&["--role", "master", "--set", "mtu=90"], "mtu"),
        (&["--cluster", path(&unknown)], "did you mean `podCIDR`?"),
        (
            &[
                "--cluster",
                path(&overlapping),
                "--set",
                "serviceCIDR=10.9.0.0/16",
            ],
            "overlaps",
        ),
        (&["--cluster", path(&large)], "accepts at most 49149"),
        (
            &["--role", "master", "--volume", "$(reboot)"],
            "expected a label",
        ),
        (
            &["--role", "master", "--from", "https://example.org/a"],
            "--sha256",
        ),
        (
            &[
                "--role",
                "master",
                "--from",
                "ftp://a/b",
                "--sha256",
                &digest,
            ],
            "https://",
        ),
        (
            &[
                "--role",
                "master",
                "--from",
                "https://a/b",
                "--sha256",
                "abc",
            ],
            "sha256",
        ),
        (&["--role", "master", "--boothook"], "--volume"),
    ];
    for (arguments, why) in cases {
        let output = user_data(&[arguments, &["--output", file.to_str().unwrap()]].concat());
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            said(&output)
        );
        assert!(
            said(&output).contains(why),
            "{arguments:?}: {}",
            said(&output)
        );
        assert!(!file.exists(), "{arguments:?}");
    }
}

#[test]
fn a_file_is_replaced_only_if_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("user-data");
    fs::write(&file, "mine").unwrap();
    let write = |more: &[&str]| {
        user_data(&[&["--role", "single", "-o", file.to_str().unwrap()], more].concat())
    };
    let refused = write(&[]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused).contains("exists; use --force"),
        "{}",
        said(&refused)
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert!(write(&["--force"]).status.success());
    assert!(
        fs::read_to_string(&file)
            .unwrap()
            .starts_with("#cloud-config")
    );
    let pipe = user_data(&["--role", "single", "-o", "/dev/stdout"]);
    assert!(pipe.status.success(), "{}", said(&pipe));
}

#[test]
fn what_a_worker_will_want_is_said_and_stops_nothing() {
    let output = user_data(&["--role", "worker"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("no master is named") && text.contains("token create --offline"),
        "{text}"
    );
    let output = user_data(&["--role", "single"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

proptest! {
    // Each case runs three programs.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_text_reaches_cloud_init_and_the_server_as_it_is(text in "[ -~\t\n\r\u{85}\u{a0}\u{2028}é中😀#:'\"|>&*!%@`{}\\[\\],?-]{0,60}") {
        let settings = json!({"role": "master", "workloads": [{"name": "w", "manifest": text}]});
        let cluster = cluster(&settings.to_string());
        for form in [&[] as &[&str], &["--volume", "A", "--boothook"]] {
            let made = made(&[&["--cluster", path(&cluster)], form].concat());
            let read = user_data::settings(made.as_bytes()).unwrap().unwrap();
            let workloads = read.workloads.unwrap();
            prop_assert_eq!(workloads[0].manifest.as_deref(), Some(text.as_str()));
            let config = parts(&made).pop().unwrap().1;
            let config = yaml(&config);
            let file = &config["write_files"][0];
            prop_assert_eq!(&file["path"], "/etc/appliance/config.yaml");
            prop_assert_eq!(&file["permissions"], "0600");
            prop_assert_eq!(yaml(file["content"].as_str().unwrap()), settings.clone());
        }
    }
}
