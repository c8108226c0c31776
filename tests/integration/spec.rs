//! What is refused before anything is written, and what a node is made of when nothing is.

use appliance::components::pki_request;
use appliance::metadata::{Interface, Metadata};
use appliance::spec::settings::{InventoryEntry, RoleRule, Settings};
use appliance::spec::value::{Layer, Origin, Place};
use appliance::spec::{HostFacts, HostInterface, Inputs, NodeSpec, Role};
use time::{Duration, OffsetDateTime};

const DRIVE: &str = "config drive /dev/sr0";
const SERVICE: &str = "metadata service http://169.254.169.254";
const PORT: &str = "2d3e4f50-0303-4a4a-8b8b-000000000003";

/// What a source says of the tutorial's master.
pub fn metadata(source: &str) -> Metadata {
    Metadata {
        source: source.to_owned(),
        uuid: "8d1a7f36-6a26-4b7a-8c1c-2f4c6f0e9b11".to_owned(),
        name: "Server 02".to_owned(),
        hostname: "server02.novalocal".to_owned(),
        meta: [].into(),
        availability_zone: None,
        project_id: None,
        launch_index: Some(1),
        interfaces: vec![nic(2, &["192.168.1.102"])],
        public_ipv4: None,
        user_data: None,
        vendor_data: vec![],
        date: None,
    }
}

/// An interface with a MAC address that ends so, and these static addresses.
fn nic(end: u8, addresses: &[&str]) -> Interface {
    Interface {
        mac: mac(end),
        mtu: Some(1450),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        default_route: false,
        port: Some(PORT.to_owned()),
    }
}

fn mac(end: u8) -> String {
    format!("fa:16:3e:00:00:{end:02x}")
}

/// The same interface as the kernel shows it.
fn interface(name: &str, end: u8, addresses: &[&str]) -> HostInterface {
    HostInterface {
        name: name.to_owned(),
        mac: Some(mac(end)),
        mtu: Some(1450),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        ..HostInterface::default()
    }
}

fn settings(yaml: &str) -> Settings {
    Settings::from_yaml("test", yaml).unwrap()
}

fn layer(place: Place, yaml: &str) -> Layer {
    Layer::new(place, settings(yaml))
}

fn property(source: &str, yaml: &str) -> Layer {
    layer(Place::Property(source.to_owned()), yaml)
}

fn config(yaml: &str) -> Layer {
    layer(Place::Config("site.yaml".to_owned()), yaml)
}

fn user_data(yaml: &str) -> Layer {
    layer(Place::UserData(DRIVE.to_owned()), yaml)
}

/// What the tutorial's master is given: its role as a server property, a static address.
fn master() -> Inputs {
    Inputs {
        layers: vec![property(DRIVE, "role: master")],
        metadata: vec![metadata(DRIVE)],
        host: HostFacts {
            hostname: "localhost".to_owned(),
            interfaces: Some(vec![interface("ens3", 2, &["192.168.1.102/24"])]),
            clock: None,
        },
        ..Inputs::default()
    }
}

fn configured(yaml: &str) -> Inputs {
    let mut inputs = master();
    inputs.layers.push(config(yaml));
    inputs
}

/// A VM that nobody gave a role, with this user-data.
fn nameless(yaml: &str) -> Inputs {
    Inputs {
        layers: vec![user_data(yaml)],
        ..master()
    }
}

fn resolved(inputs: &Inputs) -> NodeSpec {
    NodeSpec::resolve(inputs).unwrap_or_else(|refused| panic!("{refused}"))
}

fn refusal(inputs: &Inputs) -> String {
    NodeSpec::resolve(inputs).unwrap_err().to_string()
}

#[track_caller]
fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn the_tutorials_master_needs_its_role_only() {
    let spec = resolved(&master());
    assert_eq!(spec.name.value, "server02");
    assert_eq!(spec.address.to_string(), "192.168.1.102");
    assert_eq!(*spec.mtu, 1450);
    assert_eq!(spec.cluster.api_server_ip().to_string(), "10.68.0.1");
    assert_eq!(spec.cluster.dns_ip().to_string(), "10.68.0.2");
    assert_eq!(
        spec.role.origin.to_string(),
        "config drive /dev/sr0: `meta.role`"
    );
}

