//! Generated user-data and vendor-data, in every form that cloud-init takes, and in some that it does
//! not.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::sample::select;
use serde_json::{Value, json};

/// What may be before the settings: headers, and what only looks like one. Not `#include`, with which
/// cloud-init would take the lines for addresses and ask them; and not a tab, after which cloud-init
/// refuses the whole text as YAML, and this program does not.
const STARTS: [&str; 17] = [
    "",
    "#cloud-config\n",
    "#cloud-config\n",
    "#cloud-config\r\n",
    "\n \n#cloud-config\n",
    "    #cloud-config\n",
    " \n#CLOUD-Config # rendered\n",
    "#cloud-config vim:syntax=yaml\n",
    "#cloud-config-jsonp\n",
    "---\n#cloud-config\n",
    "# cloud-config\n",
    "#cloud_config\n",
    "\u{feff}#cloud-config\n",
    "#cloud-config\n# Für Köln → Zürich\n",
    "#!/bin/sh\n",
    "#cloud-boothook\n",
    "#part-handler\n",
];
/// Settings, each with the number of its part in place of N.
const BODIES: [&str; 10] = [
    "appliance: {role: rN}\n",
    "appliance:\n  role: rN\n",
    "write_files:\n- path: /etc/appliance/config.yaml\n  content: |\n    role: rN\n",
    "write_files: [{path: /etc/appliance/config.yaml, encoding: b64, content: cm9sZTogeA==}]\n",
    "write_files: [{path: /etc/motd, content: x}]\n",
    "runcmd: [[appliance, install]]\n",
    "appliance: {role: rN}\nwrite_files: [{path: /etc/motd, content: x}]\n",
    "merge_how: 'dict(recurse_array)+list(append)+str()'\nappliance: {role: rN}\n",
    "merge_type: 'dict(replace)+list()+str()'\nappliance: {role: rN}\n",
    "hostname: n\nappliance:\n  role: rN\n  # the end\n",
];
const TYPES: [&str; 14] = [
    "",
    "text/cloud-config",
    "text/cloud-config",
    "Text/Cloud-Config; charset=\"us-ascii\"",
    "text/plain",
    "text/plain; charset=utf-8",
    "text/x-not-multipart",
    "text/x-shellscript",
    "text/x-shellscript-per-boot",
    "text/cloud-config-jsonp",
    "text/cloud-config-archive",
    "text/cloud-boothook",
    "application/octet-stream",
    "application/gzip",
];

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// One document, with a number of its own.
fn document() -> impl Strategy<Value = String> {
    (select(&STARTS[..]), select(&BODIES[..]), 0..100u32).prop_map(|(start, body, number)| {
        format!("{start}{}", body.replace('N', &number.to_string()))
    })
}

/// An archive of documents, most of them with a type.
fn archive() -> impl Strategy<Value = String> {
    let item = (document(), select(&TYPES[..13]), 0..6u8).prop_map(|(content, kind, form)| {
        let content = Value::from(content);
        let kind = Value::from(kind);
        match form {
            0 => format!("- {content}\n"),
            1 => format!("- {{filename: a.txt, content: {content}}}\n"),
            2 => format!("- {{type: {kind}, launch-index: 0, content: {content}}}\n"),
            3 => format!("- {{type: {kind}, filename: empty.sh}}\n- {content}\n"),
            _ => format!("- {{type: {kind}, content: {content}}}\n"),
        }
    });
    let start = select(&["#cloud-config-archive\n", "\n#Cloud-Config-Archive\n"][..]);
    (start, vec(item, 1..4)).prop_map(|(start, items)| start.to_owned() + &items.concat())
}

/// Quoted-printable text.
fn quoted(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'\n' => "\n".to_owned(),
        b' '..=b'<' | b'>'..=b'~' => char::from(byte).to_string(),
        other => format!("={other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// A part of a MIME message: as it is, base64, quoted-printable, or gzip in base64.
fn part() -> impl Strategy<Value = String> {
    let content = prop_oneof![4 => document(), 1 => archive()];
    let header = select(
        &[
            "",
            "",
            "",
            "Merge-Type: list(append)\n",
            "Launch-Index: 0\n",
        ][..],
    );
    (content, select(&TYPES[..]), header, 0..6u8).prop_map(|(content, kind, header, form)| {
        let mut part = format!("--B\n{header}");
        if !kind.is_empty() {
            part += &format!("Content-Type: {kind}\n");
        }
        let (encoding, body) = match (form, kind) {
            (0, _) | (_, "application/gzip") => {
                ("base64", STANDARD.encode(gzip(content.as_bytes())))
            }
            (1, _) => ("base64", STANDARD.encode(&content)),
            (2, _) => ("quoted-printable", quoted(&content)),
            (3, _) => ("8bit", content),
            _ => return format!("{part}MIME-Version: 1.0\n\n{content}\n"),
        };
        part + &format!("MIME-Version: 1.0\nContent-Transfer-Encoding: {encoding}\n\n{body}\n")
    })
}

/// A MIME message; some have a message as a part, no header of the version, or DOS line ends.
fn message() -> impl Strategy<Value = String> {
    (vec(part(), 1..4), 0..12u8).prop_map(|(parts, form)| {
        let header = match form {
            0 => "Content-Type: multipart/mixed; boundary=\"B\"\n",
            1 => "mime-version: 1.0\ncontent-type: multipart/mixed; boundary=B\n",
            2 => "From nobody Fri Jan 1 00:00:00 2026\nContent-Type: multipart/mixed; boundary=\"B\"\nMIME-Version: 1.0\n",
            3 => "\n\nContent-Type: multipart/mixed; boundary=\"B\"\nMIME-Version: 1.0\n",
            _ => "Content-Type: multipart/mixed; boundary=\"B\"\nMIME-Version: 1.0\n",
        };
        let body = match form {
            4 => {
                let inner = parts.concat().replace("--B\n", "--C\n");
                format!("--B\nContent-Type: multipart/mixed; boundary=\"C\"\n\n{inner}--C--\n")
            }
            _ => parts.concat(),
        };
        let text = format!("{header}\n{body}--B--\n");
        match form {
            5 => text.replace('\n', "\r\n"),
            _ => text,
        }
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => document(), 2 => archive(), 4 => message()]
}

/// User-data: some of it is gzip, and some of that is cut or packed twice.
pub fn user_data() -> impl Strategy<Value = Vec<u8>> {
    let form = prop_oneof![8 => Just(0), 4 => Just(1), 1 => Just(2), 1 => Just(3)];
    (text(), form).prop_map(|(text, form)| {
        let whole = gzip(text.as_bytes());
        match form {
            0 => text.into_bytes(),
            1 => whole,
            2 => whole[..whole.len() - 5].to_vec(),
            _ => gzip(&whole),
        }
    })
}

/// A value of vendor-data in the forms of cloud-init's `convert_vendordata`, and in some of others.
pub fn vendor_data() -> impl Strategy<Value = Value> {
    (vec(text(), 1..4), 0..10u8).prop_map(|(texts, form)| match form {
        0 => json!(texts[0]),
        1 => json!(texts),
        2 | 3 => json!({ "cloud-init": texts[0] }),
        4 => json!({ "cloud-init": texts }),
        5 => json!({ "static": {"region": "south"}, "cloud-init": texts[0] }),
        6 => json!({ "cloud-init": null, "other": texts[0] }),
        7 => json!({ "static": {} }),
        8 => json!([]),
        _ => json!({ "cloud-init": "" }),
    })
}
