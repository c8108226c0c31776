//! How much the programs of Kubernetes write to the journal.

use crate::language::tr;

use super::resolver::Resolver;
use super::value::Sourced;

/// The highest level that they know: glog's levels of v1.9 end there.
const HIGHEST: u8 = 10;

impl Resolver<'_> {
    /// The level for all programs; `Some(None)` if each has its usual one.
    pub(super) fn log_level(&mut self) -> Option<Option<Sourced<u8>>> {
        let Some(said) = self.said("logLevel", |s| &s.log_level) else {
            return Some(None);
        };
        self.parsed(said, parse).map(Some)
    }
}

fn parse(text: &str) -> Result<u8, String> {
    let level = text.parse().ok().filter(|level| *level <= HIGHEST);
    level.ok_or_else(|| tr!("expected a number from 0 to {HIGHEST}", HIGHEST))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_level_is_a_number_from_0_to_10() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("10"), Ok(10));
        for wrong in ["", "11", "-1", "debug", "4 --x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
