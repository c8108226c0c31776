//! The metadata service: plain HTTP on a link-local address that only this VM reaches.

use std::fmt;
use std::io::Read;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use reqwest::Url;
use reqwest::blocking::{Client, Response};
use reqwest::header::{DATE, HeaderMap, LOCATION};
use reqwest::redirect::Policy;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::Answer;
use super::hardware::Hardware;
use super::model::{Metadata, VendorFormat};
use super::openstack::{
    self, META_DATA, NETWORK_DATA, RawFile, RawFiles, SIZE_LIMIT, USER_DATA, VENDOR_DATA,
    VENDOR_DATA_2,
};
use crate::language::tr;
use crate::sys::retry::{Failure, Schedule, permanent, retried, transient};
use crate::sys::waiting::Waiting;
use crate::sys::{host, http};

/// Where the service is (Nova's documentation, "Metadata service").
const LINK_LOCAL: &str = "http://169.254.169.254";
/// Where it is on networks without IPv4 since Victoria, on any interface.
const LINK_LOCAL_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe);
const PORT: u16 = 80;
/// A name for the IPv6 address: a URL cannot hold its zone.
const NAME_V6: &str = "metadata.invalid";

/// The timeout for a connection to the service.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one answer may take.
const REQUEST: Duration = Duration::from_secs(10);
/// The longest pause between two attempts.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// How long to ask the service if another source has answered already.
const GLANCE: Duration = Duration::from_secs(5);

/// The newest format this program was written for; a service that lists newer ones has it, too.
const NEWEST: &str = "2025-04-04";
/// The format that brought `vendor_data.json`.
const WITH_VENDOR_DATA: &str = "2013-10-17";
/// The format that brought `network_data.json`.
const WITH_NETWORK_DATA: &str = "2015-10-15";
/// The format that brought `vendor_data2.json`.
const WITH_VENDOR_DATA_2: &str = "2016-10-06";
/// What a service calls its newest format.
const LATEST: &str = "latest";
const PUBLIC_IPV4: &str = "latest/meta-data/public-ipv4";

/// A metadata service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its address, if it is not at the link-local addresses.
    pub url: Option<Url>,
    /// Whether to ask it even if the firmware does not show an OpenStack VM.
    pub asked_for: bool,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.url {
            Some(url) => write!(f, "metadata service {}", url.as_str().trim_end_matches('/')),
            None => write!(f, "metadata service {LINK_LOCAL}"),
        }
    }
}

/// There was no answer at all; the service may not exist.
#[derive(Debug)]
struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

/// A successful answer.
struct Body {
    content: Vec<u8>,
    date: Option<OffsetDateTime>,
}

impl Service {
    /// Reads all data of the service. Retries for up to `patience` while the service is
    /// unreachable or reports trouble.
    ///
    /// # Errors
    /// If the answer is not that of OpenStack's service. The error names the address and the answer.
    pub fn read(&self, patience: Duration) -> Result<Answer> {
        let deadline = Instant::now() + patience;
        self.ask(patience, Schedule::until(deadline, MAX_DELAY))
    }

    /// Like [`Service::read`], but with a single attempt.
    ///
    /// # Errors
    /// As [`Service::read`].
    pub fn read_once(&self, patience: Duration) -> Result<Answer> {
        let patience = patience.min(GLANCE);
        let schedule = Schedule {
            attempts: 1,
            ..Schedule::until(Instant::now() + patience, MAX_DELAY)
        };
        self.ask(patience, schedule)
    }

    fn ask(&self, patience: Duration, schedule: Schedule) -> Result<Answer> {
        if !self.asked_for && !Hardware::default().is_openstack_guest() {
            return Ok(Answer::Missing(tr!(
                "not asked, because the firmware does not show an OpenStack VM; to ask it anyway, \
                 add `--metadata-source service`"
            )));
        }
        let name = self.to_string();
        let _waiting = Waiting::new(&self.authority(), Some(patience));
        let session = Session {
            name: name.clone(),
            doors: self.doors()?,
            patience,
            schedule,
        };
        match session.read() {
            Ok(Some(metadata)) => Ok(Answer::Found(Box::new(metadata))),
            Ok(None) => Ok(Answer::Missing(tr!(
                "answers 404 Not Found at /openstack: it does not know this server, or it is not \
                 OpenStack's; look at the logs of neutron-metadata-agent, and whether this port \
                 belongs to the server (`openstack port list --server SERVER`)"
            ))),
            Err(error) if error.is::<NoAnswer>() => Ok(Answer::Missing(tr!(
                "no answer within {} s: {error}",
                patience.as_secs(),
                error
            ))),
            Err(error) => Err(error.context(name)),
        }
    }

