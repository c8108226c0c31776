//! The script that brings the appliance to a server, run exactly as it is in the user-data: in a
//! separate mount namespace, where `systemctl` and `mount` are stand-ins.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use appliance::digest::Sha256;
use appliance_cloud::server::{Answer, Server};

use crate::harness::{program, said};
use crate::user_data::{made, parts};

const UNIT: &str = "appliance-install.service";
/// The directories that the script changes, instead of `/usr/local/bin` and that of the units.
const CHANGED: [(&str, &str); 2] = [("bin", "/usr/local/bin"), ("units", "/etc/systemd/system")];

/// A server that has booted with user-data.
struct Bed {
    dir: tempfile::TempDir,
}

impl Bed {
    fn new() -> Bed {
        let bed = Bed {
            dir: tempfile::tempdir().unwrap(),
        };
        for name in ["bin", "units", "fakes", "volume"] {
            fs::create_dir(bed.path(name)).unwrap();
        }
        bed.fake("systemctl", "echo \"systemctl $*\" >>\"$BED/called\"");
        bed.fake("sleep", "echo \"sleep $*\" >>\"$BED/called\"");
        // The stand-in mounts only the one volume: it copies the volume's files.
        bed.fake(
            "mount",
            "echo \"mount $*\" >>\"$BED/called\"\n\
             [ \"$3\" = LABEL=APPLIANCE ] || { echo \"mount: can't find $3.\" >&2; exit 1; }\n\
             cp -r \"$BED/volume/.\" \"$4\"",
        );
        bed.fake("umount", "rm -rf \"$1\"");
        bed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn fake(&self, name: &str, script: &str) {
        let path = self.path("fakes").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn appliance(&self) -> PathBuf {
        self.path("bin").join("appliance")
    }

    /// All calls of the stand-ins, one per line.
    fn called(&self) -> String {
        fs::read_to_string(self.path("called")).unwrap_or_default()
    }

    /// Runs the script with a shell that Debian and Ubuntu have as `sh`.
    fn run(&self, script: &str) -> Output {
        fs::write(self.path("script"), script).unwrap();
        let mut binds = String::new();
        for (name, place) in CHANGED {
            binds += &format!("mount --bind \"$BED/{name}\" {place} && ");
        }
        let path = "/usr/sbin:/usr/bin:/sbin:/bin";
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(format!(
                "{binds}PATH=\"$BED/fakes:$PATH\" exec dash \"$BED/script\""
            ))
            .env_clear()
            .env("BED", self.dir.path())
            .env("PATH", path)
            .output()
            .unwrap()
    }

    /// The script must fail with these words, and leave only the files that existed before.
    fn refusal(&self, script: &str) -> String {
        let before = self.files();
        let output = self.run(script);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert_eq!(self.files(), before, "{}", said(&output));
        assert!(!self.called().contains("systemctl"), "{}", self.called());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("this server is not a node yet"), "{text}");
        text
    }

    /// The files in the directories that it may change.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let dirs = CHANGED.iter().map(|(name, _)| self.path(name));
        let entries = dirs.flat_map(|dir| fs::read_dir(dir).unwrap());
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    /// The script must install `content`, and start the unit that turns the server into a node.
    fn assert_brought(&self, script: &str, content: &[u8]) {
        let output = self.run(script);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(fs::read(self.appliance()).unwrap(), content);
        let mode = fs::metadata(self.appliance()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(self.files().len(), 2, "{:?}", self.files().keys());
        let unit = fs::read_to_string(self.path("units").join(UNIT)).unwrap();
        let own = project("cloud-init").join(UNIT);
        assert_eq!(unit, fs::read_to_string(own).unwrap());
        let called = self.called();
        for call in [
            "systemctl daemon-reload".to_owned(),
            format!("systemctl enable {UNIT}"),
            format!("systemctl start --no-block {UNIT}"),
        ] {
            assert!(called.contains(&call), "{call} is not in: {called}");
        }
    }
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The script in user-data made with these arguments, as cloud-init would write it.
fn script(arguments: &[&str]) -> String {
    let text = made(&[&["--role", "master"], arguments].concat());
    let (kind, content) = parts(&text).swap_remove(0);
    if kind == "text/cloud-boothook" {
        return content;
    }
    let config: serde_json::Value = serde_saphyr::from_str(&content).unwrap();
    let mut files = config["write_files"].as_array().unwrap().iter();
    let file = files
        .find(|file| config["runcmd"][0][0] == file["path"])
        .unwrap();
    assert_eq!(file["permissions"], "0700");
    file["content"].as_str().unwrap().to_owned()
}

fn download(url: &str, content: &[u8], more: &[&str]) -> String {
    let digest = Sha256::of(content).to_string();
    script(&[&["--from", url, "--sha256", &digest], more].concat())
}

#[test]
fn the_program_is_downloaded_and_started_in_both_forms() {
    let content = program("appliance", 300_000);
    let served = content.clone();
    let server = Server::start(move |request| Answer::file(&served, request));
    let url = format!("{}/appliance?temp_url_sig=5ec2e7&x='$(id)'", server.url());
    for form in [&[] as &[&str], &["--boothook"]] {
        let bed = Bed::new();
        bed.assert_brought(&download(&url, &content, form), &content);
    }
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].target.contains("temp_url_sig=5ec2e7"), "{asked:?}");
}

#[test]
fn a_second_run_changes_nothing_and_asks_for_nothing() {
    let content = program("appliance", 5000);
    let served = content.clone();
    let server = Server::start(move |request| Answer::file(&served, request));
    let script = download(&server.url(), &content, &["--boothook"]);
    let bed = Bed::new();
    bed.assert_brought(&script, &content);
    // An operator has installed another appliance in the meantime.
    fs::write(bed.appliance(), "newer").unwrap();
    let output = bed.run(&script);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("exists already and is not replaced"),
        "{}",
        said(&output)
    );
    assert_eq!(fs::read(bed.appliance()).unwrap(), b"newer");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn an_address_that_serves_something_else_is_told_and_nothing_is_left() {
    let page = b"<html>Please log in</html>";
    let server = Server::start(move |_| Answer::status("200 OK").body(page));
    let url = format!("{}/appliance?temp_url_sig=5ec2e7", server.url());
    let said = Bed::new().refusal(&download(&url, b"the appliance", &[]));
    for part in [
        "does not match its checksum",
        &Sha256::of(page).to_string(),
        "(26 bytes)",
        &Sha256::of(b"the appliance").to_string(),
        &format!("{}/appliance ", server.url()),
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(!said.contains("5ec2e7"), "{said}");
    assert_eq!(server.asked().len(), 1, "asking again would not help");
}

#[test]
fn what_is_not_there_is_told_at_once() {
    let server = Server::start(|_| Answer::status("404 Not Found"));
    let said = Bed::new().refusal(&download(&server.url(), b"a", &[]));
    assert!(said.contains("the server answers 404 Not Found"), "{said}");
    assert!(said.contains("has not expired"), "{said}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_server_that_fails_for_a_while_is_asked_again() {
    let content = program("appliance", 200_000);
    let (served, asked) = (content.clone(), AtomicUsize::new(0));
    let server = Server::start(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::status("503 Service Unavailable"),
        1 => Answer::file(&served, request).cut(70_000),
        2 => Answer::status("200 OK").dropped(),
        _ => Answer::file(&served, request),
    });
    let bed = Bed::new();
    bed.assert_brought(&download(&server.url(), &content, &[]), &content);
    assert_eq!(server.asked().len(), 4);
    assert!(
        bed.called().contains("sleep 2\nsleep 4\nsleep 8\n"),
        "{}",
        bed.called()
    );
}

#[test]
fn a_server_that_never_answers_well_is_given_up() {
    let server = Server::start(|_| Answer::status("503 Service Unavailable"));
    let said = Bed::new().refusal(&download(&server.url(), b"a", &[]));
    assert!(said.contains("503 Service Unavailable"), "{said}");
    assert_eq!(server.asked().len(), 7);
}

#[test]
fn the_program_comes_from_the_volume_of_that_label() {
    for form in [&[] as &[&str], &["--boothook"]] {
        let bed = Bed::new();
        let content = program("appliance", 5000);
        fs::write(bed.path("volume/appliance"), &content).unwrap();
        let script = script(&[&["--volume", "APPLIANCE"], form].concat());
        bed.assert_brought(&script, &content);
        assert!(
            bed.called().contains("mount -o ro LABEL=APPLIANCE /run/"),
            "{}",
            bed.called()
        );
    }
}

#[test]
fn a_volume_that_is_not_there_or_holds_something_else_is_told() {
    let said = Bed::new().refusal(&script(&["--volume", "OTHER"]));
    assert!(
        said.contains("the volume labelled OTHER cannot be mounted"),
        "{said}"
    );
    assert!(said.contains("can't find LABEL=OTHER"), "{said}");

    let said = Bed::new().refusal(&script(&["--volume", "APPLIANCE"]));
    assert!(said.contains("has no file called appliance"), "{said}");

    let bed = Bed::new();
    fs::write(bed.path("volume/appliance"), "another").unwrap();
    let digest = Sha256::of(b"this one").to_string();
    let said = bed.refusal(&script(&["--volume", "APPLIANCE", "--sha256", &digest]));
    assert!(said.contains("does not match its checksum"), "{said}");
}

#[test]
fn shellcheck_finds_nothing_in_the_scripts() {
    let digest = "0".repeat(64);
    for arguments in [
        &["--volume", "APPLIANCE"] as &[&str],
        &["--from", "https://example.org/it's", "--sha256", &digest],
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), script(arguments)).unwrap();
        let output = Command::new("shellcheck")
            .arg(file.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
}
