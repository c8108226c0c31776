//! A golden image in virtual machines: `make test-image` boots one, `make e2e-image` three.
//!
//! APPLIANCE names the appliance to bake in, KEEP a directory for disks, console logs and packets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use appliance::digest::Sha256;
use appliance_vm::cluster::{TUTORIAL, journal};
use appliance_vm::container;
use appliance_vm::drive::{self, Addressing, ConfigDrive};
use appliance_vm::image::Image;
use appliance_vm::machine::{Clock, Machine, MachineSpec};
use appliance_vm::network::Network;
use appliance_vm::qemu::kernel_arguments;
use serde_json::Value;

use super::bed::image;
use crate::harness::said;
use crate::site::WHOLE;
use crate::vms::{APPLIANCE, Bed, Flavor, appliance, brought_up, is_healthy, on_machines};

/// This limit only ends a bring-up that hangs.
const LIMIT: Duration = Duration::from_secs(2400);
/// How many requests get no answer: more than cloud-init sends before it gives up (one probe and
/// five repetitions, one per second, for each of two kinds of cloud), but fewer than this program
/// sends.
const UNANSWERED: usize = 24;

/// The inputs of a test's VM.
struct Bench {
    appliance: PathBuf,
    base: Image,
    keep: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let temporary = tempfile::tempdir_in(project.join("out")).unwrap();
        Bench {
            appliance: appliance(),
            base: Image::ensure(&project.join("out/vm")).unwrap(),
            keep: std::env::var_os("KEEP").map_or(temporary.path().to_owned(), PathBuf::from),
            _temporary: temporary,
        }
    }

    /// Makes a golden image from the base, as an operator does, and prints the output.
    fn golden(&self) -> Image {
        let disk = self.keep.join("golden.qcow2");
        let began = Instant::now();
        let output = image(&["build", "--base"])
            .arg(self.base.disk())
            .arg("--output")
            .arg(&disk)
            .arg("--payload")
            .arg(&self.appliance)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        println!(
            "{}\n{} s: the golden image is built",
            said(&output),
            began.elapsed().as_secs()
        );
        self.base.golden(&disk).unwrap()
    }

    /// The [`seconds`] of the first boot of a master with this user-data, which has a config drive if it is a VM.
    fn first_boot(&self, name: &str, image: &Image, user_data: &str, unpacks: bool) -> (f64, f64) {
        let mut server = ConfigDrive::master(user_data);
        let network = container::are_wanted().then(|| {
            server.addressing = Addressing::Dhcp;
            Network::create(&[&server]).unwrap()
        });
        let port = network.as_ref().map(|net| net.plug(&server).unwrap());
        let mut machine = self.boot(
            name,
            &MachineSpec {
                image,
                server: &server,
                clock: Clock::OfTheWall,
                has_config_drive: network.is_none(),
                port: port.as_ref(),
                appliance: &self.appliance,
                beside: None,
                keep: None,
            },
        );
        let said = brought_up(&mut machine, LIMIT);
        assert_eq!(said.contains("unpack bundle"), unpacks, "{said}");
        let timeline = machine.shell(&format!("{APPLIANCE} timeline"));
        println!("{name}\n{}", timeline.unwrap());
        seconds(&mut machine)
    }

    fn boot(&self, name: &str, spec: &MachineSpec<'_>) -> Machine {
        let keep = self.keep.join(name);
        let spec = MachineSpec {
            keep: Some(&keep),
            ..*spec
        };
        let mut machine = Machine::boot(&spec).unwrap();
        machine.wait_for_agent(|_| {}).unwrap();
        machine
    }
}

fn assert_healthy(machine: &mut Machine) {
    let output = machine
        .run(&[APPLIANCE, "status", "--output", "json"])
        .unwrap();
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert!(is_healthy(&report), "{report:#}");
}

