//! The settings in the cloud-configs among the parts of user-data: the file
//! `/etc/appliance/config.yaml` that cloud-init writes, and the section `appliance:`.

use std::fmt;
use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::SECTION;
use super::parts::{Kind, Part, SIZE_LIMIT, is_gzip, kind_of_start, parts};
use crate::language::tr;
use crate::nodespec::settings::Settings;
use crate::nodespec::yaml::{Others, parse_others_yaml, parse_yaml};
use crate::paths::CONFIG;

/// What some editors put before the first line.
pub(super) const BYTE_ORDER_MARK: &str = "\u{feff}";
/// The first line of a template.
const JINJA: &str = "## template: jinja";
/// What begins an expression, a statement and a comment of a template.
const EXPRESSIONS: [&str; 3] = ["{{", "{%", "{#"];

/// The keys with the name of the machine.
const HOST_NAMES: [&str; 2] = ["hostname", "fqdn"];

/// The settings in user-data.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those in the file that cloud-init writes. On the server, that file has precedence.
    pub file: Option<Settings>,
    /// Those in the section `appliance:`.
    pub section: Option<Settings>,
}

/// The one key of a cloud-config that is only for this program.
struct CloudConfig {
    appliance: Option<Settings>,
}

impl<'de> Deserialize<'de> for CloudConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CloudConfig, D::Error> {
        deserializer.deserialize_map(OneKey)
    }
}

/// Reads [`SECTION`]. The other keys may be anything.
struct OneKey;

impl<'de> Visitor<'de> for OneKey {
    type Value = CloudConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cloud-config")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<CloudConfig, A::Error> {
        let mut appliance = None;
        while let Some(key) = members.next_key::<Others>()? {
            if key.into_key() == SECTION {
                appliance = members.next_value()?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(CloudConfig { appliance })
    }
}

/// Reads all parts of the data. cloud-init merges them: of each key, the last part that has it counts.
///
/// # Errors
/// If a part with settings is broken, cannot be read by this program, or names a way of merging.
pub fn find(data: &[u8]) -> Result<Found> {
    let mut found = Found::default();
    add(data, &mut found)?;
    Ok(found)
}

/// Reads all parts of the data, as parts after those whose settings were found.
///
/// # Errors
/// As [`find`].
pub fn add(data: &[u8], found: &mut Found) -> Result<()> {
    for part in parts(data)? {
        let result = read(&part, found);
        match part.name.is_empty() {
            true => result?,
            false => result.with_context(|| part.name.clone())?,
        }
    }
    Ok(())
}

fn read(part: &Part, found: &mut Found) -> Result<()> {
    if is_gzip(&part.content) {
        // cloud-init unpacked it if its type is that of a gzip file, and reads no other.
        return Ok(());
    }
    let text = match str::from_utf8(&part.content) {
        Ok(text) => text,
        Err(error)
            if (part.kind == Kind::CloudConfig || starts_with_header(&part.content))
                && super::may_have_settings(&part.text()) =>
        {
            bail!(tr!("byte {} is not UTF-8", error.valid_up_to() + 1))
        }
        Err(_) => return Ok(()),
    };
    match part.kind {
        // cloud-init passes it over.
        Kind::CloudConfig if begins_with_raw_mark(part) => Ok(()),
        Kind::CloudConfig => cloud_config(text, part.merge_type.as_deref(), found),
        Kind::Template => template(text, found),
        _ => Ok(()),
    }
}

/// Whether the part has a byte order mark that cloud-init does not understand.
pub(super) fn begins_with_raw_mark(part: &Part) -> bool {
    part.is_raw && part.content.starts_with(BYTE_ORDER_MARK.as_bytes())
}

/// Whether the bytes begin like a cloud-config, although they are not all text.
fn starts_with_header(content: &[u8]) -> bool {
    let line = content.split(|byte| *byte == b'\n').next();
    line.is_some_and(|line| kind_of_start(line) == Some(Kind::CloudConfig))
}

fn cloud_config(text: &str, merge_type: Option<&str>, found: &mut Found) -> Result<()> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if super::may_have_settings(text) && is_list(text) {
        // cloud-init passes it over.
        return Ok(());
    }
    let Some(is_merged) = merging(text, merge_type) else {
        return Ok(());
    };
    if super::may_have_section(text)
        && let Some(settings) = section(text)?
    {
        ensure!(
            found.section.is_none() || !is_merged,
            tr!(
                "a part before it has a section `{SECTION}:`, too, and this one says how to merge \
             them; keep one section",
                SECTION
            )
        );
        found.section = Some(settings);
    }
    if text.contains(CONFIG) || found.file.is_some() && text.contains("write_files") {
        files(text, is_merged, found)?;
    }
    Ok(())
}

/// The section of a cloud-config. In the section nothing is passed over, in the rest what cloud-init takes.
fn section(text: &str) -> Result<Option<Settings>> {
    let strict: Result<Option<CloudConfig>> = parse_yaml(text);
    let config = strict.or_else(|error| {
        let rest: Result<Option<CloudConfig>> = parse_others_yaml(text);
        match parse_yaml::<Option<CloudConfig>>(&without_others(text)) {
            Err(own) if rest.is_err() || own.to_string().contains("duplicate") => {
                Err(own.context(format!("`{SECTION}`")))
            }
            // Its parts may be named elsewhere in the text (`&name`).
            _ => rest.map_err(|_| error),
        }
    })?;
    Ok(config.and_then(|config| config.appliance))
}

