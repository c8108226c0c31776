//! Reads what `nft --json list ruleset` prints (libnftables-json(5)).

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use serde_json::{Map, Value};

use crate::language::tr;

use super::{Hook, Match, Rule, Verdict};

/// The tables of iptables-nft, which are read with its own program.
const OF_IPTABLES: &[&str] = &["raw", "mangle", "nat", "filter", "security"];

/// A table: its family and its name.
type Table<'a> = (&'a str, &'a str);

/// The named sets and maps, by their table and name.
type Sets<'a> = BTreeMap<(Table<'a>, &'a str), &'a Value>;

/// The hooks for packets of IPv4 to this machine, without those of iptables; `None` if it is not that output.
pub fn hooks(text: &str) -> Option<Vec<Hook>> {
    let document: Value = serde_json::from_str(text).ok()?;
    let objects = document["nftables"].as_array()?;
    let of_kind = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
    let mut sets = Sets::new();
    for set in of_kind("set").chain(of_kind("map")) {
        let name = set["name"].as_str().unwrap_or_default();
        sets.insert((table(set), name), &set["elem"]);
    }
    let mut chains: BTreeMap<Table<'_>, BTreeMap<String, Vec<Rule>>> = BTreeMap::new();
    for rule in of_kind("rule") {
        let chain = rule["chain"].as_str().unwrap_or_default().to_owned();
        let of_table = chains.entry(table(rule)).or_default();
        of_table
            .entry(chain)
            .or_default()
            .extend(rules(rule, &sets));
    }
    let is_hook = |chain: &&Value| {
        let (family, name) = table(chain);
        matches!(chain["hook"].as_str(), Some("input" | "prerouting"))
            && matches!(family, "ip" | "inet")
            && chain["type"] != "nat"
            && !(family == "ip" && OF_IPTABLES.contains(&name))
    };
    let hook = |chain: &Value| {
        let (family, table_name) = table(chain);
        let name = chain["name"].as_str().unwrap_or_default();
        Hook {
            chain: name.to_owned(),
            drops: chain["policy"] == "drop",
            policy: tr!(
                "the policy of `nft list chain {family} {table_name} {name}`",
                family,
                table_name,
                name
            ),
            chains: chains.get(&table(chain)).cloned().unwrap_or_default(),
        }
    };
    Some(of_kind("chain").filter(is_hook).map(hook).collect())
}

fn table(object: &Value) -> Table<'_> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    // The table of a chain, a rule or a set.
    (text("family"), text("table"))
}

/// A rule, or one for each entry if it has a map of verdicts.
fn rules(rule: &Value, sets: &Sets<'_>) -> Vec<Rule> {
    let of = table(rule);
    let chain = rule["chain"].as_str().unwrap_or_default();
    let name = tr!(
        "the rule with handle {} of `nft -a list chain {} {} {chain}`",
        rule["handle"],
        of.0,
        of.1,
        chain
    );
    let mut matches: Vec<Match> = Vec::new();
    let (mut made, mut is_of_iptables) = (Vec::new(), false);
    let mut make = |matches: Vec<Match>, verdict: Verdict| {
        made.push(Rule {
            matches,
            verdict,
            name: name.clone(),
        });
    };
    for statement in rule["expr"].as_array().into_iter().flatten() {
        let Some((kind, content)) = statement
            .as_object()
            .and_then(|object| object.iter().next())
        else {
            continue;
        };
        match kind.as_str() {
            "match" => {
                let (left, right) = (&content["left"], resolved(&content["right"], of, sets));
                let operation = content["op"].as_str().unwrap_or("==");
                matches.extend(conditions(left, operation, right));
            }
            "counter" | "log" | "mangle" | "notrack" | "ct helper" | "ct timeout" => {}
            "vmap" => {
                let entries = resolved(&content["data"], of, sets);
                for (key, verdict) in elements(entries).into_iter().filter_map(entry) {
                    let own = conditions(&content["key"], "==", &Value::Array(vec![key.clone()]));
                    make([matches.clone(), own].concat(), decision(verdict));
                }
            }
            kind if is_decision(kind) => {
                make(matches, decision(statement));
                return made;
            }
            "xt" => (matches, is_of_iptables) = ([matches, vec![Match::Unknown]].concat(), true),
            _ => matches.push(Match::Unknown),
        }
    }
    if is_of_iptables {
        // A target of iptables, which may be anything.
        make(matches, Verdict::Unknown);
    }
    made
}

/// The content of a set that is named, or the value itself.
fn resolved<'a>(value: &'a Value, of: Table<'a>, sets: &Sets<'a>) -> &'a Value {
    let name = value.as_str().and_then(|text| text.strip_prefix('@'));
    match name {
        Some(name) => sets.get(&(of, name)).copied().unwrap_or(&Value::Null),
        None => value,
    }
}

fn is_decision(kind: &str) -> bool {
    matches!(
        kind,
        "accept" | "drop" | "reject" | "return" | "continue" | "jump" | "goto" | "queue"
    )
}

