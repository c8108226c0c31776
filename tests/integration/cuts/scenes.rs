//! The scenes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use appliance::bundle::repack::repack;

use appliance_cloud::server::{Answer, Server};
use serde_json::Value;

use super::scene::{ROOT, Scene};
use super::{backups, network};
use crate::fetch;
use crate::golden::bed;
use crate::harness::{Machine, lasting_directory, payload_of, said, tiny_program};
use crate::join::bed::{Bed, relay_between};
use crate::living::whole_appliance;
use crate::reset;
use crate::workshop::Workshop;

/// The name of a scene, and what makes it.
pub type Named = (&'static str, fn() -> Scene);

/// Every scene.
pub const ALL: [Named; 25] = [
    ("install master", || install(MASTER, &[])),
    ("install master simple", || install(MASTER, SIMPLE)),
    ("install single", || install(SINGLE, &[])),
    ("install single simple", || install(SINGLE, SIMPLE)),
    ("install worker", worker),
    ("install worker simple", || install(WORKER, SIMPLE)),
    ("install joining worker", joining),
    ("install again", again),
    ("upgrade", upgrade),
    ("apply", apply),
    ("rollback", rollback),
    ("backup", backups::backup),
    ("restore", backups::restore),
    ("certs renew", renew),
    ("reset", || removed(&["--yes"])),
    ("reset of all", || removed(&["--yes", "--data", "--keys"])),
    ("token create", token),
    ("token revoke", revoke),
    ("bundle fetch", fetched),
    ("bundle pack", pack),
    ("bundle export", export),
    ("repack", repacked),
    ("image prepare", image),
    ("certs init", authority),
    ("certs issue", issue),
];

/// The properties of a server that becomes a node.
const MASTER: &str = r#"{"role": "master"}"#;
const SINGLE: &str = r#"{"role": "single"}"#;
const WORKER: &str = r#"{"role": "worker", "master": "192.168.1.101"}"#;
/// The arguments for the profile without certificates.
const SIMPLE: &[&str] = &["--profile", "simple"];

fn appliance() -> Command {
    Command::new(env!("CARGO_BIN_EXE_appliance"))
}

pub fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// A scene whose place has the root directory of that machine.
pub fn of_machine(
    machine: Machine,
    command: impl Fn(&Path, &Path) -> Command + Send + Sync + 'static,
) -> Scene {
    let place = lasting_directory();
    copy(&machine.root(), &place.path().join(ROOT));
    let metadata = machine.metadata();
    let mut scene = Scene::new(place.path(), move |place| {
        command(&place.join(ROOT), &metadata)
    });
    scene.keeps = vec![Box::new(machine), Box::new(place)];
    scene
}

pub fn copy(from: &Path, to: &Path) {
    done(Command::new("cp").arg("-a").args([from, to]));
}

/// The installation of that machine, with more arguments.
fn installation(machine: Machine, arguments: &[&'static str]) -> Scene {
    let arguments = arguments.to_vec();
    of_machine(machine, move |root, metadata| {
        let mut command = appliance();
        command.arg("install").arg("--root").arg(root);
        command.arg("--metadata-dir").arg(metadata);
        command.arg("--payload").arg(bed::appliance());
        command.args(&arguments);
        command
    })
}

fn install(properties: &str, arguments: &[&'static str]) -> Scene {
    let machine = Machine::new();
    machine.put_metadata(properties);
    installation(machine, arguments)
}

/// A worker that was given its certificates.
fn worker() -> Scene {
    let machine = Machine::new();
    machine.put_metadata(WORKER);
    let authority = tempfile::tempdir().unwrap();
    let ca = authority.path().to_str().unwrap();
    done(appliance().args(["certs", "init", "--ca", ca]));
    done(
        appliance()
            .args(["certs", "issue", "--ca", ca, "--role", "worker", "--dir"])
            .arg(machine.root())
            .args([
                "--set",
                "nodeName=server02",
                "--set",
                "address=192.168.1.102",
            ])
            .args(["--set", "master=192.168.1.101"]),
    );
    installation(machine, &[])
}

/// A worker that joins the cluster of a master with a token.
fn joining() -> Scene {
    let master = Bed::new();
    relay_between([(network::OTHER, network::OWN)].into_iter(), master.port);
    let machine = Machine::new();
    machine.put_meta_data_json(
        r#"{"uuid": "5f7a1c9e-3b0d-4a52-9c77-0e8f6d2b4a05", "name": "server05", "hostname": "server05.novalocal"}"#,
    );
    let token = master.token.expose();
    let (other, port) = (network::OTHER, master.port);
    let settings = format!(
        "role: worker\nmaster: {other}\njoin: {{token: {}, port: {port}}}\n",
        *token
    );
    machine.put("etc/appliance/config.yaml", &settings);
    let mut scene = installation(machine, &[]);
    scene.keeps.push(Box::new(master));
    scene
}

/// An installed master that lacks certificates, and on which somebody has changed files.
fn again() -> Scene {
    let machine = Machine::new();
    machine.installed(&[]);
    for path in [
        "etc/systemd/system/etcd.service",
        "etc/kubernetes/audit-policy.yaml",
    ] {
        machine.put(path, &(machine.read(path) + "# changed by hand\n"));
    }
    lose_certificates(&machine);
    machine.put("var/lib/etcd/member/snap/db", "acknowledged");
    installation(machine, &[])
}

/// An appliance with another bundle.
fn newer() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = lasting_directory();
        let payload = payload_of("v1.9.11");
        let program = dir.path().join("program");
        fs::write(&program, tiny_program()).unwrap();
        let payload = payload.path().join("payload");
        repack(&program, &payload, &dir.path().join("appliance")).unwrap();
        dir
    });
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| made.path().join("appliance"))
}

