//! Checks of addresses, ranges and names: text in, a checked value out.

use core::net::{IpAddr, Ipv4Addr};
use std::fmt;
use std::str::FromStr;

use ipnet::Ipv4Net;

use super::spelling::narrower;
use crate::digest::Sha256;
use crate::language::tr;

/// The longest DNS label, in bytes (RFC 1035).
const MAX_LABEL: usize = 63;
/// The longest DNS name, in bytes, as Kubernetes counts it.
const MAX_NAME: usize = 253;

/// How a label in punycode begins (RFC 5890).
const PUNYCODE: &str = "xn--";

/// How many characters of a digest make a shortened name unique.
const DIGEST_IN_NAME: usize = 8;

/// Parses an IPv4 range. Its address must be the first of the range.
pub fn cidr(text: &str) -> Result<Ipv4Net, String> {
    let net =
        Ipv4Net::from_str(text).map_err(|_| tr!("expected an IPv4 range such as 172.20.0.0/16"))?;
    if net.network() != net.addr() {
        return Err(tr!(
            "the address is not the first one of its range; did you mean {}?",
            net.trunc()
        ));
    }
    Ok(net)
}

/// Whether the two ranges share an address.
pub fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// An IPv4 address that a node can have.
pub fn node_address(text: &str) -> Result<Ipv4Addr, String> {
    let address = Ipv4Addr::from_str(text)
        .map_err(|_| tr!("expected an IPv4 address such as 192.168.1.102"))?;
    if address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_broadcast()
    {
        return Err(tr!(
            "other nodes cannot reach it; expected an address of a network interface"
        ));
    }
    Ok(address)
}

/// Whether the text has the form of a UUID.
pub fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// Whether the text is an Ethernet address: six pairs of digits, with `:` or `-` between them.
pub fn is_mac(text: &str) -> bool {
    let is_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    text.split([':', '-']).count() == 6 && text.split([':', '-']).all(is_pair)
}

/// A name that all of Kubernetes accepts for a node: DNS labels joined by dots, in lower case.
pub fn dns_name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = label.as_bytes();
        (1..=MAX_LABEL).contains(&bytes.len())
            && bytes.iter().all(|&b| inner(b) || b == b'-')
            && inner(bytes[0])
            && inner(bytes[bytes.len() - 1])
    };
    if text.len() <= MAX_NAME && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    let expected =
        &tr!("expected a DNS name: lower-case letters, digits and `-`, with `.` between labels");
    let fit: Vec<String> = text.split('.').map(as_dns_label).collect();
    if fit.iter().any(String::is_empty) || narrower(text).is_some() {
        return Err(expected.to_owned());
    }
    Err(tr!(
        "{expected}; did you mean {}?",
        format_args!("{:?}", fit.join(".")),
        expected
    ))
}

/// The name of a node in the form that is the same everywhere: in certificates, in `/etc/hosts`, in the
/// inventory, for the kubelet and for Calico. Takes capitals and one dot at the end, as DNS does. Refuses
/// names that some program reads as something else: as an address, or as the characters that punycode stands for.
pub fn node_name(text: &str) -> Result<String, String> {
    let name = host_name(text)?;
    if ends_in_a_number(&name) {
        return Err(tr!(
            "some programs read a name whose last part is a number as an IP address; set another \
             name with `nodeName`"
        ));
    }
    if name.split('.').any(|label| label.starts_with(PUNYCODE)) {
        return Err(tr!(
            "`{PUNYCODE}` stands for other characters (punycode), and the name can look like another \
             one; set another name with `nodeName`",
            PUNYCODE
        ));
    }
    Ok(name)
}

/// The name of any machine in the form of [`node_name`].
pub fn host_name(text: &str) -> Result<String, String> {
    let name = dns_name(&folded(text))?;
    if Ipv4Addr::from_str(&name).is_ok() {
        return Err(tr!(
            "expected a name, but this is an IP address; set another name"
        ));
    }
    Ok(name)
}

/// Whether the last label is a number, decimal or hexadecimal. inet_aton(3) and the URL standard of browsers read
/// `2130706433`, `0x7f000001`, `0177.1` and `127.1` as 127.0.0.1: all their addresses end this way.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_of = |digits: &str, is_digit: fn(&u8) -> bool| digits.bytes().all(|b| is_digit(&b));
    is_of(last, u8::is_ascii_digit)
        || last
            .strip_prefix("0x")
            .is_some_and(|digits| is_of(digits, u8::is_ascii_hexdigit))
}

/// A name in lower case and without the dot at its end: two names that are equal then are one.
pub fn folded(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()
}

/// The name of a node for a host name, which may be any text: its first DNS label in the closest form
/// that Kubernetes takes; empty if nothing is left. Two host names that differ get two names, even if
/// they differ only in what a label has no room or no characters for: then the name ends with a part of
/// the host name's digest. `-` and `_` count as equal.
pub fn as_node_name(hostname: &str) -> String {
    let label = match Ipv4Addr::from_str(hostname) {
        Ok(_) => hostname,
        Err(_) => first_label(hostname),
    };
    let fit = as_dns_label(label);
    let says_all = label.is_ascii() && label.len() <= MAX_LABEL;
    if fit.is_empty() || says_all {
        return fit;
    }
    let digest = Sha256::of(label.as_bytes()).to_string();
    let digest = &digest[..DIGEST_IN_NAME];
    let start = &fit[..fit.len().min(MAX_LABEL - 1 - DIGEST_IN_NAME)];
    format!("{}-{digest}", start.trim_end_matches('-'))
}

