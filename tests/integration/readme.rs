//! `make appliance BUNDLE=v1.9`, as README.md says it, without internet access: everything is
//! downloaded from a server here that has the layout of the genuine releases.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use appliance::digest::Sha256;
use serde_json::Value;

use crate::harness::said;
use crate::releases::{Releases, bytes_of};
use crate::workshop::Workshop;

/// The variables of a run of make around this one.
const OF_MAKE: [&str; 12] = [
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "BUNDLE",
    "BUNDLE_DIR",
    "BUNDLE_FROM",
    "COMPONENTS",
    "MIRRORS",
    "OUT",
    "RUN",
    "TRUST",
];

/// A user's clone of the project: bundle/v1.9 with another lock, and directories of its own.
struct Clone {
    workshop: Workshop,
    mirrors: String,
}

impl Clone {
    /// The lock has the checksums of what `releases` publishes, except of some.
    fn new(releases: &Releases, unpublished: &[&str]) -> Clone {
        let workshop = Workshop::empty();
        workshop.put("definition/bundle.toml", definition().as_bytes());
        workshop.put(
            "definition/bundle.lock",
            releases.lock(unpublished).as_bytes(),
        );
        let out = workshop.path("out");
        fs::create_dir(&out).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_appliance"), out.join("builder")).unwrap();
        Clone {
            workshop,
            mirrors: String::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workshop.path(name)
    }

    /// Runs make. The builder is there already: it needs no internet access but crates.
    fn make(&self, arguments: &[&str]) -> Output {
        let mut make = Command::new("make");
        for name in OF_MAKE {
            make.env_remove(name);
        }
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            make.env_remove(proxy).env_remove(proxy.to_uppercase());
        }
        make.args(["--no-print-directory", "-o", "builder"])
            .arg(format!("OUT={}", self.path("out").display()))
            .arg(format!("MIRRORS={}", self.mirrors))
            .args(arguments)
            .env("APPLIANCE_CACHE", self.path("cache"))
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        make.output().unwrap()
    }

    /// `make appliance BUNDLE=v1.9` with this clone's lock.
    fn make_appliance(&self, more: &[&str]) -> Output {
        let definition = format!("BUNDLE_DIR={}", self.path("definition").display());
        self.make(&[&["appliance", "BUNDLE=v1.9", &definition], more].concat())
    }
}

fn definition() -> String {
    fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/bundle/v1.9/bundle.toml"
    ))
    .unwrap()
}

