//! The status page: what it shows, and what its server refuses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::Result;
use appliance::page::reading::Reading;
use appliance::page::{self, Source};
use serde_json::json;

mod attacks;
mod browser;
mod command;
mod pictures;
mod scenes;
mod structure;

/// Serves what `read` gives, until the tests end.
fn serve(read: impl Fn() -> Result<Reading> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let source = Source {
        read: Box::new(read),
        failure: |error| json!({ "error": { "message": format!("{error:#}") } }),
    };
    thread::spawn(move || page::serve(listener, source).unwrap());
    address
}

/// The answer to these bytes: status, head and body. The status is 0 if the connection was closed without an answer.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn of(bytes: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Answer {
            status: status.unwrap_or(0),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines();
        let value = lines.find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }
}

/// Sends bytes and reads to the end.
fn send(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    // A server that refuses early may have closed the connection.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Answer::of(&answer)
}

/// Asks for a path, as a browser does.
fn get(address: SocketAddr, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    send(address, request.as_bytes())
}
