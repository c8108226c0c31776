//! The `appliance:` section of user-data and vendor-data, in all formats that cloud-init accepts.
//! Data without such a section is ignored.

use std::io::Read;

use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::read::GzDecoder;
use mail_parser::{MessageParser, MimeHeaders};
use serde::Deserialize;
use serde_json::Value;

use super::settings::{Settings, parse_yaml, suggest};
use super::value::{Layer, Place};
use crate::metadata::model::{Metadata, VendorFormat};

/// The maximum size of unpacked user-data, in bytes. Nova accepts 49,149 bytes, which may be gzip.
const SIZE_LIMIT: u64 = 1 << 20;
const CLOUD_CONFIG: &str = "#cloud-config";
const ARCHIVE: &str = "#cloud-config-archive";
const JINJA: &str = "## template: jinja";
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// The section's name.
const SECTION: &str = "appliance";
/// The key under which clouds put cloud-init's part of their vendor-data.
const FOR_CLOUD_INIT: &str = "cloud-init";

/// The one key of a cloud-config that this program uses.
#[derive(Deserialize)]
struct CloudConfig {
    appliance: Option<Settings>,
}

/// One part of an archive of cloud-configs.
#[derive(Deserialize)]
#[serde(untagged)]
enum ArchivePart {
    Text(String),
    Typed { content: String },
}

