//! A master's join service in this process, and a worker.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration as StdDuration;

use appliance::components::{self, KUBELET_CLIENT};
use appliance::join::client::{Joined, Worker};
use appliance::join::followers::Followers;
use appliance::join::gate::{Ask, Cluster, Gate};
use appliance::join::message::{RENEW, Renew, SERVICE_NAME};
use appliance::join::nodes::{Nodes, Presence};
use appliance::join::sealed::MasterKeys;
use appliance::join::service::{self, Doors};
use appliance::join::signer;
use appliance::join::tokens::Tokens;
use appliance::nodespec::Ipip;
use appliance::nodespec::master::Master;
use appliance::nodespec::token::Token;
use appliance::paths;
use appliance::pki::{self, CertificateRequest, Existing, Held, KeyPairRequest, PkiRequest};
use appliance::records::names::NodeNames;
use appliance::records::tokens::TokenRecord;
use appliance::sys::retry::Failure;
use appliance::sys::tls::{self, Identity};
use rcgen::KeyPair;
use time::{Duration, OffsetDateTime};
use tokio::io::copy_bidirectional;
use tokio::net::{self, TcpSocket};

use super::faults::requests;

/// The address of the service of a bed; requests to it come from [`WORKER`].
pub const MASTER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The address of this process, as the service sees it.
pub const WORKER: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The keys and certificates of a node, in memory.
#[derive(Default)]
pub struct Files(RefCell<BTreeMap<String, Vec<u8>>>);

impl Existing for Files {
    fn read(&self, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.0.borrow().get(path).cloned())
    }
}

impl Files {
    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.0.borrow_mut().insert(path.to_owned(), bytes.to_vec());
    }
}

/// A CA made at `now`: certificate and key.
pub fn authority(now: OffsetDateTime) -> (String, KeyPair) {
    let request = PkiRequest {
        authority: components::cluster_authority(),
        etcd: None,
        certificates: vec![],
        service_account: KeyPairRequest {
            private: "/sa-key.pem".to_owned(),
            public: "/sa.pub".to_owned(),
            given: None,
        },
    };
    let made = pki::resolve(&request, &Files::default(), now)
        .unwrap()
        .authority;
    let key = made.key_pem.unwrap();
    let key = KeyPair::from_pem(str::from_utf8(key.expose()).unwrap()).unwrap();
    (made.certificate_pem, key)
}

pub fn cluster((authority, key): (String, KeyPair)) -> Cluster {
    Cluster {
        authority,
        key,
        names: NodeNames {
            ipip: Some(Ipip::Off),
            name: "server02".to_owned(),
            address: MASTER,
            hosts: BTreeMap::from([("server09".to_owned(), Ipv4Addr::new(192, 168, 1, 109))]),
            masters: vec![master("server02", MASTER), master("server04", WORKER)],
            api_server_names: vec!["kubernetes".to_owned(), "api.example.org".to_owned()],
            api_server_addresses: vec![],
        },
        master_keys: master_keys(),
    }
}

fn master(name: &str, address: Ipv4Addr) -> Master {
    Master {
        name: name.to_owned(),
        address,
    }
}

/// The keys that a master passes to another one.
pub fn master_keys() -> MasterKeys {
    MasterKeys {
        authority: "the authority's key".to_owned().into(),
        etcd_authority: "the certificate of etcd's authority".to_owned(),
        etcd_key: "the key of etcd's authority".to_owned().into(),
        service_account: "the service accounts' key".to_owned().into(),
        verifying: None,
        tokens: "the tokens of kube-apiserver".to_owned().into(),
        encryption: "the key of kube-apiserver".to_owned().into(),
    }
}

pub fn record(token: &Token) -> TokenRecord {
    let now = OffsetDateTime::now_utc();
    TokenRecord {
        verifier: token.verifier(),
        created: now,
        expires: Some(now + Duration::hours(1)),
        uses: None,
        used: 0,
        revoked: None,
        from: "a test".to_owned(),
    }
}

/// A master that serves.
pub struct Bed {
    dir: tempfile::TempDir,
    pub port: u16,
    pub authority: String,
    pub token: Token,
    joining: Arc<AtomicBool>,
}

impl Bed {
    pub fn new() -> Bed {
        Bed::with_authority(authority(OffsetDateTime::now_utc()), Presence::Absent)
    }

    pub fn with_authority(made: (String, KeyPair), presence: Presence) -> Bed {
        Bed::with_clock(made, presence, Duration::ZERO)
    }

