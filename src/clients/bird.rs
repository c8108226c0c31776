//! Asks BIRD, the BGP daemon in calico/node, for its peers, with the same request at the same
//! socket as `calicoctl node status`, and for its time.

use core::net::Ipv4Addr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use schemars::JsonSchema;
use serde::Serialize;
use time::format_description::parse_borrowed;
use time::{Date, PrimitiveDateTime, Time};

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
/// How BIRD begins the lines of its status with the times.
const NOW: &str = "Current server time is ";
const BOOT: &str = "Last reboot on ";
/// BIRD's times. It writes the time of day of the last 20 hours, and the date of older times.
const TIME_OF_DAY: &str = "[hour]:[minute]:[second]";
const DATE: &str = "[year]-[month]-[day]";
const MOST_OF_TODAY: time::Duration = time::Duration::hours(20);
/// BIRD ends a session with these errors if one side does not accept the other's settings, such as
/// its AS number. It starts again and again, so the session never stays in a state for long.
const REFUSALS: [&str; 9] = [
    "Invalid OPEN message",
    "Unsupported version number",
    "Bad peer AS",
    "Bad BGP identifier",
    "Unsupported optional parameter",
    "Authentication failure",
    "Unacceptable hold time",
    "Required capability missing",
    "No supported AFI/SAFI",
];

/// BIRD's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bird {
    /// Its BGP peers.
    pub peers: Vec<Peer>,
    /// BIRD's time, and the time when it started. It writes all its times in one time zone.
    pub times: Option<Times>,
}

/// Two times of BIRD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The time of its answer.
    pub now: PrimitiveDateTime,
    /// The time when it started.
    pub boot: PrimitiveDateTime,
}

/// A BGP session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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

    /// Whether one side does not accept the settings of the other.
    pub fn is_refused(&self) -> bool {
        REFUSALS.iter().any(|error| self.info.ends_with(error))
    }

    /// How long the session had its state at the time `now`; `None` if that is unknown.
    pub fn age(&self, now: PrimitiveDateTime) -> Option<time::Duration> {
        if let Ok(date) = Date::parse(&self.since, &parse_borrowed::<2>(DATE).ok()?) {
            return Some(now - date.midnight());
        }
        let time = Time::parse(&self.since, &parse_borrowed::<2>(TIME_OF_DAY).ok()?).ok()?;
        let age = now - now.replace_time(time);
        let age = if age.is_negative() {
            age + time::Duration::DAY
        } else {
            age
        };
        // An older time has a date, so this one is in the future: the clock was set back.
        Some(if age > MOST_OF_TODAY {
            time::Duration::ZERO
        } else {
            age
        })
    }
}

/// BIRD at `socket`; `None` if no BIRD listens there.
pub fn ask(socket: &Path) -> Result<Option<Bird>> {
    let Ok(stream) = UnixStream::connect(socket) else {
        return Ok(None);
    };
    let ask = || -> Result<Bird> {
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut answers = BufReader::new((&stream).take(MOST));
        (&stream).write_all(b"show protocols\n")?;
        let peers = answer(&mut answers)?
            .iter()
            .filter_map(|line| peer(line))
            .collect();
        (&stream).write_all(b"show status\n")?;
        Ok(Bird {
            peers,
            times: times(&answer(&mut answers)?),
        })
    };
    ask().map(Some).with_context(|| {
        format!(
            "cannot list the BGP peers from BIRD at {}; see `journalctl -u kube-calico`",
            socket.display()
        )
    })
}

/// The lines of BIRD's answer to one request. Each line begins with a code and `-`, or with a blank
/// if it has the same code as the line before. A code and a blank end the answer.
fn answer(lines: &mut impl BufRead) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for line in lines.lines() {
        let line = line?;
        let (code, rest) = match line.strip_prefix(' ') {
            Some(rest) => ("", rest),
            None => line.split_at_checked(5).unwrap_or((line.as_str(), "")),
        };
        match code.trim_end_matches(['-', ' ']) {
            // The end of the table, and of the status.
            "0000" | "0013" => return Ok(said),
            // The greeting, the head of the table, BIRD's version.
            "0001" | "2002" | "1000" => {}
            "" | "1002" | "1011" | "0024" => said.push(rest.to_owned()),
            _ => bail!("unexpected answer {line:?}"),
        }
    }
    bail!("the answer ends without its last line (code 0000 or 0013)")
}

