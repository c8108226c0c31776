//! The settings from each place: server properties, the environment, the bundle, flags.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::language::tr;

use super::settings::{PLAIN, Settings, check_names, closest, is_plain, names};
use super::spelling::SUGGESTION_DISTANCE;
use super::value::{Layer, Place};

/// The prefix that marks a server property as meant for this program.
const PREFIX: &str = "appliance.";
/// From how many characters on a name may differ by two edits from that of a setting.
const LONG: usize = 6;
/// The prefix of this program's variables in the environment.
const VARIABLE_PREFIX: &str = "APPLIANCE_";

/// Whether a server property of that name is a setting, or looks like one.
pub(super) fn is_setting(property: &str) -> bool {
    property.starts_with(PREFIX) || is_plain(property)
}

/// A sentence for each property that is almost the name of a setting.
pub(super) fn misspelt_properties(source: &str, meta: &BTreeMap<String, String>) -> Vec<String> {
    let keys = meta.keys().filter(|key| !is_setting(key));
    let alike = keys.filter_map(|key| Some((key, closest(key)?)));
    // Short words are alike by chance.
    let alike = alike.filter(|(key, setting)| {
        let (key, setting) = (key.to_lowercase(), setting.to_lowercase());
        key == setting || key.len() >= LONG || strsim::damerau_levenshtein(&key, &setting) < 2
    });
    alike
        .map(|(key, setting)| {
            tr!(
                "{source}: the property `{}` is not a setting; did you mean `{setting}`?",
                key.escape_debug(),
                source,
                setting
            )
        })
        .collect()
}

impl Layer {
    /// The settings among a server's properties: `appliance.KEY` wins over `KEY`. Other properties
    /// are not for this program and are ignored.
    ///
    /// # Errors
    /// If a property starts with `appliance.` and is not a setting, because it is misspelt.
    pub fn of_properties(source: &str, meta: &BTreeMap<String, String>) -> Result<Layer> {
        let mut found: BTreeMap<&str, &str> = BTreeMap::new();
        let mut spelled = BTreeMap::new();
        for (key, value) in meta {
            match key.strip_prefix(PREFIX) {
                Some(name) if is_plain(name) => {
                    found.insert(name, value.trim());
                    spelled.insert(name.to_owned(), format!("meta.{key}"));
                }
                Some(name) => bail!(tr!(
                    "{source}: `meta.{}` is not a setting{}; settings are {} \
                     (remove it with `openstack server unset --property {0} SERVER`)",
                    key.escape_debug(),
                    closest(name).map_or(String::new(), |k| tr!(
                        " (did you mean `{PREFIX}{k}`?)",
                        PREFIX,
                        k
                    )),
                    names(),
                    source
                )),
                None if is_plain(key) => {
                    found.entry(key).or_insert(value.trim());
                }
                None => {}
            }
        }
        Ok(Layer {
            place: Place::Property(source.to_owned()),
            settings: Settings::from_pairs(&found)?,
            spelled,
        })
    }

    /// The settings among the environment variables. An empty variable counts as not set.
    ///
    /// # Errors
    /// If a variable looks like a misspelt setting.
    pub fn of_environment(variables: &[(String, String)]) -> Result<Layer> {
        let mut found: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in variables {
            let Some(end) = name.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            match PLAIN.iter().find(|plain| plain.variable == name) {
                Some(_) if value.is_empty() => {}
                Some(plain) => drop(found.insert(plain.key, value)),
                None => {
                    let alike = PLAIN.iter().find(|plain| {
                        strsim::damerau_levenshtein(&plain.variable[VARIABLE_PREFIX.len()..], end)
                            <= SUGGESTION_DISTANCE
                    });
                    if let Some(plain) = alike {
                        bail!(tr!(
                            "environment {}: no such setting; did you mean {}?",
                            name.escape_debug(),
                            plain.variable
                        ));
                    }
                }
            }
        }
        Ok(Layer::new(
            Place::Environment,
            Settings::from_pairs(&found)?,
        ))
    }

    /// The settings in the bundle of that name.
    ///
    /// # Errors
    /// If one is not a plain setting.
    pub fn of_bundle(name: &str, settings: &BTreeMap<String, String>) -> Result<Layer> {
        let pairs = settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        check_names(settings.keys()).with_context(|| tr!("bundle {name}: settings", name))?;
        Ok(Layer::new(
            Place::Bundle(name.to_owned()),
            Settings::from_pairs(&pairs)?,
        ))
    }

