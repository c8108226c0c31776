//! `make release`: what it refuses, its checksums and signature, and the files for others' CI. The build itself, and the
//! package in a fresh system, are for `make release-check`: they take minutes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use appliance::bundle::signature::TrustKey;
use toml::Value;

use crate::harness::said;

const VERSION: &str = "1.2.3";

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A small project of this layout, in git.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(heading: &str) -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.put(
            "CHANGELOG.md",
            &format!("# Changelog\n\n{heading}\n\n- A change.\n"),
        );
        tree.put(
            "Cargo.toml",
            &format!("[workspace.package]\nversion = \"{VERSION}\"\n"),
        );
        tree.put("release/ready.sh", &text("release/ready.sh"));
        let ready = tree.path().join("release/ready.sh");
        fs::set_permissions(ready, fs::Permissions::from_mode(0o755)).unwrap();
        tree.git(&["init", "--quiet"]);
        tree.commit();
        tree
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .args(["-c", "user.name=n", "-c", "user.email=n@example.org"])
            .args(arguments)
            .current_dir(self.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&[
            "commit",
            "--quiet",
            "--allow-empty",
            "--message",
            "A change",
        ]);
    }

    fn ready(&self, arguments: &[&str]) -> Output {
        let ready = self.path().join("release/ready.sh");
        Command::new(ready).args(arguments).output().unwrap()
    }

    #[track_caller]
    fn refuses(&self, why: &str) {
        let output = self.ready(&[]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(why), "{}", said(&output));
    }
}

#[test]
fn a_release_has_the_version_and_the_date_of_the_changelog() {
    let tree = Tree::new("## 1.2.3 - 2026-12-01");
    let output = tree.ready(&[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output).trim(), "1.2.3 1796083200");
    // Its own tag, here and where it is published, is no other release.
    let elsewhere = tempfile::tempdir().unwrap();
    tree.git(&[
        "init",
        "--quiet",
        "--bare",
        elsewhere.path().to_str().unwrap(),
    ]);
    tree.git(&[
        "remote",
        "add",
        "origin",
        elsewhere.path().to_str().unwrap(),
    ]);
    tree.git(&["tag", "-a", "-m", "1.2.3", "v1.2.3"]);
    tree.git(&["push", "--quiet", "origin", "v1.2.3"]);
    let output = tree.ready(&[]);
    assert!(output.status.success(), "{}", said(&output));
    tree.commit();
    tree.refuses("the tag v1.2.3 is at another commit");
    tree.git(&["tag", "-d", "v1.2.3"]);
    tree.refuses("exists in");
}

#[test]
fn what_is_no_release_is_refused_with_the_line_to_write() {
    for (heading, why) in [
        ("## Unreleased", "write \"## 1.2.3 - "),
        ("## 1.2.3", "has no valid date"),
        ("## 1.2.3 - 2026-02-30", "has no valid date"),
        ("## 1.2.3 - soon", "has no valid date"),
        ("## 1.2.4 - 2026-12-01", "Cargo.toml has 1.2.3"),
        ("## 1.2 - 2026-12-01", "write \"## 1.2.3 - "),
    ] {
        Tree::new(heading).refuses(why);
    }
    let tree = Tree::new("## 1.2.3 - 2026-12-01");
    tree.put("new", "");
    tree.refuses("git status");
    // Any tree is good for a package to try.
    let output = tree.ready(&["snapshot"]);
    assert!(
        output.status.success() && said(&output).starts_with("1.2.3~"),
        "{}",
        said(&output)
    );
}

/// The files of a release, made up, with their checksums.
fn release() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("appliance-1.2.3-x86_64"), "program").unwrap();
    fs::write(dir.path().join("appliance-1.2.3-notes.md"), "notes").unwrap();
    let output = Command::new("sh")
        .args(["-c", "sha256sum * >SHA256SUMS"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    dir
}

fn sign(dir: &Path, key: Option<&Path>) -> Output {
    let mut command = Command::new(project().join("release/sign.sh"));
    command.arg(dir).args(key).output().unwrap()
}

/// A key that minisign makes, without a password.
fn keys(dir: &Path) -> (PathBuf, PathBuf) {
    let (secret, public) = (dir.join("release.key"), dir.join("release.pub"));
    let output = Command::new("minisign")
        .args(["-G", "-W", "-s"])
        .arg(&secret)
        .arg("-p")
        .arg(&public)
        .output()
        .expect("minisign; `make tools` installs it");
    assert!(output.status.success(), "{}", said(&output));
    (secret, public)
}

#[test]
fn the_checksums_of_a_release_are_signed_with_the_releasers_key() {
    let (release, home) = (release(), tempfile::tempdir().unwrap());
    let (secret, public) = keys(home.path());
    let output = sign(release.path(), Some(&secret));
    assert!(output.status.success(), "{}", said(&output));
    let (sums, signature) = (
        release.path().join("SHA256SUMS"),
        release.path().join("SHA256SUMS.minisig"),
    );
    let verified = Command::new("minisign")
        .arg("-Vm")
        .arg(&sums)
        .arg("-p")
        .arg(&public)
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", said(&verified));
    assert!(
        said(&verified).contains("appliance-1.2.3"),
        "{}",
        said(&verified)
    );
    let key = TrustKey::find(public.to_str().unwrap()).unwrap();
    key.check_file(&sums, &signature).unwrap();
    fs::write(&sums, "other").unwrap();
    assert!(key.check_file(&sums, &signature).is_err());
}

#[test]
fn a_release_without_a_key_says_that_it_is_not_signed_and_how_to_sign_it() {
    let (release, home) = (release(), tempfile::tempdir().unwrap());
    let mark = release.path().join("UNSIGNED");
    let output = sign(release.path(), None);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("make release-sign MINISIGN_KEY=FILE"),
        "{}",
        said(&output)
    );
    assert!(mark.exists() && !release.path().join("SHA256SUMS.minisig").exists());
    // A key that others may read signs nothing.
    let (secret, _) = keys(home.path());
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let output = sign(release.path(), Some(&secret));
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let output = sign(release.path(), Some(&secret));
    assert!(
        output.status.success() && !mark.exists(),
        "{}",
        said(&output)
    );
    // What was changed after it was made is not signed.
    fs::write(release.path().join("appliance-1.2.3-x86_64"), "another").unwrap();
    assert!(!sign(release.path(), Some(&secret)).status.success());
}

#[test]
fn the_licences_of_a_release_are_those_that_the_audit_allows() {
    let parsed = |path: &str| text(path).parse::<toml::Table>().unwrap();
    let words = |list: &Value| -> BTreeSet<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let (deny, about) = (parsed("deny.toml"), parsed("release/about.toml"));
    assert_eq!(words(&about["accepted"]), words(&deny["licenses"]["allow"]));
}

/// Whoever runs these files runs what everybody runs, and no program of somebody else.
#[test]
fn the_workflows_run_what_everybody_runs() {
    for (path, command) in [
        (".github/workflows/ci.yml", ".ci/run"),
        (".github/workflows/release.yml", "make release-check"),
        (".gitlab-ci.yml", ".ci/run"),
        (".gitlab-ci.yml", "make release-check"),
    ] {
        let text = text(path);
        serde_saphyr::from_str::<serde_json::Value>(&text)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.contains(command), "{path}: {command}");
        assert!(!text.contains("uses:"), "{path} runs an action of others");
    }
}
