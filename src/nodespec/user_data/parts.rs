//! Takes user-data apart as cloud-init does (`cloudinit/user_data.py`, `cloudinit/handlers/__init__.py`):
//! gzip, MIME messages, archives; and finds out what each part is. The declared type of a part counts,
//! and its first line only if the type says nothing.

use std::borrow::Cow;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use flate2::read::MultiGzDecoder;
use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{Encoding, Message, MessageParser, MessagePart, MimeHeaders, PartType};
use serde_json::Value;

use crate::language::tr;
use crate::nodespec::yaml::{Others, parse_others_yaml};

/// The maximum size of unpacked user-data, in bytes. Nova accepts 49,149 bytes, which may be gzip.
pub(super) const SIZE_LIMIT: u64 = 1 << 20;
/// How far into the data cloud-init looks for the header of a MIME message, in bytes.
const MIME_SEARCH: usize = 4096;
const MIME_HEADER: &[u8] = b"mime-version:";
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What cloud-init makes of the first line, whatever follows on it. The longest one that fits counts.
const STARTS: [(&str, Kind); 9] = [
    ("#cloud-config-archive", Kind::Archive),
    ("#cloud-config-jsonp", Kind::JsonPatch),
    ("## template: jinja", Kind::Template),
    ("#cloud-boothook", Kind::Program),
    ("#include-once", Kind::Include),
    ("#cloud-config", Kind::CloudConfig),
    ("#part-handler", Kind::Program),
    ("#include", Kind::Include),
    ("#!", Kind::Program),
];
/// The types of parts that cloud-init knows.
const TYPES: [(&str, Kind); 11] = [
    ("text/cloud-config", Kind::CloudConfig),
    ("text/cloud-config-archive", Kind::Archive),
    ("text/cloud-config-jsonp", Kind::JsonPatch),
    ("text/jinja2", Kind::Template),
    ("text/cloud-boothook", Kind::Program),
    ("text/part-handler", Kind::Program),
    ("text/x-include-url", Kind::Include),
    ("text/x-include-once-url", Kind::Include),
    ("text/x-shellscript-per-boot", Kind::Program),
    ("text/x-shellscript-per-instance", Kind::Program),
    ("text/x-shellscript-per-once", Kind::Program),
];
/// The types of gzip files.
const GZIP_TYPES: [&str; 8] = [
    "application/gzip",
    "application/gzip-compressed",
    "application/gzipped",
    "application/x-compress",
    "application/x-compressed",
    "application/x-gunzip",
    "application/x-gzip",
    "application/x-gzip-compressed",
];
/// The headers that say how to merge a part with those before it.
const MERGE_HEADERS: [&str; 2] = ["Merge-Type", "X-Merge-Type"];
const PLAIN: &str = "text/plain";
/// Real scripts begin with `#!`, so cloud-init looks at the first line of these, too.
const SCRIPT: &str = "text/x-shellscript";

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Settings of cloud-init in YAML.
    CloudConfig,
    /// Changes of the settings as a JSON patch.
    JsonPatch,
    /// A document that cloud-init renders before it reads it.
    Template,
    /// A list of parts.
    Archive,
    /// A program.
    Program,
    /// Addresses of more user-data.
    Include,
    /// Nothing that cloud-init knows.
    Unknown,
}

/// One part of user-data.
pub(super) struct Part {
    /// What messages call it: `MIME part node.yaml`; empty if it is the whole user-data.
    pub(super) name: String,
    /// Its type if it declares one that is not for any text.
    pub(super) declared: Option<String>,
    pub(super) kind: Kind,
    /// Its bytes, usually UTF-8.
    pub(super) content: Vec<u8>,
    /// How to merge it with the parts before, if a header of it says so.
    pub(super) merge_type: Option<String>,
    /// Whether it is in a MIME message as it is. cloud-init reads only ASCII of such a part.
    pub(super) is_raw: bool,
}

impl Part {
    fn whole(content: &[u8], kind: Kind) -> Part {
        Part {
            name: String::new(),
            declared: None,
            kind,
            content: content.to_vec(),
            merge_type: None,
            is_raw: false,
        }
    }

    /// Its text; invalid bytes are replaced.
    pub(super) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.content)
    }

    /// Its name and a colon, for the beginning of a message.
    pub(super) fn prefix(&self) -> String {
        match self.name.is_empty() {
            true => String::new(),
            false => format!("{}: ", self.name),
        }
    }
}