#[test]
fn the_stronger_layer_wins_and_remembers_what_it_overrode() {
    // From the weakest to the strongest, as they might be found in any order.
    let places = [
        Place::Bundle("v1.9".to_owned()),
        Place::VendorData(format!("{DRIVE}: vendor_data.json")),
        Place::UserData(DRIVE.to_owned()),
        Place::Config("site.yaml".to_owned()),
        Place::Property(DRIVE.to_owned()),
        Place::Environment,
        Place::Flag,
    ];
    let mut inputs = master();
    for (number, place) in places.into_iter().enumerate() {
        let yaml = format!("podCIDR: 10.{number}.0.0/16");
        inputs.layers.push(layer(place, &yaml));
        let pods = resolved(&inputs).cluster.pod_cidr;
        assert_eq!(pods.to_string(), format!("10.{number}.0.0/16"));
        assert_eq!(pods.overrode.len(), number + 1, "{pods:?}");
        assert_eq!(pods.overrode.last().unwrap().origin, Origin::Default);
    }
    let pods = resolved(&inputs).cluster.pod_cidr;
    let said: Vec<String> = pods.overrode.iter().map(|o| o.origin.to_string()).collect();
    assert_eq!(pods.origin.to_string(), "flag --set podCIDR");
    assert_eq!(
        said,
        [
            "environment APPLIANCE_POD_CIDR",
            "config drive /dev/sr0: `meta.podCIDR`",
            "configuration site.yaml: `podCIDR`",
            "config drive /dev/sr0: user-data: `appliance.podCIDR`",
            "config drive /dev/sr0: vendor_data.json: `appliance.podCIDR`",
            "bundle v1.9: `settings.podCIDR`",
            "default",
        ]
    );
}

#[test]
fn sources_that_disagree_are_named_and_the_first_counts() {
    let mut inputs = master();
    inputs.layers.push(property(SERVICE, "role: worker"));
    let mut service = metadata(SERVICE);
    service.interfaces = vec![nic(2, &["192.168.1.150"])];
    inputs.metadata.push(service);
    let spec = resolved(&inputs);
    assert_eq!(*spec.role, Role::Master);
    assert_eq!(spec.address.to_string(), "192.168.1.102");
    let warnings = spec.warnings.join("\n");
    assert_holds(
        &warnings,
        &[
            "config drive /dev/sr0: `meta.role` is \"master\"",
            "http://169.254.169.254: `meta.role` is \"worker\"",
            "192.168.1.150",
            "--metadata-source",
        ],
    );
}

#[test]
fn an_unknown_role_names_its_place_and_the_command_that_mends_it() {
    let mut inputs = master();
    inputs.layers = vec![property(DRIVE, "role: mastre")];
    assert_holds(
        &refusal(&inputs),
        &[
            "config drive /dev/sr0: `meta.role` is \"mastre\"",
            "expected master, worker or single",
            "openstack server set --property role=master SERVER",
        ],
    );
    inputs.layers = vec![config("role: '[master, worker]'")];
    assert_holds(
        &refusal(&inputs),
        &[
            "`role` is \"[master, worker]\"",
            "config validate site.yaml",
        ],
    );
}

#[test]
fn without_a_role_every_place_that_was_looked_at_is_listed() {
    let mut inputs = master();
    inputs.layers = vec![
        property(DRIVE, "{}"),
        config(
            "inventory: [{name: other, role: master}]\nroleRules: [{launchIndex: 0, role: master}]",
        ),
    ];
    inputs.metadata[0]
        .meta
        .insert("rloe".to_owned(), "master".to_owned());
    inputs.looked_at = vec!["cloud-init's cache: there is none".to_owned()];
    assert_holds(
        &refusal(&inputs),
        &[
            "flag --role",
            "APPLIANCE_ROLE",
            DRIVE,
            "`meta.rloe` is there: is it misspelt?",
            "configuration site.yaml: `role`",
            "`inventory` (knows no Server 02, server02.novalocal, server02)",
            "`roleRules` (none fits)",
            "cloud-init's cache: there is none",
            "openstack server set --property role=master",
        ],
    );
}

