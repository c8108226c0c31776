//! Reads an object, and goes on where a connection ended.

use std::io::{self, ErrorKind, Read};

use reqwest::blocking::Response;

use super::{Head, Store};

/// How often a connection may end without a byte.
const MOST: u32 = 5;

/// A reader of an object: of one content, also over several connections.
pub struct Reading {
    store: Store,
    key: String,
    head: Head,
    at: u64,
    response: Option<Response>,
    in_vain: u32,
}

impl Reading {
    pub(super) fn new(store: Store, key: &str, head: Head) -> Reading {
        Reading {
            store,
            key: key.to_owned(),
            head,
            at: 0,
            response: None,
            in_vain: 0,
        }
    }
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at < self.head.bytes && !buffer.is_empty() {
            let response = match &mut self.response {
                Some(response) => response,
                none => {
                    let rest = self.store.get(&self.key, self.at, &self.head);
                    none.insert(rest.map_err(|error| io::Error::other(format!("{error:#}")))?)
                }
            };
            let error = match response.read(buffer) {
                Ok(0) => io::Error::from(ErrorKind::UnexpectedEof),
                Ok(count) => {
                    self.in_vain = 0;
                    self.at += count as u64;
                    return Ok(count);
                }
                Err(error) => error,
            };
            self.response = None;
            self.in_vain += 1;
            if self.in_vain > MOST {
                return Err(io::Error::other(format!(
                    "the object store {}: cannot read {}: the connection ends after {} of {} bytes: {error}",
                    self.store.endpoint, self.key, self.at, self.head.bytes
                )));
            }
        }
        Ok(0)
    }
}