/// The parts of the data, in their order, unpacked.
///
/// # Errors
/// If a file unpacks to more than [`SIZE_LIMIT`], or an archive with settings is not valid YAML.
pub(super) fn parts(data: &[u8]) -> Result<Vec<Part>> {
    let data = unpacked(data)?;
    let Some(message) = message(&data) else {
        let kind = kind_of_start(&data).unwrap_or(Kind::Unknown);
        return exploded(Part::whole(&data, kind));
    };
    let mut parts = Vec::new();
    for part in &message.parts {
        if !part.is_multipart() {
            parts.extend(exploded(of_message(&message, part)?)?);
        }
    }
    Ok(parts)
}

/// The message, if the data is one for cloud-init. What has no header before its first empty line is
/// text after all.
fn message(data: &[u8]) -> Option<Message<'_>> {
    let start = &data[..data.len().min(MIME_SEARCH)];
    if !contains(&start.to_ascii_lowercase(), MIME_HEADER) {
        return None;
    }
    let data = data.trim_ascii_start();
    let first = data.split(|byte| *byte == b'\n').next()?;
    let is_header = first
        .iter()
        .position(|byte| *byte == b':')
        .is_some_and(|at| first[..at].iter().all(u8::is_ascii_graphic));
    (is_header || first.starts_with(b"From "))
        .then(|| MessageParser::default().parse(data))
        .flatten()
}

fn contains(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|window| window == part)
}

fn of_message(message: &Message<'_>, part: &MessagePart<'_>) -> Result<Part> {
    let declared = declared_type(part);
    let header = |name: &str| {
        let mut headers = part.headers().iter();
        let header = headers.find(|header| header.name().eq_ignore_ascii_case(name))?;
        Some(header.value().as_text().unwrap_or_default().to_owned())
    };
    let is_raw = part.encoding == Encoding::None;
    let mut part = Part {
        name: match part.attachment_name() {
            Some(name) => tr!("MIME part {}", name.escape_debug()),
            None => tr!("MIME part without a name"),
        },
        declared: Some(declared.clone()),
        kind: Kind::Unknown,
        content: match &part.body {
            PartType::Message(_) => Vec::new(),
            _ => decoded(&message.raw_message, part),
        },
        merge_type: MERGE_HEADERS.into_iter().find_map(header),
        is_raw,
    };
    if GZIP_TYPES.contains(&declared.as_str())
        && let Some(content) = unpack(&part.content).with_context(|| part.name.clone())?
    {
        // cloud-init makes a new part of it, without these headers.
        part.content = content;
        part.declared = None;
        part.merge_type = None;
        part.is_raw = true;
    }
    part.kind = kind_of(part.declared.as_deref(), &part.content);
    Ok(part)
}

/// The bytes of a part. Its character set does not count: cloud-init takes all text for UTF-8.
fn decoded(message: &[u8], part: &MessagePart<'_>) -> Vec<u8> {
    let (start, end) = (part.raw_body_offset(), part.raw_end_offset());
    let raw = message
        .get(start as usize..end as usize)
        .unwrap_or_default();
    let decoded = match part.encoding {
        Encoding::None => None,
        Encoding::QuotedPrintable => quoted_printable_decode(raw),
        Encoding::Base64 => base64_decode(raw),
    };
    decoded.unwrap_or_else(|| raw.to_vec())
}

/// The declared type of a part in lower case. A part without a valid one is plain text.
fn declared_type(part: &MessagePart<'_>) -> String {
    let declared = part
        .content_type()
        .and_then(|declared| Some(format!("{}/{}", declared.ctype(), declared.subtype()?)));
    declared.map_or(PLAIN.to_owned(), |declared| declared.to_ascii_lowercase())
}

/// What a part of this declared type is. Plain text and scripts are what their first line says.
fn kind_of(declared: Option<&str>, content: &[u8]) -> Kind {
    match declared {
        None | Some(PLAIN | "text/x-not-multipart") => {
            kind_of_start(content).unwrap_or(Kind::Unknown)
        }
        Some(SCRIPT) => kind_of_start(content).unwrap_or(Kind::Program),
        Some(declared) => kind_of_type(declared),
    }
}

