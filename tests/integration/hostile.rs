//! Any text in the metadata reaches the node's units as exactly this value, or not at all.

use std::collections::BTreeMap;
use std::process::Command;

use appliance::desired::Desired;
use appliance::metadata::openstack::{self, RawFile, RawFiles};
use appliance::nodespec::settings::{PLAIN, Settings};
use appliance::nodespec::value::{Layer, Place};
use appliance::nodespec::{HostFacts, Inputs, NodeSpec, user_data};
use appliance::render::{escape_shell_word, escape_unit_word};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest,
};
use serde_json::{Map, Value, json};

use crate::rendered::{desired, manifest, units};

/// Splits a command line as systemd 229 does: words by blanks, C escapes, quotes,
/// then specifiers and variables.
fn systemd_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut chars) = (String::new(), line.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            ' ' if !word.is_empty() => words.push(std::mem::take(&mut word)),
            ' ' => {}
            '"' | '\'' => panic!("a quote opens in {line}"),
            '\\' => match chars.next().unwrap() {
                'x' => {
                    let hex: String = chars.by_ref().take(2).collect();
                    word.push(char::from(u8::from_str_radix(&hex, 16).unwrap()));
                }
                c @ ('\\' | '"' | '\'') => word.push(c),
                c => panic!("unknown escape \\{c} in {line}"),
            },
            '%' | '$' => {
                assert_eq!(chars.next(), Some(c), "a specifier or variable in {line}");
                word.push(c);
            }
            c => word.push(c),
        }
    }
    words.push(word);
    words
}

/// The argument vector of every program of the unit, as systemd sees it.
fn argument_vectors(unit: &str) -> Vec<Vec<String>> {
    let joined = unit.replace("\\\n", "");
    let commands = joined
        .lines()
        .filter_map(|line| line.strip_prefix("Exec")?.split_once('='));
    commands.map(|(_, line)| systemd_words(line)).collect()
}

fn vectors(desired: &Desired) -> BTreeMap<String, Vec<Vec<String>>> {
    let units = units(desired);
    units
        .iter()
        .map(|(path, unit)| (path.clone(), argument_vectors(unit)))
        .collect()
}

/// Values that differ from each other and from all other text of a unit.
const MARKS: [(&str, &str); 6] = [
    ("nodeName", "mark-node"),
    ("address", "198.51.100.77"),
    ("podCIDR", "100.64.0.0/16"),
    ("serviceCIDR", "100.127.0.0/16"),
    ("nodePortRange", "11111-22222"),
    ("clusterName", "mark-cluster"),
];

/// A VM with these server properties, user-data and host name; flags provide the rest.
fn vm(meta: &Map<String, Value>, data: Option<&str>, hostname: &str) -> Option<NodeSpec> {
    let meta_data = json!({"uuid": "u", "name": hostname, "hostname": hostname, "meta": meta});
    let file = |name: &str, content: String| RawFile {
        name: name.to_owned(),
        content: content.into_bytes(),
    };
    let files = RawFiles {
        meta_data: file("meta_data.json", meta_data.to_string()),
        network_data: None,
        user_data: data.map(|data| file("user_data", data.to_owned())),
        vendor_data: vec![],
        public_ipv4: None,
        passed_over: Vec::new(),
    };
    let metadata = openstack::parse("a test", &files).ok()?;
    let mut layers = user_data::layers(&metadata).ok()?;
    let weakest = Settings {
        role: Some("master".to_owned()),
        profile: Some("simple".to_owned()),
        address: Some("192.0.2.1".to_owned()),
        ..Settings::default()
    };
    layers.push(Layer::new(Place::Bundle("test".to_owned()), weakest));
    let inputs = Inputs {
        layers,
        metadata: vec![metadata],
        host: HostFacts::default(),
        ..Inputs::default()
    };
    NodeSpec::resolve(&inputs).ok()
}

