//! Whether the rules of a machine accept what a node needs: the rules of iptables and nftables as data, and a walk
//! through them with one packet. A rule that looks at something this program does not know, such as an address
//! elsewhere, makes the answer unclear, never wrong. Pure.

use core::net::Ipv4Addr;
use std::cell::Cell;
use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use crate::nodespec::ports::Traffic;

pub mod iptables;
pub mod nft;
#[cfg(test)]
mod tests;

/// How deep chains call each other. The kernel allows 16.
const DEPTH: u8 = 16;
/// How many rules one packet meets, before the answer is unclear.
const RULES: u32 = 100_000;

/// The first packet of a connection that another machine opens to this node.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Its protocol and port. Of a range of ports, all are asked for at once.
    pub traffic: Traffic,
    /// The address of the node, if it is known.
    pub to: Option<Ipv4Addr>,
}

/// Whether a rule is about the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    Maybe,
}

impl Fit {
    /// The opposite, if `not`.
    fn turned(self, not: bool) -> Fit {
        match (self, not) {
            (Fit::Yes, true) => Fit::No,
            (Fit::No, true) => Fit::Yes,
            (fit, _) => fit,
        }
    }
}

/// One thing that a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The protocol is one of these numbers, or `not`.
    Protocol(Vec<u8>, bool),
    /// The port of the destination is in one of these ranges, or `not`.
    Port(Vec<(u16, u16)>, bool),
    /// The destination is in one of these ranges, or `not`.
    To(Vec<Ipv4Net>, bool),
    /// Every such packet fits.
    Always,
    /// No such packet fits.
    Never,
    /// It is not known whether it fits.
    Unknown,
}

impl Match {
    /// Always or never.
    fn known(fits: bool) -> Match {
        if fits { Match::Always } else { Match::Never }
    }

    fn fit(&self, packet: &Packet) -> Fit {
        match self {
            Match::Always => Fit::Yes,
            Match::Never => Fit::No,
            Match::Unknown => Fit::Maybe,
            Match::Protocol(numbers, not) => match packet.traffic.protocol() {
                None => Fit::Maybe,
                Some(own) if numbers.contains(&own) => Fit::Yes.turned(*not),
                Some(_) => Fit::No.turned(*not),
            },
            Match::Port(ranges, not) => match packet.traffic.ports() {
                None => Fit::No,
                Some((first, last)) => {
                    let holds = |(from, to): &(u16, u16)| *from <= first && last <= *to;
                    let meets = |(from, to): &(u16, u16)| *from <= last && first <= *to;
                    of(ranges.iter().any(holds), ranges.iter().any(meets)).turned(*not)
                }
            },
            Match::To(ranges, not) => match packet.to {
                None => Fit::Maybe,
                Some(own) => {
                    let holds = ranges.iter().any(|range| range.contains(&own));
                    of(holds, holds).turned(*not)
                }
            },
        }
    }
}

fn of(holds: bool, meets: bool) -> Fit {
    match (holds, meets) {
        (true, _) => Fit::Yes,
        (false, true) => Fit::Maybe,
        (false, false) => Fit::No,
    }
}

/// What a rule does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It lets it pass.
    Accept,
    /// It drops or rejects it.
    Drop,
    /// Another chain decides, and then the next rule.
    Jump(String),
    /// Another chain decides instead of this one.
    Goto(String),
    /// The next rule of the chain that called this one decides.
    Return,
    /// The next rule decides.
    Continue,
    /// It is not known.
    Unknown,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it looks at: all must fit.
    pub matches: Vec<Match>,
    /// What it does.
    pub verdict: Verdict,
    /// What messages call it.
    pub name: String,
}

impl Rule {
    fn fit(&self, packet: &Packet) -> Fit {
        let mut all = self.matches.iter().map(|one| one.fit(packet));
        all.try_fold(Fit::Yes, |fit, one| match (fit, one) {
            (_, Fit::No) => None,
            (Fit::Yes, Fit::Yes) => Some(Fit::Yes),
            _ => Some(Fit::Maybe),
        })
        .unwrap_or(Fit::No)
    }
}

