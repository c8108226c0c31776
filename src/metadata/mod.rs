//! OpenStack's metadata of this VM. Sources only find and return data; they write nothing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow, ensure};
use model::Metadata;
use reqwest::Url;
use service::Service;

use crate::language::tr;

pub mod cloud_init;
pub mod config_drive;
pub mod directory;
pub mod hardware;
pub mod json;
pub mod model;
pub mod openstack;
pub mod service;

/// A place where metadata may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory that the operator named. If it has no metadata, that is an error.
    Directory(PathBuf),
    /// The block device labelled `config-2`.
    ConfigDrive,
    /// The metadata service.
    Service(Service),
    /// cloud-init's cache below this root directory.
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
                _ => Err(tr!("expected a URL such as http://169.254.169.254")),
            },
            ("cloud-init", root) => Ok(Source::CloudInit(root.unwrap_or("/").into())),
            ("directory", Some(dir)) => Ok(Source::Directory(dir.into())),
            _ => Err(tr!(
                "expected config-drive, service[=URL], cloud-init[=ROOT] or directory=DIR"
            )),
        }
    }
}

/// The answer of a source that works.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The source knows this VM.
    Found(Box<Metadata>),
    /// The source does not exist here; the text says why this program thinks so.
    Missing(String),
}

/// The result of asking one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The source, as an error message names it.
    pub source: String,
    /// Why the source was skipped; `None` if its data is used.
    pub passed_over: Option<String>,
    /// Whether it was skipped because it is broken, which someone should look at.
    pub broken: bool,
    /// How long it took.
    pub took: Duration,
}

/// The answers of the sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The metadata of each source that knows this VM, in the order they were asked.
    pub metadata: Vec<Metadata>,
    /// Every source that was asked.
    pub asked: Vec<Asked>,
}

/// Asks the sources in this order. Each value comes from the first source that has it.
///
/// # Errors
/// If a source exists but is broken, and no source before it knew this VM: later sources may have
/// older data. After one source has answered, a broken one is only reported.
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
            Err(error) if found.metadata.is_empty() => return Err(source.skippable(error)),
            Err(error) => {
                asked.passed_over = Some(format!("{error:#}"));
                asked.broken = true;
            }
        }
        found.asked.push(asked);
    }
    Ok(found)
}

/// Refuses metadata of another VM: a cache in a cloned image, or a drive that was moved.
fn of_same_instance(answer: Answer, first: Option<&Metadata>) -> Result<Answer> {
    if let (Answer::Found(metadata), Some(first)) = (&answer, first) {
        // A source that does not say its UUID cannot be compared.
        let is_said = !metadata.uuid.is_empty() && !first.uuid.is_empty();
        ensure!(
            !is_said || metadata.uuid.eq_ignore_ascii_case(&first.uuid),
            tr!(
                "{} is of another instance: its UUID is {}, but that of {} is {}",
                metadata.source,
                format_args!("{:?}", metadata.uuid),
                first.source,
                format_args!("{:?}", first.uuid)
            )
        );
    }
    Ok(answer)
}

impl Source {
    /// The error of this source, with the flag that skips the source.
    fn skippable(&self, error: Error) -> Error {
        let others = match self {
            Source::Directory(_) => return error,
            Source::ConfigDrive => "service,cloud-init",
            Source::Service(_) => "config-drive,cloud-init",
            Source::CloudInit(_) => "config-drive,service",
        };
        anyhow!(tr!(
            "{error}; to skip this source, add `--metadata-source {others}`",
            error = format_args!("{error:#}"),
            others
        ))
    }

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