    /// A master whose clock is that much ahead.
    pub fn with_clock(made: (String, KeyPair), presence: Presence, ahead: Duration) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let (listeners, token) = (two_ports(), Token::generate().unwrap());
        let port = listeners.0.local_addr().unwrap().port();
        let bed = Bed {
            authority: made.0.clone(),
            dir,
            port,
            token,
            joining: Arc::new(AtomicBool::new(true)),
        };
        let mut made_there = record(&bed.token);
        made_there.created += ahead;
        made_there.expires = made_there.expires.map(|end| end + ahead);
        bed.tokens().add(bed.token.id(), &made_there).unwrap();
        let (socket, path) = (bed.socket(), bed.path().to_owned());
        let cluster = cluster(made);
        thread::spawn(move || {
            let ask = Ask {
                node: &|_| Ok(presence),
                master: &|_| Ok(presence),
            };
            let gate = Gate::new(cluster, Tokens::new(&path), Nodes::new(&path), ask);
            let mut gate = gate.keeping(Followers::new(&path));
            if ahead.is_zero() {
                signer::serve(&socket, None, &mut gate).unwrap();
            } else {
                sign(&socket, &mut gate, ahead);
            }
        });
        let renew = Doors::Renew(bed.authority.clone().into_bytes());
        bed.open(listeners.0, Doors::Join);
        bed.open(listeners.1, renew);
        bed
    }

    /// Starts one of the services. Connections wait until it accepts them.
    fn open(&self, listener: TcpListener, doors: Doors) {
        let (socket, joining) = (self.socket(), self.joining.clone());
        thread::spawn(move || {
            // The file exists a moment before the service listens.
            while UnixStream::connect(&socket).is_err() {
                thread::sleep(StdDuration::from_millis(5));
            }
            service::run(listener, &socket, &doors).unwrap();
            joining.store(false, Ordering::SeqCst);
        });
    }

    /// Whether the service for workers still runs.
    pub fn is_joining(&self) -> bool {
        self.joining.load(Ordering::SeqCst)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn socket(&self) -> PathBuf {
        self.path().join("socket")
    }

    pub fn tokens(&self) -> Tokens {
        Tokens::new(self.path())
    }

    pub fn nodes(&self) -> Nodes {
        Nodes::new(self.path())
    }

    pub fn join(&self, node: &Node) -> Result<Joined, Failure> {
        node.join(&self.token, self.port, None)
    }

    /// Adds another token, which serves `uses` nodes.
    pub fn add_token(&self, uses: u32) -> Token {
        let token = Token::generate().unwrap();
        let limited = TokenRecord {
            uses: Some(uses),
            ..record(&token)
        };
        self.tokens().add(token.id(), &limited).unwrap();
        token
    }
}

/// As [`signer::serve`], with a clock that is ahead.
fn sign(socket: &Path, gate: &mut Gate<'_>, ahead: Duration) {
    for stream in UnixListener::bind(socket).unwrap().incoming() {
        let mut stream = stream.unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        // Who only looks whether it listens asks nothing.
        let Ok(question) = serde_json::from_slice(&text) else {
            continue;
        };
        let answer = signer::answer(gate, question, OffsetDateTime::now_utc() + ahead).unwrap();
        stream
            .write_all(&serde_json::to_vec(&answer).unwrap())
            .unwrap();
    }
}

/// Lets nodes reach the services at `port` and the next one from addresses of their own: a node connects to
/// its own address, and from there this relay connects to the service.
pub fn relay(addresses: &[Ipv4Addr], port: u16) {
    let own = addresses.iter().map(|&address| (address, address));
    relay_between(own, port);
}

/// Lets a node with the second address reach the services at `port` and the next one at the first address.
pub fn relay_between(addresses: impl Iterator<Item = (Ipv4Addr, Ipv4Addr)>, port: u16) {
    let runtime = runtime();
    for (master, node) in addresses {
        for port in [port, port + 1] {
            let listener = TcpListener::bind((master, port)).unwrap();
            listener.set_nonblocking(true).unwrap();
            runtime.spawn(relay_from(node, port, listener));
        }
    }
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn relay_from(address: Ipv4Addr, port: u16, listener: TcpListener) {
    let listener = net::TcpListener::from_std(listener).unwrap();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            if let Ok(mut service) = connection_from(address, port).await {
                let _ = copy_bidirectional(&mut client, &mut service).await;
            }
        });
    }
}

pub async fn connection_from(address: Ipv4Addr, port: u16) -> std::io::Result<net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((address, 0).into())?;
    socket.connect((MASTER, port).into()).await
}

/// A connection from `address` to the service at `port`.
pub fn connect_from(address: Ipv4Addr, port: u16) -> TcpStream {
    let stream = runtime().block_on(async { connection_from(address, port).await?.into_std() });
    let stream = stream.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}

/// A port, and the next one.
pub fn two_ports() -> (TcpListener, TcpListener) {
    loop {
        let first = TcpListener::bind((MASTER, 0)).unwrap();
        let next = first.local_addr().unwrap().port().saturating_add(1);
        if let Ok(second) = TcpListener::bind((MASTER, next)) {
            return (first, second);
        }
    }
}