/// The last lines of what make printed.
fn last_lines(output: &Output, count: usize) -> Vec<String> {
    assert!(output.status.success(), "{}", said(output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[lines.len() - count..].to_vec()
}

/// The checksum of each file in an appliance, by its path.
fn listed(workshop: &Workshop, appliance: &Path) -> Value {
    let appliance = appliance.to_str().unwrap();
    let output = workshop.run(&["bundle", "list", appliance, "--output", "json"]);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The lines at the end must describe the appliance.
fn assert_described(lines: &[String], appliance: &Path, bytes: &[u8]) {
    let (length, sum) = (bytes.len(), Sha256::of(bytes));
    assert_eq!(
        lines[0],
        format!("Made: {} (bundle v1.9)", appliance.display())
    );
    assert_eq!(lines[1], format!("Size: {length} bytes; sha256: {sum}"));
    assert!(
        lines[2].starts_with("Next: make demo BUNDLE='v1.9'"),
        "{}",
        lines[2]
    );
}

/// The appliance must contain what the releases contain, by the checksums of the bundle.
fn assert_contents(clone: &Clone, appliance: &Path) {
    let workshop = &clone.workshop;
    workshop.succeed(&["bundle", "verify", "@out/appliance"]);
    // With the checksums of what was taken out of archives.
    let mirrors = clone.mirrors.split(' ');
    let mirrors = mirrors.flat_map(|mirror| ["--mirror", mirror]);
    let lock = ["bundle", "lock", "--bundle", "@definition"];
    let lock: Vec<&str> = lock.into_iter().chain(mirrors).collect();
    workshop.succeed(&lock);
    let words = [
        "bundle",
        "verify",
        "@out/appliance",
        "--bundle",
        "@definition",
    ];
    let verified = workshop.succeed(&words);
    assert!(verified.contains("The payload is intact"), "{verified}");
    assert!(!verified.contains("its manifest  ok"), "{verified}");
    let list = listed(workshop, appliance);
    let components = list["components"].as_array().unwrap();
    for (name, place) in PLACES {
        let component = components.iter().find(|one| one["name"] == name);
        let component = component.unwrap_or_else(|| panic!("{list:#}"));
        let expected = Sha256::of(&bytes_of(place)).to_string();
        assert_eq!(component["sha256"], expected, "{name}");
    }
}

#[test]
fn one_command_downloads_verifies_and_builds() {
    let releases = Releases::of(&definition());
    let mut clone = Clone::new(&releases, &[]);
    let artifacts = releases.sources().len();
    let (server, mirrors) = releases.serve();
    clone.mirrors = mirrors.join(" ");
    let output = clone.make_appliance(&[]);
    let appliance = clone.path("out/appliance");
    let bytes = fs::read(&appliance).unwrap_or_else(|_| panic!("{}", said(&output)));
    let lines = last_lines(&output, 3);
    assert_described(&lines, &appliance, &bytes);
    assert!(said(&output).contains(&format!("{artifacts} artifacts downloaded")));
    assert_contents(&clone, &appliance);

    // Without any server, everything is in the cache.
    drop(server);
    fs::remove_file(&appliance).unwrap();
    let output = clone.make_appliance(&[]);
    assert_eq!(last_lines(&output, 3), lines);
    assert_eq!(fs::read(&appliance).unwrap(), bytes);

    // One file carries it to a machine without any cache.
    let workshop = &clone.workshop;
    let words = ["bundle", "export", "--bundle", "@definition", "-o"];
    workshop.succeed(&[&words[..], &["@carried.tar"]].concat());
    let other = Clone::new(&Releases::of(&definition()), &[]);
    let carried = clone.path("carried.tar").display().to_string();
    let output = other.make(&["appliance", &format!("BUNDLE_FROM={carried}")]);
    let next = &last_lines(&output, 1)[0];
    assert!(next.contains(&format!("BUNDLE_FROM='{carried}'")), "{next}");
    assert_eq!(fs::read(other.path("out/appliance")).unwrap(), bytes);
}

#[test]
fn what_was_replaced_on_a_server_is_refused() {
    let mut releases = Releases::of(&definition());
    let mut clone = Clone::new(&releases, &[]);
    releases.replace("cni-plugins-amd64-v0.6.0.tgz", b"something else");
    let (_server, mirrors) = releases.serve();
    clone.mirrors = mirrors.join(" ");
    let output = clone.make_appliance(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("cni-plugins-amd64-v0.6.0.tgz"));
    assert!(!clone.path("out/appliance").exists());
}

#[test]
fn first_downloads_are_trusted_only_on_request_and_only_once() {
    let unpublished = ["etcd-v3.1.10"];
    let releases = Releases::of(&definition());
    let mut clone = Clone::new(&releases, &unpublished);
    let (server, mirrors) = releases.serve();
    clone.mirrors = mirrors.join(" ");
    let refused = clone.make_appliance(&[]);
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(
        said(&refused).contains("etcd-v3.1.10"),
        "{}",
        said(&refused)
    );
    let misspelt = clone.make_appliance(&["TRUST=yes"]);
    assert!(
        said(&misspelt).contains("TRUST=first-use"),
        "{}",
        said(&misspelt)
    );
    let output = clone.make_appliance(&["TRUST=first-use"]);
    assert!(last_lines(&output, 1)[0].contains("TRUST='first-use'"));
    let lock = fs::read_to_string(clone.path("out/bundles/v1.9/bundle.lock")).unwrap();
    assert!(!lock.contains("\"unverified\""), "{lock}");
    assert!(lock.contains("trusted-on-first-use = true"), "{lock}");
    drop(server);

    // Another file at the same address: the first download counts.
    let mut releases = Releases::of(&definition());
    releases.replace("etcd-v3.1.10-linux-amd64.tar.gz", b"another file");
    let (_server, mirrors) = releases.serve();
    clone.mirrors = mirrors.join(" ");
    fs::remove_dir_all(clone.path("cache")).unwrap();
    let output = clone.make_appliance(&["TRUST=first-use"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let again = fs::read_to_string(clone.path("out/bundles/v1.9/bundle.lock")).unwrap();
    assert_eq!(again, lock);
}

/// Components, and the places in their releases that decide their bytes.
const PLACES: [(&str, &str); 7] = [
    ("kube-apiserver", "kubernetes/server/bin/kube-apiserver"),
    ("kubelet", "kubernetes/server/bin/kubelet"),
    ("etcdctl", "etcd-v3.1.10-linux-amd64/etcdctl"),
    ("portmap", "portmap"),
    ("calicoctl", "release-v2.6.2/bin/calicoctl"),
    ("calico", "/opt/cni/bin/calico"),
    ("calico-ipam", "/opt/cni/bin/calico-ipam"),
];
