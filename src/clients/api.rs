//! Asks the API server of this master over HTTPS, where what is sent may not pass through another program.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use zeroize::Zeroizing;

use super::mtls;
use crate::nodespec::ports::API_SERVER;
use crate::sys::http;
use crate::sys::root::Root;

/// How long the API server may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How often a secret that others change at the same time is read and written again.
const TRIES: usize = 20;

/// The API server of a master.
pub struct Api {
    client: Client,
    server: String,
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

    /// Writes a secret again as it is: the API server then encrypts it with its first key. A conflict with
    /// another writer is tried again. A secret that is gone is no error. No error quotes its content.
    pub fn rewrite_secret(&self, namespace: &str, name: &str) -> Result<()> {
        let what = || format!("secret {namespace}/{name}");
        let url = format!(
            "{}/api/v1/namespaces/{namespace}/secrets/{name}",
            self.server
        );
        for _ in 0..TRIES {
            let found = sent(self.client.get(&url)).with_context(what)?;
            match found.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(()),
                other => bail!("{}: the API server answers {other}", what()),
            }
            let object = Zeroizing::new(found.bytes().with_context(what)?.to_vec());
            let put = self
                .client
                .put(&url)
                .header("content-type", "application/json");
            match sent(put.body(object.to_vec())).with_context(what)?.status() {
                StatusCode::OK => return Ok(()),
                StatusCode::NOT_FOUND => return Ok(()),
                StatusCode::CONFLICT => {}
                other => bail!("{}: the API server answers {other} to a write", what()),
            }
        }
        bail!(
            "{} was changed by others {TRIES} times in a row; run this again",
            what()
        )
    }
}

fn sent(request: RequestBuilder) -> Result<Response> {
    request.send().map_err(|error| http::root_cause(&error))
}
