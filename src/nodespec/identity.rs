//! Who this VM is: its entry in the inventory, its role and its name.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeMap;

use wildmatch::WildMatch;

use super::Role;
use super::master::Master;
use super::network;
use super::resolver::{Resolver, passed_over};
use super::settings::InventoryEntry;
use super::value::{Layer, Origin, REWRITTEN, Sourced};
use crate::language::{tr, translated};
use crate::paths::{self, CONFIG};

mod hostname;
mod told;

/// Picks a field that can identify an entry of the inventory.
type Field = fn(&InventoryEntry) -> &Option<String>;

/// One node of the inventory, checked.
pub(super) struct InventoryNode {
    role: Role,
    name: Option<String>,
    uuid: Option<String>,
    address: Option<Ipv4Addr>,
    index: usize,
}

/// The inventory of the strongest layer that has one.
pub(super) struct Inventory<'a> {
    layer: &'a Layer,
    nodes: Vec<InventoryNode>,
}

impl Inventory<'_> {
    fn origin(&self, node: &InventoryNode, field: &str) -> Origin {
        self.layer
            .origin(&format!("inventory[{}].{field}", node.index))
    }

    fn sourced<T>(&self, node: &InventoryNode, field: &str, value: T) -> Sourced<T> {
        Sourced::new(value, self.origin(node, field))
    }

    /// Names and addresses of all nodes that have both.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (&str, Sourced<Ipv4Addr>)> {
        self.nodes.iter().filter_map(|node| {
            let address = self.sourced(node, "address", node.address?);
            Some((node.name.as_deref()?, address))
        })
    }

    /// The masters, if there are several; or an error that names one without name or address.
    pub(super) fn masters(&self) -> Option<Result<Sourced<Vec<Master>>, String>> {
        let nodes: Vec<&InventoryNode> = self
            .nodes
            .iter()
            .filter(|node| node.role.is_master())
            .collect();
        if nodes.len() < 2 {
            return None;
        }
        let master = |node: &&InventoryNode| match (&node.name, node.address) {
            (Some(name), Some(address)) => Ok(Master {
                name: name.clone(),
                address,
            }),
            _ => Err(tr!(
                "{}: add `name` and `address`: with several masters, each needs both",
                self.layer.origin(&format!("inventory[{}]", node.index))
            )),
        };
        let masters: Result<Vec<Master>, String> = nodes.iter().map(master).collect();
        Some(masters.map(|masters| Sourced::new(masters, self.layer.origin("inventory"))))
    }

    /// The address of the master, if there is exactly one.
    pub(super) fn master(&self) -> Option<Sourced<Ipv4Addr>> {
        let mut masters = self.nodes.iter().filter(|node| node.role.is_master());
        let master = masters.next().filter(|_| masters.next().is_none())?;
        Some(self.sourced(master, "address", master.address?))
    }
}

/// This VM's entry in the inventory.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) role: Option<Sourced<Role>>,
    pub(super) name: Option<Sourced<String>>,
    pub(super) address: Option<Sourced<Ipv4Addr>>,
}

