//! The JSON gateway of etcd's API v3, which etcd 3.1 and later have.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::{Client, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::version;
use crate::sys::http;

/// The most that is read of a refusal, in bytes.
const REFUSAL: u64 = 64 * 1024;

/// The gateway of one member.
pub struct Gateway<'a> {
    client: &'a Client,
    url: String,
}

impl<'a> Gateway<'a> {
    /// The gateway of the member at the URL `server`.
    ///
    /// # Errors
    /// The member does not answer, or its version has no API v3.
    pub fn of(client: &'a Client, server: &str) -> Result<Gateway<'a>> {
        let path = path(&version(client, server)?.server)?;
        Ok(Gateway {
            client,
            url: format!("{server}{path}"),
        })
    }

    /// Calls `method`, such as `kv/range`, and reads the answer.
    pub fn call<T: DeserializeOwned>(&self, method: &str, body: &Value) -> Result<T> {
        let answer = self.send(method, body)?;
        serde_json::from_str(&answer.text()?)
            .with_context(|| format!("etcd's answer to {method} is not valid"))
    }

    /// Calls `method`, and leaves the answer to be read.
    ///
    /// # Errors
    /// The member does not answer, or refuses. The error has its reason.
    pub fn send(&self, method: &str, body: &Value) -> Result<Response> {
        let request = self.client.post(format!("{}/{method}", self.url));
        let answer = request.body(body.to_string()).send();
        let answer = answer
            .map_err(|error| http::root_cause(&error))
            .context("etcd")?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            status => bail!("etcd answers {status} to {method}{}", reason(answer)),
        }
    }
}

/// The path of the gateway in this version of etcd.
fn path(version: &str) -> Result<&'static str> {
    let numbers: Vec<&str> = version.split('.').take(2).collect();
    ensure!(
        numbers.first() == Some(&"3"),
        "etcd {version:?} has no API v3"
    );
    Ok(match numbers.get(1) {
        Some(&("0" | "1" | "2")) => "/v3alpha",
        Some(&"3") => "/v3beta",
        _ => "/v3",
    })
}

/// Why the member refuses, as it says; nothing if it does not say.
fn reason(answer: Response) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let refusal: Option<Refusal> = serde_json::from_reader(answer.take(REFUSAL)).ok();
    refusal.map_or_else(String::new, |refusal| format!(": {:?}", refusal.error))
}