/// A host name without its domain.
pub fn first_label(hostname: &str) -> &str {
    hostname.split('.').next().unwrap_or_default()
}

/// The DNS label closest to `text`: in lower case, with `-` for characters that a label cannot have;
/// empty if nothing is left.
fn as_dns_label(text: &str) -> String {
    let fit = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9') => c,
        _ => '-',
    };
    let label: String = text.chars().map(fit).take(MAX_LABEL).collect();
    label.trim_matches('-').to_owned()
}

/// A name or address in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectAltName {
    /// A DNS name.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl SubjectAltName {
    /// Reads either form.
    pub fn parse(text: &str) -> Result<SubjectAltName, String> {
        match IpAddr::from_str(text) {
            Ok(address) => Ok(SubjectAltName::Ip(address)),
            Err(_) => dns_name(text).map(SubjectAltName::Dns),
        }
    }
}

/// The ports that services may open on every node, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl PortRange {
    /// Reads `FIRST-LAST`.
    pub fn parse(text: &str) -> Result<PortRange, String> {
        let expected = &tr!("expected two ports such as 20000-40000, the lower one first");
        let (first, last) = text.split_once('-').ok_or(expected)?;
        let port = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|&port| port > 0)
                .ok_or(expected)
        };
        let range = PortRange {
            first: port(first)?,
            last: port(last)?,
        };
        if range.first > range.last {
            return Err(expected.to_owned());
        }
        Ok(range)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_range_with_host_bits_is_refused_with_the_range_that_was_meant() {
        let error = cidr("172.20.1.0/16").unwrap_err();
        assert!(error.contains("172.20.0.0/16"), "{error}");
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        let (pods, inside) = (
            cidr("172.20.0.0/16").unwrap(),
            cidr("172.20.8.0/24").unwrap(),
        );
        assert!(overlap(&pods, &inside) && overlap(&inside, &pods));
        assert!(!overlap(&pods, &cidr("10.68.0.0/16").unwrap()));
    }

    #[test]
    fn names_that_could_break_a_unit_are_refused() {
        for hostile in [
            "", "a\nb", "50%", "a\"b", "a'b", "$HOME", "a b", "-a", "a-", "A", "a..b", "ä",
        ] {
            assert!(dns_name(hostile).is_err(), "{hostile:?}");
        }
        assert_eq!(
            dns_name("server02.novalocal").unwrap(),
            "server02.novalocal"
        );
    }

    #[test]
    fn a_name_of_a_node_is_one_in_capitals_and_with_a_dot_at_its_end() {
        for text in ["kube-node-b", "Kube-Node-B", "KUBE-NODE-B."] {
            assert_eq!(node_name(text).unwrap(), "kube-node-b");
        }
        let long = "a".repeat(MAX_LABEL + 1);
        for bad in ["kube_node_b", "b..", ".", "10.0.0.1", "\u{fc}", &long] {
            assert!(node_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_that_some_program_reads_as_something_else_is_no_nodes() {
        for bad in [
            "1234",
            "2130706433",
            "0x7f000001",
            "0X7F000001.",
            "0x",
            "127.1",
            "0177.0.0.1",
            "0x7f.0.0.0x1",
            "192.168.1.102.",
            "web.1",
            "xn--bcher-kva",
            "node.XN--bcher-kva.example",
        ] {
            let error = node_name(bad).unwrap_err();
            assert!(
                error.contains("`nodeName`") || error.contains("is an IP address"),
                "{error}"
            );
        }
        for good in ["1a", "1e3", "0x7g", "10.server", "0x1.local", "x--n"] {
            assert_eq!(node_name(good).as_deref(), Ok(good));
        }
        // Other machines may have such names.
        assert_eq!(host_name("XN--bcher-kva").unwrap(), "xn--bcher-kva");
    }

    #[test]
    fn host_names_that_differ_give_names_that_differ() {
        let long = "w".repeat(62);
        let hosts = [
            format!("{long}-1.novalocal"),
            format!("{long}-2.novalocal"),
            format!("{long}w-1"),
            "b\u{fc}cher".to_owned(),
            "b\u{f6}cher".to_owned(),
            "192.168.1.5".to_owned(),
            "192.168.1.6".to_owned(),
            "web_1".to_owned(),
        ];
        let names: Vec<String> = hosts.iter().map(|host| as_node_name(host)).collect();
        for (at, name) in names.iter().enumerate() {
            assert_eq!(node_name(name).as_ref(), Ok(name));
            assert!(!names[..at].contains(name), "{names:?}");
        }
        assert_eq!(names[5..], ["192-168-1-5", "192-168-1-6", "web-1"]);
        // A name that fits stays whole.
        let whole = "w".repeat(MAX_LABEL);
        assert_eq!(as_node_name(&whole), whole);
    }

    #[test]
    fn port_ranges_are_ordered_and_never_zero() {
        for bad in [
            "",
            "20000",
            "40000-20000",
            "0-10",
            "1-70000",
            "1-2-3",
            "a-b",
        ] {
            assert!(PortRange::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            PortRange::parse("20000-40000").unwrap().to_string(),
            "20000-40000"
        );
    }

    #[test]
    fn addresses_no_other_node_can_reach_are_refused() {
        for bad in [
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "fe80::1",
            "192.168.1",
            "server02",
        ] {
            assert!(node_address(bad).is_err(), "{bad:?}");
        }
    }
}