fn kind_of_type(declared: &str) -> Kind {
    let known = TYPES.iter().find(|(name, _)| *name == declared);
    known.map_or(Kind::Unknown, |(_, kind)| *kind)
}

/// What the beginning of the text says, in any case and after any white space.
pub(super) fn kind_of_start(content: &[u8]) -> Option<Kind> {
    // cloud-init decodes all of it first.
    let text = str::from_utf8(content).ok()?;
    // Python's white space has four characters more than Unicode's.
    let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let text = text.trim_start_matches(is_space);
    let starts = |start: &str| {
        text.get(..start.len())
            .is_some_and(|text| text.eq_ignore_ascii_case(start))
    };
    let found = STARTS.iter().find(|(start, _)| starts(start));
    found.map(|(_, kind)| *kind)
}

/// The part, or the parts in it if it is an archive. An archive without settings may be what this
/// program cannot parse: cloud-init accepts some text that is not valid YAML.
fn exploded(part: Part) -> Result<Vec<Part>> {
    if part.kind != Kind::Archive {
        return Ok(vec![part]);
    }
    let items = match parse_others_yaml(&part.text()) {
        Ok(Others(items)) => items,
        Err(_) if !super::may_have_settings(&part.text()) => return Ok(vec![part]),
        Err(error) => return Err(error).with_context(|| format!("{}archive", part.prefix())),
    };
    let items = items.as_array().map_or(&[][..], Vec::as_slice);
    let parts = items.iter().enumerate();
    Ok(parts
        .filter_map(|(index, item)| of_archive(index, item))
        .collect())
}

/// One part of an archive: its content, or an object that has it. If no type is declared and the
/// first line says nothing, it is a cloud-config.
fn of_archive(index: usize, item: &Value) -> Option<Part> {
    let content = match item {
        Value::String(content) => content.as_str(),
        Value::Object(item) => item.get("content").and_then(Value::as_str).unwrap_or(""),
        _ => return None,
    };
    let declared = item.get("type").and_then(Value::as_str);
    let declared = declared
        .filter(|declared| !declared.is_empty())
        .map(|declared| {
            let declared = declared.split(';').next().unwrap_or_default();
            declared.trim().to_ascii_lowercase()
        });
    let kind = match &declared {
        Some(declared) if declared == SCRIPT => Kind::Program,
        Some(declared) => kind_of_type(declared),
        None => kind_of_start(content.as_bytes()).unwrap_or(Kind::CloudConfig),
    };
    let header = |name: &str| {
        let mut members = item.as_object().into_iter().flatten();
        let (_, value) = members.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value.as_str().unwrap_or_default().to_owned())
    };
    Some(Part {
        name: tr!("part {} of the archive", index + 1),
        declared,
        kind,
        content: content.as_bytes().to_vec(),
        merge_type: MERGE_HEADERS.into_iter().find_map(header),
        is_raw: false,
    })
}

/// The data, unpacked if it is a gzip file.
fn unpacked(data: &[u8]) -> Result<Cow<'_, [u8]>> {
    let unpacked = match data.starts_with(&GZIP) {
        true => unpack(data)?,
        false => None,
    };
    Ok(unpacked.map_or(Cow::Borrowed(data), Cow::Owned))
}

/// The content of a gzip file; `None` if it is none, or if it is damaged.
fn unpack(data: &[u8]) -> Result<Option<Vec<u8>>> {
    let (content, is_whole) = unpack_start(data);
    ensure!(
        content.len() as u64 <= SIZE_LIMIT,
        tr!("it unpacks to more than {SIZE_LIMIT} bytes", SIZE_LIMIT)
    );
    Ok(is_whole.then_some(content))
}

/// As much as can be unpacked of a gzip file, at most one byte more than [`SIZE_LIMIT`]; and whether
/// that is all.
pub(super) fn unpack_start(data: &[u8]) -> (Vec<u8>, bool) {
    let mut unpacked = Vec::new();
    let mut file = MultiGzDecoder::new(data).take(SIZE_LIMIT + 1);
    let is_whole = file.read_to_end(&mut unpacked).is_ok();
    (unpacked, is_whole)
}

/// Whether the data begins like a gzip file.
pub(super) fn is_gzip(data: &[u8]) -> bool {
    data.starts_with(&GZIP)
}
