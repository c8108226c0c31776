//! Records, backups, messages and settings that the former versions of the program wrote, as files: this version reads
//! them. `docs/releases.md` promises it.
//!
//! `tests/fixtures/formats/NAME-NUMBER.json` is a document of that format, with every member that it can have. Such a file
//! never changes. Whoever raises the number of a format adds a file, and keeps what reads the former one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use appliance::bundle::manifest::Manifest;
use appliance::formats::{self, Format};
use appliance::join::followers::Taken;
use appliance::join::registry;
use appliance::join::rollout::{NodeStep, Rollout};
use appliance::join::store::{Record, Records};
use appliance::nodespec::Refused;
use appliance::nodespec::token::TokenId;
use appliance::observe::{addons, records};
use appliance::records::nodes::NodeRecord;
use appliance::records::tokens::TokenRecord;
use appliance::sys::root::Root;
use serde::Serialize;
use serde_json::{Value, json};

use crate::harness::{Machine, document, said};

mod protocol;
mod settings;

/// Reads the record of a node below a root, and gives it as it would be written.
type Read = fn(&Root) -> Result<Value>;

/// Every record of a node, with what reads it.
const RECORDS: &[(Format, Read)] = &[
    (formats::STATE, |root| value(records::state(root))),
    (formats::WRITTEN, |root| value(records::written(root))),
    (formats::STARTED, |root| value(records::started_with(root))),
    (formats::MACHINE, |root| value(records::machine(root))),
    (formats::AUTHORITIES, |root| {
        value(records::authorities(root))
    }),
    (formats::CLUSTER, |root| value(records::cluster(root))),
    (formats::LOADING, |root| value(records::loading(root))),
    (formats::BROUGHT, |root| value(records::brought(root))),
    (formats::RUN, |root| value(records::run(root))),
    (formats::UPGRADE, |root| value(records::upgrade(root))),
    (formats::NOTES, |root| value(addons::notes(root))),
    (formats::TIMELINE, |root| value(records::timeline(root))),
    (formats::LAST_BACKUP, |root| value(records::backup(root))),
    (formats::FAILED_BACKUP, |root| {
        value(records::failed_backup(root))
    }),
    (formats::RESTORED, |root| value(records::restored(root))),
    (formats::EXPECTED, |root| value(records::expected(root))),
    (formats::IMAGES, |root| value(records::images(root))),
    (formats::NAMES, |root| value(registry::names(root))),
    (formats::SCHEDULE, |root| {
        value(records::backup_schedule(root))
    }),
    (formats::ADDONS, |root| value(addons::index(root))),
    (formats::TOKENS, |root| {
        joined::<TokenId, TokenRecord>(root, &formats::TOKENS)
    }),
    (formats::NODES, |root| {
        joined::<String, NodeRecord>(root, &formats::NODES)
    }),
    (formats::TRUST, |root| {
        joined::<String, Taken>(root, &formats::TRUST)
    }),
    (formats::ROLLOUT, |root| {
        joined::<String, Rollout>(root, &formats::ROLLOUT)
    }),
    (formats::ROLLOUT_NODES, |root| {
        joined::<String, NodeStep>(root, &formats::ROLLOUT_NODES)
    }),
];

/// The formats that other tests read: unit tests in the rooms of backups and rotations, and the module `protocol`.
const ELSEWHERE: [Format; 4] = [
    formats::BACKUP,
    formats::ROTATION,
    formats::JOIN,
    formats::PAYLOAD,
];

fn value(read: Result<impl Serialize>) -> Result<Value> {
    Ok(serde_json::to_value(read?)?)
}

fn joined<N, R>(root: &Root, format: &'static Format) -> Result<Value>
where
    N: appliance::join::store::Name,
    R: Record,
{
    let dir = root.resolve(format.place)?;
    value(Records::<N, R>::new(&dir, format, None).known())
}

/// The frozen file of that name.
fn fixture(name: &str) -> PathBuf {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/formats");
    Path::new(dir).join(name)
}

fn frozen(format: &Format, number: u32) -> String {
    let path = fixture(&format!("{}-{number}.json", format.name));
    fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; freeze a document of the format {number} with all its members there",
            path.display()
        )
    })
}

/// A root with this text as the record, and nothing else.
fn root_with(format: &Format, text: &str) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let path = format.file().unwrap();
    let path = dir.path().join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

/// A document of a format that this version does not know.
fn newer(format: &Format) -> String {
    json!({"format": format.number + 1, "needs": "9.8.7", "anything": {"else": []}}).to_string()
}

#[test]
fn every_format_is_read_by_a_test() {
    let mut read: Vec<&str> = RECORDS.iter().map(|(format, _)| format.name).collect();
    read.extend(ELSEWHERE.iter().map(|format| format.name));
    read.sort_unstable();
    let mut all: Vec<&str> = formats::ALL.iter().map(|format| format.name).collect();
    all.sort_unstable();
    assert_eq!(read, all);
}

/// The record of the present format is read and written again without a difference: so nobody adds or removes a member
/// without a decision about its number.
#[test]
fn records_of_every_format_are_read() {
    for (format, read) in RECORDS {
        for number in 1..=format.number {
            let text = frozen(format, number);
            let (_dir, root) = root_with(format, &text);
            let found =
                read(&root).unwrap_or_else(|error| panic!("{} {number}: {error:#}", format.name));
            if number == format.number {
                let expected: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(found, expected, "{}", format.name);
            }
        }
    }
}

#[test]
fn a_newer_record_is_refused_with_the_version_that_reads_it() {
    for (format, read) in RECORDS {
        let (_dir, root) = root_with(format, &newer(format));
        let Err(error) = read(&root) else {
            panic!("{}: a newer record was read", format.name);
        };
        assert!(error.is::<Refused>(), "{}: {error:#}", format.name);
        let said = format!("{error:#}");
        assert!(said.contains("use appliance 9.8.7 or newer"), "{said}");
        assert!(said.contains(format.place), "{said}");
    }
}

#[test]
fn an_installation_over_newer_records_is_refused_before_it_writes() {
    for (format, _) in RECORDS {
        let machine = Machine::new();
        let path = format.file().unwrap();
        machine.put(path.trim_start_matches('/'), &newer(format));
        let said = machine.refusal(&[]);
        assert!(said.contains("use appliance 9.8.7 or newer"), "{said}");
    }
}

#[test]
fn the_table_of_contents_of_a_payload_is_read() {
    let text = frozen(&formats::PAYLOAD, formats::PAYLOAD.number);
    let manifest = Manifest::parse(text.as_bytes()).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_value(manifest).unwrap(), expected);
    let error = Manifest::parse(newer(&formats::PAYLOAD).as_bytes()).unwrap_err();
    assert!(
        error.to_string().contains("use appliance 9.8.7 or newer"),
        "{error:#}"
    );
}

#[test]
fn the_version_names_every_format_with_its_number() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["version", "--output", "json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let version = document(&output);
    assert_eq!(version["appliance"], formats::PROGRAM);
    assert_eq!(
        version["formats"],
        serde_json::to_value(formats::ALL).unwrap()
    );
}
