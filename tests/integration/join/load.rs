//! The join service under load and slow clients: measurements for `make bench`, not a test. They print one
//! `name value` per line. The services are processes of the program in APPLIANCE, or of the one under test.
//!
//! `cargo test --test integration join::load -- --ignored --nocapture`

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use appliance::components;
use appliance::join::tokens::Tokens;
use appliance::nodespec::token::Token;
use appliance::paths;
use appliance::pki::{self, Pki, PkiRequest};
use appliance::records::names::NodeNames;
use appliance::sys::change::Change;
use appliance::sys::retry::{Schedule, retried};
use appliance::sys::root::Root;
use appliance::sys::{door, tls};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt;

use super::bed::{Files, MASTER, Node, connection_from, record, relay, runtime, two_ports};

/// How many workers join while others are slow, and how many at once without them.
const UNDER_SLOW: u32 = 200;
const AT_ONCE: u32 = 1000;
/// How many workers join at the same time while others are slow.
const TOGETHER: usize = 10;
/// The addresses that hold connections open.
const SLOW: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 9, 9, 1), Ipv4Addr::new(127, 9, 9, 2)];
/// The pause between two connections of such an address: it opens more than it may.
const OPENS: Duration = Duration::from_millis(100);
/// The pause between two bytes in such a connection.
const TRICKLES: Duration = Duration::from_millis(500);
/// How long they hold connections open before the measurement begins.
const AHEAD: Duration = Duration::from_secs(20);
/// How long a worker tries to join.
const PATIENCE: Duration = Duration::from_secs(300);
/// Where the signer reaches the API server, with an address that its certificate contains.
const API_SERVER: &str = "127.0.0.1:6443";

/// A master whose join service runs.
struct Master {
    _dir: tempfile::TempDir,
    port: u16,
    token: Token,
    authority: String,
    signer: Child,
    join: Child,
    renewals: Child,
}

impl Drop for Master {
    fn drop(&mut self) {
        for child in [&mut self.signer, &mut self.join, &mut self.renewals] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Master {
    fn new() -> Master {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let made = pki();
        let token = Token::generate().unwrap();
        put_files(&root, &made, &token);
        serve_no_node(&made);
        let listeners = two_ports();
        let port = listeners.0.local_addr().unwrap().port();
        drop(listeners);
        let socket = dir.path().join("socket");
        let mut signer = start(
            &["sign", "--user", "root", "--root"],
            dir.path(),
            &socket,
            &[],
        );
        wait_for(&mut signer, || socket.exists());
        let authority = root.resolve(paths::CA_CERTIFICATE).unwrap();
        let listen = |port: u16| format!("{MASTER}:{port}");
        let mut join = start(
            &["serve", "--listen"],
            Path::new(&listen(port)),
            &socket,
            &[],
        );
        let more = [Path::new("--authority"), authority.as_path()];
        let own = listen(port + 1);
        let mut renewals = start(
            &["serve-renewals", "--listen"],
            Path::new(&own),
            &socket,
            &more,
        );
        wait_for(&mut join, || TcpStream::connect((MASTER, port)).is_ok());
        wait_for(&mut renewals, || {
            TcpStream::connect((MASTER, port + 1)).is_ok()
        });
        Master {
            _dir: dir,
            port,
            token,
            authority: made.authority.certificate_pem,
            signer,
            join,
            renewals,
        }
    }

    /// Workers at addresses of their own, with their keys.
    fn workers(&self, network: u8, count: u32) -> Vec<Node> {
        let addresses: Vec<Ipv4Addr> = (1..=count)
            .map(|number| {
                let [_, _, high, low] = number.to_be_bytes();
                Ipv4Addr::new(127, network, high, low)
            })
            .collect();
        relay(&addresses, self.port);
        let worker = |address: &Ipv4Addr| {
            let name: &'static str = format!("worker-{address}").replace('.', "-").leak();
            Node::at(name, *address)
        };
        addresses.iter().map(worker).collect()
    }
}

/// Waits until a process that has just been started is ready.
fn wait_for(process: &mut Child, is_ready: impl Fn() -> bool) {
    while !is_ready() {
        if let Some(status) = process.try_wait().unwrap() {
            let mut said = String::new();
            let stderr = process.stderr.as_mut().unwrap();
            stderr.read_to_string(&mut said).unwrap();
            panic!("the process ended ({status}): {said}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    // It may write more than anyone reads.
    let mut stderr = process.stderr.take().unwrap();
    thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
}

fn start(arguments: &[&str], last: &Path, socket: &Path, more: &[&Path]) -> Child {
    let under_test = || env!("CARGO_BIN_EXE_appliance").to_owned();
    Command::new(std::env::var("APPLIANCE").unwrap_or_else(|_| under_test()))
        .arg("join")
        .args(arguments)
        .arg(last)
        .arg("--socket")
        .arg(socket)
        .args(more)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A CA, and certificates of a node at 127.0.0.1.
fn pki() -> Pki {
    let request = PkiRequest {
        authority: components::cluster_authority(),
        etcd: None,
        certificates: components::worker("server02", Ipv4Addr::LOCALHOST),
        service_account: components::service_account(),
    };
    pki::resolve(&request, &Files::default(), OffsetDateTime::now_utc()).unwrap()
}

/// What the signer reads.
fn put_files(root: &Root, made: &Pki, token: &Token) {
    let authority = made.authority.certificate_pem.as_bytes();
    let key = made.authority.key_pem.as_ref().unwrap().expose();
    let names = NodeNames {
        ipip: None,
        name: "server02".to_owned(),
        address: MASTER,
        hosts: [].into(),
        masters: vec![],
        api_server_names: vec![],
        api_server_addresses: vec![],
    };
    let names = serde_json::to_vec(&names).unwrap();
    let files: [(String, &[u8]); 11] = [
        (paths::CA_CERTIFICATE.to_owned(), authority),
        (paths::key("ca"), key),
        (paths::certificate("etcd-ca"), authority),
        (paths::key("etcd-ca"), key),
        (paths::certificate("admin"), authority),
        (paths::key("admin"), key),
        (paths::SERVICE_ACCOUNT_PRIVATE.to_owned(), key),
        (paths::SERVICE_ACCOUNT_PUBLIC.to_owned(), b""),
        (paths::TOKEN_FILE.to_owned(), b""),
        (paths::ENCRYPTION.to_owned(), b""),
        (paths::JOIN_NAMES.to_owned(), &names),
    ];
    for (path, content) in files {
        root.write(&path, content, 0o600).unwrap();
    }
    root.create_dir(paths::JOIN_DIR, 0o700).unwrap();
    let tokens = Tokens::new(&root.resolve(paths::JOIN_DIR).unwrap());
    tokens.add(token.id(), &record(token)).unwrap();
}

/// An API server that has no node: it answers 404 to everything.
fn serve_no_node(made: &Pki) {
    let mut all = made.certificates.iter();
    let own = all.find(|issued| issued.name == "kubelet").unwrap();
    let identity = tls::Identity {
        certificate: own.certificate_pem.as_bytes(),
        key: own.key_pem.as_ref().unwrap().expose(),
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls::server(&identity, None).unwrap()));
    let listener = std::net::TcpListener::bind(API_SERVER).unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let accepted = acceptor.accept(stream);
                tokio::spawn(async move {
                    if let Ok(stream) = accepted.await {
                        let router = axum::Router::new();
                        let _ = door::answer(stream, router, PATIENCE, false).await;
                    }
                });
            }
        })
    });
}

