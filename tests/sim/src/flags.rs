//! Parses a command line like pflag, with the list of flags of the v1.9.0 program.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use crate::checks;
use crate::flag_kinds::{Kind, kind, names_file};
use crate::program::usage;

/// A command line that was accepted.
#[derive(Debug)]
pub enum Parsed {
    /// `--version` was given.
    Version,
    /// `--help` was given.
    Help,
    /// Run with these flags.
    Run(Flags),
}

/// The flags on the command line, each with all its values.
#[derive(Debug)]
pub struct Flags {
    known: &'static str,
    values: BTreeMap<String, Vec<String>>,
}

impl Flags {
    /// Parses `arguments`; `known` lists the program's flags, one per line, as `--name`.
    ///
    /// # Errors A usage error for an unknown flag, a value of the wrong type, a missing value or an
    /// argument that is not a flag.
    pub fn parse(known: &'static str, arguments: &[String]) -> Result<Parsed> {
        let mut flags = Self {
            known,
            values: BTreeMap::new(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--help" || argument == "-h" {
                return Ok(Parsed::Help);
            }
            let (name, value) = flags.split(argument)?;
            let value = match value {
                Some(value) => value,
                None if kind(&name) == Kind::Boolean => "true".to_owned(),
                None => rest
                    .next()
                    .cloned()
                    .ok_or_else(|| usage(format!("flag needs an argument: --{name}")))?,
            };
            check(&name, &value)?;
            flags.values.entry(name).or_default().push(value);
        }
        if flags.boolean("version", false) {
            return Ok(Parsed::Version);
        }
        Ok(Parsed::Run(flags))
    }

