//! The programs that listen at TCP ports.

use std::collections::BTreeMap;

use procfs::net::{TcpNetEntries, TcpState};
use procfs::{FromBufReadSI, current_system_info};

use super::{is_there, names, text};
use crate::paths;
use crate::preflight::facts::Listener;
use crate::sys::root::Root;

/// How the link of a file descriptor that is a socket begins.
const SOCKET: &str = "socket:[";

/// Reads the kernel's lists of sockets, and looks for the process of each that listens.
pub fn read(root: &Root) -> Vec<Listener> {
    let sockets: BTreeMap<u64, u16> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| text(root, path))
        .flat_map(|table| listening(&table))
        .collect();
    let mut programs = match sockets.is_empty() {
        true => BTreeMap::new(),
        false => programs(root, &sockets),
    };
    sockets
        .into_iter()
        .map(|(socket, port)| {
            let (program, is_ours) = programs.remove(&socket).unwrap_or_default();
            Listener {
                port,
                program,
                is_ours,
            }
        })
        .collect()
}

/// The sockets of a table that listen, each with its port.
fn listening(table: &str) -> Vec<(u64, u16)> {
    let entries = TcpNetEntries::from_buf_read(table.as_bytes(), current_system_info());
    let entries = entries.map_or_else(
        |error| {
            log::debug!("/proc/net/tcp: {error}");
            Vec::new()
        },
        |TcpNetEntries(entries)| entries,
    );
    let listening = entries
        .into_iter()
        .filter(|entry| entry.state == TcpState::Listen);
    listening
        .map(|entry| (entry.inode, entry.local_address.port()))
        .collect()
}

/// The program of each socket, and whether it is one of this appliance.
fn programs(root: &Root, sockets: &BTreeMap<u64, u16>) -> BTreeMap<u64, (String, bool)> {
    let mut found = BTreeMap::new();
    let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    for process in names(root, "/proc").into_iter().filter(is_number) {
        let descriptors = format!("/proc/{process}/fd");
        for descriptor in names(root, &descriptors) {
            // Any process may have ended since.
            let link = root.link(&format!("{descriptors}/{descriptor}"));
            let link = link.ok().flatten().unwrap_or_default();
            let Some(socket) = link.to_str().and_then(|link| link.strip_prefix(SOCKET)) else {
                continue;
            };
            let socket = socket.trim_end_matches(']').parse().unwrap_or_default();
            if sockets.contains_key(&socket) {
                let name = text(root, &format!("/proc/{process}/comm")).unwrap_or_default();
                let program = format!("{}, process {process}", name.trim());
                found.insert(socket, (program, is_ours(root, &process)));
            }
        }
    }
    found
}

/// Whether the process runs a program of the bundle, this program, or a container of a node.
fn is_ours(root: &Root, process: &str) -> bool {
    let link = root.link(&format!("/proc/{process}/exe"));
    let program = link.ok().flatten().unwrap_or_default();
    let program = program.to_string_lossy();
    let is_unpacked = program.starts_with(&format!("{}/", paths::BUNDLES));
    // The kernel adds a word if the file was replaced.
    let is_this = program.trim_end_matches(" (deleted)") == paths::PROGRAM;
    is_unpacked || is_this || is_container(root, process)
}

/// Whether it runs in a container on a machine that has a node: Calico listens there.
fn is_container(root: &Root, process: &str) -> bool {
    let groups = text(root, &format!("/proc/{process}/cgroup")).unwrap_or_default();
    let is_inside = ["docker", "kubepods"]
        .iter()
        .any(|name| groups.contains(name));
    is_inside && is_there(root, &paths::unit("kube-calico.service"))
}
