//! The settings in user-data and vendor-data, in all formats that cloud-init accepts. Data without
//! them is ignored; data that has them and is not read is told.

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::layers::is_setting;
use super::settings::Settings;
use super::spelling::suggest;
use super::value::{Layer, Place};
use crate::language::tr;
use crate::metadata::json;
use crate::metadata::model::{Metadata, VendorData, VendorFormat};
use crate::paths::CONFIG;
use parts::{Kind, Part};

mod cloud_config;
mod parts;
mod unread;

pub use cloud_config::{Found, host_name};

/// The section's name.
const SECTION: &str = "appliance";
/// The key under which clouds put cloud-init's part of their vendor-data.
const FOR_CLOUD_INIT: &str = "cloud-init";

/// The settings in the data of one metadata source: properties, user-data, vendor-data.
///
/// # Errors
/// As the functions for each; the error names the source.
pub fn layers(metadata: &Metadata) -> Result<Vec<Layer>> {
    let source = &metadata.source;
    for (key, kind) in &metadata.unusable {
        ensure!(
            !is_setting(key),
            tr!(
                "{source}: `meta.{}` is {kind}; expected text",
                key.escape_debug(),
                source,
                kind
            )
        );
    }
    let mut layers = vec![Layer::of_properties(source, &metadata.meta)?];
    if let Some(data) = &metadata.user_data {
        let found = find(data).with_context(|| format!("{source}: user-data"))?;
        layers.extend(found.layers(source));
    }
    for vendor_data in metadata
        .vendor_data
        .iter()
        .filter(|data| broken(data).is_none())
    {
        let content = &vendor_data.content;
        let found = match vendor_data.format {
            VendorFormat::First => vendor_settings(content),
            VendorFormat::Second => vendor2_settings(content),
            VendorFormat::CloudInit => settings(content),
        };
        let found = found.with_context(|| vendor_data.name.clone())?;
        let place = Place::VendorData(vendor_data.name.clone());
        layers.extend(found.map(|settings| Layer::new(place, settings)));
    }
    Ok(layers)
}

impl Found {
    /// The settings as layers, the strongest first. Messages call the place of the user-data `source`.
    pub fn layers(self, source: &str) -> impl Iterator<Item = Layer> {
        let file = self
            .file
            .map(|settings| Layer::new(Place::UserDataFile(source.to_owned()), settings));
        let section = self
            .section
            .map(|settings| Layer::new(Place::UserData(source.to_owned()), settings));
        file.into_iter().chain(section)
    }
}

/// What the metadata of one source has for this program and is not read: one sentence for each.
pub fn unread(metadata: &Metadata) -> Vec<String> {
    let source = &metadata.source;
    let mut unread = Vec::new();
    if let Some(data) = &metadata.user_data
        && let Some(why) = why_unread(data)
    {
        unread.push(format!("{source}: {why}"));
    }
    for vendor_data in &metadata.vendor_data {
        if let Some(error) = broken(vendor_data) {
            unread.push(tr!(
                "{}: not JSON, at line {} column {}; it is passed over",
                vendor_data.name,
                error.line(),
                error.column()
            ));
        }
    }
    unread
}

/// Why user-data with settings is not read; `None` if it has none, or if they are read.
pub fn why_unread(data: &[u8]) -> Option<String> {
    match find(data) {
        Ok(found) if found == Found::default() => unread::why(data),
        _ => None,
    }
}

/// Whether cloud-init would take the data for user-data: then it is no file of settings.
pub fn is_known(data: &[u8]) -> bool {
    let known = |parts: Vec<Part>| parts.iter().any(|part| part.kind != Kind::Unknown);
    parts::parts(data).is_ok_and(known)
}

/// The settings in user-data: the file [`CONFIG`] that it has cloud-init write, and its section.
///
/// # Errors
/// If a part with settings is broken or holds an unknown setting.
pub fn find(data: &[u8]) -> Result<Found> {
    cloud_config::find(data)
}

