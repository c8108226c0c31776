//! The metadata service of a cloud of any age, from a directory laid out like a config drive.
//! `openstack/versions` lists the formats of the cloud, as the service itself does.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::server::{Answer, Request};

const LATEST: &str = "latest";
/// The new keys of `meta_data.json`, each with the first format that has it (Nova's
/// `api/metadata/base.py`).
const KEYS_SINCE: [(&str, &str); 4] = [
    ("random_seed", "2013-04-04"),
    ("project_id", "2015-10-15"),
    ("devices", "2016-06-30"),
    ("dedicated_cpus", "2020-10-14"),
];
/// The files, each with the first format that has it.
const FILES_SINCE: [(&str, &str); 5] = [
    ("meta_data.json", "2012-08-10"),
    ("user_data", "2012-08-10"),
    ("vendor_data.json", "2013-10-17"),
    ("network_data.json", "2015-10-15"),
    ("vendor_data2.json", "2016-10-06"),
];
/// More than a gibibyte: larger than any metadata.
const ENDLESS: u64 = 1 << 30;

/// How a service fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It accepts the request and never answers.
    Silent,
    /// It closes the connection.
    Drop,
    /// It answers with this status, and possibly with the number of seconds until a retry.
    Status(&'static str, Option<u32>),
    /// It answers like a captive portal.
    Html,
    /// It closes the connection in the middle of the body.
    Cut,
    /// It redirects to another address.
    Redirect,
    /// It sends a gibibyte.
    Endless,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        Ok(match text {
            "silent" => Fault::Silent,
            "drop" => Fault::Drop,
            "404" => Fault::Status("404 Not Found", None),
            "429" => Fault::Status("429 Too Many Requests", Some(1)),
            "500" => Fault::Status("500 Internal Server Error", None),
            "503" => Fault::Status("503 Service Unavailable", None),
            "html" => Fault::Html,
            "cut" => Fault::Cut,
            "redirect" => Fault::Redirect,
            "endless" => Fault::Endless,
            _ => {
                return Err(
                    "expected silent, drop, 404, 429, 500, 503, html, cut, redirect or endless"
                        .to_owned(),
                );
            }
        })
    }
}

/// A metadata service.
pub struct Service {
    fixture: PathBuf,
    versions: Vec<String>,
    fault: Option<Fault>,
    /// The end of the paths for which it fails.
    at: String,
    /// How many requests still fail.
    left: AtomicUsize,
}

impl Service {
    /// A service with the data of the config drive `fixture`.
    pub fn new(fixture: &Path) -> Result<Service> {
        let list = fixture.join("openstack/versions");
        let text = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
        Ok(Service {
            fixture: fixture.to_owned(),
            versions: text.lines().map(str::to_owned).collect(),
            fault: None,
            at: String::new(),
            left: AtomicUsize::new(0),
        })
    }

    /// Fails for the first requests whose paths end with `at`, this number of times.
    pub fn failing(self, fault: Fault, at: &str, times: usize) -> Service {
        Service {
            fault: Some(fault),
            at: at.to_owned(),
            left: AtomicUsize::new(times),
            ..self
        }
    }

    /// The answer to a request.
    pub fn answer(&self, request: &Request) -> Answer {
        let proper = self.proper(request.target.trim_matches('/'));
        let Some(fault) = &self.fault else {
            return proper;
        };
        let is_at = request.target.trim_end_matches('/').ends_with(&self.at);
        let fewer = |left: usize| left.checked_sub(1);
        let fails = is_at
            && self
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer)
                .is_ok();
        if fails { fail(fault, proper) } else { proper }
    }

    fn proper(&self, path: &str) -> Answer {
        let parts: Vec<&str> = path.split('/').collect();
        let content = match parts.as_slice() {
            ["openstack"] => Some((self.versions.join("\n") + "\n").into_bytes()),
            ["openstack", version, file] => self.openstack(version, file),
            [LATEST | "2009-04-04", "meta-data", key] => self.ec2(key),
            _ => None,
        };
        match content {
            Some(content) => Answer::status("200 OK")
                .header("Content-Type", "text/plain; charset=UTF-8")
                .body(&content),
            None => Answer::status("404 Not Found")
                .header("Content-Type", "text/html; charset=UTF-8")
                .body(b"<html><title>404 Not Found</title></html>"),
        }
    }

    fn openstack(&self, version: &str, file: &str) -> Option<Vec<u8>> {
        if !self.versions.iter().any(|known| known == version) {
            return None;
        }
        let newest = self.versions.iter().filter(|known| *known != LATEST).max();
        let version = if version == LATEST {
            newest?.as_str()
        } else {
            version
        };
        let (_, since) = FILES_SINCE.iter().find(|(name, _)| *name == file)?;
        if version < *since {
            return None;
        }
        let content = fs::read(self.fixture.join("openstack/latest").join(file)).ok()?;
        Some(match file {
            "meta_data.json" => of_version(&content, version),
            _ => content,
        })
    }

    fn ec2(&self, key: &str) -> Option<Vec<u8>> {
        let content = fs::read(self.fixture.join("ec2/latest/meta-data.json")).ok()?;
        let data: Value = serde_json::from_slice(&content).ok()?;
        Some(data.get(key)?.as_str()?.as_bytes().to_vec())
    }
}

/// The keys that this format has.
fn of_version(content: &[u8], version: &str) -> Vec<u8> {
    let mut data: Value = serde_json::from_slice(content).unwrap();
    let keys = data.as_object_mut().unwrap();
    for (key, since) in KEYS_SINCE {
        if version < since {
            keys.remove(key);
        }
    }
    serde_json::to_vec(&data).unwrap()
}

fn fail(fault: &Fault, proper: Answer) -> Answer {
    match fault {
        Fault::Silent => proper.silent(),
        Fault::Drop => proper.dropped(),
        Fault::Status(status, again) => {
            let answer = Answer::status(status);
            match again {
                Some(seconds) => answer.header("Retry-After", &seconds.to_string()),
                None => answer,
            }
        }
        Fault::Html => Answer::status("200 OK")
            .header("Content-Type", "text/html")
            .body(b"<html>Please log in</html>"),
        Fault::Cut => proper.cut(5),
        Fault::Redirect => {
            Answer::status("302 Found").header("Location", "http://portal.example/login")
        }
        Fault::Endless => proper.followed_by(ENDLESS),
    }
}