    /// The settings of flags: each `KEY=VALUE`; `more` are those that have a separate flag.
    ///
    /// # Errors If one is not a plain setting, has no value, or is given twice.
    pub fn of_flags(set: &[String], more: &[(&'static str, Option<&String>)]) -> Result<Layer> {
        let mut found: BTreeMap<&str, &str> = more
            .iter()
            .filter_map(|(key, value)| Some((*key, value.as_ref()?.as_str())))
            .collect();
        for assignment in set {
            let (key, value) = assignment.split_once('=').with_context(|| {
                tr!(
                    "flag --set {assignment}: expected KEY=VALUE",
                    assignment = format_args!("{assignment:?}")
                )
            })?;
            check_names([key]).context("flag --set")?;
            ensure!(
                found.insert(key, value).is_none(),
                tr!(
                    "flag --set {key}: this setting is given twice on the command line; give it once",
                    key
                )
            );
        }
        Ok(Layer::new(Place::Flag, Settings::from_pairs(&found)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Result<Layer> {
        let meta = pairs
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        Layer::of_properties("config drive /dev/sr0", &meta)
    }

    fn environment(pairs: &[(&str, &str)]) -> Result<Layer> {
        let variables: Vec<_> = pairs
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        Layer::of_environment(&variables)
    }

    fn flags(set: &[&str]) -> Result<Layer> {
        let set: Vec<String> = set.iter().map(|&text| text.to_owned()).collect();
        Layer::of_flags(&set, &[("role", Some(&"master".to_owned()))])
    }

    #[test]
    fn the_prefixed_property_wins_and_is_named_as_it_is_spelled() {
        let layer = properties(&[("role", "worker"), ("appliance.role", "master")]).unwrap();
        assert_eq!(layer.settings.role.as_deref(), Some("master"));
        assert_eq!(
            layer.origin("role").to_string(),
            "config drive /dev/sr0: `meta.appliance.role`"
        );
    }

    #[test]
    fn properties_of_others_are_passed_over() {
        let layer = properties(&[("backup", "nightly"), ("podCIDR", "10.0.0.0/16")]).unwrap();
        assert_eq!(layer.settings.pod_cidr.as_deref(), Some("10.0.0.0/16"));
        assert_eq!(layer.settings.role, None);
    }

    #[test]
    fn a_misspelt_prefixed_property_is_refused_with_a_suggestion() {
        let error = properties(&[("appliance.rloe", "master")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`meta.appliance.rloe` is not a setting"),
            "{error}"
        );
        assert!(error.contains("did you mean `appliance.role`?"), "{error}");
        assert!(
            error.contains("unset --property appliance.rloe SERVER"),
            "{error}"
        );
    }

    #[test]
    fn every_plain_setting_is_a_field_wherever_it_is_made() {
        let all: Vec<(&str, &str)> = PLAIN.iter().map(|plain| (plain.key, "x")).collect();
        let from_properties = properties(&all).unwrap().settings;
        let all: Vec<(&str, &str)> = PLAIN.iter().map(|plain| (plain.variable, "x")).collect();
        assert_eq!(from_properties, environment(&all).unwrap().settings);
    }

    #[test]
    fn an_empty_variable_says_nothing_and_a_misspelt_one_is_refused() {
        let layer = environment(&[("APPLIANCE_ROLE", ""), ("APPLIANCE_CACHE", "/c")]).unwrap();
        assert_eq!(layer.settings, Settings::default());
        let error = environment(&[("APPLIANCE_POD_CDIR", "x")]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("did you mean APPLIANCE_POD_CIDR?"),
            "{error}"
        );
    }

    #[test]
    fn flags_set_any_plain_setting_once() {
        let layer = flags(&["podCIDR=10.0.0.0/16"]).unwrap();
        assert_eq!(layer.settings.pod_cidr.as_deref(), Some("10.0.0.0/16"));
        assert_eq!(layer.origin("podCIDR").to_string(), "flag --set podCIDR");
        assert_eq!(layer.origin("role").to_string(), "flag --role");
        for (bad, why) in [
            ("podCDIR=x", "did you mean `podCIDR`?"),
            ("podCIDR", "expected KEY=VALUE"),
            ("role=worker", "given twice"),
        ] {
            let error = format!("{:#}", flags(&[bad]).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }
}
