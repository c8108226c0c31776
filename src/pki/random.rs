//! Randomness for keys, tokens and serial numbers.

use anyhow::{Result, anyhow};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new()
        .fill(&mut *bytes)
        .map_err(|_| anyhow!("the system provides no random numbers"))?;
    Ok(bytes)
}
