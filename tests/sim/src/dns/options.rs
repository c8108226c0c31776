//! Command lines as these programs parse them: `-name=value`, `--name=value`, or the value as the
//! next word.

use anyhow::Result;

use crate::program::usage;

/// The flags of a command line, in order.
pub struct Options {
    given: Vec<(String, String)>,
}

/// Flags that all of these programs have.
const LOGS: &str = "v logtostderr alsologtostderr stderrthreshold vmodule log_dir version";

/// Flags that need no value.
const SWITCHES: &str = "logtostderr alsologtostderr version restartDnsmasq";

impl Options {
    /// Parses a command line; `known` are the names of the flags.
    ///
    /// # Errors
    /// A usage error for an unknown flag or one without its value.
    pub fn parse(known: &str, arguments: &[String]) -> Result<Self> {
        let mut given = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let flag = argument
                .strip_prefix("--")
                .or_else(|| argument.strip_prefix('-'));
            let Some(flag) = flag else {
                return Err(usage(format!("unexpected argument {argument:?}")));
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let mut all = known.split_whitespace().chain(LOGS.split_whitespace());
            if !all.any(|one| one == name) {
                return Err(usage(format!("flag provided but not defined: -{name}")));
            }
            let is_switch = SWITCHES.split_whitespace().any(|one| one == name);
            let value = match value {
                Some(value) => value,
                None if is_switch => "true".to_owned(),
                None => rest
                    .next()
                    .cloned()
                    .ok_or_else(|| usage(format!("flag needs an argument: -{name}")))?,
            };
            given.push((name.to_owned(), value));
        }
        Ok(Self { given })
    }

    /// Every value of a flag.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let given = self.given.iter().filter(move |(given, _)| given == name);
        given.map(|(_, value)| value.as_str())
    }

    /// The last value of a flag.
    pub fn last<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).last().filter(|value| !value.is_empty())
    }

    /// A port, or `default`.
    ///
    /// # Errors A usage error if it is invalid.
    pub fn port(&self, name: &str, default: u16) -> Result<u16> {
        self.last(name).map_or(Ok(default), |text| {
            text.parse()
                .map_err(|_| usage(format!("invalid value {text:?} for flag -{name}")))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn flags_have_one_dash_or_two() {
        let parse = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Options::parse("port probe", &arguments)
        };
        let options = parse("-v=2 --logtostderr --probe=a -probe b --port 7").unwrap();
        assert_eq!(options.all("probe").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(options.port("port", 1).unwrap(), 7);
        assert!(parse("--nope=1").is_err());
        assert!(parse("--port").is_err());
        assert!(parse("stray").is_err());
    }
}
