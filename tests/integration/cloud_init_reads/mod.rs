//! Generated user-data, vendor-data and config drives: cloud-init itself and this program find the same
//! in them, or [`REASONS`] says why not. Both ages of cloud-init are asked: the one of this
//! distribution, which knows no schema of its own keys, and a newer one.
//!
//! `APPLIANCE_INPUTS` is the number of inputs of each kind.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use appliance::metadata::directory;
use appliance::nodespec::settings::Settings;
use appliance::nodespec::user_data;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cloud_init::{python_of_cloud_init, python_of_newer_cloud_init};

mod drives;
mod inputs;

/// The number of inputs of each kind in `make test`.
const INPUTS: usize = 400;

/// The role in the section `appliance:`, and the one in the file `/etc/appliance/config.yaml`.
type Roles = (Option<String>, Option<String>);

/// An input, and what was found in it.
struct Case<'a> {
    input: &'a [u8],
    cloud_init: Roles,
    /// Or why it is refused.
    ours: Result<Roles, String>,
}

/// Whether a reason fits a case.
type Fits = fn(&Case<'_>) -> bool;

/// Where this program differs on purpose.
const REASONS: [(&str, Fits); 4] = [
    (
        "how to merge two parts with settings is not understood: it is refused with what to do",
        |case| refused(case, "how to merge"),
    ),
    (
        "what is not ASCII in a MIME part without an encoding, or said to be ASCII, is read; \
         cloud-init garbles it",
        |case| !is_ascii(&text(case.input)),
    ),
    (
        "a MIME message after empty lines is read; cloud-init takes it for text",
        |case| has_message_after_empty_lines(&text(case.input)),
    ),
    (
        "a part that is not YAML is refused if it has settings; cloud-init passes it over",
        |case| refused(case, "line "),
    ),
];

/// Whether the text is ASCII, and what is quoted-printable or base64 in it, too.
fn is_ascii(text: &str) -> bool {
    let words = text.split(['\n', '\r', '"']);
    let words = words.flat_map(|word| word.split("\\n"));
    let words = words.map(|word| word.trim_end_matches("\\r"));
    let words = words.filter(|word| !word.is_empty());
    let mut packed = words.filter_map(|word| STANDARD.decode(word).ok());
    text.is_ascii() && !text.contains("=C3") && packed.all(|data| is_ascii(&self::text(&data)))
}

fn has_message_after_empty_lines(text: &str) -> bool {
    let starts = [
        "\n\nContent-Type: multipart",
        "\"\\n\\nContent-Type: multipart",
    ];
    text.starts_with(starts[0]) || text.contains(starts[1])
}

fn refused(case: &Case<'_>, why: &str) -> bool {
    matches!(&case.ours, Err(error) if error.contains(why))
}

/// The input as text, unpacked if it is gzip.
fn text(data: &[u8]) -> String {
    let mut unpacked = Vec::new();
    let mut file = flate2::read::MultiGzDecoder::new(data);
    match std::io::Read::read_to_end(&mut file, &mut unpacked) {
        Ok(_) => text(&unpacked),
        Err(_) => String::from_utf8_lossy(data).into_owned(),
    }
}

/// How many inputs are compared.
fn number() -> usize {
    let asked = std::env::var("APPLIANCE_INPUTS").ok();
    asked.map_or(INPUTS, |asked| asked.parse().unwrap())
}

fn generated<T>(strategy: &impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    let mut value = || strategy.new_tree(&mut runner).unwrap().current();
    (0..number()).map(|_| value()).collect()
}

/// Every cloud-init that is here: its Python.
pub fn ages() -> Vec<Command> {
    let newer = python_of_newer_cloud_init();
    std::iter::once(python_of_cloud_init())
        .chain(newer)
        .collect()
}

/// What cloud-init says about these questions.
pub fn asked(mut python: Command, questions: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cloud/cloud-init-reads.py");
    let mut child = python
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = questions.to_string();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The roles in a cloud-config that cloud-init merged.
fn roles(config: &Value) -> Roles {
    let role = |value: &Value| value["role"].as_str().map(str::to_owned);
    let mut files = config["write_files"].as_array().into_iter().flatten();
    let file = files.rfind(|file| file["path"] == "/etc/appliance/config.yaml");
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

/// Shows the counts, in the output of a run that succeeds, too.
fn count(what: &str, version: &Value, [all, agreed, in_table]: [usize; 3]) {
    let version = version.as_str().unwrap();
    let line = format!(
        "cloud-init {version}, {what}: {all} inputs, {agreed} agreed, {in_table} in the table of reasons\n"
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Prints how many cases agree, and fails if one differs without a reason.
fn compare<'a>(what: &str, version: &Value, cases: impl Iterator<Item = Case<'a>>) {
    let (mut agreed, mut told, mut differ) = (0, [0; REASONS.len()], Vec::new());
    for case in cases {
        if case.ours.as_ref() == Ok(&case.cloud_init) {
            agreed += 1;
            continue;
        }
        match REASONS.iter().position(|(_, fits)| fits(&case)) {
            Some(reason) => told[reason] += 1,
            None => differ.push(format!(
                "{}\ncloud-init: {:?}, this program: {:?}",
                text(case.input),
                case.cloud_init,
                case.ours
            )),
        }
    }
    let in_table: usize = told.iter().sum();
    let all = agreed + in_table + differ.len();
    count(what, version, [all, agreed, in_table]);
    for ((why, _), count) in REASONS.iter().zip(told).filter(|(_, count)| *count > 0) {
        println!("  {count}: {why}");
    }
    assert!(
        differ.is_empty(),
        "{} differ, for example:\n{}",
        differ.len(),
        differ[..differ.len().min(12)].join("\n========\n")
    );
    assert!(in_table * 5 < agreed, "{in_table} in the table");
}

fn role(settings: Option<Settings>) -> Option<String> {
    settings.and_then(|settings| settings.role)
}

#[test]
fn cloud_init_and_this_program_find_the_same_settings_in_user_data() {
    let inputs = generated(&inputs::user_data());
    let encoded: Vec<String> = inputs.iter().map(|data| STANDARD.encode(data)).collect();
    let questions = json!({"user_data": encoded, "vendor_data": [], "drives": []});
    for python in ages() {
        let answers = asked(python, &questions);
        let configs = answers["user_data"].as_array().unwrap();
        let cases = inputs.iter().zip(configs).map(|(input, config)| Case {
            input,
            cloud_init: roles(config),
            ours: user_data::find(input)
                .map(|found| (role(found.section), role(found.file)))
                .map_err(|error| format!("{error:#}")),
        });
        compare("user-data", &answers["version"], cases);
        let (with, told) = tally(&inputs, configs);
        assert!(with > inputs.len() / 10 && told > inputs.len() / 10);
    }
}

/// How many inputs have settings for cloud-init; and of how many others it is told why not.
fn tally(inputs: &[Vec<u8>], configs: &[Value]) -> (usize, usize) {
    let has = |config: &Value| roles(config) != (None, None);
    let with = configs.iter().filter(|config| has(config)).count();
    let others = inputs
        .iter()
        .zip(configs)
        .filter(|(_, config)| !has(config));
    let told = others.filter(|(data, _)| user_data::why_unread(data).is_some());
    (with, told.count())
}

#[test]
fn cloud_init_and_this_program_find_the_same_settings_in_vendor_data() {
    let values = generated(&inputs::vendor_data());
    let questions = json!({"user_data": [], "vendor_data": values, "drives": []});
    let texts: Vec<Vec<u8>> = values.iter().map(|v| v.to_string().into_bytes()).collect();
    for python in ages() {
        let answers = asked(python, &questions);
        let configs = answers["vendor_data"].as_array().unwrap();
        for (file, read) in [
            (
                "vendor_data.json",
                user_data::vendor_settings as fn(&[u8]) -> _,
            ),
            ("vendor_data2.json", user_data::vendor2_settings),
        ] {
            let cases = texts.iter().zip(configs).map(|(input, config)| {
                let (section, file) = roles(config);
                Case {
                    input,
                    cloud_init: (file.or(section), None),
                    ours: read(input)
                        .map(|found: Option<Settings>| (role(found), None))
                        .map_err(|error| format!("{error:#}")),
                }
            });
            compare(file, &answers["version"], cases);
        }
    }
}

#[test]
fn cloud_init_and_this_program_read_the_same_of_drives() {
    let drives = drives::all();
    let paths: Vec<PathBuf> = drives.iter().map(|d| d.dir.path().to_owned()).collect();
    let questions = json!({"user_data": [], "vendor_data": [], "drives": paths});
    for python in ages() {
        let answers = asked(python, &questions);
        let (mut agreed, mut in_table) = (0, 0);
        for (drive, theirs) in drives.iter().zip(answers["drives"].as_array().unwrap()) {
            let ours = directory::read_drive("drive", drive.dir.path());
            let shown = |data: Option<Vec<u8>>| data.map(|d| String::from_utf8(d).unwrap());
            let ours = match ours {
                Ok(found) => json!({"name": found.name, "user_data": shown(found.user_data)}),
                Err(_) => Value::Null,
            };
            let mut theirs = theirs.clone();
            if let Some(theirs) = theirs.as_object_mut() {
                theirs.retain(|key, _| ours.get(key).is_some());
            }
            match (ours == theirs, drive.reason) {
                (true, _) => agreed += 1,
                (false, Some(_)) => in_table += 1,
                (false, None) => panic!("{}\n{theirs}\n{ours}", drive.layout),
            }
        }
        count(
            "drives",
            &answers["version"],
            [drives.len(), agreed, in_table],
        );
    }
    let reasons: std::collections::BTreeSet<&str> =
        drives.iter().filter_map(|d| d.reason).collect();
    for reason in reasons {
        println!("  {reason}");
    }
}