const INVENTORY: &str = "
inventory:
- {name: server01, role: worker, address: 192.168.1.101}
- {name: server02, role: master, address: 192.168.1.102}
- {uuid: 00000000-0000-4000-8000-000000000003, name: server03, role: worker}
";

#[test]
fn a_vm_finds_itself_in_the_inventory_by_name_address_or_uuid() {
    let spec = resolved(&nameless(INVENTORY));
    assert_eq!(*spec.role, Role::Master);
    assert_eq!(
        spec.role.origin.to_string(),
        "config drive /dev/sr0: user-data: `appliance.inventory[1].role`"
    );
    assert_eq!(spec.cluster.hosts["server01"].to_string(), "192.168.1.101");

    let mut by_uuid = nameless(INVENTORY);
    by_uuid.host.interfaces = Some(vec![interface("ens3", 3, &["192.168.1.103/24"])]);
    by_uuid.metadata[0].interfaces.clear();
    by_uuid.metadata[0].uuid = "00000000-0000-4000-8000-000000000003".to_uppercase();
    by_uuid.metadata[0].hostname = "renamed.novalocal".to_owned();
    by_uuid.metadata[0].name = "renamed".to_owned();
    let spec = resolved(&by_uuid);
    assert_eq!((*spec.role, spec.name.as_str()), (Role::Worker, "server03"));
    assert_eq!(spec.cluster.master.unwrap().to_string(), "192.168.1.102");

    let by_address = nameless("inventory: [{address: 192.168.1.102, role: single}]");
    assert_eq!(*resolved(&by_address).role, Role::Single);

    let stale = nameless("inventory: [{uuid: another, name: server02, role: master}]");
    assert_holds(&refusal(&stale), &["no role found"]);
}

#[test]
fn an_inventory_that_cannot_be_true_is_refused_entry_by_entry() {
    let text = refusal(&nameless(
        "
inventory:
- {name: server02, role: master, address: 192.168.1.102}
- {name: server02, role: worker, address: 192.168.1.103}
- {name: server04, role: worker, address: 192.168.1.102}
- {name: ../../etc/passwd, role: worker}
- {role: worker}
- {name: server05, role: boss, address: 127.0.0.1}
",
    ));
    assert_holds(
        &text,
        &[
            "`appliance.inventory[1].name` is \"server02\": inventory[0] has it too",
            "`appliance.inventory[2].address` is \"192.168.1.102\": inventory[0] has it too",
            "`appliance.inventory[3].name` is \"../../etc/passwd\"",
            "`appliance.inventory[4]`: says no `name`, `uuid` or `address`",
            "`appliance.inventory[5].role` is \"boss\"",
            "`appliance.inventory[5].address` is \"127.0.0.1\"",
            "/etc/appliance/config.yaml",
        ],
    );
    let twice = nameless(
        "inventory: [{name: server02, role: master}, {address: 192.168.1.102, role: worker}]",
    );
    assert_holds(&refusal(&twice), &["inventory[1] is this VM too"]);
}

#[test]
fn a_role_that_was_set_wins_over_the_inventory_and_says_so() {
    let mut inputs = nameless(INVENTORY);
    inputs.layers.push(property(DRIVE, "role: single"));
    let spec = resolved(&inputs);
    assert_eq!(*spec.role, Role::Single);
    assert_holds(
        &spec.warnings[0],
        &["says single", "inventory[1].role` says master"],
    );
}

