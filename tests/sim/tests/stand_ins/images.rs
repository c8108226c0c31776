//! The image archives, read like docker reads them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::command;

fn make(directory: &Path) {
    for what in ["images", "services"] {
        let made = command("sim").arg(what).arg(directory).status();
        assert!(made.unwrap().success());
    }
}

fn members(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut members = BTreeMap::new();
    for entry in tar::Archive::new(File::open(path).unwrap())
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        members.insert(name, bytes);
    }
    members
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn an_archive_holds_what_its_manifest_says() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path());
    let members = members(&directory.path().join("pause-amd64_3.0.tar"));
    let manifest: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    let image = &manifest[0];
    assert_eq!(
        image["RepoTags"][0],
        "gcr.io/google_containers/pause-amd64:3.0"
    );
    let config = image["Config"].as_str().unwrap();
    assert_eq!(config, format!("{}.json", digest(&members[config])));
    let settings: Value = serde_json::from_slice(&members[config]).unwrap();
    let layers: Vec<&Vec<u8>> = (0..2)
        .map(|place| &members[image["Layers"][place].as_str().unwrap()])
        .collect();
    let diffs = layers
        .iter()
        .map(|layer| format!("sha256:{}", digest(layer)));
    assert_eq!(
        settings["rootfs"]["diff_ids"],
        json!(diffs.collect::<Vec<_>>())
    );
    // The entrypoint is a link to the program in the layer that all images share.
    let entrypoint = settings["config"]["Entrypoint"][0].as_str().unwrap();
    let mut own = tar::Archive::new(&layers[1][..]);
    let link = own.entries().unwrap().last().unwrap().unwrap();
    assert_eq!(format!("/{}", link.path().unwrap().display()), entrypoint);
    let target = link.link_name().unwrap().unwrap();
    let mut shared = tar::Archive::new(&layers[0][..]);
    let program = shared.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(Path::new("/").join(program.path().unwrap()), target);
    assert_eq!(program.header().mode().unwrap(), 0o755);
    let size = fs::metadata(env!("CARGO_BIN_EXE_sim")).unwrap().len();
    assert_eq!(program.size(), size);
}

#[test]
fn the_same_program_gives_the_same_archives() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(one.path());
    make(two.path());
    let names: Vec<_> = fs::read_dir(one.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 13);
    for name in names {
        let hash = |directory: &Path| digest(&fs::read(directory.join(&name)).unwrap());
        assert_eq!(hash(one.path()), hash(two.path()), "{}", name.display());
    }
}
