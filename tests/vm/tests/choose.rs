//! Which bundle is booted, with a small program in place of the builder.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A project with the bundles demo, v1.9 and v1.9.11.
struct Project {
    dir: tempfile::TempDir,
}

/// The outcome of one run.
struct Chosen {
    code: Option<i32>,
    said: String,
    /// `bundle`, `components`, `downloads` and `genuine` for make.
    rows: [String; 4],
}

impl Project {
    /// `doctor` is the shell script of `bundle doctor`.
    fn new(doctor: &str) -> Project {
        let project = Project {
            dir: tempfile::tempdir().unwrap(),
        };
        for (name, kubernetes) in [
            ("demo", "v1.9.0"),
            ("v1.9", "v1.9.0"),
            ("v1.9.11", "v1.9.11"),
        ] {
            project.define(&format!("bundle/{name}"), name, kubernetes);
        }
        fs::create_dir(project.path("out")).unwrap();
        let builder = format!(
            "#!/bin/sh\necho \"$*\" >>out/asked\ncase \"$1 $2\" in\n'bundle doctor') {doctor} ;;\n\
             'bundle import')\n[ -e \"$3\" ] && mkdir -p \"$5\" && cp bundle/v1.9/bundle.toml \"$5\" ;;\n\
             *) exit 9 ;; esac\n"
        );
        fs::write(project.path("out/builder"), builder).unwrap();
        fs::set_permissions(
            project.path("out/builder"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn define(&self, dir: &str, name: &str, kubernetes: &str) {
        fs::create_dir_all(self.path(dir)).unwrap();
        let text = format!(
            "[bundle]\nname = \"{name}\"\nkubernetes = \"{kubernetes}\"\ndescription = \"-\"\n\
             demonstration = {}\n[[component]]\nname = \"etcd\"\n",
            name == "demo"
        );
        fs::write(self.path(dir).join("bundle.toml"), text).unwrap();
    }

    /// The builder's arguments, one run a line.
    fn asked(&self) -> String {
        fs::read_to_string(self.path("out/asked")).unwrap_or_default()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vm"));
        command.arg("choose").args(arguments);
        command.current_dir(self.dir.path()).output().unwrap()
    }

    fn choose(&self, arguments: &[&str]) -> Chosen {
        let output = self.run(arguments);
        let file = fs::read_to_string(self.path("out/choice")).unwrap_or_default();
        let row = |name: &str| {
            let row = file.lines().find_map(|line| line.strip_prefix(name));
            row.unwrap_or_default().trim().to_owned()
        };
        let said = [output.stdout, output.stderr].concat();
        Chosen {
            code: output.status.code(),
            said: String::from_utf8(said).unwrap(),
            rows: ["bundle ", "components ", "downloads ", "genuine "].map(row),
        }
    }

    /// The choice, which must be made, with its reason.
    #[track_caller]
    fn expect(&self, arguments: &[&str], rows: [&str; 4], reasons: &[&str]) {
        let chosen = self.choose(arguments);
        assert_eq!(chosen.code, Some(0), "{}", chosen.said);
        assert_eq!(chosen.rows, rows, "{}", chosen.said);
        assert_eq!(chosen.said.lines().count(), 1, "{}", chosen.said);
        for reason in reasons {
            assert!(chosen.said.contains(reason), "{reason}: {}", chosen.said);
        }
        let about = fs::read_to_string(self.path("out/choice")).unwrap();
        assert!(
            about.ends_with(&format!("about {}", chosen.said)),
            "{about}"
        );
    }

    /// The refusal.
    #[track_caller]
    fn refuse(&self, arguments: &[&str], reasons: &[&str]) {
        let chosen = self.choose(arguments);
        assert_eq!(chosen.code, Some(1), "{}", chosen.said);
        for reason in reasons {
            assert!(chosen.said.contains(reason), "{reason}: {}", chosen.said);
        }
        assert!(!self.path("out/choice").exists());
    }
}

const READY: &str = r#"printf '{"ready": true, "download": 412345678, "problem": null}'"#;
const CACHED: &str = r#"printf '{"ready": true, "download": 0}'"#;
const NOT_READY: &str = r#"printf '{"ready": false, "download": 5, "problem": "no source of \"etcd\" answers.", "artifacts": [{"place": "nowhere", "problem": "other"}]}'; exit 1"#;

#[test]
fn genuine_programs_are_booted_where_every_source_answers() {
    let project = Project::new(READY);
    project.expect(
        &[
            "--mirrors",
            "dl.k8s.io=http://127.0.0.1:1 quay.io=http://127.0.0.1:2",
        ],
        ["bundle/v1.9.11", "", "yes", "yes"],
        &[
            "genuine programs of Kubernetes v1.9.11",
            "412.4 MB are downloaded",
        ],
    );
    assert_eq!(
        project.asked(),
        "bundle doctor --output json --bundle bundle/v1.9.11 --mirror dl.k8s.io=http://127.0.0.1:1 \
         --mirror quay.io=http://127.0.0.1:2\n"
    );
    Project::new(CACHED).expect(
        &[],
        ["bundle/v1.9.11", "", "yes", "yes"],
        &["Nothing is downloaded: everything is in the cache"],
    );
}

#[test]
fn sizes_that_no_source_says_are_not_hidden() {
    for (download, said) in [(0, "not known yet"), (1, "At least 0.1 MB are downloaded")] {
        let artifacts = r#"[{"place": "cache"}, {"place": "server"}]"#;
        let answer =
            format!(r#"{{"ready": true, "download": {download}, "artifacts": {artifacts}}}"#);
        Project::new(&format!("printf '{answer}'")).expect(
            &[],
            ["bundle/v1.9.11", "", "yes", "yes"],
            &[said],
        );
    }
}

#[test]
fn stand_ins_are_booted_where_a_source_is_missing() {
    Project::new(NOT_READY).expect(
        &[],
        ["bundle/demo", "", "", ""],
        &[
            "These are stand-ins for Kubernetes and Calico (bundle demo)",
            "(no source of \"etcd\" answers)",
            "Nothing is downloaded.",
        ],
    );
    // An answer that does not fit its exit code, no answer, half an answer, no such command.
    for doctor in [
        &format!("{READY}; exit 1"),
        "true",
        "printf '{\"ready\": tr'",
        "exit 2",
    ] {
        let project = Project::new(doctor);
        project.expect(&[], ["bundle/demo", "", "", ""], &["stand-ins"]);
    }
    let project = Project::new(READY);
    fs::remove_dir_all(project.path("bundle/v1.9.11")).unwrap();
    let reason = "bundle/v1.9.11 is not there";
    project.expect(&[], ["bundle/demo", "", "", ""], &[reason]);
}

#[test]
fn a_bundle_by_name_is_booted_or_refused() {
    let project = Project::new(READY);
    let reason = "BUNDLE=demo asks for them";
    project.expect(
        &["--bundle", "demo"],
        ["bundle/demo", "", "", ""],
        &[reason],
    );
    assert_eq!(project.asked(), "", "the demonstration has no source");
    project.expect(
        &["--bundle", "v1.9"],
        ["bundle/v1.9", "", "yes", "yes"],
        &["Kubernetes v1.9.0", "BUNDLE=v1.9 asks for them", "412.4 MB"],
    );
    project.define("elsewhere", "mine", "v1.9.4");
    project.expect(
        &["--bundle", "mine", "--definition", "elsewhere"],
        ["elsewhere", "", "yes", "yes"],
        &["BUNDLE=mine"],
    );

    let project = Project::new(NOT_READY);
    project.refuse(
        &["--bundle", "v1.9"],
        &[
            "no source of \"etcd\" answers",
            "bundle doctor --bundle bundle/v1.9",
            "BUNDLE=demo",
        ],
    );
    project.refuse(&["--bundle", "v9.9"], &["bundle/v9.9/bundle.toml"]);
    // First downloads are trusted, so a missing checksum is no problem.
    project.expect(
        &["--bundle", "v1.9", "--trust", "first-use"],
        ["bundle/v1.9", "", "yes", "yes"],
        &["v1.9"],
    );
}

#[test]
fn a_directory_of_programs_comes_with_its_own_bundle_or_the_demonstrations() {
    let project = Project::new(READY);
    fs::create_dir(project.path("programs")).unwrap();
    let words = &["--components", "programs"][..];
    let reasons = &["the programs in programs (bundle demo)", "COMPONENTS"];
    project.expect(words, ["bundle/demo", "programs", "", "yes"], reasons);
    project.define("programs", "own", "v1.9.3");
    project.expect(
        words,
        ["programs", "programs", "", "yes"],
        &["(bundle own)"],
    );
    project.expect(
        &[words, &["--bundle", "v1.9"]].concat(),
        ["bundle/v1.9", "programs", "", "yes"],
        &["(bundle v1.9)"],
    );
    assert_eq!(project.asked(), "");
    fs::remove_file(project.path("out/choice")).unwrap();
    project.refuse(&["--components", "other"], &["COMPONENTS=other"]);
}

#[test]
fn a_carried_bundle_needs_no_source() {
    let project = Project::new(NOT_READY);
    fs::write(project.path("carried.tar"), "").unwrap();
    let stale = project.path("out/bundles/carried/stale");
    fs::create_dir_all(stale.parent().unwrap()).unwrap();
    fs::write(&stale, "").unwrap();
    project.expect(
        &["--carried", "carried.tar"],
        ["out/bundles/carried", "", "", "yes"],
        &[
            "BUNDLE_FROM=carried.tar carries them",
            "Nothing is downloaded.",
        ],
    );
    assert_eq!(
        project.asked(),
        "bundle import carried.tar --definition out/bundles/carried\n"
    );
    assert!(!stale.exists());
    fs::remove_file(project.path("out/choice")).unwrap();
    project.refuse(&["--carried", "other.tar"], &["BUNDLE_FROM=other.tar"]);
    let both = ["--carried", "carried.tar", "--bundle", "v1.9"];
    project.refuse(&both, &["leave out BUNDLE"]);
}
