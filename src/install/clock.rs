//! A machine whose clock is wrong at its boot: a time service may correct it soon.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use time::OffsetDateTime;

use crate::language::tr;
use crate::nodespec::{Inputs, wrong_clock};
use crate::sys::retry::transient;
use crate::sys::waiting::awaited;

/// The longest pause between two looks at the clock.
const PAUSE: Duration = Duration::from_secs(2);

/// Waits until the clock `now` is right as far as `inputs` tell, for `patience` at most, and notes in `inputs` what it
/// shows. A clock that is still wrong then is refused with all other problems.
pub fn settle(inputs: &mut Inputs, patience: Duration, now: impl Fn() -> OffsetDateTime) {
    if wrong_clock(inputs).is_none() {
        return;
    }
    let asked = Instant::now();
    let told: Vec<Option<OffsetDateTime>> = inputs.metadata.iter().map(|one| one.date).collect();
    let outcome = awaited(
        "a time service to correct this machine's clock",
        patience,
        PAUSE,
        || {
            inputs.host.clock = Some(now());
            for (metadata, told) in inputs.metadata.iter_mut().zip(&told) {
                metadata.date = told.map(|told| told + asked.elapsed());
            }
            wrong_clock(inputs).map_or(Ok(()), |why| Err(transient(anyhow!(why))))
        },
    );
    if outcome.is_ok() {
        log::info!("{}", tr!("this machine's clock is right now"));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use time::macros::datetime;

    use super::*;

    const RIGHT: OffsetDateTime = datetime!(2026-11-30 12:00 UTC);

    /// Inputs of a machine whose clock shows the first value of these, and then the others.
    fn settled(shown: [OffsetDateTime; 3], patience: Duration) -> Inputs {
        let mut inputs = Inputs::default();
        inputs.host.clock = Some(shown[0]);
        let looks = Cell::new(0);
        settle(&mut inputs, patience, || {
            looks.set(looks.get() + 1);
            shown[looks.get().min(2)]
        });
        inputs
    }

    #[test]
    fn a_clock_that_begins_in_1970_is_waited_for() {
        let early = OffsetDateTime::UNIX_EPOCH;
        let inputs = settled([early, early, RIGHT], Duration::from_secs(60));
        assert_eq!(inputs.host.clock, Some(RIGHT));
        assert_eq!(wrong_clock(&inputs), None);
    }

    #[test]
    fn a_clock_that_stays_wrong_is_told() {
        let early = OffsetDateTime::UNIX_EPOCH;
        let inputs = settled([early; 3], Duration::ZERO);
        let why = wrong_clock(&inputs).unwrap_or_default();
        assert!(why.contains("shows 1970-01-01"), "{why}");
    }

    #[test]
    fn nothing_is_waited_for_if_the_clock_is_right() {
        let inputs = settled(
            [RIGHT, OffsetDateTime::UNIX_EPOCH, RIGHT],
            Duration::from_secs(60),
        );
        assert_eq!(inputs.host.clock, Some(RIGHT));
    }
}
