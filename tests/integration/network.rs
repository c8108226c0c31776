//! Downloads over networks that answer badly: each kind of trouble has a message of its own, which says
//! what to do.

use std::fs;
use std::process::Stdio;

use appliance::digest::Sha256;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::balance::until;
use crate::fetch::{URL, fetch, refusal, workshop};
use crate::harness::{SmallDisk, said};
use appliance_cloud::server::{Answer, Server};

#[test]
fn a_wrong_clock_is_named_with_the_command_that_sets_it() {
    for (years, words) in [
        (3000..4000, "its certificate is not valid yet"),
        (1980..1990, "its certificate has expired"),
    ] {
        let (workshop, archive) = workshop(None);
        let server = Server::start_tls_valid(years, move |request| Answer::file(&archive, request));
        let said = refusal(&workshop, &server);
        assert!(said.contains(words), "{said}");
        assert!(
            said.contains("this machine's clock says 2") && said.contains("timedatectl"),
            "{said}"
        );
        assert!(!said.contains("trying again"), "{said}");
    }
}

#[test]
fn a_proxy_that_wants_a_user_is_told_from_one_that_refuses() {
    for (status, words) in [
        (
            "407 Proxy Authentication Required",
            "the proxy wants a user; set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
        ),
        ("403 Forbidden", "with a web page, perhaps from a proxy"),
    ] {
        let (workshop, _) = workshop(None);
        let proxy = Server::start(move |_| {
            Answer::status(status)
                .header("Content-Type", "text/html")
                .body(b"<html>Blocked")
        });
        let mut command = workshop.command(&[
            "bundle",
            "fetch",
            "--bundle",
            "@definition",
            "--mirror",
            "example.org=http://files.invalid/x",
        ]);
        let output = command.env("http_proxy", proxy.url()).output().unwrap();
        assert!(!output.status.success());
        assert!(said(&output).contains(words), "{}", said(&output));
    }
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let (workshop, _) = workshop(None);
    let mut command = workshop.command(&["bundle", "doctor", "--bundle", "@definition"]);
    let output = command.env("HTTPS_PROXY", "http://127.0.0.1:1").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("the proxy of HTTPS_PROXY is used"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_captive_portal_is_recognized_by_its_redirect_and_by_its_page() {
    let (workshop, _) = workshop(None);
    let portal = Server::start_tls(|_| {
        Answer::status("302 Found").header("Location", "http://login.invalid/")
    });
    let said = refusal(&workshop, &portal);
    assert!(
        said.contains("redirects to http://login.invalid/")
            && said.contains("log in with a browser"),
        "{said}"
    );
    // One that does not say what it sends.
    let portal = Server::start(|request| {
        Answer::file(
            b"<!DOCTYPE html><title>Welcome to the hotel</title>",
            request,
        )
    });
    let said = refusal(&workshop, &portal);
    assert!(
        said.contains("it is a web page, perhaps from a login page"),
        "{said}"
    );
}

#[test]
fn a_truncated_file_is_told_with_both_sizes() {
    let (workshop, archive) = workshop(None);
    let lock = String::from_utf8(workshop.get("definition/bundle.lock")).unwrap();
    let lock = format!("{lock}size = {}\n", archive.len());
    workshop.put("definition/bundle.lock", lock.as_bytes());
    let half = archive.len() / 2;
    let whole = archive.len();
    let server = Server::start(move |_| Answer::status("200 OK").body(&archive[..half]));
    let said = refusal(&workshop, &server);
    assert!(
        said.contains(&format!("the body ended after {half} of {whole} bytes")),
        "{said}"
    );
}

#[test]
fn a_full_disk_says_how_much_is_free_and_no_other_source_is_asked() {
    let (workshop, archive) = workshop(None);
    let text = String::from_utf8(workshop.get("definition/bundle.toml")).unwrap();
    let both = format!("[\"{URL}\", \"https://other.example/etcd.tar.gz\"]");
    let text = text.replace(&format!("\"{URL}\""), &both);
    workshop.put("definition/bundle.toml", text.as_bytes());
    let server = Server::start(move |request| Answer::file(&archive, request));
    let disk = SmallDisk::at(workshop.path("cache"), "64k");
    let said = refusal(&workshop, &server);
    assert!(
        said.contains("No space left on device") && said.contains("bytes are free there"),
        "{said}"
    );
    assert!(!said.contains("trying the next source"), "{said}");
    assert_eq!(server.asked().len(), 1);
    drop(disk);
}

#[test]
fn ctrl_c_keeps_what_is_there() {
    let (workshop, archive) = workshop(None);
    let (served, half) = (archive.clone(), archive.len() / 2);
    let slow = Server::start(move |request| Answer::file(&served, request).stalled(half));
    let mirror = format!("example.org={}", slow.url());
    let arguments = [
        "bundle",
        "fetch",
        "--bundle",
        "@definition",
        "--mirror",
        &mirror,
    ];
    let mut command = workshop.command(&arguments);
    let mut run = command.stderr(Stdio::null()).spawn().unwrap();
    let partial = workshop.path(&format!("cache/partial/{}", Sha256::of(&archive)));
    let length = || fs::metadata(&partial).map_or(0, |metadata| metadata.len());
    until("half of it is there", || length() == half as u64);
    let pid = Pid::from_raw(i32::try_from(run.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    assert!(!run.wait().unwrap().success());
    assert_eq!(length(), half as u64);

    let whole = archive.clone();
    let server = Server::start(move |request| Answer::file(&whole, request));
    let (success, said) = fetch(&workshop, &server, &["fetch"]);
    assert!(success, "{said}");
    assert_eq!(server.asked()[0].range_start(), Some(half));
}
