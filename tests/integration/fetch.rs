//! Fetching: every byte is verified against the lock, interrupted downloads resume, and errors are
//! clear and leave no partial file.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use appliance::bundle::lock::Lock;
use appliance::bundle::upstream::Upstream;
use appliance::digest::{Digest, Sha256};

use crate::harness::{SmallDisk, program, said, tarball};
use crate::workshop::{PACK, Workshop, gzip, names};
use appliance_cloud::server::{Answer, Request, Server};

pub const URL: &str = "https://example.org/etcd.tar.gz";

/// A workshop whose only component is in a published archive, and that archive.
pub fn workshop(sha256: Option<&str>) -> (Workshop, Arc<Vec<u8>>) {
    let workshop = Workshop::empty();
    workshop.put(
        "definition/bundle.toml",
        format!(
            "[bundle]\nname = \"t\"\nkubernetes = \"v1.9.0\"\ndescription = \"d\"\n\n[[component]]\n\
             name = \"etcd\"\nkind = \"program\"\nversion = \"3\"\npath = \"bin/etcd\"\nfile = \"etcd\"\n\
             source = \"{URL}\"\nmember = \"etcd-v3/etcd\"\n"
        )
        .as_bytes(),
    );
    let archive = gzip(&tarball(&[("etcd-v3/etcd", &program("etcd", 400_000))]));
    let sha256 = sha256.map_or_else(|| Sha256::of(&archive).to_string(), str::to_owned);
    workshop.put(
        "definition/bundle.lock",
        format!("[[artifact]]\nurl = \"{URL}\"\nsha256 = \"{sha256}\"\n").as_bytes(),
    );
    (workshop, Arc::new(archive))
}

/// An interrupted download of the archive after these bytes.
fn begin(workshop: &Workshop, archive: &[u8], bytes: &[u8]) {
    fs::create_dir_all(workshop.path("cache/partial")).unwrap();
    workshop.put(&format!("cache/partial/{}", Sha256::of(archive)), bytes);
}

pub fn fetch(workshop: &Workshop, server: &Server, verb: &[&str]) -> (bool, String) {
    let mirror = format!("example.org={}", server.url());
    let arguments = [
        &["bundle"],
        verb,
        &["--bundle", "@definition", "--mirror", &mirror],
    ]
    .concat();
    let mut command = workshop.command(&arguments);
    if server.url().starts_with("https") {
        command.env("SSL_CERT_FILE", server.authority());
    }
    let output = command.output().unwrap();
    (output.status.success(), said(&output))
}

/// Fetching must fail with these words, and leave no file that looks complete.
pub fn refusal(workshop: &Workshop, server: &Server) -> String {
    let (success, said) = fetch(workshop, server, &["fetch"]);
    assert!(!success, "{said}");
    let blobs = workshop.path("cache/blobs/sha256");
    assert!(!blobs.exists() || names(&blobs).is_empty(), "{said}");
    said
}

