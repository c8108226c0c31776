//! The metadata service, with and without faults: the result on the VM, and the messages for its
//! operator.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use appliance_cloud::metadata::{Fault, Service};
use appliance_cloud::server::Server;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::harness::{detected, document, said, setting};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/metadata")
        .join(name)
}

fn serve(service: Service) -> Server {
    Server::start(move |request| service.answer(request))
}

pub fn appliance(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
    command.args(arguments);
    command
}

/// Detects what a machine that is being prepared elsewhere would become with the metadata of this
/// server.
fn detect(server: &Server, arguments: &[&str]) -> Output {
    let source = format!("service={}", server.url());
    let mut all = vec!["--output", "json", "--metadata-source", &source];
    all.extend(arguments);
    detected(&all)
}

fn asked(server: &Server) -> Vec<String> {
    server.asked().into_iter().map(|r| r.target).collect()
}

#[test]
fn a_cloud_of_kilo_tells_by_its_own_format_and_few_questions() {
    let server = serve(Service::new(&fixture("kilo-dhcp")).unwrap());
    let output = detect(&server, &["--set", "address=10.1.0.5"]);
    let document = document(&output);
    assert_eq!(
        asked(&server),
        [
            "/openstack",
            "/openstack/2013-10-17/meta_data.json",
            "/openstack/2013-10-17/user_data",
            "/openstack/2013-10-17/vendor_data.json",
            "/latest/meta-data/public-ipv4",
        ]
    );
    let source = format!("metadata service {}", server.url());
    let (role, from) = setting(&document, "role");
    assert_eq!(
        (role.as_str(), from),
        ("master", format!("{source}: `meta.appliance.role`"))
    );
    assert_eq!(
        setting(&document, "floatingIP"),
        ("203.0.113.5".to_owned(), format!("{source}: `public-ipv4`"))
    );
    let (mtu, from) = setting(&document, "mtu");
    assert_eq!(mtu, "1400");
    assert!(
        from.ends_with("vendor_data.json: `appliance.mtu`"),
        "{from}"
    );
}

