//! Why user-data that has settings is not read. cloud-init says nothing of it either, or only in its
//! log.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::SECTION;
use super::cloud_config::{BYTE_ORDER_MARK, begins_with_raw_mark, merging};
use super::parts::{Kind, Part, is_gzip, parts, unpack_start};
use crate::language::tr;
use crate::nodespec::spelling::SUGGESTION_DISTANCE;
use crate::nodespec::yaml::{Others, parse_others_yaml};
use crate::paths::CONFIG;

const HEADER: &str = "#cloud-config";

/// Why user-data without readable settings is not read; `None` if it does not mention them.
pub(super) fn why(data: &[u8]) -> Option<String> {
    let reason = of_bytes(data).or_else(|| {
        let parts = parts(data).ok()?;
        parts.iter().find_map(of_part)
    });
    reason.map(|reason| {
        tr!(
            "user-data mentions `{SECTION}` but is not read, because {reason}; make it with \
             `appliance user-data`",
            SECTION,
            reason
        )
    })
}

/// Reasons that lie in the encoding of all bytes.
fn of_bytes(data: &[u8]) -> Option<String> {
    if is_gzip(data) {
        let (content, is_whole) = unpack_start(data);
        let is_ours = content.is_empty() || mentions(&String::from_utf8_lossy(&content));
        return (!is_whole && is_ours).then(|| tr!("it is a gzip file that is cut off or damaged"));
    }
    if let Some(text) = utf16(data) {
        return mentions(&text).then(|| tr!("it is UTF-16 and must be UTF-8"));
    }
    let text = str::from_utf8(data).ok()?;
    if text.starts_with(BYTE_ORDER_MARK) && mentions(text) {
        return Some(tr!(
            "it begins with a byte order mark; save it as UTF-8 without one"
        ));
    }
    let is_mime = |text: &str| {
        text.to_ascii_lowercase()
            .starts_with("content-type: multipart")
    };
    let is_whole = |found: &[Part]| matches!(found, [part] if part.name.is_empty());
    if is_mime(text.trim_start()) && mentions(text) && parts(data).is_ok_and(|p| is_whole(&p)) {
        return Some(tr!(
            "it is a MIME message without the header `MIME-Version: 1.0`, so cloud-init does not \
             take it apart"
        ));
    }
    of_base64(text)
}

/// Text of two bytes for each character, with or without a byte order mark.
fn utf16(data: &[u8]) -> Option<String> {
    let units = |of: fn([u8; 2]) -> u16| -> String {
        let units = data.chunks_exact(2).map(|pair| of([pair[0], pair[1]]));
        char::decode_utf16(units)
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    };
    match data {
        [0xff, 0xfe, ..] | [_, 0, _, 0, ..] => Some(units(u16::from_le_bytes)),
        [0xfe, 0xff, ..] | [0, _, 0, _, ..] => Some(units(u16::from_be_bytes)),
        _ => None,
    }
}

fn of_base64(text: &str) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.retain(|byte| !byte.is_ascii_whitespace());
    let decoded = STANDARD.decode(bytes).ok()?;
    let content = match is_gzip(&decoded) {
        true => unpack_start(&decoded).0,
        false => decoded,
    };
    mentions(&String::from_utf8_lossy(&content))
        .then(|| tr!("it is base64 text; give the file itself to `openstack`, which encodes it"))
}

/// Whether a line begins like the section, or a file with settings is named.
fn mentions(text: &str) -> bool {
    let names_section = |line: &str| {
        let line = line.trim_start_matches([' ', '\t', '-', '{', '"', '\'', '\u{feff}']);
        let rest = line.strip_prefix(SECTION);
        rest.is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    text.lines().any(names_section) || text.contains(CONFIG)
}

fn of_part(part: &Part) -> Option<String> {
    let text = part.text();
    if is_gzip(&part.content) {
        let unpacked = unpack_start(&part.content).0;
        return mentions(&String::from_utf8_lossy(&unpacked)).then(|| {
            tr!(
                "{}it is gzip, which cloud-init unpacks only if its type is application/gzip",
                part.prefix()
            )
        });
    }
    let reason = match part.kind {
        // A program may write such text on purpose.
        Kind::Program | Kind::Include => None,
        Kind::CloudConfig if begins_with_raw_mark(part) && mentions(&text) => Some(tr!(
            "it begins with a byte order mark; save it as UTF-8 without one"
        )),
        Kind::CloudConfig
            if mentions(&text) && merging(&text, part.merge_type.as_deref()).is_none() =>
        {
            Some(tr!(
                "its merge type does not say how to merge `dict`, so cloud-init loses it; remove the \
                 merge type"
            ))
        }
        Kind::CloudConfig => of_cloud_config(&text),
        _ if !mentions(&text) => None,
        Kind::JsonPatch => Some(tr!("this program does not read `#cloud-config-jsonp`")),
        Kind::Archive => Some(tr!("it is an archive within another")),
        Kind::Template => Some(tr!("it is a template; remove its first line")),
        Kind::Unknown => Some(of_unknown(part, &text)),
    };
    reason.map(|reason| format!("{}{reason}", part.prefix()))
}

/// Why text is not taken for a cloud-config.
fn of_unknown(part: &Part, text: &str) -> String {
    if let Some(declared) = part
        .declared
        .as_deref()
        .filter(|declared| *declared != "text/plain")
    {
        return tr!(
            "its type is {}, and cloud-init takes settings from text/cloud-config",
            declared.escape_debug()
        );
    }
    if part.declared.is_some() && part.name.contains("archive") {
        return tr!("its type is text/plain; remove the type");
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    if first == "---" {
        return tr!("the line `---` is before `{HEADER}`; remove it", HEADER);
    }
    let word = first.to_ascii_lowercase().replace([' ', '_', '-'], "");
    let is_close = word.starts_with("#cloudconfig")
        || strsim::damerau_levenshtein(&word, "#cloudconfig") <= SUGGESTION_DISTANCE;
    match is_close {
        true => tr!("its first line is not spelled `{HEADER}`", HEADER),
        false => tr!("its first line is not `{HEADER}`", HEADER),
    }
}

/// Why a cloud-config has no section, although it seems to. Its other content is cloud-init's, and may
/// be what this program cannot parse.
fn of_cloud_config(text: &str) -> Option<String> {
    let Others(config) = parse_others_yaml(text).ok()?;
    if config.is_array() && mentions(text) {
        return Some(tr!("it is a list; a cloud-config has keys"));
    }
    let keys = config.as_object()?;
    for (key, value) in keys {
        let word = key.to_lowercase();
        let is_close = strsim::damerau_levenshtein(&word, SECTION) <= SUGGESTION_DISTANCE;
        if is_close && value.is_object() {
            return Some(tr!(
                "its key `{}` is unknown; did you mean `{SECTION}`?",
                key.escape_debug(),
                SECTION
            ));
        }
        if value[SECTION].is_object() {
            return Some(tr!(
                "its key `{SECTION}` is below `{}`; it must begin a line",
                key.escape_debug(),
                SECTION
            ));
        }
    }
    None
}
