//! `appliance install` on a directory in place of `/`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use appliance::sys::lock::{Lock, Patience};
use appliance::sys::root::Root;

use crate::harness::{Machine, SmallDisk, said};

#[test]
fn an_image_gets_the_program_with_its_bundle() {
    let machine = Machine::new();
    machine.installed(&[]);
    assert_eq!(machine.mode("usr/local/bin/appliance"), 0o755);
    let program = machine.root().join("usr/local/bin/appliance");
    let version = Command::new(program).arg("version").output().unwrap();
    assert!(said(&version).contains("bundle tiny"), "{}", said(&version));
}

#[test]
fn a_master_gets_all_it_needs() {
    let machine = Machine::new();
    let said = machine.installed(&[]);
    assert!(
        said.contains("server02 is a master of bundle tiny"),
        "{said}"
    );

    for service in [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-calico",
    ] {
        let wants = format!("etc/systemd/system/multi-user.target.wants/{service}.service");
        let unit = format!("/etc/systemd/system/{service}.service");
        assert_eq!(
            fs::read_link(machine.root().join(wants)).unwrap().to_str(),
            Some(unit.as_str())
        );
        assert!(
            machine
                .read(unit.trim_start_matches('/'))
                .contains("ExecStart=")
        );
    }
    let bin = machine.root().join("opt/appliance/current/bin/etcd");
    assert!(bin.is_file());
    assert_eq!(machine.mode("opt/appliance/current/bin/etcd"), 0o755);
    let kubectl = fs::read_link(machine.root().join("usr/local/bin/kubectl")).unwrap();
    assert_eq!(kubectl.to_str(), Some("/opt/appliance/current/bin/kubectl"));

    let hosts = machine.read("etc/hosts");
    assert!(
        hosts.starts_with("127.0.0.1 localhost\n") && hosts.contains("192.168.1.102 server02"),
        "{hosts}"
    );
    assert!(
        machine
            .read("etc/systemd/system/kube-apiserver.service")
            .contains("--advertise-address=192.168.1.102")
    );
    assert!(
        machine
            .read("etc/kubernetes/admin.kubeconfig")
            .contains("https://192.168.1.102:6443")
    );
}

#[test]
fn nobody_but_root_can_read_a_secret() {
    let machine = Machine::new();
    machine.installed(&[]);
    let ca = "etc/kubernetes/ca";
    for secret in [
        format!("{ca}/ca-key.pem"),
        format!("{ca}/etcd/etcd-key.pem"),
        format!("{ca}/kubernetes/kubernetes-key.pem"),
        format!("{ca}/kubernetes/token.csv"),
        format!("{ca}/service-account/service-account-key.pem"),
        "etc/kubernetes/admin.kubeconfig".to_owned(),
    ] {
        assert_eq!(machine.mode(&secret), 0o600, "{secret}");
    }
    for path in machine.snapshot().keys().filter(|path| path.is_file()) {
        let text = fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&text);
        if path.ends_with("usr/local/bin/appliance") {
            // The program knows these words, but has no secret.
            continue;
        }
        let relative = path.strip_prefix(machine.root()).unwrap().to_str().unwrap();
        if text.contains("PRIVATE KEY") || text.contains("client-key-data") {
            assert_eq!(machine.mode(relative), 0o600, "{relative}");
        }
    }
}

#[test]
fn a_second_run_writes_nothing_and_says_so() {
    for profile in ["with-ca", "simple"] {
        let machine = Machine::new();
        machine.installed(&["--profile", profile]);
        let before = machine.snapshot();
        let said = machine.installed(&["--profile", profile]);
        assert_eq!(machine.snapshot(), before, "{profile}");
        assert!(
            said.contains("nothing to change: server02 is a master"),
            "{said}"
        );
    }
}

