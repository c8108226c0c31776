//! OpenStack's description of a server: `meta_data.json`, `network_data.json` and the files beside
//! them, in the same format on a config drive and on the metadata service. Pure: bytes in,
//! [`Metadata`] out.
//!
//! The format is that of Nova's and Ironic's published schemas. Others write it too, and less
//! strictly. A value that this program cannot use is passed over with a warning, as if nothing were
//! said there. Whether the rest is enough is decided where it is used.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Error, Result, anyhow};
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::json;
use super::model::{Metadata, VendorData, VendorFormat};
use crate::language::{tr, translated};
use warnings::{Warnings, kind, shorten};

mod network;
mod warnings;

/// The file that describes the server.
pub const META_DATA: &str = "meta_data.json";
/// The file that describes its network interfaces.
pub const NETWORK_DATA: &str = "network_data.json";
/// The file with the user-data, in any format that cloud-init accepts.
pub const USER_DATA: &str = "user_data";
/// The file with the vendor-data, which is the same for all servers of the cloud.
pub const VENDOR_DATA: &str = "vendor_data.json";
/// The same, with a part for each service that adds to it.
pub const VENDOR_DATA_2: &str = "vendor_data2.json";
/// The maximum size of each file, in bytes; Nova writes a few KiB.
pub const SIZE_LIMIT: u64 = 1 << 20;

/// A file from a source. It may hold the administrator's password, so it has no `Debug`.
#[derive(Clone)]
pub struct RawFile {
    /// Its name in error messages: `openstack/latest/meta_data.json`.
    pub name: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// The files of a source, not yet parsed.
pub struct RawFiles {
    /// `meta_data.json`.
    pub meta_data: RawFile,
    /// `network_data.json`, which clouds older than Liberty do not write.
    pub network_data: Option<RawFile>,
    /// `user_data`, if the server has any.
    pub user_data: Option<RawFile>,
    /// `vendor_data2.json` and `vendor_data.json`, if the cloud writes them.
    pub vendor_data: Vec<(VendorFormat, RawFile)>,
    /// The floating IP as text; empty if the server has none.
    pub public_ipv4: Option<RawFile>,
    /// The files that could not be read and are not needed: one sentence each.
    pub passed_over: Vec<String>,
}

/// Parses the files of `source`, which is the later [`Metadata::source`].
///
/// # Errors
/// If `meta_data.json` or `network_data.json` is not UTF-8 or not JSON. The error names source,
/// file, line, column and JSON path. It repeats no value of the input: a property may be a password.
pub fn parse(source: &str, files: &RawFiles) -> Result<Metadata> {
    let place = |file: &RawFile| format!("{source}: {}", file.name);
    let meta = object(&files.meta_data).with_context(|| place(&files.meta_data))?;
    let mut warnings = Warnings::new(place(&files.meta_data));
    let mut metadata = server(meta, &mut warnings);
    source.clone_into(&mut metadata.source);
    metadata.warnings = warnings.list();
    if let Some(file) = &files.network_data {
        let mut warnings = Warnings::new(place(file));
        let description = decode(file).with_context(|| place(file))?;
        metadata.interfaces = network::interfaces(&description, &mut warnings);
        metadata.warnings.extend(warnings.list());
    }
    if let Some(file) = &files.public_ipv4 {
        match floating_ip(&file.content) {
            Ok(address) => metadata.public_ipv4 = address,
            Err(why) => {
                metadata
                    .warnings
                    .push(tr!("{}: {why}; it is passed over", place(file), why));
            }
        }
    }
    let unread = files.passed_over.iter();
    metadata
        .warnings
        .extend(unread.map(|why| format!("{source}: {why}")));
    metadata.user_data = files.user_data.as_ref().map(|file| file.content.clone());
    let vendor_data = |(format, file): &(VendorFormat, RawFile)| VendorData {
        name: place(file),
        format: *format,
        content: file.content.clone(),
    };
    metadata.vendor_data = files.vendor_data.iter().map(vendor_data).collect();
    Ok(metadata)
}

/// The server that `meta_data.json` describes, without what other files say.
fn server(mut meta: Map<String, Value>, warnings: &mut Warnings) -> Metadata {
    let mut take = |keys: &[&'static str]| -> Vec<(&'static str, Value)> {
        let taken = keys
            .iter()
            .filter_map(|key| Some((*key, meta.remove(*key)?)));
        taken.collect()
    };
    // Metal3 and others write the host name as cloud-init's other datasources do.
    let hostname = take(&["hostname", "local-hostname", "local_hostname"]);
    let launch_index = take(&["launch_index"]);
    let (properties, unusable) = properties(take(&["meta"]), warnings);
    let mut text = |key: &'static str| first_text(&take(&[key]), warnings);
    let (uuid, name) = (text("uuid"), text("name"));
    let (availability_zone, project_id) = (text("availability_zone"), text("project_id"));
    Metadata {
        source: String::new(),
        uuid: uuid.unwrap_or_default(),
        name: name.unwrap_or_default(),
        hostname: first_text(&hostname, warnings).unwrap_or_default(),
        meta: properties,
        unusable,
        availability_zone,
        project_id,
        launch_index: number(&launch_index, warnings),
        interfaces: Vec::new(),
        public_ipv4: None,
        user_data: None,
        vendor_data: Vec::new(),
        date: None,
        is_live: false,
        warnings: Vec::new(),
    }
}

/// The first of these values that is text and not empty.
fn first_text(values: &[(&str, Value)], warnings: &mut Warnings) -> Option<String> {
    values.iter().find_map(|(key, value)| match value {
        Value::Null => None,
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        other => {
            warnings.add(tr!(
                "`{key}` is {}; expected text",
                translated(kind(other)),
                key
            ));
            None
        }
    })
}

fn number(values: &[(&str, Value)], warnings: &mut Warnings) -> Option<u64> {
    let (key, value) = values.first()?;
    let number = match value {
        Value::Null => return None,
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64(),
    };
    if number.is_none() {
        warnings.add(tr!(
            "`{key}` is {}; expected a number from 0",
            translated(kind(value)),
            key
        ));
    }
    number
}

/// The server's properties, and those whose value is not text with the kind of their value. A number
/// or a truth value counts as the text that Nova would make of it.
fn properties(
    meta: Vec<(&str, Value)>,
    warnings: &mut Warnings,
) -> (BTreeMap<String, String>, BTreeMap<String, &'static str>) {
    let (mut properties, mut unusable) = (BTreeMap::new(), BTreeMap::new());
    let members = match meta.into_iter().next() {
        Some((_, Value::Object(members))) => members,
        Some((_, value)) if !is_empty(&value) => {
            warnings.add(tr!(
                "`meta` is {}; expected an object",
                translated(kind(&value))
            ));
            return (properties, unusable);
        }
        _ => return (properties, unusable),
    };
    for (key, value) in members {
        match value {
            Value::String(text) => drop(properties.insert(key, text)),
            Value::Number(number) => drop(properties.insert(key, number.to_string())),
            Value::Bool(value) => drop(properties.insert(key, value.to_string())),
            Value::Null => {}
            other => drop(unusable.insert(key, kind(&other))),
        }
    }
    (properties, unusable)
}

/// Whether the value says nothing: null, or empty text, list or object.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The address in EC2's `public-ipv4`; a server without a floating IP has an empty one.
fn floating_ip(content: &[u8]) -> Result<Option<Ipv4Addr>> {
    let text = String::from_utf8_lossy(content);
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        anyhow!(tr!(
            "is \"{}\"; expected an IPv4 address or nothing",
            shorten(text)
        ))
    })
}

