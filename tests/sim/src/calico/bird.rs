//! BIRD 1.6: its configuration, its process and its control socket.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

/// How long BIRD may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The routes of other nodes that BIRD gives to the kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Direct {
    /// All: no tunnel.
    All,
    /// Those of nodes in this network; the others go through the tunnel.
    Within(Ipv4Net),
    /// None: all go through the tunnel.
    None,
}

/// The configuration of BIRD on a node.
#[derive(Debug, PartialEq)]
pub struct Routing {
    /// The node's address, which is also its router ID.
    pub address: Ipv4Addr,
    /// The node's autonomous system.
    pub system: u32,
    /// The node's blocks, which it announces to the peers.
    pub blocks: Vec<Ipv4Net>,
    /// The other nodes.
    pub mesh: Vec<Peer>,
    /// Routers that are peers of every node.
    pub global: Vec<Peer>,
    /// The routes for the kernel.
    pub direct: Direct,
    /// Whether a file beside the configuration says which routes it takes (`bird-routes.conf`).
    pub chooses: bool,
}

/// A peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its autonomous system.
    pub system: u32,
}

impl Routing {
    /// The text of BIRD's configuration.
    pub fn configuration(&self) -> String {
        let address = self.address;
        let blocks = self.blocks.iter();
        let statics: String = blocks
            .clone()
            .map(|block| format!("  route {block} blackhole;\n"))
            .collect();
        let own: String = blocks
            .map(|block| format!("  if net = {block} then accept;\n"))
            .collect();
        let kernel = match self.direct {
            Direct::All => "if source = RTS_BGP then accept;".to_owned(),
            Direct::Within(network) => {
                format!("if source = RTS_BGP && bgp_next_hop ~ {network} then accept;")
            }
            Direct::None => String::new(),
        };
        let (include, import) = match self.chooses {
            true => ("include \"bird-routes.conf\";\n", "filter taken"),
            false => ("", "all"),
        };
        let peers = self.peers("Mesh", &self.mesh) + &self.peers("Global", &self.global);
        format!(
            "router id {address};\n\
             log stderr {{ warning, error, fatal, bug }};\n{include}\
             filter own_blocks {{\n{own}  reject;\n}}\n\
             filter to_kernel {{\n  if source = RTS_STATIC then accept;\n  {kernel}\n  reject;\n}}\n\
             protocol kernel {{\n  learn;\n  persist;\n  scan time 2;\n  import all;\n  \
             export filter to_kernel;\n  graceful restart;\n}}\n\
             protocol device {{\n  scan time 2;\n}}\n\
             protocol direct {{\n  interface -\"cali*\", -\"tunl*\", \"*\";\n}}\n\
             protocol static {{\n{statics}}}\n\
             template bgp peers {{\n  local {address} as {};\n  multihop;\n  gateway recursive;\n  \
             import {import};\n  export filter own_blocks;\n  next hop self;\n  add paths on;\n  \
             graceful restart;\n  connect retry time 5;\n  error wait time 2, 10;\n}}\n{peers}",
            self.system
        )
    }

    /// From the names of protocols, calicoctl learns the kind of each peer.
    fn peers(&self, kind: &str, peers: &[Peer]) -> String {
        let others = peers.iter().filter(|peer| peer.address != self.address);
        others
            .map(|peer| {
                let name = peer.address.to_string().replace('.', "_");
                format!(
                    "protocol bgp {kind}_{name} from peers {{\n  neighbor {} as {};\n}}\n",
                    peer.address, peer.system
                )
            })
            .collect()
    }
}

/// BIRD's answer to `command` on its control socket: the lines without their codes, as `birdc`
/// shows them.
///
/// # Errors No BIRD at the socket, or a command that it refuses.
pub fn ask(socket: &Path, command: &str) -> Result<Vec<String>> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("BIRD at {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    lines.next().context("BIRD closed the connection")??;
    writeln!(stream, "{command}")?;
    let mut said = Vec::new();
    for line in lines {
        let line = line?;
        // `1234-text`; ` text` for more with the same code; `1234 text` at the end.
        let Some(code) = line.get(..4).filter(|_| !line.starts_with(' ')) else {
            said.push(line.trim_start().to_owned());
            continue;
        };
        let text = line.get(5..).unwrap_or_default();
        if code >= "8000" {
            bail!("BIRD refuses {command:?}: {text}");
        }
        said.push(text.to_owned());
        if line.as_bytes().get(4) == Some(&b' ') {
            return Ok(said);
        }
    }
    bail!("BIRD closed the connection in the middle of its answer to {command:?}")
}

