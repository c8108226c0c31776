//! The tool that makes a specification: it takes settings from layers, and collects problems.

use std::collections::BTreeSet;
use std::fmt::Display;

use ipnet::Ipv4Net;

use crate::language::tr;

use super::layers::misspelt_properties;
use super::settings::{self, Settings};
use super::spelling::narrower;
use super::value::{Layer, Origin, Overridden, Sourced};
use super::{Inputs, network, user_data};

/// How many characters of a value an error message repeats.
const QUOTE_LIMIT: usize = 80;

pub(super) struct Resolver<'a> {
    pub(super) inputs: &'a Inputs,
    /// The settings, the strongest first.
    pub(super) layers: &'a [Layer],
    pub(super) problems: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Picks one setting out of a layer's.
pub(super) type Pick = fn(&Settings) -> &Option<String>;

/// Parses the text of a setting, or returns the reason why that is not possible.
type Parse<T> = fn(&str) -> Result<T, String>;

impl<'a> Resolver<'a> {
    pub(super) fn new(inputs: &'a Inputs, layers: &'a [Layer]) -> Resolver<'a> {
        Resolver {
            inputs,
            layers,
            problems: Vec::new(),
            warnings: passed_over(inputs),
        }
    }

    pub(super) fn refuse(&mut self, origin: &Origin, value: &str, why: impl Display) {
        let short: String = value.chars().take(QUOTE_LIMIT).collect();
        let rest = if short.len() < value.len() { "…" } else { "" };
        let why = match narrower(value) {
            Some(meant) => tr!("{why}; {meant}", why, meant),
            None => why.to_string(),
        };
        let remedy = origin
            .remedy(self.is_live())
            .map_or(String::new(), |remedy| format!(" ({remedy})"));
        self.problems.push(tr!(
            "{origin} is {short}{rest}: {why}{remedy}",
            short = format_args!("{short:?}"),
            origin,
            rest,
            why,
            remedy
        ));
    }

    /// Whether a source shows a server property that is set later.
    pub(super) fn is_live(&self) -> bool {
        self.inputs.metadata.iter().any(|metadata| metadata.is_live)
    }

    /// The strongest layer's value of the setting `key`, and what it overrode.
    pub(super) fn said(&mut self, key: &'static str, pick: Pick) -> Option<Sourced<String>> {
        let layers = self.layers;
        let mut saying = layers
            .iter()
            .filter_map(|layer| Some((layer, pick(&layer.settings).as_ref()?)));
        let (layer, value) = saying.next()?;
        let mut said = Sourced::new(value.clone(), layer.origin(key));
        for (other, theirs) in saying {
            if layer.place.is_like(&other.place) && theirs != value && is_of_weight(key) {
                self.warnings.push(tr!(
                    "{} is {value}, but {} is {theirs}; the first one is used (to change the \
                     order, list the sources with --metadata-source)",
                    said.origin,
                    other.origin(key),
                    value = format_args!("{value:?}"),
                    theirs = format_args!("{theirs:?}")
                ));
            }
            said.overrode.push(Overridden {
                value: theirs.clone(),
                origin: other.origin(key),
            });
        }
        Some(said)
    }

    pub(super) fn parsed<T>(
        &mut self,
        said: Sourced<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Sourced<T>> {
        let (origin, text) = (said.origin.clone(), said.value.clone());
        said.try_map(|text| parse(&text))
            .map_err(|why| self.refuse(&origin, &text, why))
            .ok()
    }

    /// The setting `key`, checked by `parse`, or its default.
    pub(super) fn setting<T>(
        &mut self,
        key: &'static str,
        pick: Pick,
        parse: Parse<T>,
    ) -> Option<Sourced<T>> {
        let default = settings::default_of(key).unwrap_or_default();
        let default = Sourced::new(default.to_owned(), Origin::Default);
        let said = match self.said(key, pick) {
            Some(mut said) if !default.is_empty() => {
                said.overrode.push(default.overridden());
                said
            }
            Some(said) => said,
            None => default,
        };
        self.parsed(said, parse)
    }

    pub(super) fn refuse_overlaps(&mut self, ranges: &[(String, Ipv4Net)]) {
        for (i, (name, range)) in ranges.iter().enumerate() {
            for (other_name, other) in &ranges[i + 1..] {
                if network::overlap(range, other) {
                    self.problems.push(tr!(
                        "{name} overlaps {other_name}; choose another range",
                        name,
                        other_name
                    ));
                }
            }
        }
    }
}

/// What the metadata has and is not used, although it seems to be meant for this program. What several
/// sources have is told once.
pub(super) fn passed_over(inputs: &Inputs) -> Vec<String> {
    let (mut told, mut seen) = (Vec::new(), BTreeSet::new());
    for metadata in &inputs.metadata {
        let unread = user_data::unread(metadata);
        let misspelt = misspelt_properties(&metadata.source, &metadata.meta);
        let all = metadata.warnings.iter().cloned();
        for sentence in all.chain(unread).chain(misspelt) {
            let without_source = sentence.strip_prefix(&metadata.source);
            if seen.insert(without_source.unwrap_or(&sentence).to_owned()) {
                told.push(sentence);
            }
        }
    }
    told
}

/// A range, with its name in errors.
pub(super) fn named_range(name: &str, range: &Sourced<Ipv4Net>) -> (String, Ipv4Net) {
    (format!("{name} {} ({})", **range, range.origin), **range)
}

/// Whether to warn if sources disagree on this setting.
fn is_of_weight(key: &str) -> bool {
    matches!(key, "role" | "address" | "network" | "interface" | "master")
}
