//! What the genuine programs need more than the stand-ins. GENUINE says that they are booted.

use std::time::Duration;

/// The memory with which a VM with role `single` works well, in MiB: 2 GiB is enough, but tight.
const MEMORY: u32 = 3072;
/// How many times the stand-ins' limits of time apply.
const PATIENCE: u32 = 4;

/// Whether genuine programs are booted.
pub fn is_genuine() -> bool {
    std::env::var_os("GENUINE").is_some_and(|word| !word.is_empty())
}

/// The memory of a VM that needs `least` MiB with the stand-ins.
pub fn memory(least: u32) -> u32 {
    if is_genuine() {
        least.max(MEMORY)
    } else {
        least
    }
}

/// The limit of time of something that takes `limit` at most with the stand-ins.
pub fn limit(limit: Duration) -> Duration {
    if is_genuine() {
        limit * PATIENCE
    } else {
        limit
    }
}
