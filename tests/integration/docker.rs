//! A real docker, and Debian's real registry, for one test; both end with the test.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::said;

/// How long each may take to answer.
const START: Duration = Duration::from_secs(60);

/// A docker daemon with nothing in it.
pub struct Docker {
    dir: tempfile::TempDir,
    daemon: Child,
}

impl Docker {
    /// Starts one. This needs root.
    pub fn start() -> Docker {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let daemon = Command::new("dockerd")
            .args(["--bridge=none", "--iptables=false", "--storage-driver=vfs"])
            .arg(format!("--data-root={}", path("data")))
            .arg(format!("--exec-root={}", path("exec")))
            .arg(format!("--pidfile={}", path("pid")))
            .arg(format!("--host=unix://{}", path("socket")))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("dockerd; `make tools` installs it");
        let docker = Docker { dir, daemon };
        let log = docker.dir.path().join("log");
        wait("docker", || {
            docker
                .command(&["version"])
                .output()
                .is_ok_and(|output| output.status.success())
        })
        .unwrap_or_else(|error| panic!("{error}:\n{}", fs::read_to_string(log).unwrap()));
        docker
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.dir.path().join("socket").display()),
            )
            .args(arguments);
        command
    }

    /// Runs `docker` with these arguments, which must succeed. Returns its output.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "docker {arguments:?}: {}",
            said(&output)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        end(&mut self.daemon);
    }
}

/// A registry with nothing in it.
pub struct Registry {
    _dir: tempfile::TempDir,
    server: Child,
    address: String,
}

impl Registry {
    /// Starts one.
    pub fn start() -> Registry {
        let dir = tempfile::tempdir().unwrap();
        // The port is free now, and nothing else here requests ports by number.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let config = dir.path().join("config.yml");
        let data: PathBuf = dir.path().join("data");
        fs::write(
            &config,
            format!(
                "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
                data.display()
            ),
        )
        .unwrap();
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry; `make tools` installs it");
        let registry = Registry {
            _dir: dir,
            server,
            address,
        };
        wait("docker-registry", || {
            std::net::TcpStream::connect(&registry.address).is_ok()
        })
        .unwrap();
        registry
    }

    /// Its host and port.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        end(&mut self.server);
    }
}

fn end(child: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    // A daemon that has already ended cannot get a signal.
    if nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).is_ok() {
        drop(child.wait());
    }
}

fn wait(what: &str, is_ready: impl Fn() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !is_ready() {
        if start.elapsed() > START {
            return Err(format!("{what} does not answer"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