#[test]
fn rules_give_a_role_by_launch_index_and_host_name() {
    let rules = "{master: 192.168.1.101, roleRules: [{launchIndex: 0, role: master}, \
                 {hostName: 'server*', role: worker}]}";
    assert_eq!(*resolved(&nameless(rules)).role, Role::Worker);
    let mut first = nameless(rules);
    first.metadata[0].launch_index = Some(0);
    let spec = resolved(&first);
    assert_eq!(*spec.role, Role::Master);
    assert_holds(&spec.role.origin.to_string(), &["roleRules[0].role"]);

    let both = "roleRules: [{launchIndex: 1, hostName: 'db-?', role: worker}]";
    assert_holds(&refusal(&nameless(both)), &["(none fits)"]);
    for (bad, why) in [
        (
            "roleRules: [{role: master}]",
            "says neither `launchIndex` nor `hostName`",
        ),
        (
            "roleRules: [{launchIndex: first, role: master}]",
            "expected a number",
        ),
        (
            "roleRules: [{hostName: '*', role: boss}]",
            "`appliance.roleRules[0].role` is \"boss\"",
        ),
    ] {
        assert_holds(&refusal(&nameless(bad)), &[why]);
    }
}

#[test]
fn the_vm_with_the_masters_address_is_the_master() {
    assert_eq!(
        *resolved(&nameless("master: 192.168.1.102")).role,
        Role::Master
    );
    let other = nameless("master: 192.168.1.109");
    assert_holds(&refusal(&other), &["no role found"]);
}

#[test]
fn an_address_this_machine_does_not_have_is_refused_with_those_it_has() {
    let mut inputs = master();
    inputs.host.interfaces = Some(vec![interface("ens3", 2, &["10.0.0.5/24"])]);
    assert_holds(
        &refusal(&inputs),
        &[
            "`network_data.networks.ip_address` is \"192.168.1.102\"",
            "10.0.0.5 on ens3",
            "--property address=",
        ],
    );
}

/// A VM with two interfaces, of which OpenStack knows the MAC addresses only.
fn two_nics() -> Inputs {
    let mut inputs = master();
    inputs.metadata[0].interfaces = vec![nic(2, &[]), nic(3, &[])];
    inputs.host.interfaces = Some(vec![
        interface("ens3", 2, &["192.168.1.102/24"]),
        interface("ens4", 3, &["10.0.0.5/24"]),
        interface("docker0", 9, &["172.17.0.1/16"]),
    ]);
    inputs
}

#[test]
fn several_addresses_are_never_guessed_at() {
    assert_holds(
        &refusal(&two_nics()),
        &[
            "192.168.1.102 on ens3, 10.0.0.5 on ens4;",
            "address=192.168.1.102 SERVER",
        ],
    );
}

#[test]
fn the_masters_subnet_then_the_default_route_decide_between_interfaces() {
    let mut inputs = two_nics();
    inputs.host.interfaces.as_mut().unwrap()[1].has_default_route = true;
    let by_route = resolved(&inputs);
    assert_eq!(by_route.address.to_string(), "10.0.0.5");
    assert_holds(
        &by_route.address.origin.to_string(),
        &["ens4", "default route"],
    );

    inputs.layers.push(config("master: 192.168.1.254"));
    let by_subnet = resolved(&inputs);
    assert_eq!(by_subnet.address.to_string(), "192.168.1.102");
    assert_holds(
        &by_subnet.address.origin.to_string(),
        &["subnet holds the master"],
    );
    assert_eq!(by_subnet.address.overrode[0].value, "10.0.0.5");

    inputs.layers.push(property(DRIVE, "address: 10.0.0.5"));
    assert_eq!(resolved(&inputs).address.to_string(), "10.0.0.5");
}

#[test]
fn a_virtual_address_is_not_the_nodes_own() {
    let mut inputs = two_nics();
    inputs.metadata[0].interfaces.pop();
    inputs.host.interfaces.as_mut().unwrap()[0].addresses = vec![
        "192.168.1.100/32".parse().unwrap(),
        "192.168.1.102/24".parse().unwrap(),
    ];
    assert_eq!(resolved(&inputs).address.to_string(), "192.168.1.102");
}

#[test]
fn a_vm_with_ipv6_only_is_told_what_it_needs() {
    let mut inputs = master();
    inputs.metadata[0].interfaces = vec![nic(2, &["2001:db8::2"])];
    let mut six = interface("ens3", 2, &[]);
    six.has_ipv6 = true;
    inputs.host.interfaces = Some(vec![six]);
    assert_holds(
        &refusal(&inputs),
        &["only IPv6 addresses, on ens3", "IPv4 subnet"],
    );
}