#[test]
fn what_is_fetched_is_packed_and_not_asked_for_again() {
    let (workshop, archive) = workshop(None);
    let served = Arc::clone(&archive);
    let server = Server::start(move |request| Answer::file(&served, request));
    let (success, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(
        success && said.contains("1 artifacts downloaded, 0 were already in the cache"),
        "{said}"
    );
    assert_eq!(
        workshop.get(&format!("cache/blobs/sha256/{}", Sha256::of(&archive))),
        *archive
    );
    let (_, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(
        said.contains("0 artifacts downloaded, 1 were already in the cache"),
        "{said}"
    );
    assert_eq!(server.asked().len(), 1);
    assert_eq!(server.asked()[0].target, "/etcd.tar.gz");

    workshop.succeed(&PACK);
    let etcd = fs::read(workshop.unpack().unwrap().join("bin/etcd")).unwrap();
    assert_eq!(etcd, program("etcd", 400_000));
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let (workshop, archive) = workshop(None);
    let (served, half) = (Arc::clone(&archive), archive.len() / 2);
    let server = Server::start(move |request| {
        let answer = Answer::file(&served, request);
        match request.range_start() {
            None => answer.cut(half),
            Some(_) => answer,
        }
    });
    let (success, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(success && said.contains("trying again"), "{said}");
    let starts: Vec<_> = server.asked().iter().map(Request::range_start).collect();
    assert_eq!(starts, [None, Some(half)]);
}

#[test]
fn a_run_that_ended_is_gone_on_with_by_the_next() {
    let (workshop, archive) = workshop(None);
    fs::create_dir_all(workshop.path("cache/partial")).unwrap();
    let partial = format!("cache/partial/{}", Sha256::of(&archive));
    workshop.put(&partial, &archive[..1000]);
    let served = Arc::clone(&archive);
    let server = Server::start(move |request| Answer::file(&served, request));
    let (success, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(success, "{said}");
    assert_eq!(server.asked()[0].range_start(), Some(1000));
    assert!(!workshop.path(&partial).exists());
}

#[test]
fn a_file_that_came_whole_is_not_asked_for_again() {
    let (workshop, archive) = workshop(None);
    begin(&workshop, &archive, &archive);
    let server = Server::start(|_| Answer::status("500 Internal Server Error"));
    let (success, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(success, "{said}");
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn a_part_of_another_file_is_found_and_all_of_it_asked_for() {
    let (workshop, archive) = workshop(None);
    begin(&workshop, &archive, &[b'x'; 1000]);
    let served = Arc::clone(&archive);
    let server = Server::start(move |request| Answer::file(&served, request));
    let (success, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(success, "{said}");
    let starts: Vec<_> = server.asked().iter().map(Request::range_start).collect();
    assert_eq!(starts, [Some(1000), None]);
}

#[test]
fn a_server_without_ranges_is_asked_for_all_of_it() {
    let (workshop, archive) = workshop(None);
    begin(&workshop, &archive, &archive[..1000]);
    let served = Arc::clone(&archive);
    let server = Server::start(move |_| Answer::status("200 OK").body(&served));
    let (success, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(success, "{said}");
}

#[test]
fn a_busy_server_is_asked_again_and_a_definite_answer_is_not_doubted() {
    let (workshop, archive) = workshop(None);
    let count = AtomicUsize::new(0);
    let served = Arc::clone(&archive);
    let server = Server::start(move |request| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::status("503 Service Unavailable"),
        1 => Answer::status("429 Too Many Requests").header("Retry-After", "1"),
        _ => Answer::file(&served, request),
    });
    let (success, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(success && said.contains("answers 503"), "{said}");
    assert_eq!(server.asked().len(), 3);

    let (workshop, _) = self::workshop(None);
    let server = Server::start(|_| Answer::status("404 Not Found"));
    let said = refusal(&workshop, &server);
    assert!(
        said.contains("etcd.tar.gz: answers 404 Not Found"),
        "{said}"
    );
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_file_that_is_not_what_the_lock_says_is_kept_aside() {
    let (workshop, archive) = workshop(Some(&"0".repeat(64)));
    let served = Arc::clone(&archive);
    let server = Server::start(move |request| Answer::file(&served, request));
    let said = refusal(&workshop, &server);
    let found = Sha256::of(&archive);
    assert!(
        said.contains(&format!(
            "its sha256 is {found}, but {} was expected",
            "0".repeat(64)
        )),
        "{said}"
    );
    let aside = format!("cache/rejected/etcd.tar.gz.{found}");
    assert!(
        said.contains(workshop.path(&aside).to_str().unwrap()),
        "{said}"
    );
    assert_eq!(workshop.get(&aside), *archive);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_login_page_is_not_taken_for_the_file() {
    let (workshop, _) = workshop(None);
    let server = Server::start(|_| {
        Answer::status("200 OK")
            .header("Content-Type", "text/html; charset=utf-8")
            .body(b"<html>Log in")
    });
    let said = refusal(&workshop, &server);
    assert!(said.contains("answers with a web page"), "{said}");
    assert_eq!(
        names(&workshop.path("cache/rejected")),
        Vec::<String>::new()
    );
}

#[test]
fn a_body_longer_than_the_lock_says_is_not_read_to_its_end() {
    let (workshop, archive) = workshop(None);
    let lock = String::from_utf8(workshop.get("definition/bundle.lock")).unwrap();
    workshop.put(
        "definition/bundle.lock",
        format!("{lock}size = 1000\n").as_bytes(),
    );
    let served = Arc::clone(&archive);
    let server = Server::start(move |request| Answer::file(&served, request));
    let said = refusal(&workshop, &server);
    assert!(
        said.contains("sends more than the expected 1000 bytes"),
        "{said}"
    );
}

#[test]
fn encrypted_addresses_never_lead_to_plain_ones() {
    let (workshop, archive) = workshop(None);
    let served = Arc::clone(&archive);
    let plain = Server::start(move |request| Answer::file(&served, request));
    let to = format!("{}/etcd.tar.gz", plain.url());
    let safe = Server::start_tls(move |_| Answer::status("302 Found").header("Location", &to));
    let said = refusal(&workshop, &safe);
    assert!(
        said.contains("redirects to http://") && said.contains("not encrypted"),
        "{said}"
    );
    assert_eq!(plain.asked().len(), 0);
}

#[test]
fn a_certificate_nobody_vouches_for_is_refused() {
    let (workshop, archive) = workshop(None);
    let safe = Server::start_tls(move |request| Answer::file(&archive, request));
    let trusted = fetch(&workshop, &safe, &["fetch"]);
    assert!(trusted.0, "{}", trusted.1);
    let (workshop, _) = self::workshop(None);
    let mirror = format!("example.org={}", safe.url());
    let said = workshop.fail(&[
        "bundle",
        "fetch",
        "--bundle",
        "@definition",
        "--mirror",
        &mirror,
    ]);
    assert!(
        said.contains("its certificate is not from a known authority"),
        "{said}"
    );
    assert!(!said.contains("trying again"), "{said}");
}

#[test]
fn a_full_disk_is_named_and_what_came_stays_for_the_next_run() {
    let (workshop, archive) = workshop(None);
    let served = Arc::clone(&archive);
    let server = Server::start(move |request| Answer::file(&served, request));
    let disk = SmallDisk::at(workshop.path("cache"), "64k");
    let said = refusal(&workshop, &server);
    assert!(
        said.contains("No space left on device") && said.contains("cache/partial/"),
        "{said}"
    );
    assert_eq!(server.asked().len(), 1);
    drop(disk);
}

#[test]
fn the_environments_proxy_is_asked() {
    let (workshop, archive) = workshop(None);
    let proxy = Server::start(move |request| Answer::file(&archive, request));
    let mut command = workshop.command(&[
        "bundle",
        "fetch",
        "--bundle",
        "@definition",
        "--mirror",
        "example.org=http://files.invalid/x",
    ]);
    let output = command.env("http_proxy", proxy.url()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(
        proxy.asked()[0].target,
        "http://files.invalid/x/etcd.tar.gz"
    );
}

#[test]
fn what_nobody_published_a_checksum_for_is_not_fetched_unasked() {
    let (workshop, archive) = workshop(Some("unverified"));
    let served = Arc::clone(&archive);
    let server = Server::start(move |request| Answer::file(&served, request));
    for verb in ["fetch", "lock"] {
        let (success, said) = fetch(&workshop, &server, &[verb]);
        assert!(!success, "{said}");
        assert!(
            said.contains(URL) && said.contains("--trust-on-first-use`"),
            "{said}"
        );
    }
    assert_eq!(server.asked().len(), 0);

    let (success, said) = fetch(&workshop, &server, &["lock", "--trust-on-first-use"]);
    assert!(success, "{said}");
    let lock =
        Lock::parse(str::from_utf8(&workshop.get("definition/bundle.lock")).unwrap()).unwrap();
    let artifact = lock.get(&URL.parse::<Upstream>().unwrap()).unwrap();
    assert_eq!(artifact.digest(), Some(Digest::from(&Sha256::of(&archive))));
    assert_eq!(artifact.size, Some(archive.len() as u64));
    assert!(artifact.trusted_on_first_use);
    assert_eq!(
        artifact.members["etcd-v3/etcd"],
        Sha256::of(&program("etcd", 400_000))
    );
    let (success, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(
        success && said.contains("1 were already in the cache"),
        "{said}"
    );
}

#[test]
fn a_published_checksum_stays_one_when_sizes_are_added() {
    let (workshop, archive) = workshop(None);
    let server = Server::start(move |request| Answer::file(&archive, request));
    let (success, said) = fetch(&workshop, &server, &["lock"]);
    assert!(success, "{said}");
    let text = String::from_utf8(workshop.get("definition/bundle.lock")).unwrap();
    assert!(
        text.contains("size = ") && !text.contains("trusted-on-first-use"),
        "{text}"
    );
    let (_, said) = fetch(&workshop, &server, &["lock"]);
    assert!(said.contains("nothing to add"), "{said}");
}

#[test]
fn a_lock_that_lacks_an_entry_is_refused() {
    let (workshop, archive) = workshop(None);
    workshop.put("definition/bundle.lock", b"artifact = []\n");
    let server = Server::start(move |request| Answer::file(&archive, request));
    let said = refusal(&workshop, &server);
    assert!(
        said.contains("bundle.lock has no entry for") && said.contains(URL),
        "{said}"
    );
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn a_member_that_is_not_what_the_lock_says_is_told() {
    let (workshop, archive) = workshop(None);
    let lock = String::from_utf8(workshop.get("definition/bundle.lock")).unwrap();
    let members = format!(
        "[artifact.members]\n\"etcd-v3/etcd\" = \"{}\"\n",
        "0".repeat(64)
    );
    workshop.put("definition/bundle.lock", (lock + &members).as_bytes());
    let server = Server::start(move |request| Answer::file(&archive, request));
    let (success, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(
        !success && said.contains("the sha256 of etcd-v3/etcd is"),
        "{said}"
    );
}

#[test]
fn an_archive_without_the_member_is_told() {
    let (workshop, _) = workshop(Some("unverified"));
    let archive = gzip(&tarball(&[("other", b"x")]));
    let server = Server::start(move |request| Answer::file(&archive, request));
    let before = workshop.get("definition/bundle.lock");
    let (success, said) = fetch(&workshop, &server, &["lock", "--trust-on-first-use"]);
    assert!(
        !success && said.contains("it has no member etcd-v3/etcd"),
        "{said}"
    );
    assert_eq!(workshop.get("definition/bundle.lock"), before);
}

#[test]
fn a_file_of_the_cache_that_changed_is_found_and_fetched_again() {
    let (workshop, archive) = workshop(None);
    let served = Arc::clone(&archive);
    let server = Server::start(move |request| Answer::file(&served, request));
    assert!(fetch(&workshop, &server, &["fetch"]).0);
    let blob = format!("cache/blobs/sha256/{}", Sha256::of(&archive));
    workshop.put(&blob, b"rotten");
    let (success, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(
        !success
            && said.contains("is damaged")
            && said.contains("run `appliance bundle fetch` again"),
        "{said}"
    );
    assert!(fetch(&workshop, &server, &["fetch"]).0);
    assert_eq!(workshop.get(&blob), *archive);
}

#[test]
fn a_download_of_another_run_is_waited_for() {
    let (workshop, archive) = workshop(None);
    fs::create_dir_all(workshop.path("cache/partial")).unwrap();
    fs::create_dir_all(workshop.path("cache/blobs/sha256")).unwrap();
    let sha256 = Sha256::of(&archive);
    let partial = workshop.path(&format!("cache/partial/{sha256}"));
    let others = fs::File::create(&partial).unwrap();
    others.lock().unwrap();
    let server = Server::start(|_| Answer::status("500 Internal Server Error"));
    let mirror = format!("example.org={}", server.url());
    let arguments = [
        "bundle",
        "fetch",
        "--bundle",
        "@definition",
        "--mirror",
        &mirror,
    ];
    let mut run = workshop
        .command(&arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(
        first.contains("waiting for another process that downloads"),
        "{first}"
    );
    // The other run ends: it writes the rest, gives the file its name, and releases the lock.
    fs::write(&partial, archive.as_slice()).unwrap();
    fs::rename(
        &partial,
        workshop.path(&format!("cache/blobs/sha256/{sha256}")),
    )
    .unwrap();
    drop(others);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(run.wait().unwrap().success(), "{rest:?}");
    assert_eq!(server.asked().len(), 0);
    assert_eq!(
        workshop.get(&format!("cache/blobs/sha256/{sha256}")),
        *archive
    );
    assert_eq!(names(&workshop.path("cache/partial")), Vec::<String>::new());
}

#[test]
fn a_mirror_that_is_none_is_refused_before_anything_is_done() {
    let (workshop, _) = workshop(None);
    let arguments = [
        "bundle",
        "fetch",
        "--bundle",
        "@definition",
        "--mirror",
        "example.org",
    ];
    let output = workshop.run(&arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("expected HOST[/PATH]=URL"),
        "{}",
        said(&output)
    );
}
