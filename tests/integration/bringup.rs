//! How long a machine takes to become a healthy node: by `appliance install`, and by a script of the tutorial's commands.
//! A measurement for `make bench`, not a test.
//!
//! `make bench ONLY=bringup` runs it; APPLIANCE names the appliance to boot with, COMPONENTS the directory of its
//! components, BUNDLE_DIR its definition, KEEP a directory for disks and the console's log.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use appliance::bundle::definition::Definition;
use appliance_vm::cluster::SINGLE;
use appliance_vm::drive;
use appliance_vm::image::Image;
use appliance_vm::machine::Clock;

use crate::vms::{APPLIANCE, Bed, Flavor, VOLUME, on_machines};

/// Where the tutorial has the programs.
const PROGRAMS: &str = "/home/openlab/bin";
/// The tools of the tutorial that are no components.
const TOOLS: [&str; 2] = ["cfssl", "cfssljson"];
/// The scripts in `bench/`.
const SCRIPTS: [&str; 2] = ["tutorial.sh", "healthy.sh"];
/// Prints the milliseconds that a command takes, and its output if it fails.
const TIMED: &str = "timed() { begun=$(date +%s%N); \"$@\" >/tmp/said 2>&1 || { tail -n 40 /tmp/said >&2; return 1; }; \
                     echo $((($(date +%s%N) - begun) / 1000000)); }";

fn named(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.unwrap_or_else(|| panic!("{variable} is not set: run `make bench ONLY=bringup`"))
        .into()
}

/// The path of a program of the Debian packages for the tests, which may be installed or only unpacked.
fn tool(name: &str) -> PathBuf {
    let unpacked = std::env::var_os("UNPACKED").map(PathBuf::from);
    let unpacked = unpacked.map(|root| root.join("usr/bin").join(name));
    unpacked.filter(|path| path.exists()).unwrap_or_else(|| {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {name}")])
            .output();
        let found = String::from_utf8(found.unwrap().stdout).unwrap();
        assert!(
            !found.trim().is_empty(),
            "{name} is missing: run `make tools`"
        );
        PathBuf::from(found.trim())
    })
}

/// A directory with all files that the script needs, and the names of the images.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (components, bundle) = (named("COMPONENTS"), named("BUNDLE_DIR"));
    let definition = Definition::read(&bundle).unwrap();
    let mut images = String::new();
    for component in &definition.components {
        link(&components.join(&component.file), dir.path());
        if let Some(reference) = &component.reference {
            images += &format!("{reference}\n");
        }
    }
    fs::write(dir.path().join("images"), images).unwrap();
    for name in TOOLS {
        link(&tool(name), dir.path());
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench");
    for name in SCRIPTS {
        link(&scripts.join(name), dir.path());
    }
    dir
}

fn link(file: &Path, dir: &Path) {
    let target = file.canonicalize().unwrap();
    symlink(target, dir.join(file.file_name().unwrap())).unwrap();
}

/// A machine with everything in place, on which nothing was set up.
fn fresh(bed: &mut Bed) {
    let name = "server02";
    bed.switch_on(&[name]);
    let prepare = format!(
        "cloud-init status --wait >/dev/null; mkdir -p {PROGRAMS} && cd {VOLUME} && \
         find . -maxdepth 1 -type f ! -name '*.tar' ! -name appliance -exec cp -t {PROGRAMS} {{}} + && \
         install -m 0755 appliance {APPLIANCE} && sync && systemctl start docker && ! test -e /etc/kubernetes"
    );
    bed.shell(name, &prepare);
}

/// Seconds with two decimals, from a line of milliseconds.
fn seconds(said: &str) -> f64 {
    said.trim().parse::<f64>().unwrap() / 1000.0
}

/// A machine that is not a node yet, with these files on a volume.
fn bed(files: &Path) -> Bed {
    let image = Image::ensure(&Path::new(env!("CARGO_MANIFEST_DIR")).join("out/vm")).unwrap();
    let flavor = Flavor {
        memory: drive::MEMORY,
        cpus: drive::CPUS,
        clock: Clock::OfTheWall,
        beside: Some(files.to_owned()),
    };
    let settings = on_machines("  clusterName: kubernetes\n".to_owned());
    let mount = format!(
        "bootcmd:\n- [mkdir, -p, {VOLUME}]\n- [mount, -o, ro, LABEL={}, {VOLUME}]\n",
        drive::LABEL
    );
    Bed::of(&image, &SINGLE, &flavor, |_| {
        format!("#cloud-config\nappliance:\n{settings}{mount}")
    })
}

/// For those who look for what takes long; also with genuine programs, with which the script does not work.
#[test]
#[ignore = "a measurement; make bench ONLY=bringup runs it"]
fn the_time_of_a_bring_up_is_shown() {
    let files = files();
    let mut bed = bed(files.path());
    fresh(&mut bed);
    let node = format!("{TIMED}; timed {APPLIANCE} install --wait 600");
    println!("node_s {:.1}", seconds(&bed.shell("server02", &node)));
    let cluster = format!("{TIMED}; timed {APPLIANCE} install --wait cluster=600");
    println!(
        "until_cluster_s {:.1}",
        seconds(&bed.shell("server02", &cluster))
    );
    let shown = format!("{APPLIANCE} status; {APPLIANCE} timeline");
    println!("{}", bed.shell("server02", &shown));
}

#[test]
#[ignore = "a measurement; make bench runs it"]
fn a_program_and_a_script_make_the_same_node() {
    let name = "server02";
    let files = files();
    let mut bed = bed(files.path());

    fresh(&mut bed);
    let said = bed.shell(name, &format!("{TIMED}; timed {VOLUME}/tutorial.sh"));
    let script = seconds(&said);
    println!("bringup_script_s {script:.1}");

    fresh(&mut bed);
    let healthy = format!("{VOLUME}/healthy.sh {APPLIANCE} etcdctl");
    let said = bed.shell(
        name,
        &format!(
            "{TIMED}; node() {{ {APPLIANCE} install --wait 600 && until {healthy}; do sleep 0.1; done; }}; timed node; \
             {APPLIANCE} status >/dev/null || test $? = 8"
        ),
    );
    let program = seconds(&said);
    println!("bringup_appliance_s {program:.1}");
    println!("bringup_ratio {:.3}", program / script);
    let shown = bed.shell(
        name,
        &format!("TIMEFORMAT='%U %S'; bash -c \"TIMEFORMAT='%U %S'; time {APPLIANCE} install >/dev/null 2>&1\" 2>&1"),
    );
    let spent: f64 = shown
        .split_whitespace()
        .map(|one| one.parse::<f64>().unwrap())
        .sum();
    println!("noop_on_node_cpu_ms {:.0}", spent * 1000.0);
}
