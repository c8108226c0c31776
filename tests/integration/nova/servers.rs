//! Generated servers: their properties in Nova, their ports in Neutron, and the interfaces that such a
//! machine has.

use std::collections::BTreeMap;

use appliance::nodespec::HostInterface;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use serde::Serialize;
use serde_json::{Value, json};

const MASTER: &str = "#cloud-config\nappliance: {role: master}\n";
const FILE: &str = "#cloud-config\nwrite_files:\n- path: /etc/appliance/config.yaml\n  content: |\n    role: master\n";
const SCRIPT: &str = "#!/bin/sh\nappliance install\n";

/// Names that people give. Of each, Nova makes a host name, and this program the name of a node. One that is a number
/// is refused.
const NAMES: [&str; 13] = [
    "server02",
    "Kube-Node-B",
    "my server",
    "web_1.example.com",
    "Köln-Nord",
    "節点",
    "-dash-",
    "a..b",
    "K8S.Node.",
    "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww",
    "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww.example.com",
    "Äpfel und Birnen aus dem Garten der Großmutter am Rande des großen Waldes hinter dem Berg",
    "x",
];

/// What a server is; `tests/cloud/nova-makes.py` reads it.
#[derive(Clone, Debug, Serialize)]
pub struct Server {
    pub uuid: String,
    /// The name that the operator asked for.
    pub name: String,
    /// How many servers were asked for at once, and which one of them this is.
    pub count: u32,
    pub index: u32,
    /// The cloud's DNS domain; empty if it has none.
    pub domain: String,
    /// The server properties.
    pub meta: BTreeMap<String, String>,
    pub user_data: Option<String>,
    /// Whether it has an SSH key.
    pub key: bool,
    /// Whether its NICs have tags.
    pub tags: bool,
    pub ports: Vec<Port>,
    /// The NICs of a bare-metal server's first port; empty if it is no group of NICs.
    pub bond: Vec<String>,
    /// The vendor-data of the cloud, and that of its services.
    pub vendor: Value,
    pub dynamic: Value,
    /// Whether Nova makes a drive, too.
    pub drive: bool,
    /// Whether Nova's handler serves it.
    pub served: bool,
    /// The VLAN of a trunk's subport, which Nova does not tell.
    #[serde(skip)]
    pub subport: bool,
}

/// A port in Neutron.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    pub id: String,
    pub network: String,
    pub mac: String,
    pub kind: &'static str,
    /// The MTU that Neutron says.
    pub mtu: Option<u32>,
    pub v4: Option<Subnet>,
    pub v6: Option<Subnet>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Subnet {
    pub cidr: String,
    pub address: String,
    pub gateway: Option<String>,
    /// The address of the DHCP server, if the subnet has one.
    pub dhcp: Option<String>,
    pub mode: Option<&'static str>,
    pub dns: Vec<String>,
    pub routes: Vec<String>,
}

/// The parts of a port that are chosen.
type Chosen = (&'static str, Option<u32>, bool, bool, Option<&'static str>);

fn port(number: usize, (kind, mtu, dhcp, routed, v6): Chosen) -> Port {
    let v4 = Subnet {
        cidr: format!("10.{number}.0.0/24"),
        address: format!("10.{number}.0.5"),
        gateway: (routed && number == 0).then(|| "10.0.0.1".to_owned()),
        dhcp: dhcp.then(|| format!("10.{number}.0.2")),
        mode: None,
        dns: vec!["192.0.2.53".to_owned()],
        routes: Vec::new(),
    };
    let v6 = v6.map(|mode| Subnet {
        cidr: format!("fd00:{number}::/64"),
        address: format!("fd00:{number}::5"),
        gateway: None,
        dhcp: None,
        mode: Some(mode).filter(|mode| !mode.is_empty()),
        dns: Vec::new(),
        routes: Vec::new(),
    });
    Port {
        id: format!("00000000-0000-4000-8000-0000000000{number:02x}"),
        network: format!("10000000-0000-4000-8000-0000000000{number:02x}"),
        mac: format!("fa:16:3e:00:00:{number:02x}"),
        kind,
        mtu,
        v4: Some(v4),
        v6,
    }
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let mtu = select(
        &[
            Some(1450),
            Some(1442),
            Some(9000),
            Some(1500),
            Some(0),
            None,
        ][..],
    );
    let v6 = select(&[None, None, Some(""), Some("slaac"), Some("dhcpv6-stateful")][..]);
    let kind = select(&["ovs", "ovs", "bridge", "hw_veb", "vhostuser"][..]);
    let port = (kind, mtu, any::<bool>(), any::<bool>(), v6);
    vec(port, 1..4).prop_map(|chosen| {
        let numbered = chosen.into_iter().enumerate();
        numbered
            .map(|(number, chosen)| self::port(number, chosen))
            .collect::<Vec<Port>>()
    })
}

