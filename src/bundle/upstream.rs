//! Where a component is published: a file at a URL, or an image in a registry; at one place or several.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use oci_client::Reference;
use reqwest::Url;
use serde::Deserialize;

/// The prefix of images, which other tools use, too.
const IMAGE: &str = "docker://";

/// Where a component is published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Upstream {
    /// A file, by its `https` URL.
    File(Url),
    /// An image, by its full reference, such as `quay.io/calico/node:v2.6.2`.
    Image(String),
}

impl Upstream {
    /// The last part of the address: the file's name, or the image's with its tag.
    pub fn file_name(&self) -> &str {
        let path = match self {
            Upstream::File(url) => url.path(),
            Upstream::Image(reference) => reference,
        };
        path.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for Upstream {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Upstream> {
        if let Some(reference) = text.strip_prefix(IMAGE) {
            let parsed: Reference = reference.parse().with_context(|| text.to_owned())?;
            // The library would fill in missing parts with its own defaults.
            ensure!(
                parsed.whole() == reference && parsed.tag().is_some() && parsed.digest().is_none(),
                "{text}: write the image with registry, repository and tag, such as \
                 docker://quay.io/calico/node:v2.6.2"
            );
            return Ok(Upstream::Image(reference.to_owned()));
        }
        let url: Url = text.parse().with_context(|| text.to_owned())?;
        if url.scheme() != "https" {
            bail!("{text}: expected https:// or docker://")
        }
        let upstream = Upstream::File(url);
        ensure!(!upstream.file_name().is_empty(), "{text} names no file");
        Ok(upstream)
    }
}

impl TryFrom<String> for Upstream {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Upstream> {
        text.parse()
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Upstream::File(url) => url.fmt(formatter),
            Upstream::Image(reference) => write!(formatter, "{IMAGE}{reference}"),
        }
    }
}

/// Where an artifact is published: one source or several, of which the first is its name in the lock.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "OneOrMany")]
pub struct Sources(Vec<Upstream>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an address or a list of addresses")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<OneOrMany> for Sources {
    type Error = anyhow::Error;

    fn try_from(text: OneOrMany) -> Result<Sources> {
        let texts = match text {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        };
        let sources = texts.iter().map(|text| text.parse());
        let sources = sources.collect::<Result<Vec<Upstream>>>()?;
        ensure!(!sources.is_empty(), "`source` is an empty list");
        let images = sources
            .iter()
            .filter(|source| matches!(source, Upstream::Image(_)));
        ensure!(
            [0, sources.len()].contains(&images.count()),
            "the sources of one component must be all files or all images (docker://)"
        );
        Ok(Sources(sources))
    }
}

impl Sources {
    /// All sources; there is at least one.
    pub fn all(&self) -> &[Upstream] {
        &self.0
    }
}
