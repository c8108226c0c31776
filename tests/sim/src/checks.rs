//! Checks of values, with the rules of the real programs.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, bail};
use ipnet::IpNet;

/// A boolean as Go's `strconv.ParseBool` reads it.
pub fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A duration as Go's `time.ParseDuration` reads it: numbers with units, or 0. A negative one
/// counts as no duration.
pub fn duration(value: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = value.trim_start_matches(['-', '+']);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number: f64 = rest[..rest.len() - after.len()].parse().ok()?;
        let (unit, size) = UNITS
            .into_iter()
            .filter(|(unit, _)| after.starts_with(unit))
            .max_by_key(|(unit, _)| unit.len())?;
        seconds += number * size;
        rest = &after[unit.len()..];
    }
    if value.starts_with('-') {
        return Some(Duration::ZERO);
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// A port range `FIRST-LAST` or `FIRST+COUNT`.
///
/// # Errors A range in another form, in the wrong order, or beyond 65535.
pub fn port_range(value: &str) -> Result<RangeInclusive<u16>> {
    let (first, last) = if let Some((first, last)) = value.split_once('-') {
        (number(first)?, number(last)?)
    } else if let Some((first, count)) = value.split_once('+') {
        let first = number(first)?;
        (first, first.saturating_add(number(count)?))
    } else {
        bail!("{value:?} is not a port range: expected FIRST-LAST or FIRST+COUNT");
    };
    match (u16::try_from(first), u16::try_from(last)) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => bail!("{value:?} is not a port range: {first} to {last}"),
    }
}

fn number(text: &str) -> Result<u32> {
    text.trim()
        .parse()
        .map_err(|_| anyhow::anyhow!("{text:?} is not a port number"))
}

/// Checks the range of services' addresses: the real apiserver refuses more than 20 bits of
/// addresses.
///
/// # Errors A range that is too large.
pub fn service_range(range: &IpNet) -> Result<()> {
    if range.max_prefix_len() - range.prefix_len() > 20 {
        bail!("specified --service-cluster-ip-range is too large: {range}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for good in ["0", "1h", "2m30s", "1.5s", "100ms", "-1s", "8760h0m0s"] {
            assert!(duration(good).is_some(), "{good}");
        }
        for bad in ["", "1", "1x", "h", "1h 2m", "-"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(duration("2m30.5s"), Some(Duration::from_millis(150_500)));
    }

    #[test]
    fn port_ranges_are_those_of_the_apiserver() {
        assert_eq!(port_range("20000-40000").unwrap(), 20000..=40000);
        port_range("20000+100").unwrap();
        for bad in ["20000", "40000-20000", "1-70000", "a-b", "20000:40000"] {
            assert!(port_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_service_range_has_at_most_twenty_bits() {
        service_range(&"10.68.0.0/16".parse().unwrap()).unwrap();
        service_range(&"10.64.0.0/12".parse().unwrap()).unwrap();
        assert!(service_range(&"10.0.0.0/8".parse().unwrap()).is_err());
    }
}