#[test]
fn a_cloud_of_2025_tells_a_worker_from_the_shared_inventory() {
    let server = serve(Service::new(&fixture("2025-dhcp")).unwrap());
    let document = document(&detect(&server, &["--set", "address=192.168.1.104"]));
    assert_eq!(asked(&server).len(), 6);
    assert!(asked(&server).contains(&"/openstack/2025-04-04/vendor_data2.json".to_owned()));
    let (role, from) = setting(&document, "role");
    assert_eq!(role, "worker");
    assert!(
        from.ends_with("user-data: `appliance.inventory[1].role`"),
        "{from}"
    );
    assert_eq!(setting(&document, "master").0, "192.168.1.102");
    assert_eq!(setting(&document, "podCIDR").0, "172.30.0.0/16");
    assert_eq!(setting(&document, "clusterDomain").0, "cloud.example");
    assert_eq!(document["instance"]["availabilityZone"], "az-1");
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_is_told() {
    for fault in [
        Fault::Status("429 Too Many Requests", Some(1)),
        Fault::Status("503 Service Unavailable", None),
        Fault::Status("500 Internal Server Error", None),
        Fault::Drop,
        Fault::Cut,
    ] {
        for at in ["openstack", "meta_data.json"] {
            let service = Service::new(&fixture("queens-static")).unwrap();
            let server = serve(service.failing(fault.clone(), at, 1));
            let output = detect(&server, &[]);
            assert!(output.status.success(), "{fault:?} {at}: {}", said(&output));
            assert_eq!(setting(&document(&output), "role").0, "master");
            let questions = asked(&server);
            let repeated = questions.iter().filter(|q| q.ends_with(at)).count();
            assert_eq!(repeated, 2, "{fault:?} {at}: {questions:?}");
        }
    }
}

#[test]
fn every_failure_names_the_service_the_file_and_the_next_step() {
    let status = |text| Fault::Status(text, None);
    let cases: [(Fault, &str, &[&str]); 11] = [
        (
            status("500 Internal Server Error"),
            "meta_data.json",
            &["answers 500", "up to 1 s", "neutron-metadata-agent"],
        ),
        (
            status("503 Service Unavailable"),
            "openstack",
            &["openstack: answers 503"],
        ),
        (
            Fault::Status("429 Too Many Requests", Some(3600)),
            "user_data",
            &["user_data: answers 429"],
        ),
        (
            status("403 Forbidden"),
            "meta_data.json",
            &["meta_data.json: answers 403"],
        ),
        (
            status("404 Not Found"),
            "meta_data.json",
            &["answers 404", "does not know this VM"],
        ),
        (
            Fault::Html,
            "openstack",
            &["openstack: answers with a web page"],
        ),
        (
            Fault::Html,
            "network_data.json",
            &["network_data.json: answers with a web page"],
        ),
        (
            Fault::Redirect,
            "meta_data.json",
            &["redirects to \"http://portal.example/login\""],
        ),
        (
            Fault::Endless,
            "meta_data.json",
            &["meta_data.json: sends more than 1048576 bytes"],
        ),
        (
            Fault::Silent,
            "meta_data.json",
            &["does not answer in time", "--metadata-source"],
        ),
        (
            Fault::Drop,
            "meta_data.json",
            &["meta_data.json: ", "up to 1 s"],
        ),
    ];
    for (fault, at, parts) in cases {
        let service = Service::new(&fixture("queens-static")).unwrap();
        let server = serve(service.failing(fault.clone(), at, usize::MAX));
        let output = detect(&server, &["--metadata-timeout", "1"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{fault:?}: {text}");
        let named = format!("metadata service {}", server.url());
        for part in parts.iter().chain([&named.as_str()]) {
            assert!(
                text.contains(part),
                "{fault:?} {at}: {part:?} is not in: {text}"
            );
        }
    }
}

#[test]
fn a_permanent_answer_is_not_asked_for_again() {
    for fault in [
        Fault::Status("403 Forbidden", None),
        Fault::Html,
        Fault::Redirect,
    ] {
        let service = Service::new(&fixture("queens-static")).unwrap();
        let server = serve(service.failing(fault, "meta_data.json", usize::MAX));
        assert!(!detect(&server, &[]).status.success());
        assert_eq!(asked(&server).len(), 2);
    }
}

#[test]
fn a_service_that_is_not_there_is_passed_over_and_named() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("service=http://{}", unused.local_addr().unwrap());
    drop(unused);
    let output = detected(&["--metadata-timeout", "1", "--metadata-source", &source]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("no role found"), "{text}");
    assert!(text.contains("no answer within 1 s"), "{text}");

    let other = Server::start(|_| appliance_cloud::server::Answer::status("404 Not Found"));
    let text = said(&detect(&other, &[]));
    assert!(
        text.contains("answers 404 Not Found at /openstack: it does not know this server"),
        "{text}"
    );
}

#[test]
fn what_a_node_does_not_need_is_passed_over_with_one_warning() {
    let faults = [
        Fault::Cut,
        Fault::Html,
        Fault::Status("500 Internal Server Error", None),
    ];
    for fault in faults {
        for (name, at, role, address) in [
            ("2025-dhcp", "vendor_data2.json", "worker", "192.168.1.104"),
            ("kilo-dhcp", "public-ipv4", "master", "10.1.0.5"),
        ] {
            let service = Service::new(&fixture(name)).unwrap();
            let server = serve(service.failing(fault.clone(), at, usize::MAX));
            let address = format!("address={address}");
            let output = detect(&server, &["--metadata-timeout", "1", "--set", &address]);
            let document = document(&output);
            assert_eq!(setting(&document, "role").0, role);
            let warnings = document["warnings"].as_array().unwrap();
            let about = warnings.iter().filter(|w| w.as_str().unwrap().contains(at));
            assert_eq!(about.count(), 1, "{fault:?} {at}: {warnings:?}");
        }
    }
}

#[test]
fn plain_http_needs_no_certificate_authorities() {
    let server = serve(Service::new(&fixture("queens-static")).unwrap());
    let source = format!("--metadata-source=service={}", server.url());
    let output = appliance(&["detect", "--root", "/tmp", "--output", "json", &source])
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(setting(&document(&output), "role").0, "master");
}

#[test]
fn a_broken_source_stops_unless_another_has_answered() {
    let service = Service::new(&fixture("queens-static")).unwrap();
    let server = serve(service.failing(
        Fault::Status("500 Internal Server Error", None),
        "meta_data.json",
        usize::MAX,
    ));
    let directory = format!("directory={}", fixture("queens-static").display());
    let both = |first: &str, second: &str| {
        let sources = format!("--metadata-source={first},{second}");
        detected(&["--explain", "--metadata-timeout", "1", &sources])
    };
    let service = format!("service={}", server.url());
    let fine = both(&directory, &service);
    assert!(fine.status.success(), "{}", said(&fine));
    assert!(said(&fine).contains("answers 500"), "{}", said(&fine));
    let stopped = both(&service, &directory);
    assert_eq!(stopped.status.code(), Some(2), "{}", said(&stopped));
}

#[test]
fn sources_that_disagree_are_said_and_the_order_counts() {
    let drive = tempfile::tempdir().unwrap();
    let latest = drive.path().join("openstack/latest");
    std::fs::create_dir_all(&latest).unwrap();
    let text =
        std::fs::read_to_string(fixture("queens-static").join("openstack/latest/meta_data.json"))
            .unwrap();
    std::fs::write(
        latest.join("meta_data.json"),
        text.replace("\"master\"", "\"single\""),
    )
    .unwrap();
    let server = serve(Service::new(&fixture("queens-static")).unwrap());
    let sources = format!(
        "directory={},service={}",
        drive.path().display(),
        server.url()
    );
    let output = detected(&["--output", "json", "--metadata-source", &sources]);
    let document = document(&output);
    assert_eq!(setting(&document, "role").0, "single");
    assert_eq!(setting(&document, "address").0, "192.168.1.102");
    let warnings = document["warnings"].to_string();
    assert!(
        warnings.contains("`meta.role` is \\\"single\\\""),
        "{warnings}"
    );

    // Metadata of another VM is not used at all.
    std::fs::write(
        latest.join("meta_data.json"),
        r#"{"uuid": "another", "name": "a", "hostname": "a", "meta": {"role": "worker"}}"#,
    )
    .unwrap();
    let output = detected(&["--metadata-source", &sources]);
    assert!(
        said(&output).contains("is of another instance"),
        "{}",
        said(&output)
    );
}

/// Runs `work` on a VM's network: one interface with that MAC address, and no connection to any
/// other network. Needs root.
pub fn on_a_network_of_its_own<T: Send>(mac: &str, work: impl FnOnce() -> T + Send) -> T {
    let network = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("run the tests as root");
        let nothing = None::<&str>;
        mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            nothing,
        )
        .unwrap();
        // The kernel shows the interfaces of the namespace that mounted it.
        mount(
            Some("sysfs"),
            "/sys",
            Some("sysfs"),
            MsFlags::empty(),
            nothing,
        )
        .unwrap();
        for command in [
            "link set lo up",
            "link add ens3 type veth peer name cloud",
            &format!("link set ens3 address {mac} mtu 1450 up"),
            "link set cloud up",
        ] {
            ip(command);
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(network).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs `ip` in the network of this thread.
pub fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", said(&output));
}

/// A service at that address in the network of this thread.
fn serve_at(address: &str, service: Service) -> Server {
    let listener = TcpListener::bind(address).unwrap();
    Server::start_at(listener, move |request| service.answer(request))
}

#[test]
fn at_the_link_local_address_a_dhcp_vm_finds_role_address_and_mtu_past_any_proxy() {
    let output = on_a_network_of_its_own("fa:16:3e:9d:11:03", || {
        ip("address add 192.168.1.103/24 dev ens3");
        ip("address add 169.254.169.254/32 dev lo");
        let _server = serve_at(
            "169.254.169.254:80",
            Service::new(&fixture("queens-dhcp")).unwrap(),
        );
        let mut detect = appliance(&["detect", "--metadata-source", "service", "-o", "json"]);
        for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            detect.env(variable, "http://127.0.0.1:9");
        }
        detect
            .args(["--role", "worker", "--set", "master=192.168.1.102"])
            .output()
            .unwrap()
    });
    let document = document(&output);
    assert_eq!(setting(&document, "nodeName").0, "server03");
    assert_eq!(
        setting(&document, "address"),
        (
            "192.168.1.103".to_owned(),
            "this machine's interface ens3, the only address".to_owned()
        )
    );
    assert_eq!(
        setting(&document, "mtu"),
        (
            "1450".to_owned(),
            "this machine's MTU of interface ens3".to_owned()
        )
    );
}

#[test]
fn where_there_is_no_ipv4_way_the_ipv6_link_local_address_is_asked() {
    let output = on_a_network_of_its_own("fa:16:3e:9d:11:03", || {
        ip("-6 address add fe80::a9fe:a9fe/64 dev ens3 nodad");
        let _server = serve_at("[::]:80", Service::new(&fixture("queens-dhcp")).unwrap());
        appliance(&["detect", "--metadata-source", "service", "-o", "json"])
            .output()
            .unwrap()
    });
    let document = document(&output);
    assert_eq!(document["instance"]["name"], "server03");
    let text = said(&output);
    assert!(
        text.contains("OpenStack gives ens3 an address by DHCP"),
        "{text}"
    );
}