/// Addresses that open connections to `ports`, and send a byte now and then.
fn be_slow(ports: [u16; 2]) {
    let hold = |address: Ipv4Addr, port: u16| async move {
        if let Ok(mut stream) = connection_from(address, port).await {
            // A TLS record of 512 bytes.
            let begun = stream.write_all(&[22, 3, 1, 2, 0]).await;
            while begun.is_ok() && stream.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(TRICKLES).await;
            }
        }
    };
    thread::spawn(move || {
        runtime().block_on(async move {
            loop {
                for address in SLOW {
                    for port in ports {
                        tokio::spawn(hold(address, port));
                    }
                }
                tokio::time::sleep(OPENS).await;
            }
        })
    });
    thread::sleep(AHEAD);
}

/// Does `work` with each node, some at a time. Returns how many failed.
fn failures(nodes: Vec<Node>, together: usize, work: impl Fn(&Node) -> bool + Sync) -> usize {
    let shares: Vec<Vec<Node>> = {
        let mut shares: Vec<Vec<Node>> = (0..together).map(|_| Vec::new()).collect();
        for (number, node) in nodes.into_iter().enumerate() {
            shares[number % together].push(node);
        }
        shares
    };
    let work = &work;
    thread::scope(|scope| {
        let run =
            |share: Vec<Node>| scope.spawn(move || share.iter().filter(|node| !work(node)).count());
        let all: Vec<_> = shares.into_iter().map(run).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    })
}

/// The most memory that the process has used, in MB.
fn peak(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .unwrap();
    kib * 1024 / 1_000_000
}

/// Many connections need many open files.
fn allow_many_files() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

#[test]
#[ignore = "a measurement"]
fn what_slow_clients_and_a_thousand_workers_do_to_the_join_service() {
    allow_many_files();
    let master = Master::new();
    let (port, token, authority) = (master.port, &master.token, master.authority.as_str());

    let thousand = master.workers(11, AT_ONCE);
    let begun = Instant::now();
    let lost = failures(thousand, AT_ONCE as usize, |node| {
        let schedule = Schedule::until(Instant::now() + PATIENCE, Duration::from_secs(15));
        retried(node.name, schedule, || node.join(token, port, None)).is_ok()
    });
    println!("join_1000_lost {lost}");
    println!("join_1000_s {}", begun.elapsed().as_secs());

    be_slow([port, port + 1]);
    // One attempt each.
    let workers = master.workers(12, UNDER_SLOW);
    let lost = failures(workers, TOGETHER, |node| {
        let joined = node.join(token, port, None);
        joined.map(|joined| node.keep(&joined)).is_ok()
    });
    println!("join_under_slowloris_lost {lost}");
    let workers = master.workers(13, UNDER_SLOW);
    let lost = failures(workers, TOGETHER, |node| {
        // Until it has joined, however often it takes.
        let schedule = Schedule::until(Instant::now() + PATIENCE, Duration::from_secs(1));
        let joined = retried(node.name, schedule, || node.join(token, port, None));
        node.keep(&joined.unwrap());
        node.renews_from_there(port, authority)
    });
    println!("slowloris_lost {lost}");
    println!("peak_mb_signer {}", peak(&master.signer));
    println!(
        "peak_mb_join {}",
        peak(&master.join).max(peak(&master.renewals))
    );
}