/// The expected vectors of the units: those with marks, each mark replaced by the value.
fn intended(spec: &NodeSpec) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut marks: Map<String, Value> = MARKS
        .iter()
        .map(|(key, mark)| ((*key).to_owned(), (*mark).into()))
        .collect();
    marks.insert("ipip".to_owned(), spec.cluster.ipip.to_string().into());
    marks.insert("mtu".to_owned(), spec.mtu.to_string().into());
    let level = spec.log_level.as_ref().map(|level| level.to_string());
    marks.extend(level.map(|level| ("logLevel".to_owned(), level.into())));
    let marked = vm(&marks, None, "host").unwrap();
    let rows = spec.explain();
    let value = |key: &str| {
        let row = rows.iter().find(|row| row.name == key).unwrap();
        row.value.clone()
    };
    let replace = |word: &String| {
        MARKS.iter().fold(word.clone(), |word, (key, mark)| {
            word.replace(mark, &value(key))
        })
    };
    let mut vectors = vectors(&desired(&marked, &manifest(), false));
    for vector in vectors.values_mut().flatten() {
        *vector = vector.iter().map(replace).collect();
    }
    vectors
}

/// Text that is a valid value, an almost valid one, or anything.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9.-]{1,20}",
        "10\\.[0-9]{1,3}\\.0\\.0/(8|16|24|31)",
        "[1-9][0-9]{0,4}-[1-9][0-9]{0,4}",
        "[a-z]{1,4}[ \n\t%$\"'\\\\;{}#=]{1,3}[a-z]{1,4}",
        Just("off\nExecStartPre=/bin/evil".to_owned()),
        any::<String>(),
    ]
}

fn properties() -> impl Strategy<Value = Map<String, Value>> {
    let keys: Vec<&str> = PLAIN.iter().map(|plain| plain.key).collect();
    let harmless: Vec<&str> = keys
        .into_iter()
        .filter(|key| !matches!(*key, "role" | "profile" | "apiServerSANs" | "master"))
        .collect();
    let key = proptest::sample::select(harmless);
    proptest::collection::btree_map(key, text(), 0..3).prop_map(|pairs| {
        let pair = |(key, value): (&str, String)| (key.to_owned(), Value::from(value));
        pairs.into_iter().map(pair).collect()
    })
}

proptest! {
    #[test]
    fn any_value_stays_one_word(value in "[^\\p{Cc}]{1,40}") {
        let line = format!("/bin/true {} --last", escape_unit_word(&value));
        prop_assert_eq!(systemd_words(&line), vec!["/bin/true", value.as_str(), "--last"]);
    }

    #[test]
    fn units_run_what_was_intended_whatever_the_metadata_holds(
        meta in properties(), hostname in text()
    ) {
        if let Some(spec) = vm(&meta, None, &hostname) {
            let desired = desired(&spec, &manifest(), false);
            prop_assert_eq!(vectors(&desired), intended(&spec));
        }
    }

    #[test]
    fn user_data_of_any_kind_is_understood_refused_or_passed_over(
        value in text(), form in 0..4
    ) {
        let quoted = serde_json::to_string(&value).unwrap();
        let data = match form {
            0 => format!("#cloud-config\nappliance: {{nodeName: {quoted}}}\n"),
            1 => format!("#cloud-config\nappliance:\n  nodeName: {value}\n"),
            2 => format!("#cloud-config-archive\n- {quoted}\n- content: {value}\n"),
            _ => value.clone(),
        };
        if let Some(spec) = vm(&Map::new(), Some(&data), "server02") {
            prop_assert_eq!(vectors(&desired(&spec, &manifest(), false)), intended(&spec));
        }
    }
}

#[test]
fn the_values_that_are_tried_do_reach_the_units() {
    let meta: Map<String, Value> = [("podCIDR", "10.9.0.0/16"), ("nodeName", "other")]
        .map(|(key, value)| (key.to_owned(), value.into()))
        .into_iter()
        .collect();
    let spec = vm(&meta, None, "server02").unwrap();
    let vectors = vectors(&desired(&spec, &manifest(), false));
    let words: Vec<&String> = vectors.values().flatten().flatten().collect();
    assert!(
        words.iter().any(|word| word.contains("10.9.0.0/16")),
        "{words:?}"
    );
    assert!(
        words.iter().any(|word| word.ends_with("=other")),
        "{words:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_value_stays_one_word_of_a_shell(value in "[^\\p{Cc}]{0,40}") {
        let script = format!("set -- {}; printf '%s %s' $# \"$1\"", escape_shell_word(&value));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("1 {value}"));
    }
}
