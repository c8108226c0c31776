//! calicoctl: `node status` and `version`.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::program::usage;

/// The most calico/node may answer.
const ANSWER_LIMIT: u64 = 1 << 20;

/// Runs one command.
///
/// # Errors
/// A command it does not know, or a calico/node that answers nonsense.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["version"] => {
            println!("Version:      v1.6.1 (appliance test stand-in; not the real calicoctl)");
            Ok(ExitCode::SUCCESS)
        }
        ["node", "status"] => status(),
        _ => Err(usage(format!(
            "the stand-in takes `node status` and `version`, not {:?}",
            words.join(" ")
        ))),
    }
}

fn status() -> Result<ExitCode> {
    let Ok(stream) = UnixStream::connect(super::socket()) else {
        println!("Calico process is not running.");
        return Ok(ExitCode::FAILURE);
    };
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut answer = String::new();
    stream.take(ANSWER_LIMIT).read_to_string(&mut answer)?;
    let state: Value = serde_json::from_str(&answer).context("calico/node's answer")?;
    println!("Calico process is running.\n\nIPv4 BGP status");
    let peers = state["peers"].as_array().map_or(&[][..], Vec::as_slice);
    if peers.is_empty() {
        println!("No IPv4 peers found.");
    } else {
        print!("{}", table(peers));
    }
    println!("\nIPv6 BGP status\nNo IPv6 peers found.");
    Ok(ExitCode::SUCCESS)
}

/// The stand-in speaks no BGP, and says so where the real one tells the state.
fn table(peers: &[Value]) -> String {
    let line = "+-----------------+-------------------+---------+----------+----------+\n";
    let head = "|  PEER ADDRESS   |     PEER TYPE     |  STATE  |  SINCE   |   INFO   |\n";
    let rows: String = peers
        .iter()
        .map(|peer| {
            let address = peer.as_str().unwrap_or("?");
            format!("| {address:<15} | node-to-node mesh | unknown |          | stand-in |\n")
        })
        .collect();
    format!("{line}{head}{line}{rows}{line}")
}
