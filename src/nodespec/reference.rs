//! The description of the settings: for people, for editors, and as an example file.

use std::fmt::Write;

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{Schema, schema_for};
use serde_json::Value;

use crate::language::Say;

use super::settings::{PLAIN, Plain, Settings};

/// The head of the example file.
const EXAMPLE_HEADER: &str = "\
# Settings of an appliance node, for /etc/appliance/config.yaml or the section `appliance:` of
# user-data. Every setting is optional. The values below are defaults or examples: remove the `#`
# before those that you change.
";

/// What else the example file says of a setting.
const EXAMPLE_MORE: &str =
    "Default: {default}. Environment variable: {variable}. Server property: {key}.";

/// Examples of the settings that are lists or maps.
const EXAMPLE_LISTS: &str = "\
inventory:
- name: server02
  role: master
  address: 192.168.1.102
- name: server01
  role: worker
  address: 192.168.1.101
- name: server03
  uuid: 5f7a1c9e-3b0d-4a52-9c77-0e8f6d2b4a03
  role: worker
  address: 192.168.1.103
ca:
  certificate: /etc/appliance/ca.pem
  key: /etc/appliance/ca-key.pem
join:
  token: TOKEN  # of `appliance token create --offline`, the same on all nodes
  ttl: 24h
  uses: 10
  port: 6444
backup:
  recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]
  to: /srv/backups
  every: 6h
  keep: 12
#  passphraseFile: /etc/appliance/backup-passphrase
#  to: s3://backups/cluster1  # object storage: Swift, Ceph, MinIO
  s3:
    endpoint: https://objects.example.org:8080
    region: us-east-1
    credentials: /etc/appliance/s3-credentials
    ca: /etc/appliance/s3-ca.pem
workloads:
- name: message-service
  file: /etc/appliance/message-service.yaml
  images: [/mnt/images/message-service.tar]
- name: api-gateway
  after: [message-service]
  file: /etc/appliance/api-gateway.yaml
- name: settings
  manifest: '{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}'
roleRules:
- launchIndex: 0
  role: master
- hostName: worker-*
  role: worker
hosts:
  registry.example.org: 192.168.1.200
";

/// The JSON Schema (2020-12) of a configuration file, with every default.
pub fn schema() -> Schema {
    let mut schema = schema_for!(Settings);
    let mut without_null = RecursiveTransform(|schema: &mut Schema| {
        if schema.get("default") == Some(&Value::Null) {
            schema.remove("default");
        }
    });
    without_null.transform(&mut schema);
    for plain in PLAIN {
        if let Some(property) = property(&mut schema, plain.key)
            && plain.is_default(plain.example)
        {
            property.insert("default".to_owned(), plain.example.into());
        }
    }
    schema
}

fn property<'a>(
    schema: &'a mut Schema,
    key: &str,
) -> Option<&'a mut serde_json::Map<String, Value>> {
    let properties = schema.ensure_object().get_mut("properties")?;
    properties.get_mut(key)?.as_object_mut()
}

impl Plain {
    fn is_default(&self, value: &str) -> bool {
        self.default == value
    }
}

/// The description of the setting in the schema.
fn meaning(schema: &mut Schema, key: &str) -> String {
    let text = property(schema, key).and_then(|property| property.get("description")?.as_str());
    text.unwrap_or_default().to_owned()
}

/// The plain settings for `--help`: the name and the meaning of each. `say` gives the translation of a text.
pub fn help(say: Say) -> Vec<(&'static str, String)> {
    let mut schema = schema();
    let settings = PLAIN.iter().map(|plain| {
        let meaning = say(&meaning(&mut schema, plain.key));
        let meaning = meaning.trim_end_matches(['.', '。']);
        let default = say("[default: {value}]").replace("{value}", &plain.default_in(say));
        (plain.key, format!("{meaning} {default}"))
    });
    settings.collect()
}