fn upgrading(root: &Path, metadata: &Path) -> Command {
    let mut command = appliance();
    command.args(["upgrade", "--yes", "--root"]).arg(root);
    command.arg("--metadata-dir").arg(metadata);
    command.arg("--payload").arg(newer());
    command
}

/// An installed master on which somebody has changed a file.
fn installed() -> Machine {
    let machine = Machine::new();
    done(&mut machine.install_from(&bed::appliance(), &[]));
    let unit = "etc/systemd/system/kube-calico.service";
    machine.put(unit, &(machine.read(unit) + "# changed by hand\n"));
    machine.put("var/lib/etcd/member/snap/db", "acknowledged");
    machine
}

fn upgrade() -> Scene {
    of_machine(installed(), upgrading)
}

/// An installed master that gets other settings than those in its file.
fn apply() -> Scene {
    let machine = installed();
    machine.put("etc/appliance/config.yaml", "role: master\n");
    machine.put("new.yaml", "role: master\ndefaultDeny: on\nlogLevel: 4\n");
    of_machine(machine, |root, metadata| {
        let mut command = appliance();
        command.arg("apply").arg(root.join("new.yaml")).arg("--yes");
        command
            .arg("--root")
            .arg(root)
            .arg("--metadata-dir")
            .arg(metadata);
        command.arg("--payload").arg(bed::appliance());
        command
    })
}

/// Run again after its end, it finds nothing to go back from.
fn rollback() -> Scene {
    let machine = installed();
    done(&mut upgrading(&machine.root(), &machine.metadata()));
    let mut scene = of_machine(machine, |root, _| {
        let mut command = appliance();
        command.args(["rollback", "--yes", "--root"]).arg(root);
        command
    });
    scene.ends =
        |output| output.status.success() || said(output).contains("no upgrade to go back from");
    scene
}

fn lose_certificates(machine: &Machine) {
    let ca = machine.root().join("etc/kubernetes/ca");
    for name in ["admin", "calico", "kubernetes"] {
        fs::remove_file(ca.join(format!("{name}/{name}.pem"))).unwrap();
    }
}

/// A node that becomes an ordinary machine again.
fn removed(arguments: &'static [&'static str]) -> Scene {
    let machine = Machine::new();
    machine.installed(&[]);
    machine.put("var/lib/etcd/member/snap/db", "acknowledged");
    let mut scene = of_machine(machine, |root, _| reset::command(root, arguments));
    scene.ignored = Some("root/var/backups");
    scene
}

