//! The node's address.

use core::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::candidates::Candidate;
use super::resolver::Resolver;
use super::value::{Origin, Overridden, Sourced};
use super::{HostInterface, Leads, network};
use crate::language::tr;
use crate::metadata::model::Metadata;
use crate::paths::CONFIG;

/// What an operator says about the address, without the address itself.
#[derive(Clone, Debug)]
enum Wish {
    /// It is in this range.
    Range(Ipv4Net),
    /// Its interface is in the network with this UUID.
    Network(String),
    /// Its interface has this name or MAC address.
    Interface(String),
}

impl Wish {
    /// Reads a range or the UUID of a network.
    fn network(text: &str) -> Result<Wish, String> {
        let text = text.trim();
        if network::is_uuid(text) {
            return Ok(Wish::Network(text.to_lowercase()));
        }
        network::cidr(text).map(Wish::Range).map_err(|why| {
            if text.contains('/') {
                return why;
            }
            tr!("expected an IPv4 range such as 192.168.1.0/24, or the UUID of a network in OpenStack")
        })
    }

    /// Reads the name of an interface or its MAC address.
    fn interface(text: &str) -> Result<Wish, String> {
        /// The longest name of an interface in the kernel, in bytes.
        const MAX_NAME: usize = 15;
        let text = text.trim();
        let is_mac = network::is_mac(text);
        let is_odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if is_mac || ((1..=MAX_NAME).contains(&text.len()) && !text.contains(is_odd)) {
            return Ok(Wish::Interface(text.to_owned()));
        }
        Err(tr!(
            "expected the name of an interface such as ens3 or bond0.120, or its MAC address"
        ))
    }

    fn fits(&self, candidate: &Candidate) -> bool {
        match self {
            Wish::Range(range) => range.contains(&candidate.address),
            Wish::Network(uuid) => candidate
                .networks
                .iter()
                .any(|n| n.eq_ignore_ascii_case(uuid)),
            Wish::Interface(name) => {
                let mac = candidate.mac.as_deref();
                candidate.interface == *name
                    || mac.is_some_and(|mac| mac.eq_ignore_ascii_case(&name.replace('-', ":")))
            }
        }
    }
}

/// What the setting `address` says.
enum Said {
    Exactly(Ipv4Addr),
    Within(Ipv4Net),
}

impl Said {
    fn parse(text: &str) -> Result<Said, String> {
        match text.parse::<Ipv4Net>() {
            // `10.0.0.5/24`, as `ip address` shows it, names one address.
            Ok(net) if net.addr() != net.network() || net.prefix_len() == net.max_prefix_len() => {
                network::node_address(&net.addr().to_string()).map(Said::Exactly)
            }
            Ok(net) => Ok(Said::Within(net)),
            Err(_) => network::node_address(text).map(Said::Exactly),
        }
    }
}