/// The file's only JSON value, which must be an object.
fn object(file: &RawFile) -> Result<Map<String, Value>> {
    match parsed(file)? {
        Value::Object(members) => Ok(members),
        other => Err(anyhow!(tr!(
            "is {}; expected an object",
            translated(kind(&other))
        ))),
    }
}

/// The file's only JSON value; null if the file is empty.
fn decode(file: &RawFile) -> Result<Value> {
    match file.content.trim_ascii().is_empty() {
        true => Ok(Value::Null),
        false => parsed(file),
    }
}

fn parsed(file: &RawFile) -> Result<Value> {
    let text = std::str::from_utf8(&file.content)
        .map_err(|e| anyhow!(tr!("byte {} is not UTF-8", e.valid_up_to() + 1)))?;
    let text = text.trim_start_matches('\u{feff}');
    json::read(text.as_bytes(), strict)
}

fn strict(data: &[u8]) -> Result<Value> {
    let mut json = serde_json::Deserializer::from_slice(data);
    let value: Value = serde_path_to_error::deserialize(&mut json)
        .map_err(|e| describe(e.path().iter().next().map(|_| e.path()), e.inner()))?;
    json.end().map_err(|e| describe(None, &e))?;
    Ok(value)
}

/// Describes the place and the cause, without the value itself: a property may be a password.
fn describe(path: Option<&serde_path_to_error::Path>, error: &serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let text = text
        .strip_suffix(&format!(" at line {line} column {column}"))
        .unwrap_or(&text);
    let reason = match error.classify() {
        Category::Data => &tr!("not a value of JSON"),
        _ => text,
    };
    match path {
        Some(path) => anyhow!(tr!(
            "line {line} column {column}: `{}`: {reason}",
            shorten(&path.to_string()),
            line,
            column,
            reason
        )),
        None => anyhow!(tr!(
            "line {line} column {column}: {reason}",
            line,
            column,
            reason
        )),
    }
}

#[cfg(test)]
mod tests;