/// The settings in the data of one metadata source: properties, user-data, vendor-data.
///
/// # Errors
/// As the functions for each; the error names the source.
pub fn layers(metadata: &Metadata) -> Result<Vec<Layer>> {
    let source = &metadata.source;
    let mut layers = vec![Layer::of_properties(source, &metadata.meta)?];
    if let Some(data) = &metadata.user_data {
        let found = settings(data).with_context(|| format!("{source}: user-data"))?;
        let place = Place::UserData(source.clone());
        layers.extend(found.map(|settings| Layer::new(place, settings)));
    }
    for vendor_data in &metadata.vendor_data {
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

/// The settings in user-data; `None` if it has no `appliance:` section.
///
/// # Errors
/// If it has an `appliance` key and is not in the format that its first line announces, if two parts
/// of it have such a section, or if the section holds an unknown setting.
pub fn settings(data: &[u8]) -> Result<Option<Settings>> {
    if data.starts_with(&GZIP) {
        return plain(&unpack(data)?);
    }
    plain(data)
}

fn unpack(data: &[u8]) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    GzDecoder::new(data)
        .take(SIZE_LIMIT + 1)
        .read_to_end(&mut unpacked)
        .context("it starts like gzip, but cannot be unpacked")?;
    ensure!(
        unpacked.len() as u64 <= SIZE_LIMIT,
        "it unpacks to more than {SIZE_LIMIT} bytes"
    );
    Ok(unpacked)
}

fn plain(data: &[u8]) -> Result<Option<Settings>> {
    if is_mime(data) {
        return mime(data);
    }
    match str::from_utf8(data) {
        Ok(text) => document(text),
        Err(error) if data.starts_with(CLOUD_CONFIG.as_bytes()) => {
            bail!("byte {} is not UTF-8", error.valid_up_to() + 1)
        }
        // A program for cloud-init.
        Err(_) => Ok(None),
    }
}

/// One document. Its first line names the format.
fn document(text: &str) -> Result<Option<Settings>> {
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first.eq_ignore_ascii_case(JINJA) {
        return template(text);
    }
    match first {
        _ if !may_have_section(text) => Ok(None),
        ARCHIVE => archive(text),
        CLOUD_CONFIG => cloud_config(text),
        _ => Ok(None),
    }
}

/// Whether the text may have such a key, in any spelling. Text that only runs this program is not
/// parsed, because cloud-init accepts some text that is not valid YAML.
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

fn cloud_config(text: &str) -> Result<Option<Settings>> {
    let config: Option<CloudConfig> = parse_yaml(text)?;
    Ok(config.and_then(|config| config.appliance))
}

/// A document that cloud-init renders before it reads it.
fn template(text: &str) -> Result<Option<Settings>> {
    let (_, rest) = text.split_once('\n').unwrap_or_default();
    if !may_have_section(rest) {
        return Ok(None);
    }
    ensure!(
        !rest.contains("{{") && !rest.contains("{%"),
        "it is a Jinja template, which only cloud-init can render; put the `{SECTION}:` section \
         into a MIME part of its own, without the line `{JINJA}`"
    );
    document(rest)
}

fn archive(text: &str) -> Result<Option<Settings>> {
    let parts: Vec<ArchivePart> = parse_yaml(text)?;
    let documents = parts.iter().map(|part| match part {
        ArchivePart::Text(content) | ArchivePart::Typed { content } => document(content),
    });
    only(documents)
}

/// Whether the data is a MIME message. Messages of cloud-init's own tool begin with these headers.
fn is_mime(data: &[u8]) -> bool {
    let start = data.trim_ascii_start();
    ["content-type:", "mime-version:", "from "]
        .iter()
        .any(|header| {
            start
                .get(..header.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(header.as_bytes()))
        })
}

fn mime(data: &[u8]) -> Result<Option<Settings>> {
    let Some(message) = MessageParser::default().parse(data.trim_ascii_start()) else {
        return Ok(None);
    };
    let parts = message.parts.iter().filter(|part| !part.is_multipart());
    only(parts.map(|part| {
        let name = part.attachment_name().unwrap_or("without a name");
        let content = part.contents();
        let settings = if content.starts_with(&GZIP) {
            unpack(content).and_then(|content| section_of_part(&content))
        } else {
            section_of_part(content)
        };
        settings.with_context(|| format!("MIME part {}", name.escape_debug()))
    }))
}

fn section_of_part(content: &[u8]) -> Result<Option<Settings>> {
    match str::from_utf8(content) {
        Ok(text) => document(text),
        Err(_) => Ok(None),
    }
}

/// The only settings among several documents.
fn only(documents: impl Iterator<Item = Result<Option<Settings>>>) -> Result<Option<Settings>> {
    let mut found = None;
    for settings in documents {
        if let Some(settings) = settings? {
            ensure!(
                found.is_none(),
                "two parts have a section `{SECTION}:`; keep one"
            );
            found = Some(settings);
        }
    }
    Ok(found)
}

/// The settings in `vendor_data.json`, or in one service's part of `vendor_data2.json`: the key
/// `appliance`, or the `appliance:` section of the part for cloud-init.
///
/// # Errors
/// If it is not JSON, or the section holds an unknown setting.
pub fn vendor_settings(data: &[u8]) -> Result<Option<Settings>> {
    let value: Value = serde_json::from_slice(data)?;
    vendor_section(&value)
}

/// The settings in `vendor_data2.json`, which has a part for each service that adds to it. The part
/// of the cloud itself is `static`.
///
/// # Errors
/// As [`vendor_settings`], naming the part; and if two parts have such a section.
pub fn vendor2_settings(data: &[u8]) -> Result<Option<Settings>> {
    let value: Value = serde_json::from_slice(data)?;
    let Some(parts) = value.as_object() else {
        return Ok(None);
    };
    only(parts.iter().map(|(name, part)| {
        vendor_section(part).with_context(|| format!("`{}`", name.escape_debug()))
    }))
}

fn vendor_section(value: &Value) -> Result<Option<Settings>> {
    if let Some(section) = value.get(SECTION) {
        let settings = serde_json::from_value(texts(section))
            .map_err(|error| anyhow!("`{SECTION}`: {}", suggest(&error.to_string())))?;
        return Ok(Some(settings));
    }
    match value.get(FOR_CLOUD_INIT) {
        Some(Value::String(text)) => {
            settings(text.as_bytes()).with_context(|| format!("`{FOR_CLOUD_INIT}`"))
        }
        Some(Value::Object(config)) if config.contains_key(SECTION) => {
            let part = value.get(FOR_CLOUD_INIT).unwrap_or(&Value::Null);
            vendor_section(part).with_context(|| format!("`{FOR_CLOUD_INIT}`"))
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    const CONFIG: &str =
        "#cloud-config\npackages: [curl]\nappliance:\n  role: master\n  mtu: 1450\n";
    const MIME: &str = "Content-Type: multipart/mixed; boundary=\"==B==\"\nMIME-Version: 1.0\n\n\
        --==B==\nContent-Type: text/x-shellscript; charset=\"us-ascii\"\nMIME-Version: 1.0\n\
        Content-Disposition: attachment; filename=\"run.sh\"\n\n#!/bin/sh\necho appliance\n\
        --==B==\nContent-Type: text/cloud-config; charset=\"us-ascii\"\nMIME-Version: 1.0\n\
        Content-Transfer-Encoding: base64\n\
        Content-Disposition: attachment; filename=\"node.yaml\"\n\n@\n--==B==--\n";

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn base64(text: &str) -> String {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(text)
    }

    fn role(data: &[u8]) -> Option<String> {
        settings(data).unwrap().and_then(|settings| settings.role)
    }

    fn error(data: &[u8]) -> String {
        format!("{:#}", settings(data).unwrap_err())
    }

    #[test]
    fn finds_the_section_in_every_form_cloud_init_takes() {
        let mime = MIME.replace('@', &base64(CONFIG));
        let archive = "#cloud-config-archive\n- '#!/bin/sh'\n- type: text/cloud-config\n  content: |\n    #cloud-config\n    appliance: {role: master}\n";
        let jinja = format!("## template: jinja\n{CONFIG}");
        let quoted = "#cloud-config\n{\"appliance\": {role: master}}\n";
        for form in [CONFIG, &mime, archive, &jinja, quoted] {
            assert_eq!(role(form.as_bytes()).as_deref(), Some("master"), "{form}");
            assert_eq!(role(&gzip(form.as_bytes())).as_deref(), Some("master"));
        }
    }

    #[test]
    fn what_has_no_section_is_passed_over_whatever_it_is() {
        for other in [
            "",
            "#!/bin/sh\nappliance install --role master\n",
            "#cloud-config\nbroken: [yaml\n",
            "#cloud-config\nruncmd:\n- [appliance, install]\n",
            "#cloud-boothook\nappliance:\n  role: master\n",
            "## template: jinja\n#cloud-config\nhostname: {{ ds.meta_data.name }}\n",
            "#cloud-config\n# appliance\n",
            "#cloud-config\nruncmd:\n- appliance install\nruncmd: [twice]\n",
        ] {
            assert_eq!(settings(other.as_bytes()).unwrap(), None, "{other}");
        }
        assert_eq!(settings(b"MZ\x90\xff appliance").unwrap(), None);
    }

    #[test]
    fn broken_sections_are_located() {
        let text = error(b"#cloud-config\nappliance:\n  rloe: master\n");
        assert!(text.contains("line 3"), "{text}");
        assert!(text.contains("did you mean `role`?"), "{text}");
        let text = error(b"#cloud-config\npassword: Sup3rSecret\nappliance: [x]\n");
        assert!(!text.contains("Sup3rSecret"), "{text}");
        let text = error(b"#cloud-config\nappliance:\n\trole: master\n");
        assert!(text.contains("line 3"), "{text}");
        let text = error(b"#cloud-config\nappliance: {role: \xff}\n");
        assert_eq!(text, "byte 33 is not UTF-8");
        let mime = MIME.replace('@', &base64("#cloud-config\nappliance: [role]\n"));
        assert!(error(mime.as_bytes()).contains("MIME part node.yaml"));
        let jinja =
            "## template: jinja\n#cloud-config\nappliance:\n  role: {{ ds.meta_data.meta.role }}\n";
        assert!(error(jinja.as_bytes()).contains("MIME part of its own"));
    }

    #[test]
    fn two_sections_are_one_too_many() {
        let part = "- |\n  #cloud-config\n  appliance: {role: master}\n";
        let archive = format!("#cloud-config-archive\n{part}{part}");
        assert!(error(archive.as_bytes()).contains("two parts"));
    }

    #[test]
    fn a_megabyte_is_the_most_that_is_unpacked() {
        let bomb = gzip(&vec![b' '; 64 << 20]);
        assert!(bomb.len() < 70_000);
        assert_eq!(error(&bomb), "it unpacks to more than 1048576 bytes");
        assert!(error(b"\x1f\x8b\x08 cut").contains("cannot be unpacked"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = format!("#cloud-config\nappliance: {}", "[".repeat(10_000));
        error(deep.as_bytes());
        let deep = format!("{{\"appliance\": {}", "[".repeat(10_000));
        vendor_settings(deep.as_bytes()).unwrap_err();
    }

    #[test]
    fn vendor_data_says_it_directly_or_through_cloud_init() {
        let of = |settings: Option<Settings>| settings.and_then(|s| s.mtu);
        let direct = br##"{"appliance": {"mtu": 1442}, "other": 1}"##;
        let text = br##"{"cloud-init": "#cloud-config\nappliance:\n  mtu: 1442\n"}"##;
        let object = br##"{"cloud-init": {"appliance": {"mtu": "1442"}}}"##;
        for data in [&direct[..], text, object] {
            assert_eq!(of(vendor_settings(data).unwrap()).as_deref(), Some("1442"));
        }
        let second = br##"{"static": {"appliance": {"mtu": 1442}}, "name": {"x": 1}}"##;
        assert_eq!(
            of(vendor2_settings(second).unwrap()).as_deref(),
            Some("1442")
        );
        for other in [&b"{}"[..], b"[]", b"null", br#"{"cloud-init": ""}"#] {
            assert_eq!(vendor_settings(other).unwrap(), None);
            assert_eq!(vendor2_settings(other).unwrap(), None);
        }
        let error = vendor2_settings(br##"{"static": {"appliance": {"mtu": [1]}}}"##).unwrap_err();
        assert!(format!("{error:#}").starts_with("`static`: `appliance`"));
    }
}
