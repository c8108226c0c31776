//! User-data of every form: cloud-init itself and this program must find the same settings in it.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use appliance::nodespec::settings::Settings;
use appliance::nodespec::user_data;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::cloud_init::python_of_cloud_init;

/// How many inputs are compared.
const INPUTS: usize = 3000;

/// What may be before the settings: headers, and what only looks like one. Not `#include`, with which
/// cloud-init would take the lines for addresses and ask them; and not a tab, after which it refuses
/// the whole text as YAML, and this program does not.
const STARTS: [&str; 15] = [
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
    "#!/bin/sh\n",
    "#cloud-boothook\n",
];
/// Settings, each with the number of its part in place of N.
const BODIES: [&str; 6] = [
    "appliance: {role: rN}\n",
    "appliance:\n  role: rN\n",
    "write_files:\n- path: /etc/appliance/config.yaml\n  content: |\n    role: rN\n",
    "write_files: [{path: /etc/appliance/config.yaml, encoding: b64, content: cm9sZTogeA==}]\n",
    "write_files: [{path: /etc/motd, content: x}]\n",
    "runcmd: [[appliance, install]]\n",
];
const TYPES: [&str; 13] = [
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
    "text/cloud-boothook",
    "application/octet-stream",
    "application/gzip",
];

fn gzip(data: &[u8]) -> Vec<u8> {
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
    let item = (document(), select(&TYPES[..12]), 0..4u8).prop_map(|(content, kind, form)| {
        let content = Value::from(content);
        match form {
            0 => format!("- {content}\n"),
            1 => format!("- {{filename: a.txt, content: {content}}}\n"),
            _ => format!("- {{type: {}, content: {content}}}\n", Value::from(kind)),
        }
    });
    vec(item, 1..4).prop_map(|items| format!("#cloud-config-archive\n{}", items.concat()))
}

/// A MIME message; the parts are plain, base64, or gzip in base64.
fn message() -> impl Strategy<Value = String> {
    let content = prop_oneof![4 => document(), 1 => archive()];
    let part = (content, select(&TYPES[..]), 0..4u8).prop_map(|(content, kind, form)| {
        let mut part = "--B\n".to_owned();
        if !kind.is_empty() {
            part += &format!("Content-Type: {kind}\n");
        }
        let body = match (form, kind) {
            (0, _) => STANDARD.encode(gzip(content.as_bytes())),
            (_, "application/gzip") => STANDARD.encode(gzip(content.as_bytes())),
            (1, _) => STANDARD.encode(&content),
            _ => return format!("{part}MIME-Version: 1.0\n\n{content}\n"),
        };
        part + &format!("MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n{body}\n")
    });
    (vec(part, 1..4), 0..8u8).prop_map(|(parts, form)| {
        let header = match form {
            0 => "Content-Type: multipart/mixed; boundary=\"B\"\n",
            1 => "mime-version: 1.0\ncontent-type: multipart/mixed; boundary=B\n",
            _ => "Content-Type: multipart/mixed; boundary=\"B\"\nMIME-Version: 1.0\n",
        };
        format!("{header}\n{}--B--\n", parts.concat())
    })
}

/// User-data: some of it is gzip, and some of that is cut.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![3 => document(), 2 => archive(), 4 => message()];
    (text, prop_oneof![4 => Just(0), 2 => Just(1), 1 => Just(2)]).prop_map(
        |(text, form)| match form {
            0 => text.into_bytes(),
            1 => gzip(text.as_bytes()),
            _ => {
                let whole = gzip(text.as_bytes());
                whole[..whole.len() - 5].to_vec()
            }
        },
    )
}

/// The merged cloud-config that cloud-init makes of each.
fn by_cloud_init(inputs: &[Vec<u8>]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cloud/cloud-init-reads.py");
    let mut child = python_of_cloud_init()
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let encoded: Vec<String> = inputs.iter().map(|data| STANDARD.encode(data)).collect();
    let mut input = child.stdin.take().unwrap();
    let text = serde_json::to_string(&encoded).unwrap();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The roles in the section and in the file that cloud-init's result has.
fn roles(config: &Value) -> (Option<String>, Option<String>) {
    let role = |value: &Value| value["role"].as_str().map(str::to_owned);
    let files = config["write_files"].as_array().into_iter().flatten();
    let file = files
        .filter(|file| file["path"] == "/etc/appliance/config.yaml")
        .last();
    let content = file.map(|file| {
        let content = file["content"].as_str().unwrap();
        match file["encoding"].as_str() {
            Some(_) => String::from_utf8(STANDARD.decode(content).unwrap()).unwrap(),
            None => content.to_owned(),
        }
    });
    let file = content.and_then(|text| Settings::from_yaml("a file", &text).unwrap().role);
    (role(&config["appliance"]), file)
}

#[test]
fn cloud_init_and_this_program_find_the_same_settings() {
    let mut runner = TestRunner::deterministic();
    let inputs: Vec<Vec<u8>> = (0..INPUTS)
        .map(|_| data().new_tree(&mut runner).unwrap().current())
        .collect();
    let (mut with, mut without, mut told) = (0, 0, 0);
    let mut differ = Vec::new();
    for (data, config) in inputs.iter().zip(by_cloud_init(&inputs)) {
        let theirs = roles(&config);
        let found = user_data::find(data);
        let ours = found.map(|found| {
            let role = |settings: Option<Settings>| settings.and_then(|settings| settings.role);
            (role(found.section), role(found.file))
        });
        match &ours {
            Ok(ours) if *ours == theirs => match theirs == (None, None) {
                true => {
                    without += 1;
                    told += usize::from(user_data::why_unread(data).is_some());
                }
                false => with += 1,
            },
            ours => differ.push(format!(
                "{}\ncloud-init: {theirs:?}, this program: {ours:?}",
                String::from_utf8_lossy(data)
            )),
        }
    }
    println!(
        "{INPUTS} inputs: both find settings in {with}, and none in {without}; of these, {told} are told"
    );
    assert!(with > INPUTS / 10 && told > INPUTS / 10, "{with} {told}");
    assert!(
        differ.is_empty(),
        "{} differ, for example:\n{}",
        differ.len(),
        differ[..differ.len().min(12)].join("\n========\n")
    );
}
