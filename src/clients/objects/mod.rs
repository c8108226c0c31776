//! An object store with the S3 API: Swift by its S3 face, Ceph, MinIO and others.
//!
//! Requests are URLs with a signature, of a path style (`https://HOST/BUCKET/KEY`), which works with every name of a
//! host. A URL is never shown: its signature is good for minutes.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use instant_xml::FromXml;
use md5::{Digest, Md5};
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::CONTENT_LENGTH;
use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2};
use rusty_s3::{Bucket, Method, S3Action, UrlStyle};

use crate::nodespec::objects::StoreSpec;
use crate::sys::http;
use crate::sys::retry::{Failure, Schedule, permanent, retried};

mod answer;
mod credentials;
mod read;
mod upload;

pub use answer::Refusal;
pub use credentials::Credentials;
pub use read::Reading;
pub use upload::Upload;

use answer::{NAMESPACE, document, etag, good, header, not_s3, text};

/// How long a signature is valid: longer than any request waits, and no longer than clocks may differ.
const VALID: Duration = Duration::from_secs(900);
/// How long any other request may take whose answer is short: a store that sends a byte now and then would keep the
/// lock of the machine.
const SHORT: Duration = Duration::from_secs(120);
/// How long the upload of a part may take, and the store's work to join all parts.
const LONGEST: Duration = Duration::from_secs(600);
/// The most pages of a list that are read: a million keys.
const MOST_PAGES: usize = 1000;

/// A bucket in an object store.
#[derive(Clone)]
pub struct Store {
    client: Client,
    bucket: Bucket,
    credentials: Credentials,
    endpoint: String,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.bucket.name(), self.endpoint)
    }
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// What a store says about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its ETag, which another content does not have.
    pub etag: String,
}

/// An upload that was begun, and is neither complete nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The key that the object will have.
    pub key: String,
    id: String,
}

/// What a request has besides its URL.
#[derive(Clone)]
struct More {
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// How long all of it may take, with its answer. An object that is read takes as long as it takes.
    limit: Option<Duration>,
}

impl Default for More {
    fn default() -> More {
        More {
            headers: Vec::new(),
            body: Bytes::new(),
            limit: Some(SHORT),
        }
    }
}

