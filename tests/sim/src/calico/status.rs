//! calicoctl's `node status`: the table of BIRD's peers.

use std::process::ExitCode;

use anyhow::{Context, Result};

use super::bird;

/// The names of BIRD's protocols show the kind of a peer.
const KINDS: [(&str, &str); 3] = [
    ("Mesh_", "node-to-node mesh"),
    ("Node_", "node specific"),
    ("Global_", "global"),
];
const HEAD: [&str; 5] = ["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"];

/// Prints the table; fails if no BIRD runs.
///
/// # Errors An invalid answer of BIRD.
pub fn show() -> Result<ExitCode> {
    let socket = super::socket();
    if std::os::unix::net::UnixStream::connect(&socket).is_err() {
        println!("Calico process is not running.");
        return Ok(ExitCode::FAILURE);
    }
    let lines = bird::ask(&socket, "show protocols").context("Error querying BIRD")?;
    let peers: Vec<[String; 5]> = lines.iter().filter_map(|line| peer(line)).collect();
    println!("Calico process is running.\n\nIPv4 BGP status");
    if peers.is_empty() {
        println!("No IPv4 peers found.");
    } else {
        print!("{}", table(&peers));
    }
    println!("\nIPv6 BGP status\nNo IPv6 peers found.\n");
    Ok(ExitCode::SUCCESS)
}

/// A peer's row, from a line such as `Mesh_192_0_2_2 BGP master up 13:24:30 Established`.
fn peer(line: &str) -> Option<[String; 5]> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let (prefix, kind) = KINDS
        .into_iter()
        .find(|(prefix, _)| name.starts_with(prefix))?;
    let address = name.strip_prefix(prefix)?.replace('_', ".");
    if words.next()? != "BGP" {
        return None;
    }
    words.next()?;
    let (state, since) = (words.next()?, words.next()?);
    let info: Vec<&str> = words.collect();
    let info = info.join(" ");
    Some([
        address,
        kind.into(),
        state.into(),
        since.into(),
        info.trim_end().into(),
    ])
}

fn table(peers: &[[String; 5]]) -> String {
    let width = |column: usize| {
        let cells = peers.iter().map(|row| row[column].len());
        cells.max().unwrap_or_default().max(HEAD[column].len())
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line: String = widths.iter().map(|w| "-".repeat(w + 2) + "+").collect();
    let head: String = HEAD
        .iter()
        .zip(&widths)
        .map(|(name, width)| format!(" {name:^width$} |"))
        .collect();
    let row = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths);
        let cells: String = cells.map(|(c, width)| format!(" {c:<width$} |")).collect();
        format!("|{cells}\n")
    };
    let rows: String = peers.iter().map(row).collect();
    format!("+{line}\n|{head}\n+{line}\n{rows}+{line}\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_table_is_that_of_the_tutorial() {
        let rows = [
            "Mesh_198_51_100_10 BGP      master   up     13:24:30    Established   ",
            "Mesh_192_0_2_1 BGP      master   start  13:24:59    Active        Socket: No route to host",
            "kernel1  Kernel   master   up     13:24:30    ",
        ];
        let peers: Vec<_> = rows.iter().filter_map(|row| peer(row)).collect();
        assert_eq!(
            table(&peers[..1]),
            "+---------------+-------------------+-------+----------+-------------+\n\
             | PEER ADDRESS  |     PEER TYPE     | STATE |  SINCE   |    INFO     |\n\
             +---------------+-------------------+-------+----------+-------------+\n\
             | 198.51.100.10 | node-to-node mesh | up    | 13:24:30 | Established |\n\
             +---------------+-------------------+-------+----------+-------------+\n"
        );
        assert_eq!(peers.len(), 2);
        assert_eq!(peers[1][4], "Active Socket: No route to host");
    }
}
