//! Every example of every help page: each must parse. Examples that need no node, no download and
//! no virtual machine also run.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use appliance::bundle::repack::repack;
use appliance::cli::parse;
use appliance::digest::Sha256;
use minisign::KeyPair;

use super::{commands, page};
use crate::golden::bed::system;
use crate::harness::{Machine, payload, said, tiny_program};

/// Examples that are only parsed: their beginning, and what they would need to run.
const ONLY_PARSED: &[(&str, &str)] = &[
    ("appliance install ", "this machine would become a node"),
    ("appliance convert ", "this machine would have to be a node"),
    ("appliance upgrade", "a node"),
    ("appliance apply", "a node"),
    ("appliance rollback", "a node"),
    ("appliance prune", "a node"),
    ("appliance plan", "this machine would have to be a server"),
    ("appliance reset", "this machine would have to be a node"),
    (
        "appliance detect --explain",
        "this machine would have to be a server",
    ),
    ("appliance detect --metadata-source", "a metadata service"),
    (
        "appliance preflight --role",
        "this machine would have to be a server",
    ),
    ("appliance status", "a node"),
    ("appliance serve-status", "serves until it is stopped"),
    ("appliance doctor ", "a node"),
    ("appliance support-bundle", "a node"),
    ("appliance timeline", "a node"),
    ("appliance verify", "a node"),
    ("appliance check", "a cluster"),
    (
        "NODE_NAME=server01 appliance check serve",
        "serves until it is stopped",
    ),
    ("appliance token create --ttl", "a master"),
    ("appliance token list", "a master"),
    ("appliance token revoke", "a master"),
    ("appliance node", "a master, or a node"),
    ("kubectl delete node", "a master"),
    ("appliance certs renew", "a node"),
    ("appliance certs rotate-ca", "a master"),
    ("appliance certs rotate-service-accounts", "a master"),
    ("appliance certs show", "a node"),
    ("appliance secrets", "a master"),
    ("appliance backup", "a master"),
    ("appliance etcd", "a master"),
    ("ETCDCTL_API=2 appliance etcdctl", "a master"),
    ("appliance kubectl", "a master"),
    ("appliance calicoctl", "a node"),
    ("appliance logs", "a node"),
    ("appliance restore", "this machine would become a node"),
    ("appliance kubeconfig", "a master"),
    ("appliance balance", "serves until it is stopped"),
    ("appliance datastore", "serves until it is stopped"),
    ("appliance join", "serves until it is stopped"),
    ("appliance addons", "a master"),
    ("appliance images", "docker"),
    ("appliance image build", "a cloud image and QEMU"),
    (
        "appliance image prepare --yes",
        "the traces of this machine would go",
    ),
    ("appliance bundle fetch", "downloads"),
    (
        "HTTPS_PROXY=http://proxy.example:3128 appliance bundle fetch",
        "downloads",
    ),
    ("appliance bundle lock", "downloads"),
    ("appliance bundle doctor", "asks servers"),
    ("appliance bundle import my-v1.9.11.tar", "downloads"),
    ("appliance bundle list --installed", "a node"),
    (
        "appliance bundle pack --bundle my-v1.9.11 --file",
        "downloads",
    ),
    ("appliance repack --bundle my-v1.9.11 --file", "downloads"),
];

/// What an example needs to run, if it does not run here.
fn only_parsed(example: &str) -> Option<&'static str> {
    if example.contains("--root") {
        return None;
    }
    let entry = ONLY_PARSED
        .iter()
        .find(|(start, _)| (example.to_owned() + " ").starts_with(start));
    entry.map(|(start, _)| *start)
}

