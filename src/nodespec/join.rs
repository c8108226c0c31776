//! How workers join: the token, how long it is valid, how often it may be used, and the port.

use std::fmt;
use std::time::Duration;

use super::NodeSpec;
use super::resolver::Resolver;
use super::settings::{JoinSettings, SecretText};
use super::value::{Origin, Sourced};
use crate::language::{message, tr, translated};
use crate::nodespec::ports;
use crate::nodespec::token::Token;

/// How long a token from user-data is valid by default.
const DEFAULT_TTL: &str = "24h";

/// How workers join the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinSpec {
    /// The join token: a worker and the master prove to each other that they know it.
    pub token: Option<Sourced<Token>>,
    /// How long the master accepts the token, from the first time it sees it.
    pub ttl: Sourced<Ttl>,
    /// How many workers may join with the token; any number by default.
    pub uses: Option<Sourced<u32>>,
    /// The TCP port of the join service. The next port is for renewals.
    pub port: Sourced<u16>,
}

impl JoinSpec {
    /// The TCP port at which nodes renew their certificates.
    pub fn renew_port(&self) -> u16 {
        self.port.value + 1
    }
}

/// How long a token is valid; `None` means for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(pub Option<Duration>);

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ttl) => humantime::format_duration(ttl).fmt(f),
            None => f.write_str(&tr!("never expires")),
        }
    }
}

impl std::str::FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Ttl, String> {
        const EXPECTED: &str = message!("expected a time such as 24h or 30m, or never");
        const MOST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
        if text == "never" {
            return Ok(Ttl(None));
        }
        let ttl = humantime::parse_duration(text).map_err(|_| translated(EXPECTED))?;
        if ttl < Duration::from_secs(60) || ttl > MOST {
            return Err(tr!(
                "expected at least a minute and at most ten years, or never"
            ));
        }
        Ok(Ttl(Some(ttl)))
    }
}

impl Resolver<'_> {
    pub(super) fn join(&mut self) -> Option<JoinSpec> {
        let token =
            match self.join_said("token", |join| join.token.as_ref().map(SecretText::expose)) {
                // Unlike other errors, this one must not quote the text.
                Some(said) => match said.value.parse::<Token>() {
                    Ok(token) => Some(Sourced::new(token, said.origin)),
                    Err(why) => {
                        self.problems.push(format!("{}: {why}", said.origin));
                        return None;
                    }
                },
                None => None,
            };
        let or = |said: Option<Sourced<String>>, default: &str| {
            said.unwrap_or_else(|| Sourced::new(default.to_owned(), Origin::Default))
        };
        let ttl = or(
            self.join_said("ttl", |join| join.ttl.as_deref()),
            DEFAULT_TTL,
        );
        let ttl = self.parsed(ttl, str::parse);
        let uses = match self.join_said("uses", |join| join.uses.as_deref()) {
            Some(said) => Some(self.parsed(said, parse_uses)?),
            None => None,
        };
        let port = or(
            self.join_said("port", |join| join.port.as_deref()),
            &ports::JOIN.to_string(),
        );
        let port = self.parsed(port, parse_port);
        Some(JoinSpec {
            token,
            ttl: ttl?,
            uses,
            port: port?,
        })
    }

    /// The strongest layer's value of one key of the section `join`.
    fn join_said(
        &self,
        key: &str,
        pick: impl Fn(&JoinSettings) -> Option<&str>,
    ) -> Option<Sourced<String>> {
        let mut layers = self.layers.iter();
        layers.find_map(|layer| {
            let value = pick(layer.settings.join.as_ref()?)?;
            let origin = layer.origin(&format!("join.{key}"));
            Some(Sourced::new(value.to_owned(), origin))
        })
    }

    /// The balancer and the join service cannot share a port of a master.
    pub(super) fn check_ports(&mut self, spec: &NodeSpec) {
        let balancer = &spec.cluster.balancer_port;
        let join = [*spec.join.port, spec.join.renew_port()];
        if spec.has_several_masters() && join.contains(balancer) {
            let why = &tr!(
                "the join service uses this port (`join.port` and the next one); choose another"
            );
            self.refuse(&balancer.origin, &balancer.to_string(), why);
        }
    }

    /// A worker must know its master's address, and must not have the same address itself.
    pub(super) fn check_master(&mut self, spec: &NodeSpec) {
        if spec.role.is_master() {
            return;
        }
        let master = &spec.cluster.master;
        let masters = &spec.cluster.masters;
        if let Some(same) = masters
            .iter()
            .find(|master| master.address == *spec.address)
        {
            self.problems.push(tr!("this worker's address {} ({}) is also the address of the master {} ({}); give each \
                 its own", *spec.address, spec.address.origin, same.name, masters.origin));
            return;
        }
        match master {
            None => self.problems.push(tr!("a worker needs the address of its master; add `--set master=ADDRESS`, or put the \
                 master into the inventory (role worker is from {})", spec.role.origin)),
            Some(master) if master.value == *spec.address => self.problems.push(tr!("this worker's address {} ({}) is also the master's address ({}); give each its own", *spec.address, spec.address.origin, master.origin)),
            Some(_) => {}
        }
    }
}

fn parse_uses(text: &str) -> Result<u32, String> {
    let uses = text.parse().ok().filter(|&uses| uses > 0);
    uses.ok_or_else(|| tr!("expected a number of nodes, at least 1"))
}

/// A port that no other component of a node uses.
pub(super) fn own_port(text: &str) -> Result<u16, String> {
    let port: u16 = text
        .parse()
        .ok()
        .filter(|port| (1024..=65534).contains(port))
        .ok_or_else(|| tr!("expected a port between 1024 and 65534"))?;
    refuse_taken(port)?;
    Ok(port)
}

fn refuse_taken(port: u16) -> Result<(), String> {
    if ports::is_taken(port) {
        return Err(tr!(
            "another component of the node uses port {port}; choose a free one",
            port
        ));
    }
    Ok(())
}

fn parse_port(text: &str) -> Result<u16, String> {
    let port = own_port(text)?;
    refuse_taken(port + 1).map_err(|why| tr!("{why} (renewals use the next port)", why))?;
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_join_service_has_two_ports_that_nobody_else_has() {
        assert_eq!(parse_port(&ports::JOIN.to_string()), Ok(ports::JOIN));
        assert_eq!(parse_port("65534"), Ok(65534));
        for bad in ["", "1023", "65535", "6443", "6442", "2379"] {
            assert!(parse_port(bad).is_err(), "{bad:?}");
        }
        assert_eq!(own_port("6440"), Ok(6440));
    }
}
