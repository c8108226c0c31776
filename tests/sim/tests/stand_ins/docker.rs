//! A real docker with only the images of the stand-ins; it ends with its test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::{Running, command, eventually, said};

/// A docker daemon.
pub struct Docker {
    socket: PathBuf,
    daemon: Running,
}

impl Docker {
    /// Starts one with its files in `directory`, and loads the pause image. This needs root.
    pub fn start(directory: &Path) -> Self {
        let path = |name: &str| directory.join(name).display().to_string();
        let mut command = Command::new("dockerd");
        command
            .args(["--bridge=none", "--iptables=false", "--storage-driver=vfs"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .arg(format!("--data-root={}", path("docker-data")))
            .arg(format!("--exec-root={}", path("docker-exec")))
            .arg(format!("--pidfile={}", path("docker-pid")))
            .arg(format!("--host=unix://{}", path("docker.sock")));
        let docker = Self {
            socket: directory.join("docker.sock"),
            daemon: Running::start(&mut command),
        };
        eventually("docker", || docker.output(&["version"]).status.success());
        docker.load(directory);
        docker
    }

    fn load(&self, directory: &Path) {
        let images = directory.join("images");
        let made = command("sim").arg("images").arg(&images).status();
        assert!(made.unwrap().success());
        let pause = images.join("pause-amd64_3.0.tar");
        self.run(&["load", "--input", pause.to_str().unwrap()]);
    }

    /// Its socket.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn output(&self, arguments: &[&str]) -> Output {
        Command::new("docker")
            .env("DOCKER_HOST", self.endpoint())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Runs `docker` with these arguments, which must succeed. Returns its output.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(
            output.status.success(),
            "docker {arguments:?}: {}",
            said(&output)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The ids of docker's containers for a container of a pod, running or not.
    pub fn containers(&self, pod: &str, container: &str) -> Vec<String> {
        let pod = format!("label=io.kubernetes.pod.name={pod}");
        let container = format!("label=io.kubernetes.container.name={container}");
        let filters = ["--filter", &pod, "--filter", &container];
        let found = self.run(&[&["ps", "--all", "--quiet", "--no-trunc"], &filters[..]].concat());
        found.lines().map(str::to_owned).collect()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It ends its containers only if it is not killed.
        self.daemon.stop();
    }
}