/// A worker with its keys.
pub struct Node {
    pub name: &'static str,
    address: Ipv4Addr,
    /// The UUID of its hardware.
    machine: &'static str,
    /// Where it reaches the services.
    master: Ipv4Addr,
    requests: Vec<CertificateRequest>,
    pub files: Files,
}

impl Node {
    pub fn new(name: &'static str) -> Node {
        Node::asking(name, WORKER, components::worker(name, WORKER))
    }

    /// A worker at an address of its own, which a [`relay`] serves.
    pub fn at(name: &'static str, address: Ipv4Addr) -> Node {
        let [_, network, high, low] = address.octets();
        let own = format!("00000000-0000-4000-8000-000000{network:02x}{high:02x}{low:02x}");
        Node {
            master: address,
            machine: own.leak(),
            ..Node::asking(name, address, components::worker(name, address))
        }
    }

    /// A machine that becomes a further master.
    pub fn master(name: &'static str) -> Node {
        Node::asking(name, WORKER, vec![components::etcd_member(name, WORKER)])
    }

    fn asking(name: &'static str, address: Ipv4Addr, requests: Vec<CertificateRequest>) -> Node {
        let node = Node {
            name,
            address,
            machine: "e5ba3d4c-e6a9-4e3f-9a8a-2f4c2c8d4a01",
            master: MASTER,
            requests,
            files: Files::default(),
        };
        for held in node.held(None) {
            let path = paths::key(held.request.name);
            node.files.put(&path, held.key_pem.expose());
        }
        node
    }

    pub fn held(&self, authority: Option<&str>) -> Vec<Held<'_>> {
        let now = OffsetDateTime::now_utc();
        pki::hold(&self.requests, &self.files, authority, now).unwrap()
    }

    pub fn worker<'a>(&self, port: u16, trusted: Option<&'a str>) -> Worker<'a> {
        Worker {
            name: self.name,
            address: self.address,
            machine: Some(self.machine),
            master: self.master,
            port,
            trusted,
        }
    }

    pub fn join(&self, token: &Token, port: u16, trusted: Option<&str>) -> Result<Joined, Failure> {
        self.worker(port, trusted).join(token, &self.held(None))
    }

    /// Renews with the certificate that it has.
    pub fn renew(&self, bed: &Bed) -> Result<Joined, Failure> {
        let [certificate, key] = &self.own();
        let worker = self.worker(bed.port, Some(&bed.authority));
        let identity = Identity { certificate, key };
        worker.renew(&identity, &self.held(Some(&bed.authority)))
    }

    /// Renews as [`Node::renew`] does, from its own address without a [`relay`]. Returns whether it got an answer.
    pub fn renews_from_there(&self, port: u16, authority: &str) -> bool {
        let [certificate, key] = &self.own();
        let identity = Identity { certificate, key };
        let client = renewing(authority, Some(&identity), Some(self.address));
        let key = KeyPair::from_pem(str::from_utf8(key).unwrap()).unwrap();
        let now = OffsetDateTime::now_utc();
        let renew = Renew::signed(&key, requests(self), None, now).unwrap();
        let url = format!("https://{SERVICE_NAME}:{}{RENEW}", port + 1);
        let request = client.post(url);
        let sent = request.body(serde_json::to_vec(&renew).unwrap()).send();
        sent.is_ok_and(|answer| answer.status().is_success())
    }

    /// The certificate that it shows to a master, and its key.
    pub fn own(&self) -> [Vec<u8>; 2] {
        let paths = [
            paths::certificate(KUBELET_CLIENT),
            paths::key(KUBELET_CLIENT),
        ];
        paths.map(|path| self.files.read(&path).unwrap().unwrap())
    }

    /// Keeps the certificates that it got.
    pub fn keep(&self, joined: &Joined) {
        self.files
            .put(paths::CA_CERTIFICATE, joined.authority.as_bytes());
        for (request, pem) in self.requests.iter().zip(&joined.certificates) {
            self.files.put(&request.path, pem.as_bytes());
        }
    }
}

/// A client of the service for renewals, which it reaches from this address as [`SERVICE_NAME`].
pub fn renewing(
    authority: &str,
    identity: Option<&Identity<'_>>,
    from: Option<Ipv4Addr>,
) -> reqwest::blocking::Client {
    let tls = tls::client(authority.as_bytes(), identity).unwrap();
    reqwest::blocking::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .resolve(SERVICE_NAME, (MASTER, 0).into())
        .local_address(from.map(IpAddr::V4))
        .build()
        .unwrap()
}

/// The text of a failure; and whether another try may help.
pub fn told(failure: Failure) -> (String, bool) {
    let transient = matches!(failure, Failure::Transient(..));
    (format!("{:#}", failure.into_error()), transient)
}
