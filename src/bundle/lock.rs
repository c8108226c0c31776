//! `bundle.lock`: the checksum and size of every upstream artifact of a bundle.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::upstream::Upstream;
use crate::digest::{Digest, Sha256, Sha512};

/// The file's name.
pub const FILE_NAME: &str = "bundle.lock";
/// The word for a checksum that is not known.
const UNVERIFIED: &str = "unverified";
const HEADING: &str = "\
# The checksum of every artifact of this bundle. `appliance bundle lock` writes this file: it adds sizes,
# and the checksums of what is taken out of archives. `url` is the artifact's first source. `unverified`
# means that no published checksum was found.
";

/// The known checksums of upstream artifacts, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    artifacts: BTreeMap<String, Artifact>,
}

/// One upstream artifact.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Artifact {
    /// Its first source: `https://…`, or `docker://…` for an image.
    pub url: String,
    /// SHA-256 of the file, or of the image's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Checksum>,
    /// SHA-512 of the file, where no SHA-256 was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<Sha512>,
    /// Bytes of the file; for an image those of its manifest, configuration and layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// True if no checksum was published, and the first download was trusted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusted_on_first_use: bool,
    /// For an image: docker's image ID, which is the SHA-256 of its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<Sha256>,
    /// For an archive or an image: what is taken out of it. See
    /// [`Source::part`](super::definition::Source::part) for the names. The digest of an image is its ID.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Sha256>,
}

/// A checksum, or `unverified`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Checksum {
    /// The checksum of the artifact.
    Known(Sha256),
    /// No checksum is known.
    Unverified,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    artifact: Vec<Artifact>,
}

impl Lock {
    /// Reads the text of a lock file.
    pub fn parse(text: &str) -> Result<Lock> {
        let file: File = toml::from_str(text)?;
        let mut artifacts = BTreeMap::new();
        for artifact in file.artifact {
            let url = artifact.url.clone();
            let upstream = url.parse::<Upstream>()?;
            artifact.check(&upstream).with_context(|| url.clone())?;
            ensure!(
                artifacts.insert(url.clone(), artifact).is_none(),
                "{url} has two entries; keep one"
            );
        }
        Ok(Lock { artifacts })
    }

    /// The text of the lock file.
    pub fn to_text(&self) -> Result<String> {
        let file = File {
            artifact: self.artifacts.values().cloned().collect(),
        };
        let text = toml::to_string(&file).context(FILE_NAME)?;
        Ok(format!("{HEADING}\n{text}"))
    }

    /// The entry of that artifact.
    pub fn get(&self, upstream: &Upstream) -> Option<&Artifact> {
        self.artifacts.get(&upstream.to_string())
    }

    /// Sets or replaces the entry of an artifact.
    pub fn set(&mut self, artifact: Artifact) {
        self.artifacts.insert(artifact.url.clone(), artifact);
    }
}

impl Artifact {
    /// An artifact with a known address, but without a checksum.
    pub fn unverified(upstream: &Upstream) -> Artifact {
        Artifact {
            url: upstream.to_string(),
            sha256: Some(Checksum::Unverified),
            sha512: None,
            size: None,
            trusted_on_first_use: false,
            image_id: None,
            members: BTreeMap::new(),
        }
    }

    /// The digest of the file, or of the image's manifest.
    pub fn digest(&self) -> Option<Digest> {
        let sha256 = self.sha256.as_ref().and_then(Checksum::known);
        let sha512 = self.sha512.clone().map(Digest::Sha512);
        sha512.or(sha256.map(Digest::from))
    }

    /// Whether it can be verified: by its digest or, if it is an image, by its ID.
    pub fn is_verifiable(&self) -> bool {
        self.digest().is_some() || self.image_id.is_some()
    }

    fn check(&self, upstream: &Upstream) -> Result<()> {
        let is_image = matches!(upstream, Upstream::Image(_));
        ensure!(
            !is_image || self.sha512.is_none(),
            "an image has no `sha512`; write the `sha256` of its manifest, or its `image-id`"
        );
        ensure!(
            is_image || self.image_id.is_none(),
            "only an image has an `image-id`"
        );
        ensure!(
            self.sha256.is_some() || self.sha512.is_some() || self.image_id.is_some(),
            "it has no `sha256` and no `sha512`; write {UNVERIFIED:?} if you do not know it"
        );
        Ok(())
    }
}

/// The digest of a component that can be verified, and the lock's value for it: for a part of an archive
/// or an image its own, for an image its ID, for anything else that of the artifact.
pub fn expectation<'a>(
    artifact: &'a Artifact,
    part: Option<&str>,
    image_id: Option<&'a Sha256>,
    sha256: &'a Sha256,
) -> (&'a Sha256, Option<&'a Sha256>) {
    let own = image_id.unwrap_or(sha256);
    match (part, image_id) {
        (Some(part), _) => (own, artifact.members.get(part)),
        (None, Some(_)) => (own, artifact.image_id.as_ref()),
        (None, None) => (own, artifact.sha256.as_ref().and_then(Checksum::known)),
    }
}

impl Checksum {
    /// The checksum, if there is one.
    pub fn known(&self) -> Option<&Sha256> {
        match self {
            Checksum::Known(sha256) => Some(sha256),
            Checksum::Unverified => None,
        }
    }
}

impl TryFrom<String> for Checksum {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Checksum> {
        if text == UNVERIFIED {
            return Ok(Checksum::Unverified);
        }
        let sha256 = text
            .parse()
            .with_context(|| format!("expected a checksum or {UNVERIFIED:?}"))?;
        Ok(Checksum::Known(sha256))
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> String {
        match checksum {
            Checksum::Known(sha256) => sha256.to_string(),
            Checksum::Unverified => UNVERIFIED.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(sha256: &str) -> String {
        format!("[[artifact]]\nurl = \"https://example.org/a.tgz\"\nsha256 = {sha256:?}\n")
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut lock = Lock::parse(&entry(&"a1".repeat(32))).unwrap();
        let upstream: Upstream = "https://example.org/a.tgz".parse().unwrap();
        let mut artifact = lock.get(&upstream).unwrap().clone();
        artifact.size = Some(7);
        artifact.members = BTreeMap::from([("bin/a".to_owned(), Sha256::of(b"a"))]);
        lock.set(artifact);
        lock.set(Artifact::unverified(
            &"docker://example.org/a/b:1".parse().unwrap(),
        ));
        let text = lock.to_text().unwrap();
        assert_eq!(Lock::parse(&text).unwrap(), lock, "{text}");
        assert!(text.contains("sha256 = \"unverified\""), "{text}");
    }

    #[test]
    fn a_checksum_of_another_form_is_refused() {
        for wrong in ["ABC", "sha256:00", "", "none"] {
            let error = Lock::parse(&entry(wrong)).unwrap_err().to_string();
            assert!(
                error.contains("expected a checksum or \"unverified\""),
                "{error}"
            );
        }
    }

    #[test]
    fn an_artifact_is_there_once() {
        let twice = entry("unverified").repeat(2);
        let error = Lock::parse(&twice).unwrap_err().to_string();
        assert!(error.contains("a.tgz has two entries"), "{error}");
    }
}
