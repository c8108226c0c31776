//! Randomness for keys, tokens and serial numbers.

use anyhow::{Result, anyhow};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// What a failure of the system's random numbers is called.
pub(super) const NO_RANDOM: &str = "the system provides no random numbers";

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new()
        .fill(&mut *bytes)
        .map_err(|_| anyhow!(NO_RANDOM))?;
    Ok(bytes)
}
