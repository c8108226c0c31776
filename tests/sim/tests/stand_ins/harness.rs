//! Starts stand-ins and etcd, and waits for their output.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::pki::Authority;

/// How long any expected event may take: this limit only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A port without a listener.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// The stand-in, under the name of `program`.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.arg0(program).env_remove("NOTIFY_SOCKET");
    command
}

/// A link to the stand-in under the name of `program`, for programs that start it by a path.
pub fn sim(directory: &Path, program: &str) -> std::path::PathBuf {
    let directory = directory.join("programs");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(program);
    // It may exist already.
    let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sim"), &path);
    path
}

/// Runs a stand-in that is expected to end by itself.
pub fn run(program: &str, arguments: &[String]) -> Output {
    command(program).args(arguments).output().unwrap()
}

/// The standard output and standard error of a program.
pub fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// `--name=value`.
pub fn flag(name: &str, value: impl Display) -> String {
    format!("--{name}={value}")
}

/// `--name=path`.
pub fn file(name: &str, path: &Path) -> String {
    flag(name, path.display())
}

/// A program that runs until it is dropped.
pub struct Running {
    name: String,
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts a program and reads its log.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                // No test waits for more lines.
                let _ = sender.send(line);
            }
        });
        let name = format!("{command:?}");
        let name = name.chars().take(120).collect();
        Self { name, child, lines }
    }

    /// Waits until the program logs a line with `text` in it.
    pub fn wait_for(&self, text: &str) {
        let start = Instant::now();
        let mut seen = String::new();
        while start.elapsed() < PATIENCE {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return,
                Ok(line) => seen = seen + &line + "\n",
                Err(_) => break,
            }
        }
        panic!("{text:?} was never logged:\n{seen}");
    }

    /// Sends the program a signal to end. Returns whether it ended with success.
    pub fn stop(&mut self) -> bool {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let lines: Vec<String> = self.lines.iter().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("{} logged at last:\n{}", self.name, last.join("\n"));
        }
    }
}

/// An etcd with its own CA, and a directory for an apiserver.
pub struct Cluster {
    pub directory: TempDir,
    pub authority: Authority,
    pub etcd: String,
    pub server: String,
    port: u16,
    _etcd: Running,
}

impl Cluster {
    /// Starts etcd with TLS, which requires client certificates.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(&directory.path().join("pki"));
        let mut command = Command::new("etcd");
        let (etcd, running) = start_etcd(&mut command, directory.path(), &authority);
        let port = free_port();
        Self {
            directory,
            authority,
            etcd,
            server: format!("https://127.0.0.1:{port}"),
            port,
            _etcd: running,
        }
    }

    /// The flags of an apiserver with TLS and RBAC.
    pub fn apiserver_flags(&self) -> Vec<String> {
        let server = self.authority.issue("kubernetes", "k8s");
        vec![
            flag("bind-address", "127.0.0.1"),
            flag("secure-port", self.port),
            flag("insecure-port", 0),
            flag("authorization-mode", "Node,RBAC"),
            flag("anonymous-auth", false),
            flag("service-cluster-ip-range", "10.68.0.0/16"),
            flag("service-node-port-range", "20000-40000"),
            flag("etcd-servers", &self.etcd),
            file("etcd-cafile", &self.authority.certificate()),
            file("etcd-certfile", &server.certificate),
            file("etcd-keyfile", &server.key),
            file("client-ca-file", &self.authority.certificate()),
            file("tls-cert-file", &server.certificate),
            file("tls-private-key-file", &server.key),
            file(
                "service-account-key-file",
                &self.authority.public_key("kubernetes"),
            ),
        ]
    }

    /// Starts an apiserver, and waits until it notifies systemd that it is ready.
    pub fn apiserver(&self, more: &[String]) -> Running {
        let mut flags = self.apiserver_flags();
        flags.extend_from_slice(more);
        self.ready_apiserver(&flags)
    }

    /// Like [`Cluster::apiserver`], with these flags alone.
    pub fn ready_apiserver(&self, flags: &[String]) -> Running {
        let path = self
            .directory
            .path()
            .join(format!("notify-{}", free_port()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = command("kube-apiserver");
        let server = Running::start(command.args(flags).env("NOTIFY_SOCKET", &path));
        let mut message = [0; 64];
        let size = socket.recv(&mut message).unwrap();
        assert_eq!(&message[..size], b"READY=1");
        server
    }

    /// Runs kubectl with a kubeconfig.
    pub fn kubectl(&self, kubeconfig: &Path, arguments: &[&str]) -> Output {
        let mut all = vec![file("kubeconfig", kubeconfig)];
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        run("kubectl", &all)
    }

    /// A kubeconfig of this cluster's CA.
    pub fn kubeconfig(&self, name: &str, group: &str) -> std::path::PathBuf {
        let authority = &self.authority;
        authority.kubeconfig(&self.server, &authority.certificate(), (name, group))
    }
}

/// Starts the etcd that `command` names, with TLS, which requires client certificates.
pub fn start_etcd(
    command: &mut Command,
    directory: &Path,
    authority: &Authority,
) -> (String, Running) {
    let pair = authority.issue("etcd", "k8s");
    let url = format!("https://127.0.0.1:{}", free_port());
    let peer = format!("http://127.0.0.1:{}", free_port());
    command.args([
        flag("data-dir", directory.join("etcd").display()),
        flag("listen-client-urls", &url),
        flag("advertise-client-urls", &url),
        flag("listen-peer-urls", &peer),
        flag("initial-advertise-peer-urls", &peer),
        flag("initial-cluster", format!("default={peer}")),
        flag("client-cert-auth", true),
        // Calico 2.6 needs the v2 API, which 3.4 serves only with this flag.
        flag("enable-v2", true),
        file("trusted-ca-file", &authority.certificate()),
        file("cert-file", &pair.certificate),
        file("key-file", &pair.key),
    ]);
    let present = Command::new("etcd").arg("--version").output();
    assert!(
        present.is_ok(),
        "etcd is missing: apt-get install etcd-server"
    );
    (url, Running::start(command))
}

/// The answer of a server on this machine over plain HTTP: the status and body.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Waits until a server answers `path` with `status`.
pub fn wait_for_status(port: u16, path: &str, status: u16) -> String {
    let mut last = None;
    eventually(&format!("{status} from port {port}{path}"), || {
        last = get(port, path);
        matches!(&last, Some((found, _)) if *found == status)
    });
    last.map(|(_, body)| body).unwrap_or_default()
}

/// Waits until `holds` returns true.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never came: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