impl Resolver<'_> {
    /// The address at which other nodes reach this one: the configured one, else the only one, else
    /// the one that the first rule of [`narrow`] finds. Otherwise this is an error: this program does
    /// not guess among several.
    pub(super) fn address(
        &mut self,
        entry: Option<Sourced<Ipv4Addr>>,
        master: Option<&Sourced<Ipv4Addr>>,
    ) -> Option<Sourced<Ipv4Addr>> {
        self.compare_sources();
        let mut wishes = Vec::new();
        let explicit = match self.said("address", |s| &s.address) {
            Some(said) => {
                let said = self.parsed(said, Said::parse)?;
                let (origin, overrode) = (said.origin, said.overrode);
                match said.value {
                    Said::Exactly(value) => Some(Sourced {
                        value,
                        origin,
                        overrode,
                    }),
                    Said::Within(range) => {
                        wishes.push(Sourced {
                            value: Wish::Range(range),
                            origin,
                            overrode,
                        });
                        None
                    }
                }
            }
            None => entry,
        };
        if let Some(said) = self.said("network", |s| &s.network) {
            wishes.push(self.parsed(said, Wish::network)?);
        }
        if let Some(said) = self.said("interface", |s| &s.interface) {
            wishes.push(self.parsed(said, Wish::interface)?);
        }
        match explicit {
            Some(address) => self.exactly(address, &wishes),
            None => self.chosen(&wishes, master.map(|master| master.value)),
        }
    }

    /// The configured address, if this machine has it where the operator says.
    fn exactly(
        &mut self,
        mut address: Sourced<Ipv4Addr>,
        wishes: &[Sourced<Wish>],
    ) -> Option<Sourced<Ipv4Addr>> {
        self.check_address_is_here(&address);
        let nameable = self.nameable();
        if let Some(own) = nameable.iter().find(|c| c.address == address.value) {
            for wish in wishes.iter().filter(|wish| !wish.value.fits(own)) {
                self.problems.push(tr!(
                    "{} is {}, which is on {}; {} says otherwise: remove one of the two",
                    address.origin,
                    address.value,
                    own.interface,
                    wish.origin
                ));
            }
        }
        let own = address.value;
        address.overrode.extend(others(&self.candidates(), own));
        Some(address)
    }

    /// The address that the operator's wishes and the rules leave.
    fn chosen(
        &mut self,
        wishes: &[Sourced<Wish>],
        master: Option<Ipv4Addr>,
    ) -> Option<Sourced<Ipv4Addr>> {
        let all = match wishes {
            [] => self.candidates(),
            _ => self.nameable(),
        };
        if all.is_empty() {
            self.problems.push(self.no_address());
            return None;
        }
        let mut left: Vec<&Candidate> = all.iter().collect();
        let mut rules = Vec::new();
        for wish in wishes {
            left.retain(|candidate| wish.value.fits(candidate));
            rules.push(tr!("chosen by {}", wish.origin));
            if left.is_empty() {
                let why = tr!("this machine has no such address; it has {}", listed(&all));
                self.refuse(&wish.origin, &shown(&wish.value), why);
                return None;
            }
        }
        rules.extend(narrow(&mut left, master));
        let [only] = left[..] else {
            self.problems.push(ambiguous(&left, self.is_live()));
            return None;
        };
        if wishes.is_empty() && self.waits_for_another(only, master) {
            return None;
        }
        if rules.is_empty() {
            rules.push(tr!("the only address"));
        }
        let mut chosen = Sourced::new(
            only.address,
            because(&only.origin, &rules.join(&tr!(" and "))),
        );
        chosen.overrode = others(&all, only.address).collect();
        self.check_address_is_here(&Sourced::new(only.address, only.origin.clone()));
        Some(chosen)
    }

    /// Whether an interface that OpenStack lists before the chosen one has no address yet, and nothing
    /// else speaks for the chosen one. Then another run may find another address.
    fn waits_for_another(&mut self, chosen: &Candidate, master: Option<Ipv4Addr>) -> bool {
        let sees_master = master.is_some_and(|master| reach(chosen, master) > 0);
        if chosen.has_default_route || sees_master {
            return false;
        }
        let place = chosen.place.unwrap_or(usize::MAX);
        let waiting = self.waiting();
        let Some((_, name)) = waiting.iter().find(|(other, _)| *other < place) else {
            return false;
        };
        let problem = tr!(
            "cannot decide on this node's address yet: OpenStack lists {name} before {}, but DHCP gave \
             {name} no IPv4 address so far; look at `ip address show {name}` and run this again, or \
             choose with `--set interface={}`",
            chosen.interface,
            chosen.interface,
            name
        );
        self.problems.push(problem);
        true
    }

    /// Warns if two sources give one interface different addresses.
    fn compare_sources(&mut self) {
        let Some((first, others)) = self.inputs.metadata.split_first() else {
            return;
        };
        for other in others {
            for interface in &first.interfaces {
                let same = other.interfaces.iter().find(|i| i.mac == interface.mac);
                let Some(theirs) = same else { continue };
                let (one, two) = (&interface.addresses, &theirs.addresses);
                if !one.is_empty() && !two.is_empty() && one != two {
                    self.warnings.push(tr!(
                        "{} gives interface {} the address {}, but {} gives it {}; the first one \
                         is used (to change the order, list the sources with --metadata-source)",
                        first.source,
                        interface.mac,
                        list(one),
                        other.source,
                        list(two)
                    ));
                }
            }
        }
    }

    /// The first source that lists interfaces.
    pub(super) fn describing_metadata(&self) -> Option<&Metadata> {
        let mut metadata = self.inputs.metadata.iter();
        metadata.find(|metadata| !metadata.interfaces.is_empty())
    }

    fn check_address_is_here(&mut self, address: &Sourced<Ipv4Addr>) {
        let Some(interfaces) = &self.inputs.host.interfaces else {
            return;
        };
        let has = |i: &&HostInterface| i.addresses.iter().any(|net| net.addr() == address.value);
        let why = match interfaces.iter().find(has) {
            Some(found) if found.leads == Leads::Inside => tr!(
                "it is the address of {}, which leads to containers of this machine; it also has {}",
                found.name,
                list_interfaces(interfaces)
            ),
            Some(_) => return,
            None => tr!(
                "this machine does not have this address; it has {}",
                list_interfaces(interfaces)
            ),
        };
        self.refuse(&address.origin, &address.to_string(), why);
    }

    fn no_address(&self) -> String {
        let Some(interfaces) = &self.inputs.host.interfaces else {
            return tr!(
                "no address found, neither as setting `address` nor in the metadata; add \
                    `--set address=ADDRESS`"
            );
        };
        let with_ipv6 = interfaces.iter().filter(|i| i.has_ipv6);
        let names: Vec<&str> = with_ipv6.map(|i| i.name.as_str()).collect();
        let waiting: Vec<&str> = self.waiting().into_iter().map(|(_, name)| name).collect();
        if let Some(first) = waiting.first() {
            return tr!(
                "no IPv4 address found: OpenStack gives {} an address by DHCP, which has not answered \
                 yet; look at `ip address show {first}` and at the network's DHCP agent, then run \
                 this again",
                waiting.join(&tr!(" and ")),
                first
            );
        }
        let mut own = interfaces.iter().filter(|i| i.leads == Leads::Nowhere);
        if let Some((name, net)) = own.find_map(|i| Some((&i.name, i.addresses.first()?))) {
            return tr!(
                "no address found: only {name} has one, {0}; if the network routes it to this machine, add \
                 `--set address={0}`",
                net.addr(),
                name
            );
        }
        if names.is_empty() {
            return tr!(
                "no address found: no network interface of this machine is up and has an IPv4 \
                    address; look at `ip address`"
            );
        }
        tr!(
            "no IPv4 address found: this machine has only IPv6 addresses, on {}; Kubernetes v1.9 \
             needs IPv4 between its nodes, so give the server a port in an IPv4 subnet",
            names.join(", ")
        )
    }
}