impl Store {
    /// The bucket of that name. With `authorities` (PEM), only those are trusted. Asks nothing yet.
    ///
    /// # Errors
    /// If the authorities or the URL cannot be used.
    pub fn new(
        spec: &StoreSpec,
        bucket: &str,
        credentials: Credentials,
        authorities: Option<&[u8]>,
    ) -> Result<Store> {
        let region = spec.region.as_str().to_owned();
        let endpoint = spec.endpoint.url().clone();
        let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), region);
        Ok(Store {
            client: http::direct_client(authorities)?,
            bucket: bucket.map_err(|why| anyhow!("{}: {why}", spec.endpoint))?,
            credentials,
            endpoint: spec.endpoint.to_string(),
        })
    }

    /// Sends a request until it is answered well, or another try is of no use. `what` says what it is for.
    fn ask<'a, T>(
        &self,
        what: &str,
        action: &impl S3Action<'a>,
        more: &More,
        mut read: impl FnMut(Response) -> Result<T, Failure>,
    ) -> Result<T> {
        let place = format!("the object store {}: cannot {what}", self.endpoint);
        let done = retried(&place, Schedule::PATIENT, || {
            self.sent(action, more).and_then(&mut read)
        });
        done.map_err(|failure| failure.into_error().context(place))
    }

    fn sent<'a, A: S3Action<'a>>(&self, action: &A, more: &More) -> Result<Response, Failure> {
        let url = action.sign(VALID);
        let mut request = match A::METHOD {
            Method::Head => self.client.head(url),
            Method::Get => self.client.get(url),
            Method::Delete => self.client.delete(url),
            Method::Post => self.client.post(url),
            Method::Put => self.client.put(url),
        };
        if matches!(A::METHOD, Method::Post | Method::Put) {
            // Some stores insist on the length of an empty body.
            request = request
                .header(CONTENT_LENGTH, more.body.len())
                .body(more.body.clone());
        }
        for (name, value) in &more.headers {
            request = request.header(*name, value);
        }
        if let Some(limit) = more.limit {
            request = request.timeout(limit);
        }
        good(request.send().map_err(unsent)?)
    }

    /// Calls `each` for every object whose key begins with `prefix`, page after page.
    pub fn list(&self, prefix: &str, mut each: impl FnMut(Object)) -> Result<()> {
        let what = format!("list the bucket {}", self.bucket.name());
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut action = self.bucket.list_objects_v2(Some(&self.credentials.0));
            action.with_prefix(prefix);
            if let Some(token) = &next {
                action.with_continuation_token(token);
            }
            let page = self.ask(&what, &action, &More::default(), |response| {
                ListObjectsV2::parse_response(&text(response)?).map_err(|why| not_s3(&why))
            })?;
            for object in page.contents {
                if let (true, Some(bytes)) = (object.key.starts_with(prefix), object.size) {
                    each(Object {
                        key: object.key,
                        bytes,
                    });
                }
            }
            let before = std::mem::replace(&mut next, page.next_continuation_token);
            if next.is_none() {
                return Ok(());
            }
            ensure!(
                next != before,
                "the object store {}: its list does not go on",
                self.endpoint
            );
        }
        Err(self.endless())
    }

    fn endless(&self) -> Error {
        anyhow!(
            "the object store {}: its list has more than {MOST_PAGES} pages; use another prefix for backups",
            self.endpoint
        )
    }

    /// What the store says about an object; `None` if there is none.
    pub fn head(&self, key: &str) -> Result<Option<Head>> {
        let action = self.bucket.head_object(Some(&self.credentials.0), key);
        let said = self.ask(
            &format!("inspect {key}"),
            &action,
            &More::default(),
            |response| {
                let bytes =
                    header(&response, "content-length").and_then(|value| value.parse().ok());
                Ok(Head {
                    bytes: bytes.ok_or_else(|| not_s3(&"no Content-Length"))?,
                    etag: etag(&response).map_err(permanent)?,
                })
            },
        );
        match said {
            Ok(head) => Ok(Some(head)),
            Err(error) if is(&error, StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A reader of an object.
    ///
    /// # Errors
    /// If there is none.
    pub fn read(&self, key: &str) -> Result<Reading> {
        let head = self.head(key)?;
        let head = head.with_context(|| {
            format!(
                "the object store {} has no {key} in the bucket {}; see which backups there are: `appliance backup list \
                 --all --to s3://{1}/PREFIX`",
                self.endpoint,
                self.bucket.name()
            )
        });
        Ok(Reading::new(self.clone(), key, head?))
    }

    /// The part of an object from byte `from` to its end. Fails if it is not the object with this ETag any more.
    fn get(&self, key: &str, from: u64, head: &Head) -> Result<Response> {
        let action = self.bucket.get_object(Some(&self.credentials.0), key);
        let mut more = More {
            headers: vec![("if-match", head.etag.clone())],
            limit: None,
            ..More::default()
        };
        if from > 0 {
            more.headers.push(("range", format!("bytes={from}-")));
        }
        let range = format!(
            "bytes {from}-{}/{}",
            head.bytes.saturating_sub(1),
            head.bytes
        );
        self.ask(&format!("read {key}"), &action, &more, |response| {
            let is_all = from == 0 && response.content_length() == Some(head.bytes);
            let is_rest = header(&response, "content-range") == Some(&*range);
            let is_same = header(&response, "etag").is_none_or(|etag| etag == head.etag);
            match is_same && (is_all || is_rest) {
                true => Ok(response),
                false => Err(permanent(anyhow!(
                    "answers with something else than was asked for"
                ))),
            }
        })
    }

    /// Removes an object. It is no error if there is none.
    pub fn remove(&self, key: &str) -> Result<()> {
        let action = self.bucket.delete_object(Some(&self.credentials.0), key);
        self.ask(&format!("remove {key}"), &action, &More::default(), |_| {
            Ok(())
        })
        .or_else(|error| {
            if is(&error, StatusCode::NOT_FOUND) {
                Ok(())
            } else {
                Err(error)
            }
        })
    }

    /// Begins the upload of an object.
    pub fn begin(&self, key: &str) -> Result<Upload<'_>> {
        let action = self
            .bucket
            .create_multipart_upload(Some(&self.credentials.0), key);
        let id = self.ask(
            &format!("begin the upload of {key}"),
            &action,
            &More::default(),
            |response| {
                let read = CreateMultipartUpload::parse_response(&text(response)?);
                Ok(read.map_err(|why| not_s3(&why))?.upload_id().to_owned())
            },
        )?;
        Ok(Upload::new(
            self,
            Begun {
                key: key.to_owned(),
                id,
            },
        ))
    }

    /// Uploads a part, and returns its ETag.
    fn put_part(&self, begun: &Begun, number: u16, part: Bytes) -> Result<String> {
        let md5 = Md5::digest(&part);
        let sum = BASE64.encode(md5);
        let credentials = Some(&self.credentials.0);
        let mut action = self
            .bucket
            .upload_part(credentials, &begun.key, number, &begun.id);
        action.headers_mut().insert("content-md5", sum.clone());
        let more = More {
            headers: vec![("content-md5", sum)],
            body: part,
            limit: Some(LONGEST),
        };
        let what = format!("upload part {number} of {}", begun.key);
        self.ask(&what, &action, &more, |response| {
            let etag = etag(&response).map_err(permanent)?;
            // Of what the store encrypts itself, the ETag is something else.
            let encrypts = response.headers().keys();
            let mut encrypts = encrypts.filter(|name| name.as_str().starts_with("x-amz-server-side-encryption"));
            let is_good = encrypts.next().is_some() || etag.trim_matches('"') == hex::encode(md5);
            match is_good {
                true => Ok(etag),
                false => Err(permanent(anyhow!("the store's checksum of it is another one (ETag {etag}); it was damaged on its way"))),
            }
        })
    }

    /// Makes an object of its parts.
    fn complete(&self, begun: &Begun, parts: &[String]) -> Result<()> {
        #[derive(FromXml)]
        #[xml(rename = "CompleteMultipartUploadResult", ns(NAMESPACE))]
        struct Completed {
            #[xml(rename = "ETag")]
            etag: Option<String>,
        }
        let etags = parts.iter().map(String::as_str);
        let credentials = Some(&self.credentials.0);
        let action =
            self.bucket
                .complete_multipart_upload(credentials, &begun.key, &begun.id, etags);
        let more = More {
            body: action.clone().body().into(),
            limit: Some(LONGEST),
            ..More::default()
        };
        self.ask(
            &format!("complete the upload of {}", begun.key),
            &action,
            &more,
            |response| document::<Completed>(response).map(|completed| drop(completed.etag)),
        )
    }

    /// Forgets an upload, with its parts. It is no error if there is none.
    pub fn abort(&self, begun: &Begun) -> Result<()> {
        let credentials = Some(&self.credentials.0);
        let action = self
            .bucket
            .abort_multipart_upload(credentials, &begun.key, &begun.id);
        self.ask(
            &format!("abort the upload of {}", begun.key),
            &action,
            &More::default(),
            |_| Ok(()),
        )
        .or_else(|error| {
            if is(&error, StatusCode::NOT_FOUND) {
                Ok(())
            } else {
                Err(error)
            }
        })
    }

    /// The uploads of keys with this prefix that were begun and are neither complete nor aborted.
    pub fn begun(&self, prefix: &str) -> Result<Vec<Begun>> {
        let what = format!("list the uploads to the bucket {}", self.bucket.name());
        let (mut all, mut next) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            // Of the empty key, this is a request to the bucket; the library has none for this list.
            let mut action = self.bucket.get_object(Some(&self.credentials.0), "");
            let query = action.query_mut();
            query.insert("uploads", "");
            query.insert("prefix", prefix);
            if let Some((key, id)) = next.take() {
                query.insert("key-marker", key);
                query.insert("upload-id-marker", id);
            }
            let page: Uploads = self.ask(&what, &action, &More::default(), document)?;
            let ours = page
                .uploads
                .into_iter()
                .filter(|one| one.key.starts_with(prefix));
            all.extend(ours.map(|one| Begun {
                key: one.key,
                id: one.id,
            }));
            match (page.is_truncated, page.next_key, page.next_id) {
                (Some(true), Some(key), Some(id)) => next = Some((key, id)),
                _ => return Ok(all),
            }
        }
        Err(self.endless())
    }
}

