//! Backups in object storage: a real Swift with its S3 face, also behind a server that makes faults.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, bail};
use appliance::backup::place::{Kept, Names, Place};
use appliance::backup::source::Backup;
use appliance::backup::write::Made;
use appliance::backup::{Target, names};
use appliance::clients::objects::{Credentials, Store};
use appliance::digest::Sha256;
use appliance::nodespec::objects::StoreSpec;
use appliance::observe::records;
use appliance::records::backup::{FORMAT, Manifest};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::backup::{Bed, put, state};
use crate::harness::said;
use swift::{BUCKET, Fault, SECRET, Swift, answer, place};

pub mod swift;

const NOW: OffsetDateTime = datetime!(2026-11-30 08:15:09 UTC);
/// The size of a part.
const PART: usize = 16 * 1024 * 1024;

fn own() -> Names {
    Names::of(&["0123456789abcdef".to_owned()], "server02")
}

/// Bytes that differ from place to place.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn made(content: &[u8]) -> Made {
    Made {
        manifest: Manifest {
            format: FORMAT,
            created: NOW,
            master: state([192, 0, 2, 2].into()),
            etcd: "3".to_owned(),
            revision: 1,
            authority: Vec::new(),
            members: BTreeMap::new(),
        },
        bytes: content.len() as u64,
        sha256: Sha256::of(content),
    }
}

fn store(place: &Place, time: OffsetDateTime, content: &[u8]) -> Result<Made> {
    place.put(&own(), &own().at(time), |output| {
        output.write_all(content)?;
        Ok(made(content))
    })
}

fn found(place: &Place) -> Vec<(String, u64)> {
    let kept = place.list(&own()).unwrap();
    kept.into_iter()
        .map(|Kept { name, bytes, .. }| (name, bytes))
        .collect()
}

fn content(place: &Place, name: &str) -> Result<Vec<u8>> {
    let Place::Objects(objects) = place else {
        panic!("{place} is no bucket");
    };
    let mut content = Vec::new();
    objects.read(name)?.read_to_end(&mut content)?;
    Ok(content)
}

/// The bucket, for requests that no backup makes.
fn bucket(swift: &Swift) -> Store {
    let spec = swift.spec();
    let credentials = Credentials::parse(&fs::read(&spec.credentials).unwrap()).unwrap();
    Store::new(&spec, BUCKET, credentials, None).unwrap()
}

#[test]
fn a_backup_is_an_object_when_the_store_has_all_of_it_and_old_ones_of_this_master_go() {
    let swift = Swift::new();
    let place = swift.place("cluster1/daily");
    for (hour, size) in [0, 1, PART, PART + 1].into_iter().enumerate() {
        let time = NOW + time::Duration::hours(i64::try_from(hour).unwrap());
        let bytes = bytes(size);
        store(&place, time, &bytes).unwrap();
        assert_eq!(found(&place).len(), hour + 1);
        assert_eq!(found(&place)[hour], (own().at(time), size as u64));
        assert!(content(&place, &own().at(time)).unwrap() == bytes, "{size}");
    }
    // Other objects: of another master, in another place, and of no backup.
    let other = Names::of(&["0123456789abcdef".to_owned()], "server04");
    place
        .put(&other, &other.at(NOW), |_| Ok(made(b"")))
        .unwrap();
    store(&swift.place("cluster1"), NOW, b"x").unwrap();
    let strange = format!("cluster1/daily/{}.old", own().at(NOW));
    bucket(&swift).begin(&strange).unwrap().finish().unwrap();

    let all: Vec<_> = found(&place).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        place.prune(&own(), 3, OffsetDateTime::now_utc()).unwrap(),
        &all[..1]
    );
    assert_eq!(
        place.prune(&own(), 0, OffsetDateTime::now_utc()).unwrap(),
        &all[1..3]
    );
    assert_eq!(found(&place).len(), 1);
    assert_eq!(place.list_all().unwrap().len(), 2);
    assert_eq!(found(&swift.place("cluster1")).len(), 1);
    assert!(bucket(&swift).head(&strange).unwrap().is_some());
    // A list of more than one page.
    for second in 0..12 {
        let name = other.at(NOW + time::Duration::seconds(second));
        bucket(&swift)
            .begin(&format!("many/{name}"))
            .unwrap()
            .finish()
            .unwrap();
    }
    assert_eq!(swift.place("many").list(&other).unwrap().len(), 12);
}