    /// Its address, and its port if that is not the usual one.
    fn authority(&self) -> String {
        let url = self.url.as_ref();
        let host = url.and_then(|url| Some((url.host_str()?, url.port())));
        match host {
            Some((host, Some(port))) => format!("{host}:{port}"),
            Some((host, None)) => host.to_owned(),
            None => LINK_LOCAL.trim_start_matches("http://").to_owned(),
        }
    }

    /// All ways to reach the service, the most likely first.
    fn doors(&self) -> Result<Vec<Door>> {
        if let Some(url) = &self.url {
            return Ok(vec![Door::new(url.clone(), None)?]);
        }
        let mut doors = vec![Door::new(LINK_LOCAL.parse()?, None)?];
        let has_link_local = |interface: &host::Interface| {
            let is_link_local = |net: &ipnet::IpNet| matches!(net, ipnet::IpNet::V6(net) if net.addr().is_unicast_link_local());
            !interface.is_loopback && interface.addresses.iter().any(is_link_local)
        };
        for interface in host::interfaces()?.iter().filter(|i| has_link_local(i)) {
            let address = SocketAddrV6::new(LINK_LOCAL_V6, PORT, 0, interface.index);
            let url = format!("http://{NAME_V6}").parse()?;
            doors.push(Door::new(url, Some(address))?);
        }
        Ok(doors)
    }
}

/// One way to reach the service.
struct Door {
    client: Client,
    base: Url,
}

impl Door {
    /// To `base`, or to `address` instead. Link-local addresses are never asked through a proxy:
    /// the proxy would return its own metadata.
    fn new(base: Url, address: Option<SocketAddrV6>) -> Result<Door> {
        http::use_ring();
        let mut builder = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .user_agent(http::USER_AGENT);
        if let Some(address) = address {
            builder = builder.resolve(NAME_V6, SocketAddr::V6(address));
        }
        if base.scheme() == "http" {
            // Plain HTTP needs no certificate authorities, and a machine may have no file of them.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().context(tr!("cannot make an HTTP client"))?;
        Ok(Door { client, base })
    }

    /// The content at `path`; `None` if the service answers 404.
    fn get(&self, path: &str, timeout: Duration) -> Result<Option<Body>, Failure> {
        let base = self.base.as_str().trim_end_matches('/');
        let request = self.client.get(format!("{base}/{path}")).timeout(timeout);
        let response = request.send().map_err(unanswered)?;
        let (status, headers) = (response.status(), response.headers());
        if status == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if status.is_redirection() {
            let location = headers
                .get(LOCATION)
                .map(|to| tr!(" to {to}", to = format_args!("{to:?}")));
            return Err(permanent(anyhow!(tr!(
                "redirects{}; a metadata service never redirects, so another server answers here",
                location.unwrap_or_default()
            ))));
        }
        if !status.is_success() {
            return Err(http::refused(status, headers));
        }
        if http::is_web_page(headers) {
            return Err(permanent(anyhow!(tr!(
                "answers with a web page, so another server answers here than the metadata service"
            ))));
        }
        let date = date(headers);
        let content = content(response)?;
        Ok(Some(Body { content, date }))
    }
}

fn unanswered(error: reqwest::Error) -> Failure {
    if error.is_connect() {
        let cause = http::root_cause(&error);
        let reason = if error.is_timeout() {
            tr!("cannot be reached")
        } else {
            cause.to_string()
        };
        return transient(NoAnswer(reason));
    }
    if error.is_timeout() {
        return transient(anyhow!(tr!("does not answer in time")));
    }
    http::unsent(error)
}

fn date(headers: &HeaderMap) -> Option<OffsetDateTime> {
    let text = headers.get(DATE)?.to_str().ok()?;
    OffsetDateTime::parse(text, &Rfc2822).ok()
}

/// The body, up to the maximum size of a file.
fn content(response: Response) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    response
        .take(SIZE_LIMIT + 1)
        .read_to_end(&mut content)
        .map_err(|error| {
            let cause = http::root_cause(&error);
            transient(anyhow!(tr!(
                "the connection ended after {} bytes: {cause}",
                content.len(),
                cause
            )))
        })?;
    if content.len() as u64 > SIZE_LIMIT {
        return Err(permanent(anyhow!(tr!(
            "sends more than {SIZE_LIMIT} bytes, which is the limit",
            SIZE_LIMIT
        ))));
    }
    Ok(content)
}