/// The times in BIRD's status.
fn times(status: &[String]) -> Option<Times> {
    let format = format!("{DATE} {TIME_OF_DAY}");
    let format = parse_borrowed::<2>(&format).ok()?;
    let time = |prefix: &str| {
        let text = status.iter().find_map(|line| line.strip_prefix(prefix))?;
        PrimitiveDateTime::parse(text.trim(), &format).ok()
    };
    Some(Times {
        now: time(NOW)?,
        boot: time(BOOT)?,
    })
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
    let address: Ipv4Addr = address.replace('_', ".").parse().ok()?;
    Some(Peer {
        address: address.to_string(),
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

    const STATUS: &str = "1000-BIRD 1.6.8\n\
        1011-Router ID is 192.168.1.102\n Current server time is 2018-01-03 13:25:30\n \
        Last reboot on 2018-01-01 07:00:00\n Last reconfiguration on 2018-01-03 13:24:30\n\
        0013 Daemon is up and running\n";

    fn peers(mut text: &[u8]) -> Result<Vec<Peer>> {
        Ok(answer(&mut text)?
            .iter()
            .filter_map(|line| peer(line))
            .collect())
    }

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
    fn the_age_of_a_session_comes_from_birds_own_clock() {
        let times = times(&answer(&mut STATUS.as_bytes()).unwrap()).unwrap();
        assert_eq!((times.now - times.boot).whole_hours(), 54);
        let age = |since: &str| {
            let mut peer = peers(ANSWER.as_bytes()).unwrap().remove(1);
            peer.since = since.to_owned();
            peer.age(times.now).map(time::Duration::whole_seconds)
        };
        assert_eq!(age("13:25:30"), Some(0));
        assert_eq!(age("13:24:30"), Some(60));
        // Yesterday.
        assert_eq!(age("23:25:30"), Some(14 * 3600));
        // The clock was set back.
        assert_eq!(age("13:25:31"), Some(0));
        assert_eq!(age("2018-01-02"), Some(37 * 3600 + 25 * 60 + 30));
        assert_eq!(age("later"), None);
    }

    #[test]
    fn without_its_times_bird_still_has_peers() {
        let said = answer(&mut &b"1000-BIRD 1.6.8\n0013 Daemon is up and running\n"[..]).unwrap();
        assert_eq!(times(&said), None);
    }

    #[test]
    fn settings_that_do_not_fit_are_told_from_a_network_that_does_not_answer() {
        let refused = |info: &str| {
            let mut peer = peers(ANSWER.as_bytes()).unwrap().remove(1);
            peer.info = info.to_owned();
            peer.is_refused()
        };
        assert!(refused("Idle Received: Bad peer AS") && refused("BGP Error: Bad peer AS"));
        assert!(!refused("Active Socket: Connection refused"));
        assert!(!refused("Idle Received: Administrative shutdown"));
    }

    #[test]
    fn bird_is_asked_at_its_socket_and_need_not_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bird.ctl");
        assert_eq!(ask(&socket).unwrap(), None);
        let listener = UnixListener::bind(&socket).unwrap();
        let bird = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for (expected, answer) in [("show protocols\n", ANSWER), ("show status\n", STATUS)] {
                let mut question = vec![0; expected.len()];
                stream.read_exact(&mut question).unwrap();
                assert_eq!(question, expected.as_bytes());
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let found = ask(&socket).unwrap().unwrap();
        assert_eq!(found.peers.len(), 3);
        assert!(found.times.is_some());
        bird.join().unwrap();
    }
}