/// BIRD's process.
pub struct Bird {
    socket: PathBuf,
    configuration: PathBuf,
    /// None before the start and after the end.
    process: Mutex<State>,
}

enum State {
    Waiting,
    Running(Child),
    Ended,
}

impl Bird {
    /// A BIRD that is not started yet.
    pub fn new(socket: PathBuf, configuration: PathBuf) -> Self {
        Self {
            socket,
            configuration,
            process: Mutex::new(State::Waiting),
        }
    }

    /// Starts BIRD, or reloads its configuration.
    ///
    /// # Errors A missing program, or a configuration that BIRD refuses.
    pub fn apply(&self, text: &str) -> Result<()> {
        let old = std::fs::read_to_string(&self.configuration).unwrap_or_default();
        if old != text {
            std::fs::write(&self.configuration, text)
                .with_context(|| self.configuration.display().to_string())?;
        }
        if self.start()? || old == text {
            return Ok(());
        }
        let said = ask(&self.socket, "configure")?;
        eprintln!("BIRD: {}", said.join("; "));
        Ok(())
    }

    /// Starts BIRD if it does not run. Returns whether it did.
    fn start(&self) -> Result<bool> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *process {
            State::Ended => return Ok(true),
            State::Running(child) => match child.try_wait()? {
                None => return Ok(false),
                Some(status) => eprintln!("BIRD ended ({status}), starting it again"),
            },
            State::Waiting => {}
        }
        // The files of a container that was killed.
        let _ = std::fs::remove_file(&self.socket);
        let child = Command::new("bird")
            .arg("-f")
            .arg("-c")
            .arg(&self.configuration)
            .arg("-s")
            .arg(&self.socket)
            .spawn()
            .context("bird (Debian's package bird)")?;
        *process = State::Running(child);
        Ok(true)
    }

    /// Checks whether BIRD answers.
    ///
    /// # Errors The reason if not.
    pub fn check(&self) -> Result<()> {
        ask(&self.socket, "show status").map(|_| ())
    }

    /// Ends BIRD, without a restart.
    pub fn stop(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Running(mut child) = std::mem::replace(&mut *process, State::Ended) else {
            return;
        };
        if let Err(error) = ask(&self.socket, "down") {
            eprintln!("{error:#}");
            // It may have ended by itself.
            let _ = child.kill();
        }
        let _ = child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn configuration(direct: Direct) -> String {
        let peer = |address: &str| Peer {
            address: address.parse().unwrap(),
            system: 64512,
        };
        let routing = Routing {
            address: "192.0.2.1".parse().unwrap(),
            system: 64512,
            blocks: vec!["172.20.0.64/26".parse().unwrap()],
            mesh: vec![peer("192.0.2.1"), peer("192.0.2.2")],
            global: vec![peer("192.0.2.9")],
            direct,
            chooses: true,
        };
        routing.configuration()
    }

    #[test]
    fn a_node_peers_with_all_but_itself_and_tells_its_own_blocks() {
        let text = configuration(Direct::All);
        let peers: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("protocol bgp"))
            .collect();
        assert_eq!(
            peers,
            [
                "protocol bgp Mesh_192_0_2_2 from peers {",
                "protocol bgp Global_192_0_2_9 from peers {",
            ]
        );
        assert!(text.contains("  if net = 172.20.0.64/26 then accept;\n  reject;"));
        assert!(text.contains("if source = RTS_BGP then accept;"));
        assert!(text.contains("  import filter taken;\n  export filter own_blocks;"));
    }

    #[test]
    fn what_goes_through_the_tunnel_is_not_given_to_the_kernel_by_bird() {
        let network = "192.0.2.0/24".parse().unwrap();
        let near = configuration(Direct::Within(network));
        assert!(near.contains("if source = RTS_BGP && bgp_next_hop ~ 192.0.2.0/24 then accept;"));
        assert!(!configuration(Direct::None).contains("RTS_BGP"));
    }
}
