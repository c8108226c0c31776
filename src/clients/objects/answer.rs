//! The answers of an object store: which are errors, what to do about them, and whether another try may help.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use instant_xml::{FromXml, FromXmlOwned};
use reqwest::blocking::Response;
use reqwest::header::{DATE, HeaderMap, LOCATION};
use reqwest::{StatusCode, Url};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::sys::clock::{self, moment};
use crate::sys::http;
use crate::sys::retry::{Failure, permanent, transient};

/// The namespace of S3's documents.
pub(super) const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// The most that a document may have, in bytes: a page of a list has at most 1000 keys of 1024 bytes.
const MOST: u64 = 16 * 1024 * 1024;
/// The most that is read of an error, in bytes.
const MOST_OF_ERROR: u64 = 64 * 1024;
/// How much of the store's own words an error repeats, in characters.
const MOST_OF_WORDS: usize = 300;
/// How far the clocks of both sides may differ: stores allow 15 minutes, and a signature is valid for as long.
const APART: time::Duration = time::Duration::minutes(5);

/// An answer that is an error.
#[derive(Debug)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// S3's name of the error, such as `NoSuchBucket`; empty if the answer had none.
    pub code: String,
    told: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told)
    }
}

impl std::error::Error for Refusal {}

/// S3's document of an error, which some stores put into the namespace.
#[derive(FromXml)]
#[xml(rename = "Error")]
struct Plain {
    #[xml(rename = "Code")]
    code: Option<String>,
    #[xml(rename = "Message")]
    message: Option<String>,
}

#[derive(FromXml)]
#[xml(rename = "Error", ns(NAMESPACE))]
struct Named {
    #[xml(rename = "Code")]
    code: Option<String>,
    #[xml(rename = "Message")]
    message: Option<String>,
}

/// The code and the message of an error.
fn error_in(text: &str) -> Option<(String, String)> {
    let (code, message) = match instant_xml::from_str::<Plain>(text) {
        Ok(plain) => (plain.code, plain.message),
        Err(_) => {
            let named: Named = instant_xml::from_str(text).ok()?;
            (named.code, named.message)
        }
    };
    Some((words(&code?), words(&message.unwrap_or_default())))
}

/// What the store said, as one short line.
fn words(text: &str) -> String {
    let line = text
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one });
    line.take(MOST_OF_WORDS)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Refuses an answer that is an error.
pub(super) fn good(mut response: Response) -> Result<Response, Failure> {
    let (status, headers) = (response.status(), response.headers().clone());
    if status.is_success() {
        return Ok(response);
    }
    if status.is_redirection() {
        return Err(permanent(redirected(&headers, status)));
    }
    let mut body = Vec::new();
    // What cannot be read is no reason to hide the status.
    let _ = response.by_ref().take(MOST_OF_ERROR).read_to_end(&mut body);
    let (code, message) = error_in(&String::from_utf8_lossy(&body)).unwrap_or_default();
    Err(failure(status, &headers, code, &message))
}

/// The document that an answer is. Some stores find an error only after they have begun to answer 200.
pub(super) fn document<T: FromXmlOwned>(response: Response) -> Result<T, Failure> {
    let text = text(response)?;
    if let Some((code, message)) = error_in(&text) {
        return Err(failure(StatusCode::OK, &HeaderMap::new(), code, &message));
    }
    instant_xml::from_str(&text).map_err(|why| not_s3(&why))
}

/// The text of an answer, which must be a document of S3.
pub(super) fn text(response: Response) -> Result<String, Failure> {
    // Swift calls its empty answers HTML, too: only where a document is expected, this is a sign.
    if http::is_web_page(response.headers()) {
        return Err(permanent(anyhow!(
            "answers with a web page, so it is no S3 API, or a proxy answers in its place; check `endpoint`"
        )));
    }
    let mut body = Vec::new();
    let read = response.take(MOST).read_to_end(&mut body);
    read.map_err(|error| transient(anyhow!(error).context("the answer ended early")))?;
    String::from_utf8(body).map_err(|_| not_s3(&"not UTF-8"))
}

/// The failure of an answer that is no document of S3.
pub(super) fn not_s3(why: &dyn fmt::Display) -> Failure {
    permanent(anyhow!(
        "answers something else than S3 does ({}); check `endpoint`",
        words(&why.to_string())
    ))
}

/// No redirect is followed: a signature is for one server.
fn redirected(headers: &HeaderMap, status: StatusCode) -> anyhow::Error {
    let to = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let to = to.and_then(|to| Url::parse(to).ok());
    let to = to.map_or("another server".to_owned(), |url| {
        words(&url.origin().ascii_serialization())
    });
    anyhow!(
        "answers {status}: it redirects to {to}; set `endpoint` and `region` to those of the bucket"
    )
}

fn failure(status: StatusCode, headers: &HeaderMap, code: String, message: &str) -> Failure {
    // A full disk does not get room, and a missing function does not appear, within seconds.
    let is_final = matches!(
        status,
        StatusCode::INSUFFICIENT_STORAGE | StatusCode::NOT_IMPLEMENTED
    );
    let is_busy = matches!(
        &*code,
        "InternalError" | "OperationAborted" | "RequestTimeout" | "ServiceUnavailable" | "SlowDown"
    );
    let pause = match http::refused(status, headers) {
        Failure::Transient(_, pause) => Some(pause),
        Failure::Permanent(_) => is_busy.then_some(Duration::ZERO),
    };
    let told = told(status, headers, &code, message);
    let refusal = anyhow!(Refusal { status, code, told });
    match pause.filter(|_| !is_final) {
        Some(pause) => Failure::Transient(refusal, pause),
        None => Failure::Permanent(refusal),
    }
}

