//! What OpenStack says about this VM. Sources only find and return data; they write nothing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use model::Metadata;
use reqwest::Url;
use service::Service;

pub mod cloud_init;
pub mod config_drive;
pub mod directory;
pub mod hardware;
pub mod model;
pub mod openstack;
pub mod service;

/// A place where metadata may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory the operator named; that it holds none is an error.
    Directory(PathBuf),
    /// The block device labelled `config-2`.
    ConfigDrive,
    /// The metadata service.
    Service(Service),
    /// What cloud-init keeps below this root directory of what it found itself.
    CloudInit(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Directory(dir) => write!(f, "metadata directory {}", dir.display()),
            Source::ConfigDrive => write!(f, "config drive"),
            Source::Service(service) => write!(f, "{service}"),
            Source::CloudInit(_) => write!(f, "cloud-init's cache"),
        }
    }
}

/// As on the command line: `config-drive`, `service[=URL]`, `cloud-init[=ROOT]`, `directory=DIR`.
impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Source, String> {
        let (kind, value) = match text.split_once('=') {
            Some((kind, value)) => (kind, Some(value)),
            None => (text, None),
        };
        let service = |url| {
            Ok(Source::Service(Service {
                url,
                asked_for: true,
            }))
        };
        match (kind, value) {
            ("config-drive", None) => Ok(Source::ConfigDrive),
            ("service", None) => service(None),
            ("service", Some(url)) => match Url::parse(url) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => service(Some(url)),
                _ => Err("expected a URL such as http://169.254.169.254".to_owned()),
            },
            ("cloud-init", root) => Ok(Source::CloudInit(root.unwrap_or("/").into())),
            ("directory", Some(dir)) => Ok(Source::Directory(dir.into())),
            _ => Err(
                "expected config-drive, service[=URL], cloud-init[=ROOT] or directory=DIR"
                    .to_owned(),
            ),
        }
    }
}

/// What a source answers that is not broken.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It knows this VM.
    Found(Box<Metadata>),
    /// There is no such source here, and why that seems so.
    Missing(String),
}

/// How asking one source ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The source, as an error message names it.
    pub source: String,
    /// Why it was passed over; nothing if its word counts.
    pub passed_over: Option<String>,
    /// Whether it was passed over because it is broken: someone should look at it.
    pub broken: bool,
    /// How long it took.
    pub took: Duration,
}

/// What the sources said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What each that knows this VM said, in the order they were asked.
    pub metadata: Vec<Metadata>,
    /// Every source that was asked.
    pub asked: Vec<Asked>,
}

/// Asks the sources in that order. Each value is taken from the first that says it.
///
/// # Errors
/// If a source is there but broken, and none before it knew this VM: the word of those behind it
/// may be older. Once one has answered, a broken one is only named.
pub fn find(sources: &[Source], patience: Duration) -> Result<Found> {
    let mut found = Found::default();
    for source in sources {
        let start = Instant::now();
        let answer = source.read(patience, found.metadata.is_empty());
        let took = start.elapsed();
        let mut asked = Asked {
            source: source.to_string(),
            passed_over: None,
            broken: false,
            took,
        };
        match answer.and_then(|answer| of_same_instance(answer, found.metadata.first())) {
            Ok(Answer::Found(metadata)) => {
                asked.source.clone_from(&metadata.source);
                found.metadata.push(*metadata);
            }
            Ok(Answer::Missing(why)) => asked.passed_over = Some(why),
            Err(error) if found.metadata.is_empty() => return Err(error),
            Err(error) => {
                asked.passed_over = Some(format!("{error:#}"));
                asked.broken = true;
            }
        }
        found.asked.push(asked);
    }
    Ok(found)
}

/// Refuses what was said of another VM: a cache in a cloned image, or a drive that was moved.
fn of_same_instance(answer: Answer, first: Option<&Metadata>) -> Result<Answer> {
    if let (Answer::Found(metadata), Some(first)) = (&answer, first) {
        ensure!(
            metadata.uuid.eq_ignore_ascii_case(&first.uuid),
            "{} is of another instance: its UUID is {:?}, that of {} is {:?}",
            metadata.source,
            metadata.uuid,
            first.source,
            first.uuid
        );
    }
    Ok(answer)
}

impl Source {
    /// Asks this source; `needed` says whether no other has answered yet.
    fn read(&self, patience: Duration, needed: bool) -> Result<Answer> {
        match self {
            Source::Directory(dir) => Ok(Answer::Found(Box::new(directory::read(dir)?))),
            Source::ConfigDrive => config_drive::read(),
            Source::Service(service) if needed => service.read(patience),
            Source::Service(service) => service.read_once(patience),
            Source::CloudInit(root) => cloud_init::read(root),
        }
    }
}