/// The text with only the lines of the section, each at its place.
fn without_others(text: &str) -> String {
    let mut is_own = false;
    let lines = text.lines().map(|line| {
        if line.starts_with(|first: char| !first.is_whitespace() && first != '#') {
            is_own = line.trim_start_matches(['"', '\'']).starts_with(SECTION);
        }
        if is_own { line } else { "" }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether the YAML is a list, as an archive that is declared as something else.
fn is_list(text: &str) -> bool {
    let mut lines = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.next().is_some_and(|line| line.starts_with("- "))
        && parse_others_yaml(text).is_ok_and(|Others(value)| value.is_array())
}

/// Whether the values of the parts before count where both have one; `None` if cloud-init loses the
/// part, because it is not said how to merge objects (`cloudinit/mergers`).
pub(super) fn merging(text: &str, header: Option<&str>) -> Option<bool> {
    let mut said = header.unwrap_or_default().to_lowercase();
    let mut lines = text.lines();
    if lines.any(|line| line.starts_with("merge_how") || line.starts_with("merge_type")) {
        let Others(config) = parse_others_yaml(text).unwrap_or_default();
        let keys = [&config["merge_how"], &config["merge_type"]];
        let value = keys.into_iter().find(|value| !value.is_null());
        said += &value.map_or(String::new(), |value| value.to_string().to_lowercase());
    }
    match said.is_empty() || said.contains("dict(replace") {
        true => Some(false),
        false => said.contains("dict").then_some(true),
    }
}

/// The settings in the file that the cloud-config writes.
fn files(text: &str, is_merged: bool, found: &mut Found) -> Result<()> {
    let Others(config) = parse_others_yaml(text)?;
    let Some(files) = config["write_files"].as_array() else {
        return Ok(());
    };
    let mut ours = files.iter().filter(|file| file["path"] == CONFIG);
    // cloud-init writes them one after the other.
    let Some(file) = ours.next_back() else {
        // This list replaces that of the parts before.
        found.file = found.file.take().filter(|_| is_merged);
        return Ok(());
    };
    ensure!(
        found.file.is_none() || !is_merged,
        tr!(
            "a part before it writes {CONFIG}, too, and this one says how to merge them; keep one",
            CONFIG
        )
    );
    ensure!(
        file["append"] != true && file["source"].is_null(),
        tr!(
            "`write_files` {CONFIG}: `append` and `source` are not supported; write the settings as \
         `content`",
            CONFIG
        )
    );
    let place = format!("`write_files` {CONFIG}");
    let content = content(file).with_context(|| place.clone())?;
    found.file = Some(Settings::from_yaml(&place, &content)?);
    Ok(())
}

/// The host name that cloud-init gives the machine (`get_hostname_fqdn` in `cloudinit/util.py`); `None` if
/// the data does not say one, or cannot be read.
pub fn host_name(data: &[u8]) -> Option<String> {
    let parts = parts(data).ok()?;
    let configs = parts.iter().filter(|part| part.kind == Kind::CloudConfig);
    let mut names = configs.filter_map(|part| {
        let text = part.text();
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
        if !HOST_NAMES.iter().any(|key| text.contains(key)) {
            return None;
        }
        let Others(config) = parse_others_yaml(text).ok()?;
        let names = HOST_NAMES.iter().map(|key| config[key].as_str());
        names
            .flatten()
            .map(str::trim)
            .find(|name| !name.is_empty())
            .map(str::to_owned)
    });
    names.next_back()
}

/// The content of a file, decoded (`cloudinit/config/cc_write_files.py`).
fn content(file: &Value) -> Result<String> {
    let said = match &file["content"] {
        Value::Null => "",
        Value::String(content) => content,
        _ => bail!(tr!("`content` is not text; put `|` after `content:`")),
    };
    let encoding = file["encoding"].as_str().unwrap_or_default();
    let encoding = encoding.trim().to_ascii_lowercase();
    let is_base64 = matches!(
        encoding.as_str(),
        "b64" | "base64" | "gz+base64" | "gzip+base64" | "gz+b64" | "gzip+b64"
    );
    let is_gzip = encoding.starts_with("gz");
    let mut content = said.as_bytes().to_vec();
    if is_base64 {
        content.retain(|byte| !byte.is_ascii_whitespace());
        content = STANDARD
            .decode(&content)
            .context(tr!("`content` is not base64"))?;
    }
    if is_gzip && !is_base64 {
        // YAML has bytes only as base64, with the tag `!!binary`.
        let text: Vec<u8> = content.trim_ascii().to_vec();
        content = STANDARD.decode(&text).unwrap_or(content);
    }
    if is_gzip {
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(content.as_slice())
            .take(SIZE_LIMIT)
            .read_to_end(&mut unpacked)
            .context(tr!("`content` is not gzip"))?;
        content = unpacked;
    }
    String::from_utf8(content).context(tr!("`content` is not UTF-8"))
}

/// A document that cloud-init renders before it reads it. Without expressions it stays as it is.
fn template(text: &str, found: &mut Found) -> Result<()> {
    let (first, rest) = text.split_once('\n').unwrap_or_default();
    if !first.to_ascii_lowercase().starts_with(JINJA) || !super::may_have_settings(rest) {
        return Ok(());
    }
    if !super::may_have_section(rest) && EXPRESSIONS.iter().any(|start| rest.contains(start)) {
        // cloud-init writes the file, and this program reads it there.
        return Ok(());
    }
    ensure!(
        EXPRESSIONS.iter().all(|start| !rest.contains(start)),
        tr!(
            "it is a Jinja template, which only cloud-init can render; put the `{SECTION}:` section \
         into a MIME part of its own, without the line `{JINJA}`",
            SECTION,
            JINJA
        )
    );
    match kind_of_start(rest.as_bytes()) {
        Some(Kind::CloudConfig) => cloud_config(rest, None, found),
        _ => Ok(()),
    }
}