/// The seconds from the start of the kernel until the node was healthy, and until the unit started,
/// from systemd's own record.
fn seconds(machine: &mut Machine) -> (f64, f64) {
    // The kernel of a container runs for longer than the container.
    let begin = "systemctl show --property=UserspaceTimestampMonotonic";
    let shown = machine
        .shell(&format!(
            "systemctl show --property=ExecMainStartTimestampMonotonic \
             --property=ActiveEnterTimestampMonotonic appliance-install; {begin}"
        ))
        .unwrap();
    let time = |key: &str| -> f64 {
        let line = shown
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap();
        let microseconds: f64 = line.trim_start_matches('=').parse().unwrap();
        microseconds / 1e6
    };
    let begin = match container::are_wanted() {
        true => time("UserspaceTimestampMonotonic"),
        false => 0.0,
    };
    let since = |key| time(key) - begin;
    let start = since("ExecMainStartTimestampMonotonic");
    (since("ActiveEnterTimestampMonotonic"), start)
}

#[test]
#[ignore = "boots virtual machines; make test-image runs it"]
fn a_golden_image_boots_into_a_node_though_cloud_init_missed_the_metadata() {
    let bench = Bench::new();
    let golden = bench.golden();
    let mut server = ConfigDrive::master("");
    server.addressing = Addressing::Dhcp;
    let network = Network::with_late_metadata(&[&server], UNANSWERED).unwrap();
    let port = network.plug(&server).unwrap();
    let spec = MachineSpec {
        image: &golden,
        server: &server,
        clock: Clock::OfTheWall,
        has_config_drive: false,
        port: Some(&port),
        appliance: &bench.appliance,
        beside: None,
        keep: None,
    };
    let mut machine = bench.boot("golden", &spec);
    let said = brought_up(&mut machine, LIMIT);
    println!("{said}");
    assert_healthy(&mut machine);
    nothing_was_unpacked(&mut machine, &said);
    cloud_init_missed_it(&mut machine);
    it_is_a_machine_of_its_own(&mut machine);
}

/// The same server with the same base: once with everything in the image, and once with the
/// appliance on a volume.
#[test]
#[ignore = "boots virtual machines; make test-image runs it"]
fn a_golden_image_and_a_plain_one_side_by_side() {
    let bench = Bench::new();
    let settings = on_machines(format!("  {}", drive::DEFAULTS));
    let user_data = format!("#cloud-config\nappliance:\n{settings}");
    let golden = bench.first_boot("baked", &bench.golden(), &user_data, false);
    let settings = on_machines(drive::DEFAULTS.to_owned());
    let user_data = drive::user_data(&appliance(), &settings).unwrap();
    let plain = bench.first_boot("carried", &bench.base, &user_data, true);
    println!("SECONDS FROM POWER-ON         GOLDEN  PLAIN");
    println!(
        "the unit begins               {:>6.0}  {:>5.0}",
        golden.1, plain.1
    );
    println!(
        "the node is healthy           {:>6.0}  {:>5.0}",
        golden.0, plain.0
    );
    println!("boot_to_ready_golden_s {:.1}", golden.0);
    println!("boot_to_ready_plain_s {:.1}", plain.0);
    println!("boot_to_ready_golden_ratio {:.3}", golden.0 / plain.0);
}

/// Like `make image TARGET=qemu`. The base has no boot loader, so QEMU gets the kernel as an
/// argument.
#[test]
#[ignore = "boots a virtual machine; make test-image runs it"]
fn a_golden_image_is_made_by_packer() {
    let bench = Bench::new();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (programs, name) = (tempfile::tempdir().unwrap(), "packer-test");
    let made = project.join("out/packer");
    let clean = || {
        let _ = fs::remove_dir_all(made.join(name));
    };
    with_kernel(&bench.base, programs.path());
    let path = std::env::var("PATH").unwrap();
    clean();
    let began = Instant::now();
    let output = Command::new(project.join("packer/build.sh"))
        .args(["build", "qemu", "-color=false"])
        .arg(format!("-var=appliance={}", bench.appliance.display()))
        .arg(format!("-var=base_image={}", bench.base.disk().display()))
        .arg(format!("-var=image_name={name}"))
        .env("PATH", format!("{}:{path}", programs.path().display()))
        .env("PACKER_CACHE_DIR", programs.path())
        .env("CHECKPOINT_DISABLE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    println!(
        "{}\n{} s: Packer is done",
        said(&output),
        began.elapsed().as_secs()
    );
    assert!(
        said(&output).contains(" passed, 0 failed"),
        "{}",
        said(&output)
    );
    let disk = made.join(name).join(format!("{name}.qcow2"));
    let bytes = fs::metadata(&disk).unwrap().len();
    println!("{}: {bytes} bytes", disk.display());
    let sum = fs::read_to_string(made.join(format!("{name}.qcow2.sha256"))).unwrap();
    let digest = Sha256::of(&fs::read(&disk).unwrap());
    assert!(sum.starts_with(digest.as_str()), "{sum}");
    let manifest = fs::read(made.join(format!("{name}.manifest.json"))).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["builds"][0]["builder_type"], "qemu", "{manifest}");
    clean();
}