fn told(status: StatusCode, headers: &HeaderMap, code: &str, message: &str) -> String {
    let said = match (code, http::is_web_page(headers)) {
        ("", true) => format!("answers {status} with a web page, perhaps from a proxy"),
        ("", false) => format!("answers {status}"),
        (code, _) => format!("answers {code}: {message}"),
    };
    let apart = (status == StatusCode::FORBIDDEN || code == "RequestTimeTooSkewed")
        .then(|| clocks(headers, OffsetDateTime::now_utc()))
        .flatten();
    match apart.or_else(|| next(status, code).map(str::to_owned)) {
        Some(next) => format!("{said}; {next}"),
        None => said,
    }
}

/// What to do about an error.
fn next(status: StatusCode, code: &str) -> Option<&'static str> {
    Some(match (code, status) {
        ("NoSuchBucket", _) => {
            "create the bucket (in OpenStack: `openstack container create BUCKET`), or name another one"
        }
        ("NoSuchKey", _) => {
            "see which backups there are: `appliance backup list --all --to s3://BUCKET/PREFIX`"
        }
        ("RequestTimeTooSkewed", _) => clock::CORRECT,
        ("QuotaExceeded" | "EntityTooLarge" | "XMinioStorageFull", _)
        | (_, StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYLOAD_TOO_LARGE) => {
            "it is full: let it keep fewer backups (`keep`), or raise its quota"
        }
        ("AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError", _) => {
            "set `region` to that of the store"
        }
        (_, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) => {
            "check the file of credentials, and what its user may do with the bucket (read, write, list, remove)"
        }
        ("NotImplemented", _) | (_, StatusCode::NOT_IMPLEMENTED) => {
            "this store lacks a function of S3 that backups need"
        }
        (_, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
            "check `endpoint`, the bucket and the name"
        }
        _ => return None,
    })
}

/// What both clocks say, if they differ by much.
fn clocks(headers: &HeaderMap, own: OffsetDateTime) -> Option<String> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let theirs = OffsetDateTime::parse(&date.replace("GMT", "+0000"), &Rfc2822).ok()?;
    if (own - theirs).abs() < APART {
        return None;
    }
    Some(format!(
        "its clock says {}, and this machine's says {}; {}",
        moment(theirs),
        moment(own),
        clock::CORRECT
    ))
}

/// A value of a header.
pub(super) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Refuses an ETag that is none.
pub(super) fn etag(response: &Response) -> Result<String> {
    let etag = header(response, "etag").unwrap_or_default();
    ensure!(
        (3..=256).contains(&etag.len()) && etag.bytes().all(|byte| (b' '..0x7f).contains(&byte)),
        "answers without the ETag that S3 gives; check `endpoint`"
    );
    Ok(etag.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_error_tells_the_next_step_and_whether_to_try_again() {
        let of = |status: u16, code: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            match failure(status, &HeaderMap::new(), code.to_owned(), "x") {
                Failure::Transient(error, _) => (true, error.to_string()),
                Failure::Permanent(error) => (false, error.to_string()),
            }
        };
        for (status, code, is_busy, why) in [
            (404, "NoSuchBucket", false, "container create"),
            (404, "NoSuchKey", false, "backup list"),
            (403, "SignatureDoesNotMatch", false, "credentials"),
            (403, "RequestTimeTooSkewed", false, "timedatectl"),
            (403, "QuotaExceeded", false, "it is full"),
            (507, "", false, "it is full"),
            (400, "AuthorizationHeaderMalformed", false, "region"),
            (501, "NotImplemented", false, "lacks"),
            (503, "SlowDown", true, "SlowDown"),
            (500, "", true, "500"),
            (200, "InternalError", true, "InternalError"),
        ] {
            let (busy, told) = of(status, code);
            assert!(
                busy == is_busy && told.contains(why),
                "{status} {code}: {told}"
            );
        }
    }

    #[test]
    fn a_clock_that_is_wrong_is_told() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Mon, 30 Nov 2026 08:00:00 GMT".parse().unwrap());
        assert_eq!(clocks(&headers, datetime!(2026-11-30 08:04 UTC)), None);
        let told = clocks(&headers, datetime!(2026-11-30 07:50 UTC)).unwrap();
        assert!(told.contains("timedatectl"), "{told}");
        headers.insert(DATE, "yesterday".parse().unwrap());
        assert_eq!(clocks(&headers, datetime!(2020-11-30 07:50 UTC)), None);
    }

    #[test]
    fn the_words_of_a_store_do_not_control_a_terminal() {
        let text = format!(
            "<Error><Code>A\u{9b}2J\n</Code><Message>{}</Message></Error>",
            "x".repeat(9999)
        );
        let (code, message) = error_in(&text).unwrap();
        assert_eq!(code, "A 2J");
        assert_eq!(message.len(), MOST_OF_WORDS);
        let named = format!(
            "<?xml version='1.0'?><Error xmlns='{NAMESPACE}'><Resource/><Code>B</Code></Error>"
        );
        assert_eq!(error_in(&named).unwrap(), ("B".to_owned(), String::new()));
        assert!(error_in("<html><Error>").is_none());
    }
}
