//! Asks BIRD, the BGP daemon in calico/node, for its peers, with the same request at the same
//! socket as `calicoctl node status`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The size limit of an answer, in bytes. A thousand peers take less.
const MOST: u64 = 1024 * 1024;
/// The names of Calico's BGP sessions in BIRD, and the names that `calicoctl` shows.
const KINDS: [(&str, &str); 3] = [
    ("Mesh_", "node-to-node mesh"),
    ("Node_", "node specific"),
    ("Global_", "global"),
];
/// How BIRD describes a session that works.
pub const ESTABLISHED: &str = "Established";

/// A BGP session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The address of the other side.
    pub address: String,
    /// Why there is a session: `node-to-node mesh`, `node specific` or `global`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its state in BIRD: `up`, `start`, `down`.
    pub state: String,
    /// The start of this state: a time of today, or a date.
    pub since: String,
    /// The state of BGP and the error, if any: `Established`, `Active Socket: Connection refused`.
    pub info: String,
}

impl Peer {
    /// Whether routes are exchanged.
    pub fn is_established(&self) -> bool {
        self.info == ESTABLISHED
    }
}

/// All BGP peers of BIRD at `socket`; `None` if no BIRD listens there.
pub fn ask(socket: &Path) -> Result<Option<Vec<Peer>>> {
    let Ok(mut stream) = UnixStream::connect(socket) else {
        return Ok(None);
    };
    let mut ask = || {
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        stream.write_all(b"show protocols\n")?;
        peers(BufReader::new((&stream).take(MOST)))
    };
    ask().map(Some).with_context(|| {
        format!(
            "cannot list the BGP peers from BIRD at {}; see `docker logs calico-node`",
            socket.display()
        )
    })
}

/// Parses BIRD's answer. Each line begins with a code and `-`, or with a blank if it has the same
/// code as the line before. A code and a blank end the answer.
fn peers(answer: impl BufRead) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for line in answer.lines() {
        let line = line?;
        let (code, rest) = match line.strip_prefix(' ') {
            Some(rest) => ("", rest),
            None => line.split_at_checked(5).unwrap_or((line.as_str(), "")),
        };
        match code.trim_end_matches(['-', ' ']) {
            "0000" => return Ok(peers),
            "0001" | "2002" => {}
            "" | "1002" => peers.extend(peer(rest)),
            _ => bail!("unexpected answer {line:?}"),
        }
    }
    bail!("the answer ends without its last line (code 0000)")
}

/// Parses a line of the table: name, protocol, table, state, since, and further information.
fn peer(line: &str) -> Option<Peer> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, "BGP", _table, state, since, info @ ..] = words.as_slice() else {
        return None;
    };
    let (address, kind) = KINDS
        .iter()
        .find_map(|(prefix, kind)| Some((name.strip_prefix(prefix)?, *kind)))?;
    Some(Peer {
        address: address.replace('_', "."),
        kind,
        state: (*state).to_owned(),
        since: (*since).to_owned(),
        info: info.join(" "),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    const ANSWER: &str = "0001 BIRD 1.6.8 ready.\n\
        2002-name     proto    table    state  since       info\n\
        1002-static1  Static   master   up     13:24:10    \n \
        kernel1  Kernel   master   up     13:24:10    \n \
        device1  Device   master   up     13:24:10    \n \
        Mesh_192_168_1_103 BGP      master   up     13:24:30    Established   \n \
        Mesh_192_168_1_101 BGP      master   start  2018-01-02  Active        Socket: Connection refused\n \
        Global_10_0_0_1 BGP      master   down   13:25:00    Idle\n\
        0000 \n";

    #[test]
    fn the_table_of_calicoctl_comes_from_birds_answer() {
        let found = peers(ANSWER.as_bytes()).unwrap();
        let told: Vec<String> = found
            .iter()
            .map(|p| {
                format!(
                    "{}|{}|{}|{}|{}",
                    p.address, p.kind, p.state, p.since, p.info
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "192.168.1.103|node-to-node mesh|up|13:24:30|Established",
                "192.168.1.101|node-to-node mesh|start|2018-01-02|Active Socket: Connection refused",
                "10.0.0.1|global|down|13:25:00|Idle",
            ]
        );
        assert!(found[0].is_established() && !found[1].is_established());
    }

    #[test]
    fn an_answer_that_is_cut_or_strange_is_an_error() {
        assert!(peers(&b"0001 BIRD 1.6.8 ready.\n"[..]).is_err());
        let refused = peers(&b"0001 BIRD ready.\n9001 syntax error\n"[..]).unwrap_err();
        assert!(
            refused.to_string().contains("9001 syntax error"),
            "{refused}"
        );
    }

    #[test]
    fn bird_is_asked_at_its_socket_and_need_not_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bird.ctl");
        assert_eq!(ask(&socket).unwrap(), None);
        let listener = UnixListener::bind(&socket).unwrap();
        let bird = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 15];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(ANSWER.as_bytes()).unwrap();
            question
        });
        assert_eq!(ask(&socket).unwrap().unwrap().len(), 3);
        assert_eq!(&bird.join().unwrap(), b"show protocols\n");
    }
}