/// The settings in user-data; `None` if it has none. Those in the file have precedence.
///
/// # Errors
/// As [`find`].
pub fn settings(data: &[u8]) -> Result<Option<Settings>> {
    let found = find(data)?;
    Ok(found.file.or(found.section))
}

/// Whether the text may have settings. Text that only runs this program is not parsed, because
/// cloud-init accepts some text that is not valid YAML.
fn may_have_settings(text: &str) -> bool {
    may_have_section(text) || text.contains(CONFIG)
}

/// Whether the text may have the section, in any spelling.
fn may_have_section(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(SECTION) {
        if after.starts_with(['"', '\'']) || after.trim_start_matches(' ').starts_with(':') {
            return true;
        }
        rest = after;
    }
    false
}

/// The parser's error about vendor-data that is not JSON. Empty data says nothing.
fn broken(data: &VendorData) -> Option<serde_json::Error> {
    match data.format {
        VendorFormat::CloudInit => None,
        _ => value(&data.content).err(),
    }
}

fn value(data: &[u8]) -> Result<Value, serde_json::Error> {
    match data.trim_ascii().is_empty() {
        true => Ok(Value::Null),
        false => json::read(data, |data| serde_json::from_slice(data)),
    }
}

/// The settings in `vendor_data.json`: the key `appliance`, or those in the part for cloud-init,
/// which may be all of it.
///
/// # Errors
/// If it is not JSON, or the section holds an unknown setting.
pub fn vendor_settings(data: &[u8]) -> Result<Option<Settings>> {
    vendor_section(&value(data)?)
}

/// The settings in `vendor_data2.json`, which has a part for each service that adds to it. The part
/// of the cloud itself is `static`. cloud-init takes only the part `cloud-init`.
///
/// # Errors
/// As [`vendor_settings`], naming the part; and if two parts have such a section.
pub fn vendor2_settings(data: &[u8]) -> Result<Option<Settings>> {
    let value = value(data)?;
    let Some(parts) = value.as_object() else {
        return for_cloud_init(&value);
    };
    let mut found = None;
    for (name, part) in parts {
        let settings = match part {
            Value::Object(_) => vendor_section(part),
            part if name == FOR_CLOUD_INIT => for_cloud_init(part),
            _ => Ok(None),
        };
        let settings = settings.with_context(|| format!("`{}`", name.escape_debug()))?;
        ensure!(
            found.is_none() || settings.is_none(),
            tr!("two parts have a section `{SECTION}:`; keep one", SECTION)
        );
        found = found.or(settings);
    }
    Ok(found)
}

fn vendor_section(value: &Value) -> Result<Option<Settings>> {
    if let Some(section) = value.get(SECTION) {
        let settings = serde_json::from_value(texts(section))
            .map_err(|error| anyhow!("`{SECTION}`: {}", suggest(&error.to_string())))?;
        return Ok(Some(settings));
    }
    match value.get(FOR_CLOUD_INIT) {
        Some(Value::Object(config)) if config.contains_key(SECTION) => {
            let part = value.get(FOR_CLOUD_INIT).unwrap_or(&Value::Null);
            vendor_section(part).with_context(|| format!("`{FOR_CLOUD_INIT}`"))
        }
        Some(part) => for_cloud_init(part).with_context(|| format!("`{FOR_CLOUD_INIT}`")),
        None => for_cloud_init(value),
    }
}

/// The settings in user-data of the cloud: text, or a list of texts (`convert_vendordata` in
/// `cloudinit/sources/__init__.py`).
fn for_cloud_init(value: &Value) -> Result<Option<Settings>> {
    match value {
        Value::String(text) => settings(text.as_bytes()),
        Value::Array(items) => {
            let mut found = Found::default();
            for text in items.iter().filter_map(Value::as_str) {
                cloud_config::add(text.as_bytes(), &mut found)?;
            }
            Ok(found.file.or(found.section))
        }
        _ => Ok(None),
    }
}

/// The value with its numbers as text, because settings are text.
fn texts(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.to_string().into(),
        Value::Array(items) => items.iter().map(texts).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| (key.clone(), texts(field)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