#[test]
fn nothing_is_left_of_a_backup_that_failed_or_was_cut() {
    let swift = Swift::new();
    let place = swift.place("a");
    let failed = place.put(&own(), &own().at(NOW), |output| {
        output.write_all(&bytes(PART + 1))?;
        bail!("etcd ended")
    });
    assert_eq!(failed.unwrap_err().to_string(), "etcd ended");
    let bucket = bucket(&swift);
    assert_eq!(bucket.begun("a/").unwrap(), []);

    // As after a power cut, and an upload of somebody else.
    let key = |name: &str| format!("a/{name}");
    let mut cut = bucket.begin(&key(&own().at(NOW))).unwrap();
    cut.write_all(&bytes(PART)).unwrap();
    drop(cut);
    drop(
        bucket
            .begin(&key("appliance-01234567-server02-x.age"))
            .unwrap(),
    );
    assert_eq!(bucket.begun("a/").unwrap().len(), 2);
    assert_eq!(found(&place), []);
    store(&place, NOW, b"next").unwrap();
    let left = bucket.begun("a/").unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].key, key("appliance-01234567-server02-x.age"));
    assert_eq!(content(&place, &own().at(NOW)).unwrap(), b"next");
}

#[test]
fn faults_on_the_way_are_overcome() {
    let swift = Swift::new();
    let bytes = bytes(2 * PART + 5);
    let faulty = swift.faulty(|line, before| match (line, before) {
        (line, 0) if line.contains("partNumber=1&") => answer("500 Internal Server Error", "", ""),
        (line, 1) if line.contains("partNumber=1&") => answer(
            "503 Service Unavailable",
            "",
            "<Error><Code>SlowDown</Code></Error>",
        ),
        (line, 0) if line.contains("partNumber=2&") => Fault::Cut,
        // It is done, and nobody hears of it.
        (line, 0) if line.starts_with("POST") && line.contains("uploadId=") => Fault::CutAnswer(0),
        (line, 0..=2) if line.starts_with("GET") && line.contains(".age") => {
            Fault::CutAnswer(1_000_000)
        }
        _ => Fault::None,
    });
    let place = place("a", &swift.spec_at(faulty.address));
    store(&place, NOW, &bytes).unwrap();
    assert_eq!(found(&place), [(own().at(NOW), bytes.len() as u64)]);
    assert_eq!(faulty.asked("partNumber=1&"), 3);
    assert_eq!(faulty.asked("partNumber=2&"), 2);
    assert!(content(&place, &own().at(NOW)).unwrap() == bytes);
    assert_eq!(faulty.asked("GET /backups/a/appliance-"), 4);
    assert_eq!(bucket(&swift).begun("a/").unwrap(), []);
}

/// A store that answers one kind of request so, always. The backup fails with these words, and leaves nothing.
#[track_caller]
fn fails(swift: &Swift, at: &'static str, fault: fn() -> Fault, words: &str) {
    let faulty = swift.faulty(move |line, _| match line.contains(at) {
        true => fault(),
        false => Fault::None,
    });
    let place = place("a", &swift.spec_at(faulty.address));
    let error = store(&place, NOW, &bytes(PART + 1)).unwrap_err();
    let told = format!("{error:#}");
    assert!(told.contains(words), "{told}");
    // No part of a signature, and no secret.
    assert!(
        !told.contains("X-Amz-Signature") && !told.contains(SECRET),
        "{told}"
    );
    assert!(faulty.asked(at) > 0, "{at}");
    assert_eq!(found(&swift.place("a")), [], "{told}");
    assert_eq!(bucket(swift).begun("a/").unwrap(), [], "{told}");
}

