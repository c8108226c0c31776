//! The server against clients that mean no good.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use anyhow::bail;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use super::{Answer, get, scenes, send, serve};

fn healthy() -> SocketAddr {
    serve(|| Ok(scenes::healthy()))
}

fn request(address: SocketAddr, line: &str, host: &str) -> Answer {
    send(
        address,
        format!("{line} HTTP/1.1\r\n{host}\r\n\r\n").as_bytes(),
    )
}

#[test]
fn the_answers_are_those_of_the_node() {
    let address = healthy();
    assert_eq!(get(address, "/healthz").status, 200);
    let document = get(address, "/status.json");
    assert_eq!(document.header("content-type"), "application/json");
    let report: Value = serde_json::from_str(&document.body).unwrap();
    assert_eq!(
        report,
        serde_json::to_value(scenes::healthy().report).unwrap()
    );
    for scene in [scenes::degraded(), scenes::install()] {
        let address = serve(move || Ok(scene.clone()));
        assert_eq!(get(address, "/healthz").status, 503);
        assert_eq!(get(address, "/status.json").status, 200);
        assert_eq!(get(address, "/").status, 200);
    }
    let head = request(address, "HEAD /", &format!("Host: {address}"));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(get(address, "/").body.contains("http-equiv=\"refresh\""));
    assert!(
        !get(address, "/?still")
            .body
            .contains("http-equiv=\"refresh\"")
    );
}

#[test]
fn a_node_that_cannot_be_asked_is_told_with_the_reason() {
    let address = serve(|| bail!("/etc/<b>: broken"));
    for (path, text) in [
        ("/", "/etc/&lt;b&gt;: broken"),
        ("/status.json", "/etc/<b>: broken"),
        ("/healthz", "unknown"),
    ] {
        let answer = get(address, path);
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.body.contains(text), "{path}: {}", answer.body);
    }
}

#[test]
fn only_requests_to_this_machine_are_answered() {
    let address = healthy();
    let port = address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST:1",
        "[::1]:6480",
        "127.0.0.1:6480",
    ] {
        assert_eq!(
            request(address, "GET /", &format!("Host: {host}")).status,
            200,
            "{host}"
        );
    }
    for host in [
        "Host: evil.example".to_owned(),
        format!("Host: evil.example:{port}"),
        "Host: 127.0.0.1.evil.example".to_owned(),
        "Host: localhost.evil.example".to_owned(),
        "Host: localhost@evil.example".to_owned(),
        "Host: evil.example@localhost".to_owned(),
        "Host: 192.168.1.102".to_owned(),
        "Host: ".to_owned(),
        "Host: 127.0.0.1\r\nHost: evil.example".to_owned(),
        "Host: evil.example\r\nHost: 127.0.0.1".to_owned(),
        "Host: 127.0.0.1, evil.example".to_owned(),
        "X-Forwarded-Host: 127.0.0.1".to_owned(),
    ] {
        for path in ["/", "/status.json", "/healthz", "/nothing"] {
            let answer = request(address, &format!("GET {path}"), &host);
            assert_eq!(answer.status, 421, "{host}: {}", answer.head);
            assert!(!answer.body.contains("server02"), "{host}");
        }
    }
    let line = "GET http://evil.example/";
    assert_eq!(request(address, line, "Host: 127.0.0.1").status, 421);
}

#[test]
fn only_reading_is_possible() {
    let address = healthy();
    let host = format!("Host: {address}\r\nContent-Length: 0");
    for method in [
        "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW",
    ] {
        for path in ["/", "/status.json", "/healthz"] {
            let answer = request(address, &format!("{method} {path}"), &host);
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.head);
            assert_eq!(answer.header("allow"), "get, head", "{method} {path}");
        }
    }
}

#[test]
fn no_path_leads_elsewhere() {
    let address = healthy();
    for path in [
        "/etc/passwd",
        "/../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//",
        "//healthz",
        "/status.json/",
        "/status.json/../healthz",
        "/healthz%00",
        "/%ff%fe",
        "/healthz;x",
        "/.",
        "/favicon.ico",
        "/status.json%2f",
        "/STATUS.JSON",
    ] {
        assert_eq!(get(address, path).status, 404, "{path}");
    }
}