    /// Splits `--name=value`; only `-v` has a short form in these programs.
    fn split(&self, argument: &str) -> Result<(String, Option<String>)> {
        let Some(flag) = argument
            .strip_prefix("--")
            .or_else(|| argument.strip_prefix('-').filter(|f| f.starts_with('v')))
            .filter(|flag| !flag.is_empty())
        else {
            return Err(if argument.starts_with('-') {
                usage(format!("unknown shorthand flag: {argument}"))
            } else {
                usage(format!("unexpected argument {argument:?}: not a flag"))
            });
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        // The real programs accept `_` instead of `-` in a flag's name.
        let name = name.replace('_', "-");
        if !self.knows(&name) {
            return Err(usage(format!("unknown flag: --{name}")));
        }
        Ok((name, value))
    }

    fn knows(&self, name: &str) -> bool {
        self.known
            .lines()
            .any(|line| line.strip_prefix("--") == Some(name))
    }

    /// The last value of `name`; `None` if it is missing or empty, which the real programs treat
    /// alike.
    pub fn text(&self, name: &str) -> Option<&str> {
        debug_assert!(self.knows(name), "--{name} is not a flag of this program");
        self.values
            .get(name)
            .and_then(|values| values.last())
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether the last value of `name` is empty, for the few flags for which that differs from a
    /// missing flag.
    pub fn is_emptied(&self, name: &str) -> bool {
        let last = self.values.get(name).and_then(|values| values.last());
        last.is_some_and(String::is_empty)
    }

    /// Every value of a flag that may be repeated.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.values
            .get(name)
            .into_iter()
            .flatten()
            .map(String::as_str)
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// The parts of a comma-separated value.
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.text(name)
            .map(|value| value.split(',').map(str::trim).collect())
            .unwrap_or_default()
    }

    /// A boolean flag's value, or `default`.
    pub fn boolean(&self, name: &str, default: bool) -> bool {
        match self.text(name) {
            Some(value) => checks::boolean(value).unwrap_or(default),
            None => default,
        }
    }

    /// A TCP port, or `default`; 0 is returned as it is.
    ///
    /// # Errors A number that is not a port.
    pub fn port(&self, name: &str, default: u16) -> Result<u16> {
        self.text(name).map_or(Ok(default), |value| {
            value
                .parse()
                .with_context(|| format!("--{name}: {value} is not between 0 and 65535"))
        })
    }

    /// A duration, or `default`.
    pub fn duration(&self, name: &str, default: Duration) -> Duration {
        let stated = self.text(name).and_then(checks::duration);
        stated.unwrap_or(default)
    }

    /// An IP address, or `default`.
    ///
    /// # Errors
    /// A usage error if the value is no address.
    pub fn address(&self, name: &str, default: IpAddr) -> Result<IpAddr> {
        self.text(name).map_or(Ok(default), |value| {
            value
                .parse()
                .map_err(|_| invalid(name, value, "failed to parse IP"))
        })
    }

    /// An IP network, if given.
    ///
    /// # Errors
    /// A usage error if the value is no network in CIDR notation.
    pub fn network(&self, name: &str) -> Result<Option<IpNet>> {
        self.text(name)
            .map(|value| {
                value
                    .parse()
                    .map_err(|_| invalid(name, value, "invalid CIDR address"))
            })
            .transpose()
    }

    /// Opens every file that the flags name, except those of the flags in `but`.
    ///
    /// # Errors The first flag whose file cannot be read, with its path.
    pub fn check_files(&self, but: &[&str]) -> Result<()> {
        for (name, values) in &self.values {
            if !names_file(name) || but.contains(&name.as_str()) {
                continue;
            }
            for path in values.iter().filter(|path| !path.is_empty()) {
                check_readable(path).with_context(|| format!("--{name}: {path}"))?;
            }
        }
        Ok(())
    }
}

fn check_readable(path: &str) -> Result<()> {
    if File::open(path)?.metadata()?.is_dir() {
        bail!("is a directory");
    }
    Ok(())
}

fn check(name: &str, value: &str) -> Result<()> {
    let problem = match kind(name) {
        Kind::Boolean if checks::boolean(value).is_none() => "not true or false",
        Kind::Integer if value.parse::<i64>().is_err() => "not a whole number",
        Kind::Duration if checks::duration(value).is_none() => "not a duration such as 1h30m",
        _ => return Ok(()),
    };
    Err(invalid(name, value, problem))
}

/// The usage error for a value that a flag cannot have.
pub fn invalid(name: &str, value: &str, problem: &str) -> anyhow::Error {
    usage(format!(
        "invalid argument {value:?} for --{name}: {problem}"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const KNOWN: &str = "--leader-elect\n--port\n--kubeconfig\n--v\n--version\n--sync-period\n";

    fn parse(line: &str) -> Result<Flags> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match Flags::parse(KNOWN, &arguments)? {
            Parsed::Run(flags) => Ok(flags),
            other => bail!("{other:?}"),
        }
    }

    fn refusal(line: &str) -> String {
        parse(line).unwrap_err().to_string()
    }

    #[test]
    fn takes_both_ways_to_give_a_value() {
        let flags = parse("--port=1 --kubeconfig /a --leader-elect -v=2").unwrap();
        assert_eq!(flags.text("port"), Some("1"));
        assert_eq!(flags.text("kubeconfig"), Some("/a"));
        assert!(flags.boolean("leader-elect", false));
        assert_eq!(flags.text("v"), Some("2"));
    }

    #[test]
    fn a_boolean_flag_does_not_take_the_next_argument() {
        assert!(refusal("--leader-elect false").contains("\"false\""));
        assert!(
            !parse("--leader-elect=false")
                .unwrap()
                .boolean("leader-elect", true)
        );
    }

    #[test]
    fn refuses_what_the_program_does_not_know() {
        assert_eq!(refusal("--prot=1"), "unknown flag: --prot");
        assert!(refusal("-p 1").contains("unknown shorthand flag"));
        assert!(refusal("stray").contains("\"stray\""));
        assert!(refusal("--port").contains("needs an argument"));
    }

    #[test]
    fn refuses_values_of_the_wrong_type() {
        assert!(refusal("--port=x").contains("whole number"));
        assert!(refusal("--leader-elect=maybe").contains("true or false"));
        assert!(refusal("--sync-period=10").contains("duration"));
        parse("--sync-period=1m30.5s").unwrap();
    }

    #[test]
    fn an_empty_value_is_as_good_as_none() {
        let flags = parse("--kubeconfig=").unwrap();
        assert_eq!(flags.text("kubeconfig"), None);
        assert!(flags.is_emptied("kubeconfig") && !flags.is_emptied("port"));
        flags.check_files(&[]).unwrap();
    }

    #[test]
    fn names_the_flag_and_path_of_a_missing_file() {
        let flags = parse("--kubeconfig=/nonexistent/k").unwrap();
        let error = format!("{:#}", flags.check_files(&[]).unwrap_err());
        assert!(error.contains("--kubeconfig: /nonexistent/k"), "{error}");
    }

    #[test]
    fn no_known_flag_is_asked_for_by_a_wrong_name() {
        assert_eq!(kind("leader-elect"), Kind::Boolean);
        assert_eq!(kind("node-monitor-grace-period"), Kind::Duration);
        assert_eq!(kind("eviction-soft-grace-period"), Kind::Text);
    }
}
