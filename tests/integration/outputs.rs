//! `--output json`: one document on standard output, whatever happens, and its schema.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use appliance::cli::Cli;
use clap::CommandFactory;
use serde::Serialize;
use serde_json::{Value, json};

use crate::golden::bed;
use crate::harness::{Machine, document, payload, payload_of, said};
use crate::workshop::Workshop;

mod running;

/// Commands that print no result of their own: JSON of another standard, what another program prints, or nothing, because
/// they serve until they are stopped.
const WITHOUT: [&str; 14] = [
    "serve-status",
    "kubectl",
    "etcdctl",
    "calicoctl",
    "logs",
    "config-schema",
    "bundle-sbom",
    "balance",
    "datastore",
    "join-sign",
    "join-serve",
    "join-serve-renewals",
    "join-follow",
    "check-serve",
];

/// Results that need more, each with the module whose tests validate it.
const ELSEWHERE: [(&str, &str); 9] = [
    ("image-build", "golden::build"),
    ("secrets-rotate", "rotate"),
    ("secrets-show", "rotate"),
    ("certs-rotate-ca", "rotate_ca"),
    ("certs-rotate-service-accounts", "rotate_accounts"),
    ("etcd-status", "maintenance"),
    ("etcd-maintain", "maintenance"),
    ("node-promote", "role"),
    ("node-demote", "role"),
];

