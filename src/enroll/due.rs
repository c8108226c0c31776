//! The certificates of this node that are due for renewal.

use anyhow::{Context as _, Result};
use time::OffsetDateTime;

use crate::records::state::State;
use crate::sys::root::Root;
use crate::{components, paths, pki};

/// The certificates of this node that are due for renewal.
pub fn due(root: &Root, state: &State) -> Result<Vec<&'static str>> {
    let role = state.role.parse().map_err(anyhow::Error::msg)?;
    let now = OffsetDateTime::now_utc();
    let mut due = Vec::new();
    for name in components::certificate_names(role) {
        let path = paths::certificate(name);
        let above = paths::certificate(components::authority_of(name));
        let Some((pem, authority)) = root.read(&path)?.zip(root.read(&above)?) else {
            due.push(name);
            continue;
        };
        if pki::is_due(&pem, &authority, now).with_context(|| path.clone())? {
            due.push(name);
        }
    }
    Ok(due)
}
