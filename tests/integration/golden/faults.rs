//! Bad bases, bad machines and interruptions: the error has a reason, and nothing is left behind.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bed::{ROOMY, SMALL, Site, run, system};
use crate::harness::{Machine, SmallDisk, program, said};

/// This limit only ends a test that hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// The error for a base with this change.
fn refusal(change: impl Fn(&Machine)) -> String {
    let machine = system();
    change(&machine);
    Site::with(&machine, ROOMY).refusal(&[])
}

#[test]
fn a_base_that_is_too_small_is_refused() {
    let refusal = Site::with(&system(), SMALL).refusal(&[]);
    assert!(
        refusal.contains("MiB to spare; enlarge its disk first"),
        "{refusal}"
    );
}

#[test]
fn a_base_that_is_not_linux_is_refused() {
    let machine = system();
    fs::remove_file(machine.root().join("etc/os-release")).unwrap();
    fs::remove_file(machine.root().join("usr/lib/os-release")).unwrap();
    let site = Site::with(&machine, ROOMY);
    let refusal = site.refusal(&[]);
    assert!(
        refusal.contains("partition 1: ") && refusal.contains("partition 2 has no"),
        "{refusal}"
    );
    assert!(refusal.contains("cloud image"), "{refusal}");
    fs::write(site.base(), vec![0; 1 << 20]).unwrap();
    let refusal = site.refusal(&[]);
    assert!(refusal.contains("the whole disk: "), "{refusal}");
}

#[test]
fn a_base_that_is_a_node_already_is_refused() {
    let refusal = refusal(|machine| machine.put("var/lib/etcd/member/snap/db", "x"));
    assert!(
        refusal.contains("node of a cluster already: /var/lib/etcd/member"),
        "{refusal}"
    );
}

#[test]
fn a_base_without_cloud_init_is_refused() {
    let refusal = refusal(|machine| {
        fs::remove_file(machine.root().join("usr/bin/cloud-init")).unwrap();
    });
    assert!(
        refusal.contains("/usr/bin/cloud-init is missing"),
        "{refusal}"
    );
}

#[test]
fn a_base_of_another_architecture_is_refused() {
    let refusal = refusal(|machine| {
        const AARCH64: u16 = 183;
        let mut systemd = program("systemd", 4096);
        systemd[18..20].copy_from_slice(&AARCH64.to_le_bytes());
        fs::write(machine.root().join("usr/lib/systemd/systemd"), systemd).unwrap();
    });
    assert!(refusal.contains("image for amd64"), "{refusal}");
}

#[test]
fn a_base_that_leads_to_another_file_is_refused() {
    let site = Site::with(&system(), SMALL);
    let (base, other) = (site.base(), site.path("other.qcow2"));
    fs::rename(&base, &other).unwrap();
    let create = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"];
    let paths = [other.to_str().unwrap(), base.to_str().unwrap()];
    run("qemu-img", &[&create[..], &paths].concat());
    let refusal = site.refusal(&[]);
    assert!(refusal.contains("parts of it in another file"), "{refusal}");
}

#[test]
fn the_base_is_never_its_own_output() {
    let site = Site::with(&system(), SMALL);
    symlink(site.base(), site.output()).unwrap();
    let output = site.build(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("is the base image itself"),
        "{}",
        said(&output)
    );
}

/// It ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_base_that_a_vm_is_using_is_refused() {
    let site = Site::with(&system(), SMALL);
    let socket = site.path("socket");
    // It opens the image as a VM does.
    let _user = Process(
        Command::new("qemu-nbd")
            .args(["--persistent", "--socket"])
            .arg(&socket)
            .arg(site.base())
            .spawn()
            .unwrap(),
    );
    wait_for(&socket);
    let refusal = site.refusal(&[]);
    assert!(refusal.contains("in use by another process"), "{refusal}");
}

#[test]
fn a_builder_without_room_is_refused() {
    let site = Site::with(&system(), ROOMY);
    let disk = SmallDisk::at(site.path("made"), "32m");
    let output = site.build(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("MiB are free; delete files there"),
        "{}",
        said(&output)
    );
    assert_eq!(fs::read_dir(site.path("made")).unwrap().count(), 0);
    drop(disk);
}

#[test]
fn a_machine_without_the_means_asked_for_is_refused() {
    let site = Site::with(&system(), SMALL);
    site.fake("qemu-nbd", "exit 127");
    let refusal = site.refusal(&["--attach", "nbd"]);
    assert!(
        refusal.contains("cannot be attached by nbd: qemu-nbd is missing"),
        "{refusal}"
    );
}

/// Waits until `path` exists.
fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < LIMIT, "never there: {}", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a build that stops in `program` at the arguments of `at`, until it may continue.
fn stopped_in(site: &Site, program: &str, at: &str) -> Child {
    let real = run(
        "sh",
        &[
            "-c",
            &format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin; command -v {program}"),
        ],
    );
    let (reached, real) = (site.path("reached"), real.trim());
    let script = format!(
        "case \"$*\" in {at}) echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000;; esac; exec {real} \"$@\"",
        reached.display()
    );
    site.fake(program, &script);
    fs::write(site.output(), "an older image").unwrap();
    let build = site
        .build(&[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&reached);
    build
}

fn signal(process: u32, signal: Signal) {
    kill(Pid::from_raw(process.try_into().unwrap()), signal).unwrap();
}

fn interrupted_in(program: &str, at: &str) {
    let site = Site::with(&system(), ROOMY);
    let build = stopped_in(&site, program, at);
    signal(build.id(), Signal::SIGTERM);
    let output = build.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("interrupted"), "{}", said(&output));
    assert_eq!(fs::read_to_string(site.output()).unwrap(), "an older image");
    site.assert_clean(&["golden.qcow2"]);
}

#[test]
fn a_build_that_is_interrupted_while_it_copies_leaves_nothing() {
    interrupted_in("qemu-img", "convert*work");
}

#[test]
fn a_build_that_is_interrupted_with_the_image_attached_detaches_it() {
    interrupted_in("fstrim", "*");
}

#[test]
fn a_build_that_is_killed_leaves_nothing_attached_and_the_next_one_cleans_up() {
    let site = Site::with(&system(), ROOMY);
    let mut build = stopped_in(&site, "fstrim", "*");
    signal(build.id(), Signal::SIGKILL);
    build.wait().unwrap();
    // The processes that it started are gone, too.
    let stopped = fs::read_to_string(site.path("reached")).unwrap();
    signal(stopped.trim().parse().unwrap(), Signal::SIGKILL);
    let start = Instant::now();
    while run("losetup", &["--list", "--output", "BACK-FILE"])
        .contains(site.path("made").to_str().unwrap())
    {
        assert!(start.elapsed() < LIMIT, "it stays attached");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::read_to_string(site.output()).unwrap(), "an older image");
    fs::remove_dir_all(site.path("fakes")).unwrap();
    let output = site.build(&[]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    site.assert_clean(&["golden.qcow2", "golden.qcow2.sha256"]);
}

#[test]
fn two_builds_of_one_image_do_not_meet() {
    let site = Site::with(&system(), ROOMY);
    let build = stopped_in(&site, "fstrim", "*");
    let second = site.build(&[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));
    assert!(
        said(&second).contains("another run is making this image"),
        "{}",
        said(&second)
    );
    signal(build.id(), Signal::SIGINT);
    build.wait_with_output().unwrap();
    site.assert_clean(&["golden.qcow2"]);
}
