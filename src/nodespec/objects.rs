//! Where backups are, as typed: a directory, or an object store and how it is reached.

use crate::language::{message, tr, translated};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

/// The start of the address of an object.
const SCHEME: &str = "s3://";
/// The region of a store that names none: Swift's, MinIO's and Ceph's default.
const REGION: &str = "us-east-1";
/// The longest key of an object, in bytes, with a name of ours at its end: S3 allows 1024.
const LONGEST: usize = 512;

/// An address in an object store: `s3://BUCKET/KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The bucket, which Swift calls a container.
    pub bucket: String,
    /// The key of an object, or what is before it; without slashes at its ends. It may be empty.
    pub key: String,
}

impl Location {
    /// The address that an argument is; `None` if it is the path of a file.
    ///
    /// # Errors
    /// If it begins like an address, and is none.
    pub fn of_argument(argument: &Path) -> Option<Result<Location, String>> {
        let text = argument.to_str().filter(|text| text.starts_with(SCHEME))?;
        Some(text.parse())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.key.is_empty() { "" } else { "/" };
        write!(f, "{SCHEME}{}{slash}{}", self.bucket, self.key)
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Location, String> {
        let rest = text.strip_prefix(SCHEME).unwrap_or_default();
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let is_whole_bucket = key.is_empty();
        let key = key.strip_suffix('/').unwrap_or(key);
        let is_plain = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)
        };
        if !is_plain(bucket) || !(3..=63).contains(&bucket.len()) {
            return Err(tr!(
                "expected s3://BUCKET/PREFIX, with a bucket of 3 to 63 letters, digits, `.`, `_` and `-`"
            ));
        }
        if !(is_whole_bucket || key.split('/').all(is_plain)) || key.len() > LONGEST {
            return Err(tr!(
                "expected s3://BUCKET/PREFIX, with a prefix of letters, digits, `.`, `_`, `-` and `/`, at most \
                 {LONGEST}; no part of it is empty or begins with a dot",
                LONGEST
            ));
        }
        Ok(Location {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    }
}

/// Where backups are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// In this directory.
    Directory(PathBuf),
    /// In an object store. The key is what is before the names of backups.
    Objects(Location),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Destination, String> {
        if text.starts_with(SCHEME) {
            return text.parse().map(Destination::Objects);
        }
        match text.starts_with('/') {
            true => Ok(Destination::Directory(PathBuf::from(text))),
            false => Err(tr!(
                "expected the absolute path of a directory, or s3://BUCKET/PREFIX"
            )),
        }
    }
}

/// How an object store with the S3 API is reached. It has no secret: those are in the file of credentials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct StoreSpec {
    /// The URL of its S3 API.
    pub endpoint: Endpoint,
    /// Its region.
    pub region: Region,
    /// The file with the credentials.
    pub credentials: PathBuf,
    /// The file with the certificates of its authority (PEM), if the system does not trust it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// The URL of an S3 API: `https://objects.example.org:8080`. With `http://`, nothing hides and protects requests on
/// their way. They have no secret: a backup is encrypted, and a signature is for one request and for minutes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(Url);

impl Endpoint {
    /// The URL.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        const WANTED: &str =
            message!("expected the URL of an S3 API, such as https://objects.example.org:8080");
        let url = Url::parse(text).map_err(|why| format!("{} ({why})", translated(WANTED)))?;
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
            return Err(translated(WANTED));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(tr!(
                "{WANTED}; name credentials in a file: `credentials`",
                WANTED = translated(WANTED)
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(tr!(
                "{WANTED}, without `?` and `#`",
                WANTED = translated(WANTED)
            ));
        }
        Ok(Endpoint(url))
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Endpoint, String> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

/// The region of an object store, such as `us-east-1`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

impl Region {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Region {
    fn default() -> Region {
        Region(REGION.to_owned())
    }
}

impl FromStr for Region {
    type Err = String;

    fn from_str(text: &str) -> Result<Region, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        match (1..=63).contains(&text.len()) && text.bytes().all(plain) {
            true => Ok(Region(text.to_owned())),
            false => Err(tr!(
                "expected the name of a region, such as {REGION}",
                REGION
            )),
        }
    }
}

impl TryFrom<String> for Region {
    type Error = String;

    fn try_from(text: String) -> Result<Region, String> {
        text.parse()
    }
}

impl From<Region> for String {
    fn from(region: Region) -> String {
        region.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_a_bucket_and_a_prefix_that_does_not_climb() {
        for (text, bucket, key) in [
            ("s3://backups", "backups", ""),
            ("s3://backups/", "backups", ""),
            ("s3://b.a-c_K/a/b-1/", "b.a-c_K", "a/b-1"),
        ] {
            let location: Location = text.parse().unwrap();
            assert_eq!((&*location.bucket, &*location.key), (bucket, key));
            assert_eq!(location.to_string(), text.trim_end_matches('/'));
        }
        for text in [
            "s3://",
            "s3://ab",
            "s3:///a",
            "s3://../a",
            "s3://abc//",
            "s3://abc/a//b",
            "s3://abc/../x",
            "s3://abc/a/./b",
            "s3://abc/ä",
            "s3://abc/a?b",
            "s3://abc/a b",
            "s3://a%2fb/c",
            "abc",
            "S3://abc",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
        assert!(
            format!("s3://abc/{}", "x".repeat(600))
                .parse::<Location>()
                .is_err()
        );
        assert!("backups".parse::<Destination>().is_err());
        assert!(Location::of_argument("cluster.age".as_ref()).is_none());
    }

    #[test]
    fn an_endpoint_is_a_url_without_secrets() {
        for text in [
            "https://objects.example.org:8080",
            "http://192.0.2.1:9000",
            "https://[2001:db8::1]:9000",
            "https://example.org/s3",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for (text, why) in [
            ("objects.example.org", "expected the URL"),
            ("ftp://example.org", "expected the URL"),
            ("https://", "expected the URL"),
            ("https://user:hunter2@example.org", "in a file"),
            ("https://example.org/?a=b", "without `?`"),
        ] {
            let told = text.parse::<Endpoint>().unwrap_err();
            assert!(
                told.contains(why) && !told.contains("hunter2"),
                "{text}: {told}"
            );
        }
        assert!("".parse::<Region>().is_err() && "a/b".parse::<Region>().is_err());
    }
}