fn decision(statement: &Value) -> Verdict {
    let target = |kind: &str| {
        statement[kind]["target"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let object = statement.as_object();
    match object
        .and_then(|object| object.keys().next())
        .map(String::as_str)
    {
        Some("accept") => Verdict::Accept,
        Some("drop" | "reject") => Verdict::Drop,
        Some("return") => Verdict::Return,
        Some("continue") => Verdict::Continue,
        Some("jump") => Verdict::Jump(target("jump")),
        Some("goto") => Verdict::Goto(target("goto")),
        _ => Verdict::Unknown,
    }
}

/// The elements of a set, or the one value. Nothing stands for a set without elements.
fn elements(value: &Value) -> Vec<&Value> {
    let list = match value {
        Value::Null => return Vec::new(),
        Value::Object(object) if object.contains_key("set") => &object["set"],
        value => value,
    };
    let all = match list {
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    };
    let inner = |value: &'_ Value| value["elem"].get("val").is_some();
    all.into_iter()
        .map(|value| {
            if inner(value) {
                &value["elem"]["val"]
            } else {
                value
            }
        })
        .collect()
}

/// The key and the verdict of an entry in a map.
fn entry(entry: &Value) -> Option<(&Value, &Value)> {
    let [key, verdict] = entry.as_array()?.as_slice() else {
        return None;
    };
    let key = key["elem"].get("val").unwrap_or(key);
    Some((key, verdict))
}

/// What `left OPERATION right` looks at.
fn conditions(left: &Value, operation: &str, right: &Value) -> Vec<Match> {
    let not = operation == "!=";
    let values = elements(right);
    if !matches!(operation, "==" | "!=" | "in") {
        return vec![Match::Unknown];
    }
    let left = left.as_object().and_then(|object| object.iter().next());
    match left.map(|(kind, of)| (kind.as_str(), of)) {
        Some(("meta", of)) => vec![of_meta(&of["key"], &values, not)],
        Some(("ct", of)) if of["key"] == "state" => Vec::from([Match::known(
            values.iter().any(|state| **state == "new") != not,
        )]),
        Some(("payload", of)) => of_payload(of, &values, not),
        Some(("fib", of)) if is_own_address(of) && values == [&Value::from("local")] => {
            vec![Match::known(!not)]
        }
        _ => vec![Match::Unknown],
    }
}

fn is_own_address(fib: &Value) -> bool {
    fib["result"] == "type" && elements(&fib["flags"]) == [&Value::from("daddr")]
}

fn of_meta(key: &Value, values: &[&Value], not: bool) -> Match {
    let are_all = |word: &str| values.iter().all(|value| **value == word);
    let has = |word: &str| values.iter().any(|value| **value == word);
    match key.as_str() {
        Some("l4proto") => Match::Protocol(protocols(values), not),
        // The packets come from another machine.
        Some("iif" | "iifname") if are_all("lo") => Match::known(not),
        Some("nfproto") => Match::known(has("ipv4") != not),
        Some("protocol") => Match::known(has("ip") != not),
        _ => Match::Unknown,
    }
}

fn of_payload(of: &Value, values: &[&Value], not: bool) -> Vec<Match> {
    let text = |key: &str| of[key].as_str().unwrap_or_default();
    let of_protocol = |name: &str| Match::Protocol(protocols(&[&Value::from(name)]), false);
    let port = || {
        let ports = values.iter().map(|value| range(value));
        let ports: Option<Vec<(u16, u16)>> = ports.collect();
        ports.map_or(Match::Unknown, |ports| Match::Port(ports, not))
    };
    match (text("protocol"), text("field")) {
        ("ip", "protocol") => vec![Match::Protocol(protocols(values), not)],
        ("ip", "daddr") => {
            let nets = values.iter().map(|value| net(value));
            let nets: Option<Vec<Ipv4Net>> = nets.collect();
            vec![nets.map_or(Match::Unknown, |nets| Match::To(nets, not))]
        }
        ("ip", "saddr") => {
            let is_own = |value: &&Value| net(value).is_some_and(|net| net.addr().is_loopback());
            match values.iter().all(is_own) {
                true => vec![Match::known(not)],
                false => vec![Match::Unknown],
            }
        }
        ("ip6", _) => vec![Match::Never],
        ("th", "dport") => vec![port()],
        (name @ ("tcp" | "udp"), "dport") => vec![of_protocol(name), port()],
        ("ip" | "th" | "", _) => vec![Match::Unknown],
        ("ether" | "vlan" | "arp", _) => vec![Match::Unknown],
        (name, _) => vec![of_protocol(name), Match::Unknown],
    }
}

/// The numbers of protocols. Others than these are of no use here.
fn protocols(values: &[&Value]) -> Vec<u8> {
    let number = |value: &&Value| match value {
        Value::Number(number) => u8::try_from(number.as_u64()?).ok(),
        Value::String(name) => match name.as_str() {
            "tcp" => Some(6),
            "udp" => Some(17),
            "ipencap" | "ipv4" => Some(4),
            name => name.parse().ok(),
        },
        _ => None,
    };
    values.iter().filter_map(number).collect()
}

fn range(value: &Value) -> Option<(u16, u16)> {
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
    match value
        .get("range")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        Some([first, last]) => Some((number(first)?, number(last)?)),
        Some(_) => None,
        None => number(value).map(|port| (port, port)),
    }
}

fn net(value: &Value) -> Option<Ipv4Net> {
    let prefix: Option<&Map<String, Value>> = value.get("prefix").and_then(Value::as_object);
    match prefix {
        Some(prefix) => {
            let length = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
            Ipv4Net::new(prefix.get("addr")?.as_str()?.parse().ok()?, length).ok()
        }
        None => Some(value.as_str()?.parse::<core::net::Ipv4Addr>().ok()?.into()),
    }
}
