//! Compares what two runs of a command left: byte for byte, but certificates and random values by their meaning.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use appliance::paths;
use appliance::pki::inspect::inspect_der;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PublicKeyData};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::backups;
use super::tree::{Entry, Tree, What};

/// The file with the data of etcd's API v3.
const ETCD: &str = "member/snap/db";
/// The start of every private key in PEM.
const PRIVATE: &[u8] = b"PRIVATE KEY-----";

/// What takes out of a file what may differ after a repetition, for example a second token.
pub type Simplify = fn(&Path, String) -> String;

/// What a command leaves when nobody cuts it, as two runs of it tell: where their words differ, they are random.
pub struct Expected {
    /// What the first run left.
    pub tree: Tree,
    /// The words of each file; `None` where they are random.
    words: BTreeMap<PathBuf, Vec<Option<String>>>,
    simplify: Simplify,
}

/// How what is there differs from what is expected.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// Paths that are not expected.
    pub more: Vec<PathBuf>,
    /// Paths that are missing or different.
    pub other: Vec<PathBuf>,
}

impl Expected {
    /// What two uncut runs left.
    pub fn of(one: Tree, two: &Tree, simplify: Simplify) -> Expected {
        let mut words = BTreeMap::new();
        for (path, entry) in &one {
            let other = two.get(path).unwrap_or_else(|| {
                panic!("only one of two runs leaves {}", path.display());
            });
            let (Some(a), Some(b)) = (entry.content(), other.content()) else {
                continue;
            };
            let [a, b] = [a, b].map(|bytes| words_of(path, bytes, simplify));
            assert_eq!(
                a.len(),
                b.len(),
                "{} has another form in each run",
                path.display()
            );
            let same = a.into_iter().zip(b);
            let same = same.map(|(a, b)| (a == b).then_some(a));
            words.insert(path.clone(), same.collect());
        }
        assert_eq!(one.len(), two.len(), "two runs leave other names");
        Expected {
            tree: one,
            words,
            simplify,
        }
    }

    /// How `found` differs.
    pub fn differences(&self, found: &Tree) -> Differences {
        let more = found.keys().filter(|path| !self.tree.contains_key(*path));
        let other = self.tree.iter().filter(|(path, entry)| {
            let found = found.get(*path);
            !found.is_some_and(|found| self.is_like(path, entry, found))
        });
        Differences {
            more: more.cloned().collect(),
            other: other.map(|(path, _)| path.clone()).collect(),
        }
    }

    fn is_like(&self, path: &Path, expected: &Entry, found: &Entry) -> bool {
        let is_one = (expected.mode, expected.owner) == (found.mode, found.owner);
        match (&expected.what, &found.what) {
            (What::File(_), What::File(content)) => is_one && self.has_form(path, content),
            _ => expected.is_same(found),
        }
    }

    /// Whether the content is the expected one, except for what is random.
    pub fn has_form(&self, path: &Path, content: &[u8]) -> bool {
        let Some(expected) = self.words.get(path) else {
            return false;
        };
        let found = words_of(path, content, self.simplify);
        let is_like = |(expected, found): (&Option<String>, String)| {
            expected.as_ref().is_none_or(|expected| *expected == found)
        };
        expected.len() == found.len() && expected.iter().zip(found).all(is_like)
    }

    /// Whether the file has a key or another secret that must never change once it was written.
    pub fn is_key(&self, path: &Path) -> bool {
        let content = self.tree.get(path).and_then(Entry::content);
        let others = [paths::TOKEN_FILE, paths::ENCRYPTION];
        content.is_some_and(|content| content.windows(PRIVATE.len()).any(|part| part == PRIVATE))
            || others
                .iter()
                .any(|other| path.ends_with(other.trim_start_matches('/')))
    }
}

/// The words of a file, and what is between them. Certificates, backups and etcd's data are replaced by what they say,
/// keys by their kind, points in time by a word.
fn words_of(path: &Path, bytes: &[u8], simplify: Simplify) -> Vec<String> {
    let binary = || match path.ends_with(ETCD) {
        true => backups::etcd(bytes),
        false => backups::meaning(bytes).unwrap_or_else(|| hex::encode(bytes)),
    };
    let text = str::from_utf8(bytes).map_or_else(|_| Cow::Owned(binary()), Cow::Borrowed);
    let text = text.as_ref();
    let text = simplify(path, with_meaning(text));
    let mut words = vec![String::new()];
    let is_word = |letter: char| letter.is_alphanumeric() || "+/=_-.:".contains(letter);
    let mut inside = true;
    for letter in text.chars() {
        if is_word(letter) != inside {
            words.push(String::new());
            inside = !inside;
        }
        words.last_mut().unwrap().push(letter);
    }
    words.into_iter().map(without_time).collect()
}

