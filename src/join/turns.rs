//! Several masters, asked one after the other.

use std::time::Duration;

use anyhow::anyhow;

use crate::sys::retry::Failure;

/// No master answers at the address. This says nothing about other masters.
#[derive(Debug)]
pub(super) struct NotReached(pub(super) String);

impl std::fmt::Display for NotReached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotReached {}

/// Asks `masters` in turn until one answers `ask` with success. If one master refuses permanently,
/// it still asks the next one, which may know more. It fails permanently only if every master that
/// answers refuses; the error then names them all.
pub fn in_turn<M, T>(
    masters: impl IntoIterator<Item = M>,
    mut ask: impl FnMut(M) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (mut refused, mut may_change) = (false, false);
    let mut said: Vec<anyhow::Error> = Vec::new();
    let mut pause = Duration::ZERO;
    for master in masters {
        match ask(master) {
            Ok(given) => return Ok(given),
            Err(Failure::Permanent(error)) => {
                refused = true;
                said.push(error);
            }
            Err(Failure::Transient(error, after)) => {
                may_change |= !error.is::<NotReached>();
                pause = pause.max(after);
                said.push(error);
            }
        }
    }
    let error = match said.len() {
        1 => said.remove(0),
        _ => {
            let all: Vec<String> = said.iter().map(|error| format!("{error:#}")).collect();
            anyhow!("{}", all.join("; "))
        }
    };
    if refused && !may_change {
        return Err(Failure::Permanent(error));
    }
    Err(Failure::Transient(error, pause))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::retry::{permanent, transient};

    /// A pause that a master asks for.
    const PAUSE: Duration = Duration::from_secs(20);

    /// Asks three masters with these answers. Returns the error and whether it is permanent.
    fn asked(answers: [Result<u8, Failure>; 3]) -> Result<u8, (String, bool)> {
        in_turn(answers, |answer| answer).map_err(|failure| {
            let permanent = matches!(failure, Failure::Permanent(_));
            (format!("{:#}", failure.into_error()), permanent)
        })
    }

    fn gone(name: &str) -> Result<u8, Failure> {
        Err(transient(NotReached(name.to_owned())))
    }

    fn refuses(name: &str) -> Result<u8, Failure> {
        Err(permanent(anyhow!("{name}")))
    }

    #[test]
    fn one_masters_refusal_is_not_the_last_word() {
        assert_eq!(asked([refuses("a"), gone("b"), Ok(3)]), Ok(3));
    }

    #[test]
    fn only_where_every_master_that_is_reached_refuses_is_it_for_good_and_all_are_named() {
        let (text, permanent) = asked([refuses("a"), gone("b"), refuses("c")]).unwrap_err();
        assert_eq!((text.as_str(), permanent), ("a; b; c", true));
        let busy = || Err(transient(anyhow!("busy")));
        assert!(!asked([refuses("a"), busy(), gone("c")]).unwrap_err().1);
        assert!(!asked([gone("a"), gone("b"), gone("c")]).unwrap_err().1);
    }

    #[test]
    fn the_longest_pause_that_a_master_asked_for_is_kept() {
        let wait = |seconds| Failure::Transient(anyhow!("busy"), Duration::from_secs(seconds));
        let failure = in_turn([3, 20, 0], |seconds| Err::<(), _>(wait(seconds))).unwrap_err();
        assert!(matches!(failure, Failure::Transient(_, pause) if pause == PAUSE));
    }
}