fn appliance(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn schema(name: &str) -> Value {
    let output = appliance(&["schema", name]);
    assert!(output.status.success(), "{}", said(&output));
    document(&output)
}

fn names() -> BTreeSet<String> {
    let output = document(&appliance(&["schema", "-o", "json"]));
    let names = output["outputs"].as_array().unwrap().iter();
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// Results that no test validates: a backup needs a cluster that runs.
const NEVER: [&str; 3] = ["backup", "backup-verify", "restore"];

/// Documents of real runs, each with the name of its schema.
#[derive(Default)]
struct Documents(Vec<(String, Value)>);

/// Asserts that the result of a command, as a test has it, is what its schema says.
pub fn validate(name: &str, result: &impl Serialize) {
    let document = serde_json::to_value(result).unwrap();
    Documents(vec![(name.to_owned(), document)]).validate();
}

impl Documents {
    /// Adds what this run printed: one document and nothing else.
    fn add(&mut self, name: &str, output: &Output) {
        let text = String::from_utf8_lossy(&output.stdout);
        let parsed = serde_json::from_str(&text);
        let document = parsed.unwrap_or_else(|error| panic!("{name}: {error}: {}", said(output)));
        self.0.push((name.to_owned(), document));
    }

    /// Adds what this run of the program printed.
    fn run(&mut self, name: &str, arguments: &[&str]) {
        self.add(name, &appliance(&[arguments, &["-o", "json"]].concat()));
    }

    /// Validates all.
    fn validate(&self) {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut validator = Command::new(project.join("out/tools/bin/python"))
            .arg(project.join("tests/schemas/validate.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`make tools` installs the validator");
        let lines = self.0.iter().map(|(name, document)| {
            let case = json!({ "name": name, "schema": schema(name), "document": document });
            format!("{case}\n")
        });
        let lines: String = lines.collect();
        let mut input = validator.stdin.take().unwrap();
        input.write_all(lines.as_bytes()).unwrap();
        drop(input);
        let output = validator.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn every_command_has_a_schema() {
    fn collect(command: &clap::Command, words: &[String], all: &mut BTreeSet<String>) {
        let below: Vec<&clap::Command> = command.get_subcommands().collect();
        let is_group = command.is_subcommand_required_set();
        if !words.is_empty() && !is_group {
            all.insert(words.join("-"));
        }
        for below in below {
            collect(
                below,
                &[words, &[below.get_name().to_owned()]].concat(),
                all,
            );
        }
    }
    let mut commands = BTreeSet::new();
    collect(&Cli::command(), &[], &mut commands);
    let names = names();
    for command in &commands {
        let is_without = WITHOUT.contains(&command.as_str());
        assert_ne!(names.contains(command), is_without, "{command}");
    }
    for name in &names {
        let is_of = |command: &String| name == command || name.starts_with(&format!("{command}-"));
        assert!(name == "error" || commands.iter().any(is_of), "{name}");
        assert_eq!(
            schema(name)["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
    }
}

/// What commands print on an operator's machine.
fn of_operators() -> Documents {
    let mut documents = Documents::default();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("site.yaml"), "role: worker\nmaster: 192.0.2.1\n").unwrap();
    for (name, arguments) in [
        ("version", &["version"][..]),
        ("schema", &["schema"]),
        ("completion", &["completion", "bash"]),
        ("help", &["help"]),
        ("help", &["help", "join"]),
        ("config-example", &["config", "example"]),
        (
            "config-validate",
            &["config", "validate", &path("site.yaml")],
        ),
        ("user-data", &["user-data", "--role", "single"]),
        (
            "user-data-file",
            &[
                "user-data",
                "--role",
                "single",
                "--file",
                &path("user-data"),
            ],
        ),
        ("token-create", &["token", "create", "--offline"]),
        ("certs-init", &["certs", "init", "--ca", &path("ca")]),
        (
            "certs-issue",
            &[
                "certs",
                "issue",
                "--ca",
                &path("ca"),
                "--role",
                "master",
                "--set",
                "nodeName=a",
                "--set",
                "address=192.0.2.1",
                "--dir",
                &path("node"),
            ],
        ),
        ("certs-show", &["certs", "show", "--root", &path("node")]),
        ("man", &["man", "--dir", &path("man")]),
    ] {
        documents.run(name, arguments);
    }
    let workshop = Workshop::packed();
    let mut made = |name: &str, arguments: &[&str]| {
        documents.add(name, &workshop.run(&[arguments, &["-o", "json"]].concat()));
    };
    let bundle = ["--bundle", "@definition", "--components", "@components"];
    made(
        "bundle-pack",
        &[&["bundle", "pack", "--file", "@again"], &bundle[..]].concat(),
    );
    made(
        "bundle-doctor",
        &[&["bundle", "doctor"], &bundle[..]].concat(),
    );
    made("bundle-verify", &["bundle", "verify", "@payload"]);
    made("bundle-list", &["bundle", "list", "@payload"]);
    made(
        "bundle-list-bundle",
        &["bundle", "list", "--bundle", "@definition"],
    );
    made(
        "repack",
        &["repack", "--payload", "@payload", "--file", "@one"],
    );
    made("bundle-export", &["bundle", "export", "--file", "@tar"]);
    documents
}

/// What commands print on machines whose root directory is given to them.
fn of_roots() -> Documents {
    let mut documents = Documents::default();
    let machine = Machine::new();
    let root = machine.root().to_str().unwrap().to_owned();
    let metadata = machine.metadata().to_str().unwrap().to_owned();
    let at_root = ["--root", root.as_str()];
    let with_metadata = ["--root", &root, "--metadata-dir", &metadata];
    documents.run("detect", &[&["detect"], &with_metadata[..]].concat());
    let dry_run = || machine.install(&["--dry-run", "-o", "json"]);
    documents.add("install-dry-run", &dry_run());
    documents.add("install", &machine.install(&["-o", "json"]));
    documents.add("plan", &dry_run());
    documents.run("verify", &[&["verify"], &at_root[..]].concat());
    documents.run("check-cis", &[&["check", "--cis"], &at_root[..]].concat());
    documents.run("certs-show", &[&["certs", "show"], &at_root[..]].concat());
    documents.run("kubeconfig", &[&["kubeconfig"], &at_root[..]].concat());
    let file = machine.root().join("admin.kubeconfig");
    let to_file = ["kubeconfig", "--file", file.to_str().unwrap()];
    documents.run("kubeconfig-file", &[&to_file, &at_root[..]].concat());

    let newer = payload_of("v1.9.11");
    let newer = newer.path().join("payload");
    for (name, flag) in [("upgrade", "--dry-run"), ("upgrade", "--yes")] {
        let mut upgrade = machine.command("upgrade", &newer, &[flag, "-o", "json"]);
        documents.add(name, &upgrade.output().unwrap());
    }
    let settings = machine.root().join("new.yaml");
    machine.put("new.yaml", "role: master\nlogLevel: 4\n");
    for flag in ["--dry-run", "--yes"] {
        let file = settings.to_str().unwrap();
        let mut apply = machine.command("apply", &newer, &[file, flag, "-o", "json"]);
        documents.add("apply", &apply.output().unwrap());
    }
    documents.run("prune", &[&["prune", "--yes"], &at_root[..]].concat());
    documents.run("rollback", &[&["rollback", "--yes"], &at_root[..]].concat());

    let simple = Machine::new();
    simple.installed(&["--profile", "simple"]);
    let payload = payload();
    let mut convert = Command::new(env!("CARGO_BIN_EXE_appliance"));
    convert
        .args(["convert", "--dry-run", "-o", "json", "--payload"])
        .arg(&payload);
    convert
        .arg("--root")
        .arg(simple.root())
        .arg("--metadata-dir")
        .arg(simple.metadata());
    documents.add(
        "convert",
        &convert.args(["--profile", "with-ca"]).output().unwrap(),
    );

    let image = bed::system();
    let root = image.root().to_str().unwrap().to_owned();
    let prepare = [
        "image",
        "prepare",
        "--root",
        &root,
        "--payload",
        payload.to_str().unwrap(),
    ];
    documents.run("image-prepare", &prepare);
    documents.run("image-check", &["image", "check", "--root", &root]);
    documents
}

#[test]
fn every_result_is_what_its_schema_says() {
    let mut documents = Documents::default();
    for group in [of_operators, of_roots, running::documents] {
        documents.0.extend(group().0);
    }
    documents.validate();
    let seen = documents.0.iter().map(|(name, _)| name.as_str());
    let mut seen: BTreeSet<&str> = seen.collect();
    seen.extend(ELSEWHERE.map(|(name, _)| name));
    seen.extend(NEVER);
    // The other test validates it.
    seen.insert("error");
    let names = names();
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let missing: Vec<&&str> = names.difference(&seen).collect();
    assert!(missing.is_empty(), "no test validates {missing:?}");
}

#[test]
fn errors_are_documents_too() {
    let mut documents = Documents::default();
    for (arguments, code, kind) in [
        (&["config", "validate", "/nonexistent"][..], 2, "refused"),
        (&["status", "--nonsense"], 2, "refused"),
        (&["nonsense"], 2, "refused"),
        (&["schema", "nonsense"], 2, "refused"),
        (&["certs", "show", "--root", "/usr"], 4, "not-installed"),
        (&["bundle", "verify", "/dev/null"], 1, "failed"),
    ] {
        let output = appliance(&[arguments, &["-o", "json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let error = &document(&output)["error"];
        assert_eq!(error["kind"], kind, "{}", said(&output));
        assert_eq!(error["exitCode"], code, "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
        // A person sees it as well.
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "));
        documents.add("error", &output);
    }
    // A result that also says why it is no more.
    let machine = Machine::new();
    machine.put_metadata(r#"{"role": "mastre"}"#);
    let root = machine.root();
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["detect", "--output=json", "--root"])
        .arg(root)
        .arg("--metadata-dir")
        .arg(machine.metadata())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let detected = document(&output);
    assert_eq!(detected["settings"], Value::Null);
    let error = &detected["error"];
    assert!(
        error["problems"][0].as_str().unwrap().contains("mastre"),
        "{error}"
    );
    assert!(
        !error["nextSteps"].as_array().unwrap().is_empty(),
        "{error}"
    );
    documents.add("detect", &output);
    documents.validate();
}

#[test]
fn a_file_can_still_be_named_as_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("user-data");
    let file = file.to_str().unwrap();
    let output = appliance(&["user-data", "--role", "single", "--output", file]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        fs::read_to_string(file)
            .unwrap()
            .starts_with("#cloud-config")
    );
    let both = [
        "user-data",
        "--role",
        "single",
        "-o",
        file,
        "--file",
        "other",
    ];
    let output = appliance(&both);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("name one of them"),
        "{}",
        said(&output)
    );
    let output = appliance(&["repack", "--bundle", "v1.9"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("add `--file FILE`"),
        "{}",
        said(&output)
    );
}