/// One conversation with the service.
struct Session {
    name: String,
    doors: Vec<Door>,
    patience: Duration,
    schedule: Schedule,
}

impl Session {
    fn read(&self) -> Result<Option<Metadata>> {
        let first = retried(&self.name, self.schedule, || self.knock());
        let first = first.map_err(|failure| match failure {
            Failure::Transient(error, _) if error.is::<NoAnswer>() => error,
            failure => self.give_up("openstack", failure),
        })?;
        let Some((door, list)) = first else {
            return Ok(None);
        };
        let version = negotiate(&list.content).context("openstack")?;
        let folder = format!("openstack/{version}");
        let file = |name: &str| self.file(door, format!("{folder}/{name}"));
        let meta_data = file(META_DATA)?.with_context(|| {
            tr!(
                "{folder}/{META_DATA}: answers 404 Not Found: the service does not know this VM; \
                 look at the logs of neutron-metadata-agent and nova-api-metadata",
                folder,
                META_DATA
            )
        })?;
        let network_data = has(&version, WITH_NETWORK_DATA)
            .then(|| file(NETWORK_DATA))
            .transpose()?;
        let user_data = file(USER_DATA)?;
        let mut files = RawFiles {
            meta_data,
            network_data: network_data.flatten(),
            user_data,
            vendor_data: Vec::new(),
            public_ipv4: None,
            passed_over: Vec::new(),
        };
        let vendor_data = if has(&version, WITH_VENDOR_DATA_2) {
            Some((VendorFormat::Second, VENDOR_DATA_2))
        } else if has(&version, WITH_VENDOR_DATA) {
            Some((VendorFormat::First, VENDOR_DATA))
        } else {
            None
        };
        if let Some((format, name)) = vendor_data {
            let file = self.unneeded(door, &format!("{folder}/{name}"), &mut files.passed_over);
            files.vendor_data.extend(file.map(|file| (format, file)));
        }
        files.public_ipv4 = self.unneeded(door, PUBLIC_IPV4, &mut files.passed_over);
        let mut metadata = openstack::parse(&self.name, &files)?;
        metadata.date = list.date;
        metadata.is_live = true;
        Ok(Some(metadata))
    }