/// Why a request was not answered. The error of a request has its URL, with the signature.
fn unsent(error: reqwest::Error) -> Failure {
    match http::is_of_unknown_authority(&error) {
        true => permanent(anyhow!(
            "its certificate is not from a known authority; name the file with the authority of the store: `--s3-ca FILE`, \
             or `ca` of `backup.s3` in the settings"
        )),
        false => http::unsent(error.without_url()),
    }
}

#[derive(FromXml)]
#[xml(rename = "ListMultipartUploadsResult", ns(NAMESPACE))]
struct Uploads {
    uploads: Vec<InUploads>,
    #[xml(rename = "IsTruncated")]
    is_truncated: Option<bool>,
    #[xml(rename = "NextKeyMarker")]
    next_key: Option<String>,
    #[xml(rename = "NextUploadIdMarker")]
    next_id: Option<String>,
}

#[derive(FromXml)]
#[xml(rename = "Upload", ns(NAMESPACE))]
struct InUploads {
    #[xml(rename = "Key")]
    key: String,
    #[xml(rename = "UploadId")]
    id: String,
}

/// Whether the store answered with that status.
fn is(error: &Error, status: StatusCode) -> bool {
    error
        .downcast_ref::<Refusal>()
        .is_some_and(|refusal| refusal.status == status)
}