#[test]
fn every_answer_has_the_headers_and_no_cookie() {
    let address = healthy();
    let host = format!("Host: {address}");
    for answer in [
        get(address, "/"),
        get(address, "/status.json"),
        get(address, "/healthz"),
        get(address, "/nothing"),
        request(address, "POST /", &host),
        request(address, "GET /", "Host: evil.example"),
    ] {
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
        assert!(!answer.head.contains("set-cookie") && !answer.head.contains("access-control"));
    }
}

#[test]
fn what_is_no_request_or_too_large_is_refused_and_the_server_goes_on() {
    let address = healthy();
    let head =
        |more: &str| format!("GET / HTTP/1.1\r\nHost: {address}\r\n{more}\r\n\r\n").into_bytes();
    let long = "x".repeat(100_000);
    let many: String = (0..2000).map(|n| format!("a{n}: b\r\n")).collect();
    let mut not_utf8 = b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec();
    not_utf8.extend([0xff; 10]);
    for bytes in [
        head(&format!("a: {long}")),
        head(&many),
        format!("GET /{long} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        head("Transfer-Encoding: nonsense"),
        head("Content-Length: -1"),
        head("Content-Length: 1\r\nContent-Length: 2"),
        not_utf8,
        b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n".to_vec(),
    ] {
        let answer = send(address, &bytes);
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(
            matches!(answer.status, 0 | 400 | 404 | 414 | 421 | 431 | 505),
            "{start:?}: {}",
            answer.head
        );
    }
    assert_eq!(get(address, "/healthz").status, 200);
    // A body is not read, however long it claims to be.
    let body =
        format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nContent-Length: 9999999999\r\n\r\nx");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
}

#[test]
fn a_thousand_connections_that_send_little_keep_nobody_out() {
    // Both ends are in this process.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let address = healthy();
    let head = format!("GET / HTTP/1.1\r\nHost: {address}\r\nX-Slow: ");
    let mut slow = Vec::new();
    for _ in 0..1000 {
        let mut stream = TcpStream::connect(address).unwrap();
        // The server may have closed it already, to make room.
        let _ = stream.write_all(head.as_bytes());
        slow.push(stream);
        if slow.len() % 250 == 0 {
            assert_eq!(
                get(address, "/healthz").status,
                200,
                "{} are open",
                slow.len()
            );
        }
    }
    let mut closed = 0;
    for stream in &mut slow {
        stream.set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0; 1]);
        closed += usize::from(
            !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        );
    }
    // No more are open than the limit.
    assert!(closed >= 1000 - 256, "{closed}");
}

#[test]
fn views_at_the_same_time_share_one_reading() {
    const VIEWS: usize = 40;
    let count = Arc::new(AtomicUsize::new(0));
    let (begin, begun) = channel::<()>();
    let begun = Mutex::new(begun);
    let counted = count.clone();
    let address = serve(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        begun.lock().unwrap().recv().unwrap();
        Ok(scenes::healthy())
    });
    let sent = Arc::new(Barrier::new(VIEWS + 1));
    let views: Vec<_> = (0..VIEWS)
        .map(|_| {
            let sent = sent.clone();
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
                stream.write_all(request.as_bytes()).unwrap();
                sent.wait();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                Answer::of(&answer).status
            })
        })
        .collect();
    sent.wait();
    begin.send(()).unwrap();
    for view in views {
        assert_eq!(view.join().unwrap(), 200);
    }
    // A second reading would wait for a second message, and views with it.
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn a_node_that_does_not_answer_keeps_no_view_waiting() {
    let address = serve(|| {
        loop {
            thread::park();
        }
    });
    thread::scope(|scope| {
        for (path, text) in [
            ("/", "The node has not answered yet"),
            ("/status.json", "has not answered yet"),
            ("/healthz", "unknown"),
        ] {
            scope.spawn(move || {
                let answer = get(address, path);
                assert_eq!(answer.status, 503, "{path}");
                assert!(answer.body.contains(text), "{path}: {}", answer.body);
            });
        }
    });
}