/// A place in the kernel where rules decide about packets to this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The chain where it begins.
    pub chain: String,
    /// Whether packets are dropped that no rule decides about.
    pub drops: bool,
    /// What messages call that.
    pub policy: String,
    /// The rules of every chain.
    pub chains: BTreeMap<String, Vec<Rule>>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It passes.
    Accepted,
    /// This rule drops it.
    Dropped(String),
    /// It is not known whether this rule drops it.
    Unclear(String),
}

/// What becomes of the packet, which has to pass all hooks.
pub fn answer(hooks: &[Hook], packet: &Packet) -> Answer {
    let mut unclear = None;
    for hook in hooks {
        match hook.answer(packet) {
            Answer::Accepted => {}
            Answer::Unclear(rule) => drop(unclear.get_or_insert(rule)),
            dropped @ Answer::Dropped(_) => return dropped,
        }
    }
    unclear.map_or(Answer::Accepted, Answer::Unclear)
}

/// What may become of a packet in a chain.
#[derive(Default)]
struct Outcome<'a> {
    accepts: bool,
    /// The first rule that may drop it.
    drops: Option<&'a str>,
    /// Whether the chain may not decide.
    ends: bool,
}

impl<'a> Outcome<'a> {
    fn unknown(rule: &'a str) -> Outcome<'a> {
        Outcome {
            accepts: true,
            drops: Some(rule),
            ends: true,
        }
    }

    fn take(&mut self, other: &Outcome<'a>) {
        self.accepts |= other.accepts;
        self.drops = self.drops.or(other.drops);
    }
}

impl Hook {
    fn answer(&self, packet: &Packet) -> Answer {
        let left = Cell::new(RULES);
        let mut outcome = self.walk(&self.chain, packet, DEPTH, &left);
        if outcome.ends {
            match self.drops {
                true => outcome.drops = outcome.drops.or(Some(&self.policy)),
                false => outcome.accepts = true,
            }
        }
        match (outcome.drops, outcome.accepts) {
            (None, _) => Answer::Accepted,
            (Some(rule), false) => Answer::Dropped(rule.to_owned()),
            (Some(rule), true) => Answer::Unclear(rule.to_owned()),
        }
    }

    fn walk(&self, chain: &str, packet: &Packet, depth: u8, left: &Cell<u32>) -> Outcome<'_> {
        let mut outcome = Outcome::default();
        let rules = self.chains.get(chain).map_or(&[][..], Vec::as_slice);
        for rule in rules {
            let fit = rule.fit(packet);
            if fit == Fit::No {
                continue;
            }
            left.set(left.get().saturating_sub(1));
            if depth == 0 || left.get() == 0 {
                outcome.take(&Outcome::unknown(&rule.name));
                outcome.ends = true;
                return outcome;
            }
            let (own, decides) = self.rule(rule, packet, depth, left);
            outcome.take(&own);
            // A chain that was gone to, and does not decide, ends this one, too.
            outcome.ends |= own.ends;
            if decides && fit == Fit::Yes {
                return outcome;
            }
        }
        outcome.ends = true;
        outcome
    }

    /// What may become of a packet that fits the rule, and whether no rule after it is asked.
    fn rule<'a>(
        &'a self,
        rule: &'a Rule,
        packet: &Packet,
        depth: u8,
        left: &Cell<u32>,
    ) -> (Outcome<'a>, bool) {
        let mut outcome = Outcome::default();
        match &rule.verdict {
            Verdict::Accept => outcome.accepts = true,
            Verdict::Drop => outcome.drops = Some(&rule.name),
            Verdict::Return => outcome.ends = true,
            Verdict::Continue => return (outcome, false),
            Verdict::Unknown => return (Outcome::unknown(&rule.name), false),
            Verdict::Goto(chain) => return (self.walk(chain, packet, depth - 1, left), true),
            Verdict::Jump(chain) => {
                outcome = self.walk(chain, packet, depth - 1, left);
                let decides = !outcome.ends;
                outcome.ends = false;
                return (outcome, decides);
            }
        }
        (outcome, true)
    }
}