impl<'a> Resolver<'a> {
    /// The inventory, with every entry checked.
    pub(super) fn inventory(&mut self) -> Option<Inventory<'a>> {
        let layers: &'a [Layer] = self.layers;
        let (layer, entries) = layers
            .iter()
            .find_map(|layer| Some((layer, layer.settings.inventory.as_ref()?)))?;
        let mut nodes = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            nodes.extend(self.inventory_node(layer, index, entry));
        }
        self.refuse_repeats(layer, entries);
        Some(Inventory { layer, nodes })
    }

    fn inventory_node(
        &mut self,
        layer: &Layer,
        index: usize,
        entry: &InventoryEntry,
    ) -> Option<InventoryNode> {
        let problems = self.problems.len();
        let field = |field: &str| layer.origin(&format!("inventory[{index}].{field}"));
        let said = |name: &str, value: &Option<String>| {
            value.clone().map(|value| Sourced::new(value, field(name)))
        };
        let role = self.parsed(Sourced::new(entry.role.clone(), field("role")), str::parse);
        let name = said("name", &entry.name).and_then(|name| self.parsed(name, network::node_name));
        let address = said("address", &entry.address)
            .and_then(|address| self.parsed(address, network::node_address));
        if entry.name.is_none() && entry.uuid.is_none() && entry.address.is_none() {
            let origin = layer.origin(&format!("inventory[{index}]"));
            self.problems.push(tr!("{origin}: add `name`, `uuid` or `address`: without one of them, no VM can match it", origin));
        }
        (self.problems.len() == problems).then_some(())?;
        Some(InventoryNode {
            role: role?.value,
            name: name.map(|name| name.value),
            uuid: entry.uuid.clone(),
            address: address.map(|address| address.value),
            index,
        })
    }

    fn refuse_repeats(&mut self, layer: &Layer, entries: &[InventoryEntry]) {
        let fields: [(&str, Field); 3] = [
            ("name", |entry| &entry.name),
            ("uuid", |entry| &entry.uuid),
            ("address", |entry| &entry.address),
        ];
        for (name, pick) in fields {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for (index, entry) in entries.iter().enumerate() {
                let Some(value) = pick(entry) else { continue };
                if let Some(first) = seen.insert(network::folded(value), index) {
                    let origin = layer.origin(&format!("inventory[{index}].{name}"));
                    let why = tr!(
                        "inventory[{first}] has the same one; each node needs its own",
                        first
                    );
                    self.refuse(&origin, value, why);
                }
            }
        }
    }

    /// This VM's entry in the inventory. The first of these fields that an entry has decides whether
    /// it matches: UUID, name, address. If no entry matches, the one with an address of this VM does,
    /// whatever its name is.
    pub(super) fn entry(&mut self, inventory: Option<&Inventory<'_>>) -> Entry {
        let Some(inventory) = inventory else {
            return Entry::default();
        };
        let (names, addresses) = (self.names_in(inventory), self.own_addresses());
        let mut metadata = self.inputs.metadata.iter();
        let uuid = metadata.find_map(|metadata| {
            Some(metadata.uuid.to_lowercase()).filter(|uuid| !uuid.is_empty())
        });
        let is_this = |node: &&InventoryNode| match (&node.uuid, &uuid, &node.name, node.address) {
            (Some(theirs), Some(own), ..) => theirs.to_lowercase() == *own,
            (_, _, Some(name), _) => names.contains(name),
            (_, _, None, Some(address)) => addresses.contains(&address),
            (_, _, None, None) => false,
        };
        let has_address = |node: &&InventoryNode| {
            (node.uuid.is_none() || uuid.is_none())
                && node.address.is_some_and(|own| addresses.contains(&own))
        };
        let mut fitting: Vec<&InventoryNode> = inventory.nodes.iter().filter(is_this).collect();
        if fitting.is_empty() {
            fitting = inventory.nodes.iter().filter(has_address).collect();
            self.warn_of_other_name(inventory, fitting.first().copied());
        }
        let Some(node) = fitting.first() else {
            self.warn_of_no_entry(inventory, &names);
            return Entry::default();
        };
        if let Some(other) = fitting.get(1) {
            self.problems.push(tr!(
                "{}: inventory[{}] matches this VM, too; keep one of the two",
                inventory
                    .layer
                    .origin(&format!("inventory[{}]", node.index)),
                other.index
            ));
        }
        let name = node.name.clone();
        Entry {
            role: Some(inventory.sourced(node, "role", node.role)),
            name: name.map(|name| inventory.sourced(node, "name", name)),
            address: node
                .address
                .map(|address| inventory.sourced(node, "address", address)),
        }
    }

    /// The names with which to look for this VM: the configured one, if the inventory has it; else those
    /// from OpenStack.
    fn names_in(&self, inventory: &Inventory<'_>) -> Vec<String> {
        let mut said = self.layers.iter();
        let said = said.find_map(|layer| layer.settings.node_name.as_deref());
        let said = said.map(network::folded);
        let mut nodes = inventory.nodes.iter();
        match said.filter(|said| nodes.any(|node| node.name.as_ref() == Some(said))) {
            Some(said) => vec![said],
            None => {
                let mut names: Vec<String> = self
                    .own_names()
                    .iter()
                    .map(|name| network::folded(name))
                    .collect();
                let own = network::as_node_name(&self.hostname());
                if !names.contains(&own) {
                    names.push(own);
                }
                names
            }
        }
    }

    /// The names of this VM that may be in an inventory: display name, host name, its first label.
    fn own_names(&self) -> Vec<String> {
        let first_label = |name: &str| network::first_label(name).to_owned();
        let Some(metadata) = self.inputs.metadata.first() else {
            return vec![first_label(&self.inputs.host.hostname)];
        };
        let mut names = vec![
            metadata.name.clone(),
            metadata.hostname.clone(),
            first_label(&metadata.hostname),
        ];
        if metadata.hostname.is_empty() {
            names.push(first_label(&self.hostname()));
        }
        names.retain(|name| !name.is_empty());
        names.dedup();
        names
    }

    /// The IPv4 addresses of this VM, those it shows itself and those from OpenStack.
    pub(super) fn own_addresses(&self) -> Vec<Ipv4Addr> {
        let present = self
            .outside()
            .into_iter()
            .flat_map(|i| &i.addresses)
            .map(ipnet::Ipv4Net::addr);
        let assigned = self.inputs.metadata.iter().flat_map(|m| &m.interfaces);
        let assigned = assigned
            .flat_map(|i| &i.addresses)
            .filter_map(|address| match address {
                IpAddr::V4(address) => Some(*address),
                IpAddr::V6(_) => None,
            });
        present.chain(assigned).collect()
    }

    /// The role: the configured one, else the inventory's, else that of the first rule that
    /// matches, else master for the VM that has the master's address, else the one with which it was
    /// installed before, as with `--role`. Otherwise this is an error: this program does not guess.
    pub(super) fn role(
        &mut self,
        entry: Option<Sourced<Role>>,
        master: Option<&Sourced<Ipv4Addr>>,
        masters: Option<&Sourced<Vec<Master>>>,
    ) -> Option<Sourced<Role>> {
        let said = self.said("role", |s| &s.role);
        let was_said = said.is_some();
        let said = said.and_then(|said| self.parsed(said, str::parse));
        let found = [said, entry, self.role_by_rule()];
        let mut found: Vec<Sourced<Role>> = found.into_iter().flatten().collect();
        // The VM with the master's address may be a single: that is a master, too.
        let strongest = found.first().map(|role| role.value);
        let by_address = self.role_by_address(master, masters);
        found.extend(by_address.filter(|_| strongest != Some(Role::Single)));
        if found.is_empty() && !was_said {
            found.extend(self.role_of_record());
        }
        let mut found = found.into_iter();
        let Some(mut role) = found.next() else {
            if !was_said {
                self.problems.push(self.no_role());
            }
            return None;
        };
        for weaker in found {
            if weaker.value != role.value {
                self.warnings.push(tr!(
                    "{} is {}, but {} is {}; the first one is used",
                    role.origin,
                    role.value,
                    weaker.origin,
                    weaker.value
                ));
            }
            role.overrode.push(weaker.overridden());
        }
        Some(role)
    }

    pub(super) fn role_by_rule(&mut self) -> Option<Sourced<Role>> {
        let layers = self.layers;
        let (layer, rules) = layers
            .iter()
            .find_map(|layer| Some((layer, layer.settings.role_rules.as_ref()?)))?;
        let metadata = self.inputs.metadata.first();
        let index = metadata.and_then(|metadata| metadata.launch_index);
        let host_name = metadata
            .map(|metadata| metadata.hostname.as_str())
            .filter(|name| !name.is_empty())
            .unwrap_or(&self.inputs.host.hostname);
        let mut chosen = None;
        for (number, rule) in rules.iter().enumerate() {
            let origin = |field: &str| layer.origin(&format!("roleRules[{number}].{field}"));
            let role = self.parsed(Sourced::new(rule.role.clone(), origin("role")), str::parse)?;
            if rule.launch_index.is_none() && rule.host_name.is_none() {
                let place = layer.origin(&format!("roleRules[{number}]"));
                self.problems.push(tr!("{place}: add `launchIndex` or `hostName`: without one of them, no VM can match it", place));
            }
            let wanted = match &rule.launch_index {
                Some(text) => {
                    let said = Sourced::new(text.clone(), origin("launchIndex"));
                    let parse = |text: &str| text.parse().map_err(|_| tr!("expected a number"));
                    Some(self.parsed::<u64>(said, parse)?.value)
                }
                None => None,
            };
            let fits = wanted.is_none_or(|wanted| index == Some(wanted))
                && rule
                    .host_name
                    .as_ref()
                    .is_none_or(|pattern| is_like(host_name, pattern));
            if fits && chosen.is_none() {
                chosen = Some(role);
            }
        }
        chosen
    }

    fn role_by_address(
        &self,
        master: Option<&Sourced<Ipv4Addr>>,
        masters: Option<&Sourced<Vec<Master>>>,
    ) -> Option<Sourced<Role>> {
        let own = self.own_addresses();
        let is_one = |masters: &&Sourced<Vec<Master>>| {
            masters.iter().any(|master| own.contains(&master.address))
        };
        let master = master.filter(|master| own.contains(&master.value));
        let origin = match master {
            Some(master) => &master.origin,
            None => &masters.filter(is_one)?.origin,
        };
        Some(Sourced::new(Role::Master, origin.clone()))
    }

    fn role_of_record(&self) -> Option<Sourced<Role>> {
        let role = self.inputs.host.role?;
        let record = tr!("record of its role, {}", paths::STATE);
        Some(Sourced::new(role, Origin::Host(record)))
    }

    fn no_role(&self) -> String {
        let mut looked_at = vec![
            tr!("flag {field}", field = "--role"),
            tr!("environment {field}", field = "APPLIANCE_ROLE"),
        ];
        for metadata in &self.inputs.metadata {
            looked_at.push(format!(
                "{}: `meta.role`, `meta.appliance.role`",
                metadata.source
            ));
        }
        for layer in self.layers {
            if layer.place.is_read_whole() {
                looked_at.push(layer.origin("role").to_string());
            }
            if layer.settings.inventory.is_some() {
                let who = self.own_names().join(", ");
                looked_at.push(tr!(
                    "{} (no entry for {who})",
                    layer.origin("inventory"),
                    who
                ));
            }
            if layer.settings.role_rules.is_some() {
                looked_at.push(tr!("{} (no rule matches)", layer.origin("roleRules")));
            }
        }
        looked_at.extend(self.inputs.looked_at.iter().cloned());
        looked_at.extend(passed_over(self.inputs));
        let command = "`openstack server set --property role=master SERVER`";
        let advice = match self.is_live() {
            true => tr!("or run {command}", command),
            false if self.inputs.metadata.is_empty() => tr!("or write it into {CONFIG}", CONFIG),
            false => tr!(
                "or write the line `role: master` into {CONFIG}; a property that you set now, with \
                 {command}, reaches this server only with `openstack server rebuild`, which erases \
                 its disk, because {REWRITTEN}",
                CONFIG,
                command,
                REWRITTEN = translated(REWRITTEN)
            ),
        };
        tr!(
            "no role found: add `--role master`, `worker` or `single`, {advice}\nlooked at: {}",
            looked_at.join("; "),
            advice
        )
    }

    /// The node's name: the configured one, else the inventory's, else the first label of the host
    /// name. OpenStack's display name may be any text, and its host name ends with the cloud's DHCP
    /// domain.
    pub(super) fn name(&mut self, entry: Option<Sourced<String>>) -> Option<Sourced<String>> {
        let explicit = match self.said("nodeName", |s| &s.node_name) {
            Some(said) => Some(self.parsed(said, network::node_name)?),
            None => entry,
        };
        let hostname = self.hostname();
        let Some(mut name) = explicit else {
            return self.corrected(hostname);
        };
        if name.as_str() == "localhost" {
            let why = &tr!("every machine has this name; set another one with `nodeName`");
            self.refuse(&name.origin, "localhost", why);
        }
        let label = network::first_label(&hostname).to_owned();
        name.overrode
            .push(Sourced::new(label, hostname.origin).overridden());
        Some(name)
    }

    /// The host name in a form that Kubernetes accepts. Warns if its first label had to be changed.
    fn corrected(&mut self, hostname: Sourced<String>) -> Option<Sourced<String>> {
        let fit = network::as_node_name(&hostname);
        let label = network::first_label(&hostname);
        let unfit = match fit.as_str() {
            "" | "localhost" => Some(tr!(
                "this cannot be the name of a node; set a name with `nodeName`"
            )),
            fit => network::node_name(fit).err(),
        };
        if let Some(why) = unfit {
            self.refuse(&hostname.origin, label, why);
            return None;
        }
        if fit == label {
            return Some(Sourced::new(fit, hostname.origin));
        }
        self.warnings.push(tr!(
            "{} is {}, which Kubernetes does not accept as a name; the node gets the name {fit} \
             (set another one with `nodeName`)",
            hostname.origin,
            format_args!("{:?}", *hostname),
            fit
        ));
        Some(Sourced {
            overrode: vec![hostname.overridden()],
            ..Sourced::new(fit, hostname.origin)
        })
    }
}

/// Whether the pattern fits the host name, its first label, or the name that the node gets for it.
fn is_like(host_name: &str, pattern: &str) -> bool {
    let pattern = WildMatch::new_case_insensitive(pattern);
    let names = [
        network::first_label(host_name),
        &network::as_node_name(host_name),
    ]
    .map(str::to_owned);
    pattern.matches(host_name) || names.iter().any(|name| pattern.matches(name))
}