/// Leaves only the candidates that the rules prefer, and returns the rules that decided. A rule that
/// fits none of those left, or all, decides nothing.
fn narrow(left: &mut Vec<&Candidate>, master: Option<Ipv4Addr>) -> Vec<String> {
    type Fits<'a> = &'a dyn Fn(&Candidate) -> bool;
    let mut decided = Vec::new();
    let mut rule = |left: &mut Vec<&Candidate>, fits: Fits<'_>, words: &str| {
        let fitting: Vec<&Candidate> = left.iter().copied().filter(|c| fits(c)).collect();
        if !fitting.is_empty() && fitting.len() < left.len() {
            *left = fitting;
            decided.push(words.to_owned());
        }
    };
    if let Some(master) = master {
        rule(
            left,
            &|c| c.address == master,
            &tr!("which has the master's address"),
        );
        let best = left.iter().map(|c| reach(c, master)).max().unwrap_or(0);
        let is_near = |c: &Candidate| c.subnet.is_some_and(|subnet| subnet.contains(&master));
        let words = &match left.iter().any(|c| is_near(c) && reach(c, master) == best) {
            true => tr!("whose subnet contains the master"),
            false => tr!("whose route leads to the master"),
        };
        rule(left, &|c| best > 0 && reach(c, master) == best, words);
    }
    // Such an address is only for the network that the machine itself is in, and no router forwards it.
    let words = &tr!("which is not link-local");
    rule(left, &|c| !c.address.is_link_local(), words);
    rule(
        left,
        &|c| c.has_default_route,
        &tr!("which has the default route"),
    );
    let words = &tr!("whose subnet contains the default route's gateway");
    rule(left, &|c| c.has_gateway, words);
    if left.iter().all(|c| !c.has_default_route) {
        let words = &tr!("which has OpenStack's default route");
        rule(left, &|c| c.told_default_route, words);
    }
    rule(left, &|c| c.is_here, &tr!("which this machine has"));
    let first = left.iter().filter_map(|c| c.place).min();
    rule(
        left,
        &|c| c.place.is_some() && c.place == first,
        &tr!("which OpenStack lists first"),
    );
    // The kernel sends from the first address of an interface in a subnet.
    if let Some(&head) = left.first()
        && left
            .iter()
            .all(|c| c.interface == head.interface && c.subnet == head.subnet)
        && head.subnet.is_some()
    {
        let words = tr!(
            "the first address of {} in {}",
            head.interface,
            subnet(head)
        );
        rule(left, &|c| c.address == head.address, &words);
    }
    decided
}