    /// The first way on which the service answers, with its list of formats; `None` if the server
    /// there is not OpenStack's.
    fn knock(&self) -> Result<Option<(&Door, Body)>, Failure> {
        let mut unanswered = None;
        for door in &self.doors {
            match door.get("openstack", self.timeout()) {
                Ok(Some(list)) => return Ok(Some((door, list))),
                Ok(None) => return Ok(None),
                Err(Failure::Transient(error, _)) if error.is::<NoAnswer>() => {
                    // If none answers, report the error of the first one: it is the usual address.
                    unanswered.get_or_insert(error);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(transient(unanswered.unwrap_or_else(|| {
            NoAnswer(tr!("no network interface leads to it")).into()
        })))
    }

    /// A file that a node can do without: if it cannot be read in a short time, it is passed over.
    fn unneeded(&self, door: &Door, path: &str, passed_over: &mut Vec<String>) -> Option<RawFile> {
        let soon = Instant::now() + GLANCE;
        let deadline = self.schedule.deadline.map_or(soon, |last| last.min(soon));
        let brief = Session {
            name: self.name.clone(),
            doors: Vec::new(),
            patience: self.patience.min(GLANCE),
            schedule: Schedule {
                deadline: Some(deadline),
                ..self.schedule
            },
        };
        match brief.file(door, path.to_owned()) {
            Ok(file) => file,
            Err(error) => {
                passed_over.push(tr!(
                    "{error}; it is passed over",
                    error = format_args!("{error:#}")
                ));
                None
            }
        }
    }

    fn file(&self, door: &Door, path: String) -> Result<Option<RawFile>> {
        let what = format!("{}: {path}", self.name);
        let attempt = || door.get(&path, self.timeout());
        let body = retried(&what, self.schedule, attempt)
            .map_err(|failure| self.give_up(&path, failure))?;
        Ok(body.map(|body| RawFile {
            name: path,
            content: body.content,
        }))
    }

    /// The timeout of one request, so that the last attempt ends in time.
    fn timeout(&self) -> Duration {
        let left = self.schedule.deadline.map(|deadline| {
            deadline
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1))
        });
        left.map_or(REQUEST, |left| left.min(REQUEST))
    }

    fn give_up(&self, path: &str, failure: Failure) -> Error {
        match failure {
            Failure::Transient(error, _) => anyhow!(tr!(
                "{path}: {error}; tried for up to {} s; look at the logs of \
                 neutron-metadata-agent and nova-api-metadata",
                self.patience.as_secs(),
                error = format_args!("{error:#}"),
                path
            )),
            Failure::Permanent(error) => error.context(path.to_owned()),
        }
    }
}

/// Whether a format of that version includes what `since` added.
fn has(version: &str, since: &str) -> bool {
    version >= since
}

/// The newest format on the service's list that this program was written for.
///
/// # Errors
/// If the list has none: then another server than OpenStack's answers.
pub fn negotiate(list: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(list);
    let is_date = |line: &&str| {
        line.len() == NEWEST.len()
            && line
                .bytes()
                .zip(NEWEST.bytes())
                .all(|(b, like)| b == like || b.is_ascii_digit() && like.is_ascii_digit())
    };
    let lines = || text.lines().map(|line| line.trim().trim_end_matches('/'));
    let newest = lines().filter(is_date).filter(|&line| line <= NEWEST).max();
    newest
        .or_else(|| lines().find(|&line| line == LATEST))
        .map(str::to_owned)
        .with_context(|| {
            let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
            tr!(
                "expected a list of formats such as {NEWEST}, but the answer is \"{shown}\", so \
                 another server answers here than the metadata service",
                NEWEST,
                shown
            )
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_newest_known_format_is_chosen_of_any_list() {
        for (list, chosen) in [
            ("2012-08-10\n2013-04-04\n2013-10-17\nlatest", "2013-10-17"),
            ("latest\n2025-04-04\n2031-01-01\n2018-08-27\n", "2025-04-04"),
            ("2012-08-10/\r\nlatest/\r\n", "2012-08-10"),
            ("latest", "latest"),
        ] {
            assert_eq!(negotiate(list.as_bytes()).unwrap(), chosen);
        }
    }

    #[test]
    fn a_list_without_a_format_is_shown() {
        let error = negotiate(b"<html>\xffPlease log in</html>").unwrap_err();
        assert!(error.to_string().contains("Please log in"), "{error}");
        assert!(error.to_string().contains("another server"), "{error}");
        assert!(negotiate(b"../../etc\n2012-08-1x").is_err());
    }

    #[test]
    fn a_format_called_latest_has_everything() {
        assert!(has(LATEST, WITH_VENDOR_DATA_2));
        assert!(!has("2013-10-17", WITH_NETWORK_DATA));
    }

    #[test]
    fn an_http_date_is_understood() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Mon, 23 Nov 2026 21:47:22 GMT".parse().unwrap());
        assert_eq!(date(&headers).unwrap().unix_timestamp(), 1_795_470_442);
        // A leap second.
        headers.insert(DATE, "Sat, 31 Dec 2016 23:59:60 GMT".parse().unwrap());
        assert_eq!(date(&headers).unwrap().unix_timestamp(), 1_483_228_799);
    }
}