/// A configuration file with every setting in it, each explained and commented out. `say` gives the translation of a
/// text.
pub fn example(say: Say) -> String {
    let mut schema = schema();
    let mut text = say(EXAMPLE_HEADER);
    for plain in PLAIN {
        let meaning = say(&meaning(&mut schema, plain.key));
        let (default, more) = (plain.default_in(say), say(EXAMPLE_MORE));
        let more = more.replace("{default}", &default);
        let more = more.replace("{variable}", plain.variable);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n# {meaning}\n# {}\n#{}: {}\n",
            more.replace("{key}", plain.key),
            plain.key,
            plain.example
        );
    }
    for part in parts(EXAMPLE_LISTS) {
        let key = part.split(':').next().unwrap_or_default();
        let _ = write!(text, "\n# {}\n", say(&meaning(&mut schema, key)));
        for line in part.lines() {
            let (setting, comment) = line.split_once("  # ").unwrap_or((line, ""));
            let _ = write!(text, "#{setting}");
            if !comment.is_empty() {
                let _ = write!(text, "  # {}", say(comment));
            }
            text.push('\n');
        }
    }
    text
}

/// The top-level keys of a YAML text, each with its value and the comments in it.
fn parts(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines() {
        let continues = line.starts_with([' ', '-', '#']);
        match parts.last_mut() {
            Some(part) if continues => *part += &format!("\n{line}"),
            _ => parts.push(line.to_owned()),
        }
    }
    parts
}

/// The example with no setting commented out, and with a token.
#[cfg(test)]
pub(super) fn in_force() -> String {
    let text = example(&mut str::to_owned);
    let settings = text.lines().filter_map(|line| {
        let setting = line.strip_prefix('#')?;
        let is_prose = setting.starts_with(' ') && !setting.starts_with("  ");
        (!is_prose).then_some(setting)
    });
    let settings = settings.collect::<Vec<_>>().join("\n");
    settings.replace(
        "token: TOKEN",
        "token: abcdef.0123456789abcdefghijklmnopqrstuv",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::nodespec::validate::validate;
    use crate::nodespec::value::{Layer, Place};

    #[test]
    fn the_example_has_every_setting_and_is_valid() {
        assert!(!example(&mut str::to_owned).contains("# \n"));
        let text = in_force();
        let settings = Settings::from_yaml("example", &text).unwrap();
        let layer = Layer::new(Place::Config("example".to_owned()), settings);
        validate(&[layer]).unwrap();
        let schema = schema();
        let properties = schema.get("properties").unwrap().as_object().unwrap();
        assert!(properties.contains_key("join"));
        let mut keys = Vec::new();
        every_property(schema.as_value(), &mut keys);
        assert!(keys.len() > properties.len());
        for key in keys {
            assert!(
                text.contains(&format!("{key}:")),
                "{key} is not in the example"
            );
        }
    }

    /// The names of all properties in a schema, also of those in lists and in properties.
    fn every_property<'a>(schema: &'a Value, keys: &mut Vec<&'a str>) {
        match schema {
            Value::Object(fields) => {
                let properties = fields.get("properties").and_then(Value::as_object);
                keys.extend(
                    properties
                        .into_iter()
                        .flat_map(|all| all.keys())
                        .map(String::as_str),
                );
                fields
                    .values()
                    .for_each(|value| every_property(value, keys));
            }
            Value::Array(values) => values.iter().for_each(|value| every_property(value, keys)),
            _ => {}
        }
    }

    #[test]
    fn the_example_has_no_token_that_anyone_could_keep() {
        let uncommented = example(&mut str::to_owned)
            .replace("#  token:", "  token:")
            .replace("#join:", "join:");
        let settings = Settings::from_yaml("example", &uncommented).unwrap();
        let layer = Layer::new(Place::Config("example".to_owned()), settings);
        let refused = validate(&[layer]).unwrap_err().to_string();
        assert!(refused.contains("appliance token create"), "{refused}");
    }

    #[test]
    fn every_setting_is_explained() {
        let mut schema = schema();
        for plain in PLAIN {
            assert!(!meaning(&mut schema, plain.key).is_empty(), "{}", plain.key);
        }
        let all = help(&mut str::to_owned);
        let meaning = "The addresses of pods [default: 172.20.0.0/16]".to_owned();
        assert!(all.contains(&("podCIDR", meaning)));
    }

    #[test]
    fn the_schema_refuses_what_is_misspelt_and_knows_the_roles() {
        let text = serde_json::to_string(&schema()).unwrap();
        assert!(text.contains(r#""additionalProperties":false"#), "{text}");
        assert!(text.contains(r#""const":"worker""#), "{text}");
        assert!(!text.contains(r#""default":null"#), "{text}");
        assert!(text.contains(r#""default":"172.20.0.0/16""#), "{text}");
    }
}