#[test]
fn only_what_was_changed_by_hand_is_mended() {
    let machine = Machine::new();
    machine.installed(&[]);
    let key = machine.read("etc/kubernetes/ca/ca-key.pem");
    machine.put(
        "etc/systemd/system/etcd.service",
        "[Service]\nExecStart=/bin/false\n",
    );
    fs::remove_file(machine.root().join("etc/kubernetes/ca/etcd/etcd.pem")).unwrap();
    let said = machine.installed(&[]);
    assert!(
        said.contains("[1/3] create /etc/kubernetes/ca/etcd/etcd.pem"),
        "{said}"
    );
    assert!(
        said.contains("[3/3] change /etc/systemd/system/etcd.service"),
        "{said}"
    );
    assert_eq!(machine.read("etc/kubernetes/ca/ca-key.pem"), key);
}

#[test]
fn a_run_that_was_cut_is_taken_up_again() {
    let machine = Machine::new();
    machine.installed(&[]);
    let key = machine.read("etc/kubernetes/ca/ca-key.pem");
    // As after an interruption between the keys and everything after them.
    for gone in [
        "etc/kubernetes/ca/ca.pem",
        "etc/kubernetes/ca/kubernetes/kubernetes.pem",
        "var/lib/appliance/state.json",
    ] {
        fs::remove_file(machine.root().join(gone)).unwrap();
    }
    fs::remove_dir_all(machine.root().join("etc/systemd/system")).unwrap();
    machine.installed(&[]);
    assert_eq!(machine.read("etc/kubernetes/ca/ca-key.pem"), key);
    let before = machine.snapshot();
    machine.installed(&[]);
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_dry_run_shows_every_change_and_makes_none() {
    let machine = Machine::new();
    let before = machine.snapshot();
    let said = machine.planned(&[]);
    assert_eq!(machine.snapshot(), before);
    assert!(
        said.contains("create /etc/systemd/system/etcd.service (0644)"),
        "{said}"
    );
    assert!(said.contains("+192.168.1.102 server02"), "{said}");
    assert!(said.contains("`meta.role`"), "{said}");
    assert!(!said.contains("PRIVATE KEY"), "{said}");
}

#[test]
fn a_dry_run_shows_no_text_of_certificates() {
    let machine = Machine::new();
    machine.installed(&[]);
    let path = "etc/kubernetes/ca/etcd/etcd.pem";
    machine.put(path, &machine.read("etc/kubernetes/ca/admin/admin.pem"));
    let said = machine.planned(&[]);
    assert!(said.contains(&format!("change /{path} (0644)")), "{said}");
    assert!(!said.contains("CERTIFICATE-----"), "{said}");
}

#[test]
fn a_dry_run_is_json_for_programs() {
    let machine = Machine::new();
    let output = machine.install(&["--dry-run", "--output", "json"]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["changed"], true);
    assert!(plan["steps"].as_array().unwrap().len() > 20);
}

#[test]
fn the_simple_profile_has_no_keys_and_says_what_that_means() {
    let machine = Machine::new();
    let said = machine.installed(&["--profile", "simple"]);
    assert!(
        said.contains("anyone who reaches this machine over the network has full control"),
        "{said}"
    );
    assert!(!machine.root().join("etc/kubernetes/ca/ca-key.pem").exists());
    assert!(
        machine
            .read("etc/systemd/system/etcd.service")
            .contains("http://192.168.1.102:2379")
    );
}

#[test]
fn input_that_no_node_can_be_made_from_is_refused_before_the_first_write() {
    let cases: [(&str, &[&str], &[&str]); 7] = [
        (
            r#"{"role": "mastre"}"#,
            &[],
            &["`meta.role` is \"mastre\"", "openstack server set"],
        ),
        ("{}", &[], &["no role found", "metadata directory"]),
        (
            r#"{"role": "master"}"#,
            &["--role", "chief"],
            &["flag --role is \"chief\""],
        ),
        (
            r#"{"role": "master", "appliance.podCDIR": "10.0.0.0/8"}"#,
            &[],
            &["did you mean `appliance.podCIDR`?"],
        ),
        (
            r#"{"role": "master", "appliance.podCIDR": "10.0.0.0/8"}"#,
            &[],
            &["podCIDR 10.0.0.0/8", "overlaps serviceCIDR"],
        ),
        (
            r#"{"role": "master", "nodeName": "x\nExecStartPre=/bin/evil"}"#,
            &[],
            &["`meta.nodeName` is \"x\\nExec"],
        ),
        (
            r#"{"role": "master", "nodeName": "50%\" '"}"#,
            &[],
            &["expected a DNS name"],
        ),
    ];
    for (meta, arguments, expected) in cases {
        let machine = Machine::new();
        machine.put_metadata(meta);
        let said = machine.refusal(arguments);
        for part in expected {
            assert!(said.contains(part), "{part} is missing: {said}");
        }
    }
}

#[test]
fn broken_metadata_is_located() {
    let machine = Machine::new();
    machine.put_meta_data_json("{\"uuid\": \"5f7a1c9e\",\n \"name\": ");
    let said = machine.refusal(&[]);
    assert!(said.contains("meta_data.json: line 2"), "{said}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_refused_by_name() {
    let machine = Machine::new();
    machine.put("etc/appliance/config.yaml", "rloe: master\n");
    let said = machine.refusal(&[]);
    assert!(
        said.contains("configuration /etc/appliance/config.yaml"),
        "{said}"
    );
    assert!(said.contains("did you mean `role`?"), "{said}");

    let said = machine.refusal(&["--config", "/nonexistent.yaml"]);
    assert!(said.contains("configuration /nonexistent.yaml"), "{said}");
}

#[test]
fn a_machine_without_systemd_or_docker_is_refused_with_both_reasons() {
    let machine = Machine::new();
    for gone in ["usr/lib/systemd/systemd", "usr/bin/docker"] {
        fs::remove_file(machine.root().join(gone)).unwrap();
    }
    let said = machine.refusal(&[]);
    assert!(
        said.contains("systemd does not run on this system"),
        "{said}"
    );
    assert!(said.contains("install docker.io or docker-ce"), "{said}");
}

#[test]
fn a_disk_without_room_for_the_bundle_is_refused_with_the_numbers() {
    let machine = Machine::new();
    let opt = machine.root().join("opt");
    fs::create_dir(&opt).unwrap();
    let _disk = SmallDisk::at(opt, "64m");
    let said = machine.refusal(&[]);
    assert!(
        said.contains("/opt/appliance needs 1 MiB and 256 MiB to spare, but only 64 MiB are free"),
        "{said}"
    );
}

#[test]
fn an_authority_without_its_key_is_never_replaced() {
    let machine = Machine::new();
    machine.installed(&[]);
    fs::remove_file(machine.root().join("etc/kubernetes/ca/ca-key.pem")).unwrap();
    let said = machine.refusal(&[]);
    assert!(said.contains("restore the key"), "{said}");
}

#[test]
fn what_is_the_operators_stays_the_operators() {
    let machine = Machine::new();
    machine.put("root/.kube/config", "mine");
    machine.installed(&[]);
    assert_eq!(machine.read("root/.kube/config"), "mine");

    let machine = Machine::new();
    machine.put("usr/local/bin/kubectl", "mine");
    let said = machine.refusal(&[]);
    assert!(
        said.contains("/usr/local/bin/kubectl exists and is not a symbolic link"),
        "{said}"
    );
}

#[test]
fn a_masked_unit_is_refused_and_stays_masked() {
    let machine = Machine::new();
    let unit = machine.root().join("etc/systemd/system/etcd.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    // In a system that is being prepared, a directory plays the part of /dev/null.
    fs::create_dir_all(machine.root().join("dev/null")).unwrap();
    std::os::unix::fs::symlink("/dev/null", &unit).unwrap();
    let said = machine.refusal(&[]);
    assert!(
        said.contains("/etc/systemd/system/etcd.service leads to"),
        "{said}"
    );
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    let machine = Machine::new();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), machine.root().join("etc/kubernetes")).unwrap();
    machine.installed(&[]);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

/// Locks `dir` as a run of the program does.
fn lock(dir: &Path) -> Lock {
    Lock::take(&Root::open(dir).unwrap(), Patience::None).unwrap()
}

/// Every user may open the root directory, and with it lock it.
#[test]
fn a_lock_of_another_user_on_the_root_directory_holds_up_nothing() {
    let machine = Machine::new();
    let theirs = fs::File::open(machine.root()).unwrap();
    let theirs = nix::fcntl::Flock::lock(theirs, nix::fcntl::FlockArg::LockExclusive).unwrap();
    machine.installed(&["--wait", "0"]);
    assert!(!machine.root().join("run/appliance-locks").exists());
    drop(theirs);
}

#[test]
fn two_runs_at_once_do_not_mix() {
    let machine = Machine::new();
    let held = lock(&machine.root());
    let before = machine.snapshot();
    let output = machine.install(&["--wait", "0"]);
    assert_eq!(output.status.code(), Some(5));
    let holder = format!("process {}, `", std::process::id());
    for word in ["another run of appliance", &holder, "since 20"] {
        assert!(said(&output).contains(word), "{word}: {}", said(&output));
    }
    assert_eq!(machine.snapshot(), before);
    drop(held);
    machine.installed(&[]);
}

/// Runs the program while this process has locked `dir`. It must say so and end with exit code 5; with
/// `--wait` it must say that it waits, and succeed when the lock is given back.
fn waits_for_the_lock(dir: &Path, arguments: &[&str]) {
    fs::create_dir_all(dir).unwrap();
    let held = lock(dir);
    let appliance = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
        command.args(arguments).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let refused = appliance(&[]).wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(5), "{}", said(&refused));
    let given_up = appliance(&["--wait=1"]).wait_with_output().unwrap();
    assert_eq!(given_up.status.code(), Some(5), "{}", said(&given_up));
    let mut waits = appliance(&["--wait"]);
    let mut line = String::new();
    let mut stderr = BufReader::new(waits.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    let holder = format!("process {}, `", std::process::id());
    assert!(
        line.starts_with("warning: waiting: another run of appliance") && line.contains(&holder),
        "{line}"
    );
    drop(held);
    assert!(waits.wait().unwrap().success());
}

#[test]
fn certificates_are_made_by_one_run_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, node) = (dir.path().join("ca"), dir.path().join("node"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    waits_for_the_lock(&ca, &["certs", "init", "--ca", &path(&ca)]);
    let worker = "certs issue --role worker --set nodeName=a --set address=192.168.1.5";
    let mut arguments: Vec<&str> = worker.split(' ').collect();
    let (own, output) = (path(&ca), path(&node));
    arguments.extend(["--set", "master=192.168.1.102", "--ca", &own, "-o", &output]);
    waits_for_the_lock(&node, &arguments);
}

/// The kubelet starts no pod without a file of name servers, and a pod cannot ask 127.0.0.53.
#[test]
fn the_kubelet_is_given_a_file_of_name_servers_that_pods_can_ask() {
    const OWN: &str = "etc/kubernetes/resolv.conf";
    let given = |prepare: &dyn Fn(&Machine)| {
        let machine = Machine::new();
        prepare(&machine);
        machine.installed(&["--role", "single"]);
        let unit = machine.read("etc/systemd/system/kubelet.service");
        let flag = unit
            .split_whitespace()
            .find_map(|word| word.strip_prefix("--resolv-conf="));
        let has_own = machine.root().join(OWN).exists();
        (flag.unwrap().to_owned(), has_own)
    };
    let stub = "nameserver 127.0.0.53\noptions edns0\n";
    let of_resolved = "run/systemd/resolve/resolv.conf";
    let usual = ("/etc/resolv.conf".to_owned(), false);
    assert_eq!(given(&|_| {}), (format!("/{OWN}"), true));
    assert_eq!(
        given(&|m| m.put("etc/resolv.conf", "nameserver 192.0.2.53\n")),
        usual
    );
    assert_eq!(given(&|m| m.put("etc/resolv.conf", stub)), usual);
    let with_resolved = given(&|m| {
        m.put("etc/resolv.conf", stub);
        m.put(of_resolved, "nameserver 192.0.2.53\n");
    });
    assert_eq!(with_resolved, (format!("/{of_resolved}"), false));
}
