//! Asks the API server of this master over HTTPS, where what is sent may not pass through another program.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

use super::mtls;
use crate::nodespec::ports::API_SERVER;
use crate::sys::http;
use crate::sys::root::Root;

/// How long the API server may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How often an object that others change at the same time is read and written again.
pub(super) const TRIES: usize = 20;

/// The annotation that a secret has for a moment: see [`Api::rewrite_secret`].
const WRITTEN_AGAIN: &str = "appliance/written-again";
/// A patch in JSON that names only what changes (RFC 7386).
const MERGE_PATCH: &str = "application/merge-patch+json";

/// The API server of a master.
pub struct Api {
    pub(super) client: Client,
    pub(super) server: String,
}

impl Api {
    /// The API server of this machine, with the administrator's certificate below `root`.
    pub fn here(root: &Root) -> Result<Api> {
        let client = mtls::client(root, "admin", ANSWER)?;
        // The certificate of the API server has this address.
        Ok(Api::at(client, &format!("https://127.0.0.1:{API_SERVER}")))
    }

    /// The API server at the URL `server`.
    pub fn at(client: Client, server: &str) -> Api {
        let server = server.to_owned();
        Api { client, server }
    }

    /// Has the API server write a secret again, which encrypts it with the server's first key. A secret that is
    /// gone is no error. No error quotes its content.
    ///
    /// kube-apiserver v1.9.0 does not write an object that is the same as in its cache, even if another key
    /// encrypts what etcd has (`GuaranteedUpdate` in `storage/etcd3/store.go`). So an annotation comes and goes
    /// again: each is a change. One that a run left behind when it was cut goes, too.
    pub fn rewrite_secret(&self, namespace: &str, name: &str) -> Result<()> {
        let url = format!(
            "{}/api/v1/namespaces/{namespace}/secrets/{name}",
            self.server
        );
        for value in [json!("yes"), json!(null)] {
            let patch = json!({"metadata": {"annotations": {WRITTEN_AGAIN: value}}});
            self.patch(&url, &patch)
                .with_context(|| format!("secret {namespace}/{name}"))?;
        }
        Ok(())
    }

    /// Merges `patch` into the object at `url`, unless it is gone. A conflict with another writer is tried again.
    fn patch(&self, url: &str, patch: &Value) -> Result<()> {
        for _ in 0..TRIES {
            let request = self.client.patch(url).header("content-type", MERGE_PATCH);
            match sent(request.body(patch.to_string()))?.status() {
                StatusCode::OK | StatusCode::NOT_FOUND => return Ok(()),
                StatusCode::CONFLICT => {}
                other => bail!("the API server answers {other} to a write"),
            }
        }
        bail!("others changed it {TRIES} times in a row; run this again")
    }
}

pub(super) fn sent(request: RequestBuilder) -> Result<Response> {
    request.send().map_err(|error| http::root_cause(&error))
}