fn subnet(candidate: &Candidate) -> String {
    candidate
        .subnet
        .map_or(String::new(), |subnet| subnet.to_string())
}

/// The longest prefix with which this interface's subnet or routes lead to `master`; 0 if none do.
fn reach(candidate: &Candidate, master: Ipv4Addr) -> u8 {
    let ranges = candidate.subnet.iter().chain(&candidate.routes);
    let leading = ranges.filter(|range| range.contains(&master));
    leading.map(Ipv4Net::prefix_len).max().unwrap_or(0)
}

/// The origin with the rule by which the value was chosen.
fn because(origin: &Origin, rule: &str) -> Origin {
    match origin {
        Origin::Chosen(origin, place) => Origin::Chosen(origin.clone(), format!("{place}, {rule}")),
        other => Origin::Chosen(Box::new(other.clone()), rule.to_owned()),
    }
}

fn shown(wish: &Wish) -> String {
    match wish {
        Wish::Range(range) => range.to_string(),
        Wish::Network(text) | Wish::Interface(text) => text.clone(),
    }
}

/// The candidates that were not chosen.
fn others(candidates: &[Candidate], chosen: Ipv4Addr) -> impl Iterator<Item = Overridden> {
    candidates
        .iter()
        .filter(move |candidate| candidate.address != chosen)
        .map(|candidate| Overridden {
            value: candidate.address.to_string(),
            origin: candidate.origin.clone(),
        })
}

/// `is_live` says whether a property that is set now reaches this server.
fn ambiguous(candidates: &[&Candidate], is_live: bool) -> String {
    let first = candidates[0];
    let is_one_interface = candidates.iter().all(|c| c.interface == first.interface);
    let (key, value) = match is_one_interface {
        true => ("address", first.address.to_string()),
        false => ("interface", first.interface.clone()),
    };
    let lasting = match is_live {
        true => format!("`openstack server set --property {key}={value} SERVER`"),
        false => tr!("the line `{key}: {value}` in {CONFIG}", key, value, CONFIG),
    };
    tr!(
        "cannot decide on this node's address: this machine has {}, and neither the master's subnet, \
         the default route nor OpenStack's list tells which one other nodes use; choose with \
         `address`, `network` (a range) or `interface`, for instance `--set {key}={value}` or {lasting}",
        listed(candidates.iter().copied()),
        key,
        value,
        lasting
    )
}

fn listed<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> String {
    let list: Vec<String> = candidates
        .into_iter()
        .map(|c| tr!("{} on {}", c.address, c.interface))
        .collect();
    list.join(", ")
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(&tr!(" and "))
}

fn list_interfaces(interfaces: &[HostInterface]) -> String {
    let list: Vec<String> = interfaces
        .iter()
        .filter(|i| i.leads != Leads::Inside)
        .flat_map(|i| i.addresses.iter().map(move |net| (i, net)))
        .map(|(i, net)| tr!("{} on {}", net.addr(), i.name))
        .collect();
    if list.is_empty() {
        tr!("no IPv4 address at all")
    } else {
        list.join(", ")
    }
}
