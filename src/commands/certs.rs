//! `appliance certs`.

use anyhow::Result;

use super::{Outcome, install};
use crate::cli::Certs;

/// Renews this node's certificates.
pub fn run(command: &Certs, required_key: Option<&str>) -> Result<Outcome> {
    match command {
        Certs::Renew { inputs } => install::renew(inputs, required_key),
    }
}