#[test]
fn a_store_that_does_not_do_what_it_should_is_named_with_the_next_step_and_has_no_half_object() {
    let swift = Swift::new();
    fails(
        &swift,
        "partNumber=2",
        || Fault::Change(other_etag_of),
        "damaged on its way",
    );
    let page = || {
        answer(
            "200 OK",
            "Content-Type: text/html\r\n",
            "<html>Log in</html>",
        )
    };
    fails(&swift, "?uploads=1", page, "web page");
    let nonsense = || answer("200 OK", "", "<a>\u{1b}[2J</a>");
    fails(&swift, "?uploads=1", nonsense, "something else than S3");
    let redirect = || {
        answer(
            "307 Temporary Redirect",
            "Location: http://evil.example.org/a?X-Amz-Signature=x\r\n",
            "",
        )
    };
    fails(
        &swift,
        "partNumber=2",
        redirect,
        "redirects to http://evil.example.org; set `endpoint`",
    );
    let full = || answer("507 Insufficient Storage", "", "");
    fails(&swift, "partNumber=2", full, "it is full");
    let skewed = || {
        answer(
            "403 Forbidden",
            "Date: Mon, 30 Nov 2020 08:00:00 GMT\r\n",
            "<Error><Code>RequestTimeTooSkewed</Code><Message>x</Message></Error>",
        )
    };
    fails(&swift, "?uploads=1", skewed, "its clock says 2020-11-30");
    // An error after the status was sent.
    let late = || {
        answer(
            "200 OK",
            "",
            "<Error><Code>InvalidPart</Code><Message>no</Message></Error>",
        )
    };
    fails(
        &swift,
        "POST /backups/a/appliance-01234567-server02-20261130T081509Z.age?uploadId=",
        late,
        "InvalidPart: no",
    );
    // It says that it has another size: what is under the name is not the backup.
    fails(
        &swift,
        "HEAD",
        || answer("200 OK", "ETag: \"x\"\r\n", "").with_length(7),
        "7 bytes",
    );
    let busy = || answer("500 Internal Server Error", "", "");
    fails(&swift, "partNumber=2", busy, "500 Internal Server Error");
}

fn other_etag_of(answer: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(answer).unwrap();
    let at = text.to_ascii_lowercase().find("etag: \"").unwrap() + "etag: \"".len();
    format!("{}0000{}", &text[..at], &text[at + 4..]).into_bytes()
}

impl Fault {
    /// The answer to HEAD, which has a length and no body.
    fn with_length(self, length: usize) -> Fault {
        match self {
            Fault::Say(text) => {
                Fault::Say(text.replace("Content-Length: 0", &format!("Content-Length: {length}")))
            }
            other => other,
        }
    }
}

#[test]
fn a_list_that_is_hostile_ends_and_names_nothing_that_is_not_ours() {
    let swift = Swift::new();
    let listed = |keys: &[String], next: &str| {
        let keys: String = keys
            .iter()
            .map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>"))
            .collect();
        format!(
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>{}</IsTruncated>\
             {keys}{next}</ListBucketResult>",
            !next.is_empty()
        )
    };
    let name = own().at(NOW);
    let climbing =
        ["a/../b/", "../", "b/", "a/", "a/x/", "a//"].map(|before| format!("{before}{name}"));
    let page = listed(&climbing, "");
    let faulty = swift.faulty(move |_, _| answer("200 OK", "", &page));
    assert_eq!(
        found(&place("a", &swift.spec_at(faulty.address))),
        [(name, 1)]
    );

    let endless = listed(&[], "<NextContinuationToken>x</NextContinuationToken>");
    let faulty = swift.faulty(move |_, _| answer("200 OK", "", &endless));
    let error = place("a", &swift.spec_at(faulty.address))
        .list(&own())
        .unwrap_err();
    assert!(error.to_string().contains("does not go on"), "{error}");
    assert_eq!(faulty.asked("list-type"), 2);
}

#[test]
fn what_is_wrong_with_the_settings_is_told_before_anything_is_written() {
    let swift = Swift::new();
    let refused = |change: &dyn Fn(&mut StoreSpec), at: &str| {
        let mut spec = swift.spec();
        change(&mut spec);
        let place = Place::open(&at.parse().unwrap(), Some(&spec));
        let error = match place {
            Err(refused) => refused.into(),
            Ok(place) => place
                .put(&own(), &own().at(NOW), |_| panic!("it was begun"))
                .unwrap_err(),
        };
        let told = format!("{error:#}");
        assert!(
            !told.contains(SECRET) && !told.contains("X-Amz-Signature"),
            "{told}"
        );
        told
    };
    let other = swift.write_credentials("other", "other");
    let empty = swift.dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    let open = swift.write_credentials("open", SECRET);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    for (change, at, words) in [
        (
            &|spec: &mut StoreSpec| spec.credentials = other.clone() as _,
            "s3://backups",
            "SignatureDoesNotMatch",
        ),
        (
            &|spec: &mut StoreSpec| spec.credentials = open.clone(),
            "s3://backups",
            "chmod 600",
        ),
        (
            &|spec: &mut StoreSpec| spec.credentials = "/nonexistent".into(),
            "s3://backups",
            "/nonexistent",
        ),
        (
            &|spec: &mut StoreSpec| spec.ca = Some(empty.clone()),
            "s3://backups",
            "no certificate in PEM",
        ),
        (&|_: &mut StoreSpec| (), "s3://nobodys", "NoSuchBucket"),
        (
            &|spec: &mut StoreSpec| spec.region = "elsewhere".parse().unwrap(),
            "s3://backups",
            "region",
        ),
    ] as [(&dyn Fn(&mut StoreSpec), &str, &str); 6]
    {
        let told = refused(change, at);
        assert!(told.contains(words), "{words}: {told}");
    }
    let told = Place::open(&"s3://backups".parse().unwrap(), None).unwrap_err();
    assert!(told.to_string().contains("--s3-endpoint"), "{told}");
    let place = format!("{:?}", swift.place("a"));
    assert!(!place.contains(SECRET), "{place}");
}