/// A word that is a point in time is any.
fn without_time(word: String) -> String {
    let pattern = "dddd-dd-ddTdd:dd:dd";
    let is_time = word.len() > pattern.len()
        && word
            .chars()
            .zip(pattern.chars())
            .all(|(letter, wanted)| match wanted {
                'd' => letter.is_ascii_digit(),
                wanted => letter == wanted,
            });
    if is_time { "TIME".to_owned() } else { word }
}

/// The text with what its PEM blocks mean, also of those in base64.
fn with_meaning(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("-----BEGIN ") {
        let end = rest[start..].find("-----END ").map(|end| start + end + 9);
        let end = end.and_then(|end| rest[end..].find("-----").map(|more| end + more + 5));
        let Some(end) = end else { break };
        result.push_str(&rest[..start]);
        result.push_str(&meaning(&rest[start..end]));
        rest = &rest[end..];
    }
    result.push_str(rest);
    let decoded = |word: &str| {
        let bytes = STANDARD.decode(word).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        text.contains("-----BEGIN ").then(|| with_meaning(&text))
    };
    let words = result.split_inclusive(char::is_whitespace);
    words
        .map(|word| {
            let bare = word.trim_end().trim_matches('"');
            decoded(bare).unwrap_or_else(|| word.to_owned())
        })
        .collect()
}

fn meaning(block: &str) -> String {
    let Ok(block) = pem::parse(block) else {
        return block.to_owned();
    };
    if block.tag() != "CERTIFICATE" {
        return format!("[{}]", block.tag());
    }
    let info = inspect_der(block.contents()).unwrap();
    // Where one ends with its authority, it is made for some seconds less by each run.
    let months = ((info.not_after - info.not_before).whole_days() + 15) / 30;
    format!(
        "[certificate of {} for {}, {months} months, authority {}, server {}, client {}]",
        info.subject,
        info.sans().join(" "),
        info.is_ca,
        info.server,
        info.client
    )
}

/// The fields of a kubeconfig that hold what is in a file, too.
const COPIES: [&str; 2] = ["client-certificate-data: ", "client-key-data: "];

/// Kubeconfigs with another certificate or another key than the files.
fn outdated(tree: &Tree) -> Vec<String> {
    let files: Vec<&[u8]> = tree.values().filter_map(Entry::content).collect();
    let is_outdated = |entry: &Entry| {
        let text = str::from_utf8(entry.content().unwrap_or_default()).unwrap_or_default();
        let lines = text.lines().map(str::trim_start);
        let copies =
            lines.filter_map(|line| COPIES.iter().find_map(|name| line.strip_prefix(name)));
        let mut copies = copies.filter_map(|copy| STANDARD.decode(copy.trim_matches('"')).ok());
        copies.any(|copy| !files.contains(&copy.as_slice()))
    };
    let outdated = tree.iter().filter(|(_, entry)| is_outdated(entry));
    outdated
        .map(|(path, _)| format!("{}: it has other keys than the files", path.display()))
        .collect()
}

/// What does not fit together: certificates without their key, or that no authority beside them has signed.
pub fn misfits(tree: &Tree) -> Vec<String> {
    let of = |path: &Path, tag: &str| -> Option<Vec<u8>> {
        let block = pem::parse(tree.get(path)?.content()?).ok()?;
        let is_it = block.tag().ends_with(tag);
        is_it.then(|| block.into_contents())
    };
    let certificates: Vec<(&PathBuf, Vec<u8>)> = tree
        .keys()
        .filter(|path| path.extension().is_some_and(|extension| extension == "pem"))
        .filter_map(|path| Some((path, of(path, "CERTIFICATE")?)))
        .collect();
    let mut misfits = outdated(tree);
    for (path, der) in &certificates {
        let certificate = X509Certificate::from_der(der).unwrap().1;
        let signed = certificates.iter().any(|(_, other)| {
            let other = X509Certificate::from_der(other).unwrap().1;
            other.is_ca()
                && other.subject() == certificate.issuer()
                && certificate
                    .verify_signature(Some(other.public_key()))
                    .is_ok()
        });
        if !signed {
            misfits.push(format!("{}: nobody signed it", path.display()));
        }
        let stem = path.file_stem().unwrap().to_string_lossy();
        let key = path.with_file_name(format!("{stem}-key.pem"));
        let Some(entry) = tree.get(&key) else {
            continue;
        };
        let key = str::from_utf8(entry.content().unwrap()).unwrap();
        let fits = KeyPair::from_pem(key)
            .is_ok_and(|key| key.subject_public_key_info() == certificate.public_key().raw);
        if !fits {
            misfits.push(format!("{}: its key is another one", path.display()));
        }
    }
    misfits
}