/// A program that ends at once.
pub fn nothing() -> Vec<u8> {
    let mut program = tiny_program();
    // xor edi, edi; mov eax, 60 (exit); syscall, where the headers end.
    let code = [0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
    program.splice(120..129, code);
    let start = (0x40_0000_u64 + 120).to_le_bytes();
    for field in [24, 80, 88] {
        program[field..field + 8].copy_from_slice(&start);
    }
    program
}

/// An installed master, on which commands run with its root directory as `/`.
pub fn running() -> Machine {
    let machine = Machine::new();
    let output = machine
        .install_from(&bed::appliance(), &[])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    for program in ["systemctl", "docker"] {
        let path = machine.root().join("usr/bin").join(program);
        fs::write(&path, nothing()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    machine.put("dev/null", "");
    for dir in ["proc", "tmp"] {
        fs::create_dir(machine.root().join(dir)).unwrap();
    }
    copy(&machine.metadata(), &machine.root().join("config-drive"));
    machine.put("var/lib/etcd/member/snap/db", "acknowledged");
    fs::copy(whole_appliance(), machine.root().join(PROGRAM)).unwrap();
    machine
}

/// Where the program is on a machine.
pub const PROGRAM: &str = "usr/local/bin/appliance";

/// The program with that root directory as `/`. It sees the processes of this machine.
pub fn with_root(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg(r#"mount --bind /proc "$0/proc" && exec chroot "$0" "$@""#);
    command.arg(root).arg(format!("/{PROGRAM}")).args(arguments);
    command
}

/// A command on that machine.
fn inside(machine: Machine, arguments: &[&str]) -> Scene {
    fs::remove_file(machine.root().join(PROGRAM)).unwrap();
    let arguments: Vec<String> = arguments.iter().map(|&one| one.to_owned()).collect();
    let mut scene = of_machine(machine, move |root, _| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        with_root(root, &arguments)
    });
    scene.is_root = true;
    scene.add(&format!("{ROOT}/{PROGRAM}"), &whole_appliance());
    scene
}

fn renew() -> Scene {
    let machine = running();
    lose_certificates(&machine);
    let arguments = ["certs", "renew", "--metadata-dir", "/config-drive"];
    inside(machine, &arguments)
}

/// A cut creation may have made a token that nobody saw: then there is one more.
fn token() -> Scene {
    let mut scene = inside(running(), &["token", "create"]);
    scene.simplify = |path, text| match path.ends_with("join/tokens.json") {
        true => one_record(&text),
        false => text,
    };
    scene
}

/// The last record of a JSON object, without its name.
fn one_record(text: &str) -> String {
    let all: Value = serde_json::from_str(text).unwrap_or_default();
    let last = all.as_object().and_then(|all| all.values().next_back());
    format!("{last:#?}")
}

fn revoke() -> Scene {
    let machine = running();
    let output = with_root(&machine.root(), &["token", "create"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let token = String::from_utf8(output.stdout).unwrap();
    inside(machine, &["token", "revoke", token.trim()])
}

fn workshop_command(place: &Path, arguments: &[&str]) -> Command {
    let mut command = appliance();
    for argument in arguments {
        match argument.strip_prefix('@') {
            Some(name) => command.arg(place.join(name)),
            None => command.arg(argument),
        };
    }
    command.env("APPLIANCE_CACHE", place.join("cache"));
    command
}

fn of_workshop(workshop: &Workshop, arguments: &'static [&'static str]) -> Scene {
    Scene::new(&workshop.path(""), move |place| {
        workshop_command(place, arguments)
    })
}

fn fetched() -> Scene {
    let (workshop, archive) = fetch::workshop(None);
    let served = Arc::clone(&archive);
    let server = Server::start(move |request| Answer::file(&served, request));
    let mirror = format!("example.org={}", server.url());
    let mut scene = Scene::new(&workshop.path(""), move |place| {
        let arguments = [
            "bundle",
            "fetch",
            "--bundle",
            "@definition",
            "--mirror",
            &mirror,
        ];
        workshop_command(place, &arguments)
    });
    scene.keeps = vec![Box::new(server)];
    scene
}

fn pack() -> Scene {
    const ARGUMENTS: &[&str] = &[
        "bundle",
        "pack",
        "--bundle",
        "@definition",
        "--components",
        "@components",
        "--output",
        "@out/payload",
    ];
    let mut scene = of_workshop(&Workshop::new(), ARGUMENTS);
    scene.optional = Some("cache/packed");
    scene
}

fn repacked() -> Scene {
    let workshop = Workshop::packed();
    workshop.put("program", &tiny_program());
    const ARGUMENTS: &[&str] = &[
        "repack",
        "--payload",
        "@payload",
        "--program",
        "@program",
        "--output",
        "@appliance",
    ];
    of_workshop(&workshop, ARGUMENTS)
}

fn export() -> Scene {
    let workshop = Workshop::packed();
    const ARGUMENTS: &[&str] = &["bundle", "export", "--output", "@carried.tar"];
    of_workshop(&workshop, ARGUMENTS)
}

fn image() -> Scene {
    of_machine(bed::used(), |root, _| {
        let mut command = bed::image(&["prepare", "--root"]);
        command.arg(root).arg("--payload").arg(bed::appliance());
        command
    })
}

fn authority() -> Scene {
    let place = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(place.path(), |place| {
        workshop_command(place, &["certs", "init", "--ca", "@ca"])
    });
    // It never replaces an authority. Whether this one is whole, the comparison tells.
    scene.ends = |output| output.status.success() || said(output).contains("already exists");
    scene
}

fn issue() -> Scene {
    let place = tempfile::tempdir().unwrap();
    let ca = place.path().join("ca");
    done(appliance().args(["certs", "init", "--ca"]).arg(&ca));
    Scene::new(place.path(), |place| {
        let mut command = workshop_command(
            place,
            &["certs", "issue", "--ca", "@ca", "--dir", "@server02"],
        );
        command.args(["--role", "master", "--set", "nodeName=server02"]);
        command.args(["--set", "address=192.168.1.102"]);
        command
    })
}