#[test]
fn a_dhcp_networks_address_is_read_from_the_interface_with_its_mac() {
    let mut inputs = two_nics();
    inputs.metadata[0].interfaces = vec![nic(3, &[])];
    let spec = resolved(&inputs);
    assert_eq!(spec.address.to_string(), "10.0.0.5");
    assert_eq!(
        spec.address.origin,
        Origin::Host("interface ens4".to_owned())
    );
}

#[test]
fn the_mtu_is_that_of_the_interface_with_the_address() {
    let mut inputs = two_nics();
    inputs
        .layers
        .push(property(DRIVE, "address: 192.168.1.102"));
    inputs.metadata[0].interfaces[0].mtu = Some(1442);
    inputs.metadata[0].interfaces[1].mtu = Some(1300);
    inputs.host.interfaces.as_mut().unwrap()[0].mtu = Some(1442);
    let spec = resolved(&inputs);
    assert_eq!((*spec.mtu, spec.pod_mtu()), (1442, 1442));

    // DHCP networks have none in the metadata: the kernel knows.
    inputs.metadata[0].interfaces[0].mtu = None;
    let spec = resolved(&inputs);
    assert_eq!(*spec.mtu, 1442);
    assert_eq!(
        spec.mtu.origin.to_string(),
        "this machine's MTU of interface ens3"
    );

    inputs.metadata[0].interfaces[0].mtu = Some(9000);
    inputs.layers.push(config("ipip: always"));
    let spec = resolved(&inputs);
    assert_eq!((*spec.mtu, spec.pod_mtu()), (1442, 1422));
    assert_holds(
        &spec.warnings.join("\n"),
        &["is 1442", "is 9000", "the smaller counts"],
    );

    inputs.layers.push(config("mtu: 1400"));
    inputs.layers.swap(2, 3);
    assert_eq!(*resolved(&inputs).mtu, 1400);
}

#[test]
fn without_tunnels_the_command_for_address_pairs_is_shown() {
    let pairs = format!(
        "openstack port set --allowed-address ip-address=172.20.0.0/16 --allowed-address \
         ip-address=10.68.0.0/16 {PORT}"
    );
    assert_holds(&resolved(&master()).warnings.join("\n"), &[&pairs]);
    for ipip in ["always", "cross-subnet"] {
        let spec = resolved(&configured(&format!("ipip: {ipip}")));
        assert_eq!(spec.warnings, Vec::<String>::new());
    }
}

#[test]
fn a_floating_ip_is_known_though_only_the_second_source_says_it() {
    let mut inputs = master();
    let mut service = metadata(SERVICE);
    service.public_ipv4 = Some([203, 0, 113, 7].into());
    inputs.metadata.push(service);
    let spec = resolved(&inputs);
    let request = pki_request(&spec).unwrap();
    let api_server = request.certificates.iter().find(|c| c.name == "kubernetes");
    let addresses = &api_server.unwrap().ip_addresses;
    assert!(
        addresses.contains(&[203, 0, 113, 7].into()),
        "{addresses:?}"
    );
    let floating = spec.floating_ip.unwrap();
    assert_eq!(floating.to_string(), "203.0.113.7");
    assert_eq!(
        floating.origin.to_string(),
        format!("{SERVICE}: `public-ipv4`")
    );
}

#[test]
fn a_host_name_kubernetes_refuses_is_corrected_visibly_and_a_chosen_one_is_not() {
    for (hostname, name) in [
        ("Web_01.novalocal", "web-01"),
        ("-edge-.novalocal", "edge"),
        ("höst 1", "h-st-1"),
    ] {
        let mut inputs = master();
        inputs.metadata[0].hostname = hostname.to_owned();
        let spec = resolved(&inputs);
        assert_eq!(spec.name.value, name);
        assert_holds(&spec.warnings[0], &["Kubernetes does not take", name]);
    }
    for hopeless in ["___.novalocal", "localhost", "../.."] {
        let mut inputs = master();
        inputs.metadata[0].hostname = hopeless.to_owned();
        assert_holds(
            &refusal(&inputs),
            &["`hostname` is", "--property nodeName="],
        );
    }
    assert_holds(
        &refusal(&configured("nodeName: Web_01")),
        &["`nodeName` is \"Web_01\"", "did you mean \"web-01\"?"],
    );
}

