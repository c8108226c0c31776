//! Backups and restorations that are cut, with a real etcd.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::OnceLock;

use appliance::backup::check::check;
use appliance::backup::read::{pass, read};
use appliance::backup::seal::{Keys, new_key};
use appliance::paths;
use appliance::pki::Secret;
use appliance::sys::change::Change;
use appliance::sys::root::Root;
use serde_json::Value;

use super::scene::{ROOT, Scene};
use super::scenes::{PROGRAM, copy, done, of_machine, with_root};
use crate::backup::{Bed, put, state};
use crate::golden::bed::{image, system};
use crate::harness::{lasting_directory, payload_with_etcd, said};
use crate::living::whole_appliance;
use crate::restore::backed_up;

/// The start of a backup.
const MAGIC: &[u8] = b"age-encryption.org/";
/// The file of the backup in the scene, on the machine.
const FILE: &str = "/srv/backups/cluster.age";

/// The key that opens the backups of the scenes, and for whom they are encrypted.
fn key() -> &'static (String, String) {
    static KEY: OnceLock<(String, String)> = OnceLock::new();
    KEY.get_or_init(|| {
        let (key, recipient) = new_key();
        (key.to_string(), recipient)
    })
}

/// What a backup says; `None` if this is none.
pub fn meaning(bytes: &[u8]) -> Option<String> {
    bytes.starts_with(MAGIC).then(|| {
        let key = Secret::new(key().0.clone().into_bytes());
        let keys = Keys::new(Some(&key), None).unwrap();
        let checked = read(bytes, &keys, &mut pass).and_then(|contents| {
            let checks = check(&contents)?;
            Ok(format!(
                "{} {checks:?}",
                serde_json::to_string_pretty(&contents.manifest)?
            ))
        });
        checked.unwrap_or_else(|error| format!("no backup: {error:#}"))
    })
}

/// What etcd's own tool says about the data of API v3: its revision, and how many keys it has. The checksum is another one
/// each time: elections count in it, too, and their number depends on how busy the machine is.
pub fn etcd(bytes: &[u8]) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["snapshot", "status", "-w", "json"])
        .arg(file.path())
        .output()
        .unwrap();
    let Ok(status) = serde_json::from_slice::<Value>(&output.stdout) else {
        return said(&output);
    };
    format!(
        "revision {}, keys {}",
        status["revision"], status["totalKey"]
    )
}

/// A master makes a backup in place of an older one, while its etcd runs.
pub fn backup() -> Scene {
    let bed = Bed::new(51);
    for number in 0..20 {
        put(
            &bed.shared.members[0],
            &format!("/scene/{number}"),
            b"acknowledged",
        );
    }
    let place = lasting_directory();
    let top = place.path().join(ROOT);
    fs::create_dir(&top).unwrap();
    let own = bed.root();
    let root = Root::open(&top).unwrap();
    for path in ["/etc", paths::JOIN_DIR] {
        let target = root.resolve(path).unwrap();
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        copy(&own.resolve(path).unwrap(), &target);
    }
    let record = serde_json::to_vec(&state(bed.address())).unwrap();
    root.write(paths::STATE, &record, 0o644).unwrap();
    root.write("/dev/null", b"", 0o666).unwrap();
    for dir in ["/proc", "/tmp", "/srv/backups", "/usr/local/bin"] {
        root.create_dir(dir, 0o755).unwrap();
    }
    root.write(FILE, b"an older backup", 0o600).unwrap();
    let mut scene = Scene::new(place.path(), |place| {
        let to = ["--recipient", &key().1, "--file", FILE, "--force"];
        with_root(&place.join(ROOT), &[&["backup"], &to[..]].concat())
    });
    scene.is_root = true;
    scene.add(&format!("{ROOT}/{PROGRAM}"), &whole_appliance());
    scene.keeps = vec![Box::new(bed.shared), Box::new(place)];
    scene
}

/// A golden image becomes the master of a backup.
pub fn restore() -> Scene {
    let (own, recipient) = key();
    let mut bed = Bed::with_key(52, own, recipient.clone());
    let backup = backed_up(&bed);
    bed.shared.members[0].stop();
    let identity = bed.dir.path().join("key");
    fs::write(&identity, own).unwrap();
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).unwrap();
    let machine = system();
    let mut prepare = image(&["prepare", "--root"]);
    prepare.arg(machine.root()).arg("--payload");
    done(prepare.arg(payload_with_etcd()));
    let mut scene = of_machine(machine, move |root, metadata| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
        command.args(["restore", "--yes", "--root"]).arg(root);
        command.arg("--metadata-dir").arg(metadata);
        command.arg("--payload").arg(payload_with_etcd());
        command.arg(&backup).arg("--identity").arg(&identity);
        command
    });
    scene.made_by_others = Some("root/var/lib/etcd");
    // Run again after its end, it finds the cluster.
    scene.ends = |output| output.status.success() || said(output).contains("--replace");
    scene.keeps.push(Box::new(bed.shared));
    scene.keeps.push(Box::new(bed.dir));
    scene
}