/// Runs the program with the options of the store.
fn program(swift: &Swift, arguments: &[&str]) -> Output {
    let spec = swift.spec();
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(arguments)
        .args([
            "--s3-endpoint",
            &spec.endpoint.to_string(),
            "--s3-credentials",
        ])
        .arg(spec.credentials)
        .env("APPLIANCE_LOG", "debug")
        .output()
        .unwrap();
    let told = said(&output);
    assert!(
        !told.contains(SECRET) && !told.contains("X-Amz-Signature"),
        "{told}"
    );
    output
}

#[test]
fn a_cluster_is_backed_up_listed_checked_and_read_for_a_restoration() {
    let swift = Swift::new();
    let bed = Bed::new(47);
    let random = bytes(500_000);
    for number in 0..40_usize {
        put(
            &bed.shared.members[0],
            &format!("/big/{number}"),
            &random[number..],
        );
    }
    let place = swift.place("cluster1");
    let made = bed.back_up(&Target::Place(place.clone())).unwrap();
    let kept = place
        .list(&names(&bed.root(), "server02").unwrap())
        .unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].bytes, made.bytes);
    let address = place.shown(&kept[0].name);
    let last = records::backup(&bed.root()).unwrap().unwrap();
    assert_eq!((&last.place, &last.sha256), (&address, &made.sha256));

    let listed = program(
        &swift,
        &["backup", "list", "--all", "--to", "s3://backups/cluster1"],
    );
    assert!(said(&listed).contains(&address), "{}", said(&listed));
    let key = bed.dir.path().join("key");
    fs::write(&key, &bed.key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let key = key.to_str().unwrap();
    let verified = program(&swift, &["backup", "verify", &address, "--identity", key]);
    assert!(verified.status.success(), "{}", said(&verified));
    assert!(said(&verified).contains("is whole"), "{}", said(&verified));
    let missing = program(
        &swift,
        &["backup", "verify", "s3://backups/x.age", "--identity", key],
    );
    assert!(
        said(&missing).contains("has no x.age"),
        "{}",
        said(&missing)
    );

    // As `restore` does: once to check it, and once to take the snapshot.
    let backup = Backup::of_argument(Path::new(&address), Some(&swift.spec())).unwrap();
    let mut snapshot = Vec::new();
    let mut take = |size: u64, content: &mut dyn Read| {
        assert_eq!(content.read_to_end(&mut snapshot)? as u64, size);
        Ok(())
    };
    assert!(backup.read(&bed.keys, &mut take).unwrap().manifest == made.manifest);
    assert!(!snapshot.is_empty());

    // A store that fails in the middle is no damaged backup.
    let faulty = swift.faulty(|line, before| match line.starts_with("GET") {
        true if before == 0 => Fault::CutAnswer(100_000),
        true => answer(
            "403 Forbidden",
            "",
            "<Error><Code>AccessDenied</Code><Message>no</Message></Error>",
        ),
        false => Fault::None,
    });
    let spec = swift.spec_at(faulty.address);
    let backup = Backup::of_argument(Path::new(&address), Some(&spec)).unwrap();
    let Err(error) = backup.read(&bed.keys, &mut appliance::backup::read::pass) else {
        panic!("it was read");
    };
    let told = format!("{error:#}");
    assert!(
        told.contains("AccessDenied") && !told.contains("damaged"),
        "{told}"
    );
}