/// Where the role stands: properties, user-data, the cloud's vendor-data, that of its services.
type Role = (BTreeMap<String, String>, Option<String>, Value, Value);

fn role() -> impl Strategy<Value = Role> {
    let meta = |key: &str| BTreeMap::from([(key.to_owned(), "master".to_owned())]);
    let none = BTreeMap::new;
    let user = |text: &str| (none(), Some(text.to_owned()), json!({}), json!({}));
    let scripted = Some(SCRIPT.to_owned());
    let cloud = json!({"appliance": {"role": "master"}, "region": "south"});
    let service = |data: Value| (none(), None, json!({}), json!({ "cloud-init": data }));
    prop_oneof![
        Just::<Role>((meta("role"), None, json!({}), json!({}))),
        Just::<Role>((
            meta("appliance.role"),
            scripted,
            json!({}),
            json!({"inventory": {"rack": 7}})
        )),
        Just::<Role>(user(MASTER)),
        Just::<Role>(user(FILE)),
        Just::<Role>((none(), None, cloud, json!({}))),
        Just::<Role>(service(json!(MASTER))),
        Just::<Role>(service(json!([SCRIPT, FILE]))),
    ]
}

/// Servers, some of them several of one name.
pub fn server() -> impl Strategy<Value = Vec<Server>> {
    let name = (
        select(&NAMES[..]),
        1..4u32,
        select(&["novalocal", "", "cloud.example.org"][..]),
    );
    let rest = (any::<bool>(), any::<bool>(), 0..6u8, any::<u64>());
    (name, ports(), role(), rest).prop_map(|((name, count, domain), ports, role, rest)| {
        let (key, tags, kind, number) = rest;
        let (meta, user_data, vendor, dynamic) = role;
        let mut first = Server {
            uuid: String::new(),
            name: name.to_owned(),
            count,
            index: 0,
            domain: domain.to_owned(),
            meta,
            user_data,
            key,
            tags,
            ports,
            bond: Vec::new(),
            vendor,
            dynamic,
            drive: false,
            served: false,
            subport: kind == 0,
        };
        if kind == 1 {
            first.bond = ["52:54:00:aa:00:01", "52:54:00:aa:00:02"]
                .map(str::to_owned)
                .into();
        }
        if first.subport {
            first
                .meta
                .insert("address".to_owned(), "10.77.0.5".to_owned());
        }
        let server = |index| Server {
            uuid: format!(
                "2000{index:04}-0000-4000-8000-{:012x}",
                number & 0xffff_ffff_ffff
            ),
            index,
            ..first.clone()
        };
        (0..count).map(server).collect::<Vec<Server>>()
    })
}

impl Server {
    /// The interfaces of the machine, as DHCP and cloud-init set them up. The first port has the default
    /// route if it has a gateway.
    pub fn interfaces(&self) -> Vec<HostInterface> {
        let ports = self.ports.iter().enumerate();
        let mut interfaces: Vec<HostInterface> = ports
            .map(|(number, port)| HostInterface {
                name: format!("ens{}", number + 3),
                mac: Some(port.mac.clone()),
                mtu: Some(port.real_mtu()),
                addresses: vec![format!("10.{number}.0.5/24").parse().unwrap()],
                has_ipv6: port.v6.is_some(),
                has_default_route: port.v4.as_ref().is_some_and(|v4| v4.gateway.is_some()),
                ..HostInterface::default()
            })
            .collect();
        if let Some(mac) = self.bond.first() {
            interfaces[0].name = "bond0".to_owned();
            interfaces[0].mac = Some(mac.clone());
        }
        if self.subport {
            interfaces.push(HostInterface {
                name: "ens3.101".to_owned(),
                vlan: Some(101),
                addresses: vec!["10.77.0.5/24".parse().unwrap()],
                mtu: Some(1400),
                has_default_route: false,
                ..interfaces[0].clone()
            });
        }
        interfaces
    }

    /// The address at which others reach it: the operator's, else that with the default route, else that of
    /// the first port.
    pub fn address(&self) -> &str {
        match self.subport {
            true => "10.77.0.5",
            false => "10.0.0.5",
        }
    }

    /// The MTU of the network with that address.
    pub fn mtu(&self) -> u32 {
        match self.subport {
            true => 1400,
            false => self.ports[0].real_mtu(),
        }
    }
}

impl Port {
    /// The MTU that DHCP or cloud-init sets. 0 means that Neutron does not know it.
    fn real_mtu(&self) -> u32 {
        self.mtu.filter(|mtu| *mtu > 0).unwrap_or(1500)
    }
}
