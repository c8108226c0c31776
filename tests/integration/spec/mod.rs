//! The input that is refused before anything is written, and the specification of valid input.

use appliance::metadata::model::{Interface, Metadata};
use appliance::nodespec::settings::{InventoryEntry, RoleRule, Settings};
use appliance::nodespec::value::{Layer, Origin, Place};
use appliance::nodespec::{HostFacts, HostInterface, Inputs, NodeSpec, Role};
use time::{Duration, OffsetDateTime};

mod address;
mod ipip;
mod odd;
mod role;

const DRIVE: &str = "config drive /dev/sr0";
const SERVICE: &str = "metadata service http://169.254.169.254";
const PORT: &str = "2d3e4f50-0303-4a4a-8b8b-000000000003";

/// The metadata of the tutorial's master from one source.
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
        unusable: [].into(),
        is_live: false,
        warnings: vec![],
    }
}

/// An interface whose MAC address ends like this, with these static addresses.
fn nic(end: u8, addresses: &[&str]) -> Interface {
    Interface {
        mac: mac(end),
        mtu: Some(1450),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        port: Some(PORT.to_owned()),
        ..Interface::default()
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

/// The input of the tutorial's master: its role as a server property, a static address.
fn master() -> Inputs {
    Inputs {
        layers: vec![property(DRIVE, "role: master")],
        metadata: vec![metadata(DRIVE)],
        host: HostFacts {
            hostname: "localhost".to_owned(),
            interfaces: Some(vec![interface("ens3", 2, &["192.168.1.102/24"])]),
            ..HostFacts::default()
        },
        ..Inputs::default()
    }
}

fn configured(yaml: &str) -> Inputs {
    let mut inputs = master();
    inputs.layers.push(config(yaml));
    inputs
}

/// A VM without a role, with this user-data.
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
    // From the weakest to the strongest. They may be found in any order.
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
fn a_host_name_kubernetes_refuses_is_corrected_visibly_and_a_chosen_one_is_not() {
    for (hostname, name) in [
        ("Web_01.novalocal", "web-01"),
        ("-edge-.novalocal", "edge"),
        ("Kube-Node-B.novalocal", "kube-node-b"),
        ("höst 1", "h-st-1-"),
        (&"w".repeat(64), "wwww-"),
        ("192.168.1.5", "192-168-1-5"),
    ] {
        let mut inputs = master();
        inputs.metadata[0].hostname = hostname.to_owned();
        let spec = resolved(&inputs);
        // A name that had to be shortened ends with a part of a digest.
        let same = match name.strip_suffix('-') {
            Some(start) => spec.name.contains(start) && spec.name.len() > name.len(),
            None => *spec.name == name,
        };
        assert!(same, "{}", *spec.name);
        assert_holds(
            &spec.warnings[0],
            &["Kubernetes does not accept as a name", name],
        );
    }
    for plain in ["server02", "server02.", "1e3", "0x1g.novalocal", "1x"] {
        let mut inputs = master();
        inputs.metadata[0].hostname = plain.to_owned();
        let spec = resolved(&inputs);
        assert_eq!(spec.name.as_str(), plain.split('.').next().unwrap());
        let is_of_name = |warning: &String| warning.contains("as a name");
        assert!(!spec.warnings.iter().any(is_of_name));
    }
    for hopeless in [
        "___.novalocal",
        "localhost",
        "../..",
        "1234",
        "0x1f.novalocal",
        "xn--bcher-kva",
    ] {
        let mut inputs = master();
        inputs.metadata[0].hostname = hopeless.to_owned();
        assert_holds(
            &refusal(&inputs),
            &["`hostname` is", "with the line `nodeName: "],
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
    assert_holds(&refusal(&inputs), &["shows 1970-01-04", "timedatectl"]);

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
fn ranges_for_peers_lead_out_of_the_cluster() {
    for (range, overlapped) in [
        ("0.0.0.0/0", "podCIDR 172.20.0.0/16"),
        ("172.20.4.0/24", "podCIDR 172.20.0.0/16"),
        ("10.68.0.0/24", "serviceCIDR 10.68.0.0/16"),
        (
            "10.20.0.0/16,192.168.1.64/26",
            "this node's subnet 192.168.1.0/24",
        ),
        ("198.51.100.0/24", "the address of the master server04"),
    ] {
        let masters = "server02=192.168.1.102,server04=198.51.100.4,server05=192.168.1.105";
        let inputs = configured(&format!(
            "{{bgpRoutes: \"{range}\", masters: \"{masters}\"}}"
        ));
        assert_holds(
            &refusal(&inputs),
            &["bgpRoutes` is", "it overlaps", overlapped],
        );
    }
    let taken = resolved(&configured("bgpRoutes: [10.20.0.0/16, 10.40.0.0/16]"));
    assert_eq!(taken.cluster.bgp_routes.len(), 2);
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