/// The examples of a page, each in one line as in a shell, without comments.
fn examples(page: &str) -> Vec<String> {
    let lines = page
        .lines()
        .skip_while(|line| *line != "Examples:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let mut examples = Vec::new();
    let mut begun = String::new();
    for line in lines {
        let line = line.trim();
        let line = line.split(" # ").next().unwrap_or_default().trim_end();
        if line.starts_with('#') {
            continue;
        }
        begun += line.trim_end_matches('\\');
        if line.ends_with(['\\', '|']) {
            begun.push(' ');
        } else {
            examples.push(std::mem::take(&mut begun));
        }
    }
    assert!(begun.is_empty(), "an example has no end: {begun}");
    examples
}

/// Whether one of the words of the line is this program.
fn is_ours(example: &str) -> bool {
    example.split_whitespace().any(|word| word == "appliance")
}

#[test]
fn every_page_has_an_example_of_its_own_command() {
    for words in commands() {
        let page = page(&words, "--help");
        let start = [&["appliance".to_owned()][..], &words].concat().join(" ");
        assert!(
            examples(&page)
                .iter()
                .any(|example| example.contains(&start)),
            "no example of `{start}` in:\n{page}"
        );
    }
}

/// A directory with all files that examples name, and a system in place of /mnt.
struct Bench {
    dir: tempfile::TempDir,
    machine: Machine,
}

fn put(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn put_program(path: &Path, text: &[u8]) {
    put(path, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

/// The start of every bench, made once.
fn stock() -> &'static Path {
    static STOCK: OnceLock<tempfile::TempDir> = OnceLock::new();
    STOCK.get_or_init(make_stock).path()
}

fn make_stock() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let work = at("work");
    let inventory = "inventory:\n- {name: server02, role: master, address: 192.168.1.102}\n";
    for (name, text) in [
        ("site.yaml", "role: master\nclusterName: site\n"),
        ("config.yaml", "role: master\n"),
        ("user-data", "#cloud-config\nappliance: {role: single}\n"),
        ("cluster.yaml", inventory),
        ("appliance", "an appliance"),
    ] {
        put(&work.join(name), text);
    }
    let blob = format!("cache/blobs/sha256/{}", Sha256::of(b"a download"));
    put(&work.join(blob), "a download");
    let packed = payload();
    let made = packed.parent().unwrap();
    copy(&made.join("components"), &work.join("files"));
    put(
        &work.join("my-v1.9.11/bundle.toml"),
        fs::read(made.join("bundle.toml")).unwrap(),
    );
    copy(&packed, &work.join("payload"));
    let keys = KeyPair::generate_unencrypted_keypair().unwrap();
    put(
        &work.join("my.key"),
        keys.sk.to_box(None).unwrap().to_string(),
    );
    put(&work.join("my.pub"), keys.pk.to_box().unwrap().to_string());
    for name in ["jq", "ssh", "poweroff", "man", "kubectl"] {
        put_program(&at(&format!("bin/{name}")), b"#!/bin/sh\ncat >/dev/null\n");
    }
    let recorder = b"#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$RECORD\"\n";
    put_program(&at("recorder/appliance"), recorder);
    let program_itself = env!("CARGO_BIN_EXE_appliance").as_ref();
    repack(program_itself, &packed, &at("bin/appliance")).unwrap();
    put_program(&work.join("stub"), &tiny_program());
    for line in [
        "appliance repack --bundle my-v1.9.11 --components files --sign-key my.key --program stub \
         -o my-appliance",
        "appliance bundle export -o downloads.tar",
    ] {
        let output = shell(line, &work, &[at("bin")]);
        assert!(output.status.success(), "{line}: {}", said(&output));
    }
    let sha256 = Sha256::of(&fs::read(work.join("my-appliance")).unwrap());
    put(
        &work.join("my-appliance.sha256"),
        format!("{sha256}  my-appliance\n"),
    );
    dir
}

/// Runs a line in a directory. The programs of these directories come first on the PATH.
fn shell(line: &str, dir: &Path, programs: &[PathBuf]) -> Output {
    let path = std::env::var("PATH").unwrap();
    let path = programs.iter().cloned().chain(std::env::split_paths(&path));
    Command::new("sh")
        .args(["-e", "-c", line])
        .current_dir(dir)
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("APPLIANCE_CACHE", dir.join("cache"))
        .env("RECORD", dir.join("record"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

impl Bench {
    fn new(command: &str) -> Bench {
        let machine = match command {
            "image" => system(),
            _ => Machine::new(),
        };
        match command {
            "convert" => {
                machine.put(
                    "etc/appliance/config.yaml",
                    "role: master\naddress: 192.168.1.102\nnodeName: server02\n",
                );
                machine.installed(&["--profile", "simple"]);
            }
            "certs" => drop(machine.installed(&[])),
            "install" | "plan" => machine.put("etc/hostname", "server02\n"),
            _ => {}
        }
        let dir = tempfile::tempdir().unwrap();
        copy(&stock().join("work/."), dir.path());
        copy(&machine.metadata(), &dir.path().join("config-drive"));
        Bench { dir, machine }
    }

    /// Runs a line here. If the directory `program` of the stock has this program, runs that.
    fn shell(&self, line: &str, program: &str) -> Output {
        let here = self.dir.path().to_str().unwrap();
        let line = line
            .replace("/mnt", self.machine.root().to_str().unwrap())
            .replace("/etc/bash_completion.d", here)
            .replace("/usr/local/share/man", here);
        let programs = [stock().join(program), stock().join("bin")];
        shell(&line, self.dir.path(), &programs)
    }

    /// The words that the shell would pass to this program. The program does not run.
    fn words(&self, example: &str) -> Vec<OsString> {
        let output = self.shell(example, "recorder");
        assert!(output.status.success(), "{example}: {}", said(&output));
        let record = self.dir.path().join("record");
        let words = fs::read_to_string(&record).unwrap();
        fs::remove_file(record).unwrap();
        let words = std::iter::once("appliance").chain(words.lines());
        words.map(OsString::from).collect()
    }
}

#[test]
fn every_example_works() {
    let mut failed = Vec::new();
    let mut unused: Vec<&str> = ONLY_PARSED.iter().map(|(start, _)| *start).collect();
    for words in commands() {
        let page = page(&words, "--help");
        let bench = Bench::new(words.first().map_or("", String::as_str));
        for example in examples(&page).into_iter().filter(|line| is_ours(line)) {
            match parse(bench.words(&example)) {
                // For clap, `--help` is an error, but not a failure.
                Err(error) if error.exit_code() != 0 => failed.push(format!("{example}\n{error}")),
                _ => {}
            }
            if let Some(start) = only_parsed(&example) {
                unused.retain(|unused| *unused != start);
                continue;
            }
            if example.starts_with("appliance user-data ") {
                // Each example writes the same file, which is never replaced.
                drop(fs::remove_file(bench.dir.path().join("user-data")));
            }
            let output = bench.shell(&example, "bin");
            // A plan has something to change on this system, and it is no node.
            let ends = |start: &str, code| {
                example.starts_with(start) && output.status.code() == Some(code)
            };
            let differs = ends("appliance plan ", 7) || ends("appliance doctor ", 3);
            if !output.status.success() && !differs {
                failed.push(format!("{example}\n{}", said(&output)));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(unused.is_empty(), "no example begins so: {unused:?}");
}