#[test]
fn a_clock_that_is_years_off_is_refused() {
    let mut inputs = master();
    inputs.host.clock = Some(OffsetDateTime::UNIX_EPOCH + Duration::days(3));
    assert_holds(&refusal(&inputs), &["says 1970-01-04", "timedatectl"]);

    let now = OffsetDateTime::now_utc();
    inputs.metadata[0].date = Some(now);
    inputs.host.clock = Some(now + Duration::days(2 * 365));
    assert_holds(&refusal(&inputs), &[DRIVE, "timedatectl"]);
    inputs.host.clock = Some(now + Duration::hours(2));
    assert_holds(&resolved(&inputs).warnings.join("\n"), &["timedatectl"]);
    inputs.host.clock = Some(now + Duration::seconds(20));
    assert!(!resolved(&inputs).warnings.join("\n").contains("clock"));
}

#[test]
fn ranges_that_share_an_address_are_refused_by_name() {
    let cases = [
        (
            "10.68.0.0/15",
            "podCIDR 10.68.0.0/15",
            "serviceCIDR 10.68.0.0/16",
        ),
        (
            "192.168.0.0/16",
            "podCIDR 192.168.0.0/16",
            "this node's subnet 192.168.1.0/24",
        ),
    ];
    for (range, one, other) in cases {
        let inputs = configured(&format!("podCIDR: {range}"));
        let text = refusal(&inputs);
        assert!(
            text.contains(one) && text.contains(other) && text.contains("overlaps"),
            "{text}"
        );
    }
}

#[test]
fn values_that_could_break_a_unit_are_refused_as_typed() {
    for hostile in ["a\nExecStartPre=/bin/evil", "50%", "quo\"te", "it's"] {
        let mut inputs = configured("{}");
        inputs.layers[1].settings.node_name = Some(hostile.to_owned());
        let text = refusal(&inputs);
        assert!(
            text.contains(&format!("`nodeName` is {hostile:?}")),
            "{text}"
        );
        assert!(!text.contains("a\nExec"), "{text}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let text = refusal(&configured(
        "{podCIDR: 172.20.0.0, profile: simpel, ipip: sometimes}",
    ));
    for key in ["`podCIDR`", "`profile`", "`ipip`"] {
        assert!(text.contains(key), "{key} is missing: {text}");
    }
}

#[test]
fn every_value_can_be_explained() {
    let rows = resolved(&configured("podCIDR: 172.21.0.0/16")).explain();
    let pods = rows.iter().find(|row| row.name == "podCIDR").unwrap();
    assert_eq!(pods.from, "configuration site.yaml: `podCIDR`");
    assert_eq!(pods.overrode[0].from, "default");
}

#[test]
fn a_value_of_any_length_leaves_the_message_short() {
    let mut inputs = configured("{}");
    inputs.layers[1].settings.pod_cidr = Some("1".repeat(100_000));
    assert!(refusal(&inputs).len() < 500);
}

#[test]
fn settings_in_code_and_in_files_are_the_same() {
    let built = Settings {
        inventory: Some(vec![InventoryEntry {
            name: Some("server01".to_owned()),
            role: "worker".to_owned(),
            ..InventoryEntry::default()
        }]),
        role_rules: Some(vec![RoleRule {
            launch_index: Some("0".to_owned()),
            role: "master".to_owned(),
            ..RoleRule::default()
        }]),
        ..Settings::default()
    };
    let text =
        "inventory: [{name: server01, role: worker}]\nroleRules: [{launchIndex: 0, role: master}]";
    assert_eq!(settings(text), built);
}
