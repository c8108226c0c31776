//! Mirrors: servers to use instead of an artifact's own address. Files from a mirror are verified
//! against the same checksums, so you need not trust a mirror.

use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use oci_client::Reference;
use oci_client::client::ClientProtocol;
use reqwest::Url;

use crate::language::tr;

/// Another server for all addresses that begin with a host, or with a host and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The start of an address, without its scheme: `gcr.io`, or `gcr.io/google_containers`.
    from: String,
    to: Url,
}

impl FromStr for Mirror {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Mirror> {
        let form = || {
            let expected = tr!("expected HOST[/PATH]=URL, such as dl.k8s.io=http://10.0.0.5/k8s");
            format!("{text:?}: {expected}")
        };
        let (from, to) = text.split_once('=').with_context(form)?;
        let from = from.trim_end_matches('/');
        let to: Url = to.trim_end_matches('/').parse().with_context(form)?;
        let plain = to.query().is_none() && to.fragment().is_none();
        ensure!(
            !from.is_empty() && !from.contains("://") && to.has_host() && plain,
            form()
        );
        ensure!(
            matches!(to.scheme(), "http" | "https"),
            tr!(
                "{text}: the URL of a mirror must begin with http:// or https://",
                text = format_args!("{text:?}")
            )
        );
        Ok(Mirror {
            from: from.to_owned(),
            to,
        })
    }
}

impl Mirror {
    /// The rest of `address` after the part that this mirror replaces.
    fn rest<'a>(&self, address: &'a str) -> Option<&'a str> {
        let rest = address.strip_prefix(&self.from)?;
        rest.strip_prefix('/')
    }
}

/// The mirrors in use. The one that replaces the longest part of an address is used.
#[derive(Clone, Debug, Default)]
pub struct Mirrors(Vec<Mirror>);

impl Mirrors {
    /// These mirrors.
    pub fn new(mirrors: &[Mirror]) -> Mirrors {
        Mirrors(mirrors.to_vec())
    }

    fn find<'a>(&self, address: &'a str) -> Option<(&Mirror, &'a str)> {
        let matching = self.0.iter().filter_map(|m| Some((m, m.rest(address)?)));
        matching.max_by_key(|(mirror, _)| mirror.from.len())
    }

    /// The mirrors that are reached without encryption.
    pub fn unencrypted(&self) -> impl Iterator<Item = &Url> {
        self.0
            .iter()
            .map(|mirror| &mirror.to)
            .filter(|url| url.scheme() == "http")
    }

    /// The URL from which to fetch the file at `url`.
    pub fn url(&self, url: &Url) -> Result<Url> {
        let address = url.as_str().trim_start_matches("https://");
        match self.find(address) {
            Some((mirror, rest)) => {
                let base = mirror.to.as_str().trim_end_matches('/');
                Ok(format!("{base}/{rest}").parse()?)
            }
            None => Ok(url.clone()),
        }
    }

    /// The reference and the protocol with which to fetch the image `reference`.
    pub fn image(&self, reference: &str) -> Result<(Reference, ClientProtocol)> {
        let Some((mirror, rest)) = self.find(reference) else {
            return Ok((reference.parse()?, ClientProtocol::Https));
        };
        let host = mirror.to.host_str().context("a mirror without a host")?;
        let port = mirror
            .to
            .port()
            .map_or(String::new(), |port| format!(":{port}"));
        let path = mirror.to.path().trim_matches('/');
        let path = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let protocol = if mirror.to.scheme() == "http" {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        };
        Ok((format!("{host}{port}/{path}{rest}").parse()?, protocol))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mirrors(texts: &[&str]) -> Mirrors {
        Mirrors::new(&texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<_>>())
    }

    fn url(mirrors: &Mirrors, text: &str) -> String {
        mirrors.url(&text.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn the_mirror_that_says_most_is_taken() {
        let mirrors = mirrors(&[
            "dl.k8s.io=http://10.0.0.5:8080/k8s/",
            "dl.k8s.io/v1.9.0=https://b.example",
        ]);
        assert_eq!(
            url(&mirrors, "https://dl.k8s.io/v1.8.0/a"),
            "http://10.0.0.5:8080/k8s/v1.8.0/a"
        );
        assert_eq!(
            url(&mirrors, "https://dl.k8s.io/v1.9.0/a"),
            "https://b.example/a"
        );
        assert_eq!(
            url(&mirrors, "https://dl.k8s.io.example/a"),
            "https://dl.k8s.io.example/a"
        );
    }

    #[test]
    fn an_image_is_asked_for_under_the_mirrors_path() {
        let mirrors = mirrors(&[
            "gcr.io/google_containers=https://registry.example/imooc",
            "quay.io=http://127.0.0.1:5000",
        ]);
        let (image, protocol) = mirrors
            .image("gcr.io/google_containers/pause-amd64:3.0")
            .unwrap();
        assert_eq!(
            (image.whole().as_str(), protocol),
            (
                "registry.example/imooc/pause-amd64:3.0",
                ClientProtocol::Https
            )
        );
        let (image, protocol) = mirrors.image("quay.io/calico/node:v2.6.2").unwrap();
        assert_eq!(
            (image.whole().as_str(), protocol),
            ("127.0.0.1:5000/calico/node:v2.6.2", ClientProtocol::Http)
        );
    }

    #[test]
    fn what_is_no_mirror_is_refused() {
        for wrong in [
            "dl.k8s.io",
            "=http://a",
            "https://dl.k8s.io=http://a",
            "a=ftp://b",
            "a=b",
            "a=http://b?c",
        ] {
            assert!(wrong.parse::<Mirror>().is_err(), "{wrong}");
        }
    }
}
