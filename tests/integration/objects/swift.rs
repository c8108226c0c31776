//! A real Swift with its S3 face, and a server before it that makes faults.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use appliance::backup::place::Place;
use appliance::nodespec::objects::StoreSpec;

/// The bucket.
pub const BUCKET: &str = "backups";
/// The secret of the credentials.
pub const SECRET: &str = "hunter2-of-the-store";

/// A Swift with one bucket.
pub struct Swift {
    process: Child,
    address: SocketAddr,
    /// The certificate with which it serves HTTPS.
    ca: Option<PathBuf>,
    pub dir: tempfile::TempDir,
}

impl Swift {
    pub fn new() -> Swift {
        let dir = directory();
        Swift::serving(dir, None)
    }

    /// One that serves HTTPS with a certificate of its own.
    pub fn with_tls() -> Swift {
        let dir = directory();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, made.cert.pem()).unwrap();
        let both = made.cert.pem() + &made.signing_key.serialize_pem();
        fs::write(dir.path().join("tls.pem"), both).unwrap();
        Swift::serving(dir, Some(ca))
    }

    fn serving(dir: tempfile::TempDir, ca: Option<PathBuf>) -> Swift {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let served = dir.path().join("swift");
        fs::create_dir(&served).unwrap();
        let mut process = Command::new(project.join("out/tools/bin/python"))
            .args(["-W", "ignore"])
            .arg(project.join("tests/objects/swift-serves.py"))
            .arg(served)
            .arg(BUCKET)
            .env("KEY", SECRET)
            .envs(ca.iter().map(|_| ("TLS", dir.path().join("tls.pem"))))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`make tools` installs it");
        let mut line = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().expect("Swift failed; see above");
        let swift = Swift {
            process,
            address: ([127, 0, 0, 1], port).into(),
            ca,
            dir,
        };
        swift.write_credentials("credentials", SECRET);
        swift
    }

    /// A file with the credentials, with that secret.
    pub fn write_credentials(&self, name: &str, secret: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut file = fs::OpenOptions::new();
        let mut file = file
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        write!(
            file,
            "[default]\naws_access_key_id = appliance:backup\naws_secret_access_key = {secret}\n"
        )
        .unwrap();
        path
    }

    /// How it is reached.
    pub fn spec(&self) -> StoreSpec {
        self.spec_at(self.address)
    }

    /// How it is reached by way of that address.
    pub fn spec_at(&self, address: SocketAddr) -> StoreSpec {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        StoreSpec {
            endpoint: format!("{scheme}://{address}").parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            credentials: self.dir.path().join("credentials"),
            ca: self.ca.clone(),
        }
    }

    /// The place with that prefix in the bucket.
    pub fn place(&self, prefix: &str) -> Place {
        place(prefix, &self.spec())
    }

    /// A server before it that makes faults.
    pub fn faulty(&self, fault: impl Fn(&str, usize) -> Fault + Send + Sync + 'static) -> Faulty {
        Faulty::new(self.address, fault)
    }
}

/// Swift needs extended attributes, which a file system in memory may lack.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

impl Drop for Swift {
    fn drop(&mut self) {
        // It ends with its standard input.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The place with that prefix in the bucket of a store.
pub fn place(prefix: &str, spec: &StoreSpec) -> Place {
    let to = format!("s3://{BUCKET}/{prefix}").parse().unwrap();
    Place::open(&to, Some(spec)).unwrap()
}

/// What happens to a request.
pub enum Fault {
    /// Nothing.
    None,
    /// It is answered so, and not passed on.
    Say(String),
    /// The connection ends before its body was read.
    Cut,
    /// It is passed on, and only so many bytes of the answer come back.
    CutAnswer(usize),
    /// It is passed on, and the answer is changed.
    Change(fn(Vec<u8>) -> Vec<u8>),
}

/// An HTTP answer.
pub fn answer(status: &str, headers: &str, body: &str) -> Fault {
    Fault::Say(format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    ))
}

type Faults = dyn Fn(&str, usize) -> Fault + Send + Sync;

/// A server that passes requests on, or not: as a function of the request's first line, and of how often such a line came
/// before.
pub struct Faulty {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Faulty {
    fn new(to: SocketAddr, fault: impl Fn(&str, usize) -> Fault + Send + Sync + 'static) -> Faulty {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let faults: Arc<Faults> = Arc::new(fault);
        let shared = Arc::clone(&asked);
        // It ends with the process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (asked, faults) = (Arc::clone(&shared), Arc::clone(&faults));
                thread::spawn(move || {
                    // A client that gives up is none of its business.
                    let _ = serve(client?, to, &asked, &*faults);
                    std::io::Result::Ok(())
                });
            }
        });
        Faulty { address, asked }
    }

    /// How many requests had a first line with this text.
    pub fn asked(&self, text: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|line| line.contains(text)).count()
    }
}

/// The request's first line, without its signature.
fn unsigned(line: &str) -> String {
    let (target, rest) = line.split_once('?').unwrap_or((line, ""));
    let query = rest.split(' ').next().unwrap_or_default();
    let query: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.starts_with("X-Amz"))
        .collect();
    format!(
        "{}?{}",
        target.trim_end_matches(" HTTP/1.1"),
        query.join("&")
    )
}

fn serve(
    client: TcpStream,
    to: SocketAddr,
    asked: &Mutex<Vec<String>>,
    faults: &Faults,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut writer = client;
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head += &line;
    }
    let line = unsigned(head.lines().next().unwrap());
    let before = {
        let mut asked = asked.lock().unwrap();
        asked.push(line.clone());
        asked.iter().filter(|other| **other == line).count() - 1
    };
    let fault = faults(&line, before);
    if matches!(fault, Fault::Cut) {
        return writer.shutdown(Shutdown::Both);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if let Fault::Say(text) = &fault {
        return writer.write_all(text.as_bytes());
    }
    let mut server = TcpStream::connect(to)?;
    server.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    match fault {
        Fault::CutAnswer(most) => answer.truncate(most),
        Fault::Change(change) => answer = change(answer),
        _ => {}
    }
    writer.write_all(&answer)
}