/// A QEMU in `dir` that boots with the image's kernel, first on the PATH.
fn with_kernel(image: &Image, dir: &Path) {
    let real = Command::new("sh")
        .args(["-c", "command -v qemu-system-x86_64"])
        .output()
        .unwrap();
    let real = String::from_utf8(real.stdout).unwrap();
    let script = format!(
        "#!/bin/sh\nexec {} -kernel {} -initrd {} -append '{}' \"$@\"\n",
        real.trim(),
        image.kernel().display(),
        image.initrd().display(),
        kernel_arguments()
    );
    let program = dir.join("qemu-system-x86_64");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

fn nothing_was_unpacked(machine: &mut Machine, said: &str) {
    assert!(!said.contains("unpack"), "{said}");
    assert!(said.contains("load image"), "{said}");
    // Everything below is older than this boot.
    let fresh = "booted=$(systemctl show --property=UserspaceTimestamp --value); \
        find /opt/appliance/current/ -newerct \"$(date -d \"$booted\" +@%s)\" | head";
    assert_eq!(machine.shell(fresh).unwrap(), "");
}

/// The program found out everything about the node by itself.
fn cloud_init_missed_it(machine: &mut Machine) {
    let platform = machine.shell("cloud-init query platform").unwrap();
    assert!(platform.contains("none"), "cloud-init found it: {platform}");
    let report = machine.shell(&format!("{APPLIANCE} status")).unwrap();
    assert!(
        report.contains("master server02 (192.168.1.102)"),
        "{report}"
    );
}

fn it_is_a_machine_of_its_own(machine: &mut Machine) {
    let id = machine.shell("cat /etc/machine-id").unwrap();
    assert_eq!(id.trim().len(), 32, "{id}");
}

#[test]
#[ignore = "boots three virtual machines; make e2e-image runs it"]
fn three_vms_cloned_from_a_golden_image_become_a_cluster() {
    let bench = Bench::new();
    let flavor = Flavor {
        memory: drive::MEMORY,
        cpus: drive::CPUS,
        clock: Clock::OfTheWall,
        beside: None,
    };
    let mut bed = Bed::of(&bench.golden(), &TUTORIAL, &flavor, |token| {
        let settings =
            format!("  master: 192.168.1.102\n  join: {{token: {token}, ttl: 2h, uses: 2}}\n");
        format!("#cloud-config\nappliance:\n{}", on_machines(settings))
    });
    let nodes = WHOLE.nodes();
    bed.switch_on(&nodes);
    bed.wait_for_bring_up();
    bed.wait_until_healthy();
    let mut ids = Vec::new();
    for name in &nodes {
        let machine = bed.machine(name);
        let said = journal(machine).unwrap();
        println!("== {name}\n{said}");
        nothing_was_unpacked(machine, &said);
        ids.push(machine.shell("cat /etc/machine-id").unwrap());
        println!("{name}: up {:.0} s after power-on", seconds(machine).0);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), nodes.len(), "clones share a machine ID");
    bed.wait_at(WHOLE.master, "the cluster has both workers", |machine| {
        let nodes = machine.shell("HOME=/root kubectl get nodes");
        nodes.is_ok_and(|nodes| nodes.matches(" Ready ").count() == 2)
    });
}
