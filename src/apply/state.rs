//! What earlier runs left on this node: what each service was started with, and, written
//! last of all, what the node is.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::nodespec::Shape;
use crate::nodespec::masters::Master;
use crate::sys::root::Root;

const STATE_FILE: &str = "/var/lib/appliance/state.json";
const SERVICES_FILE: &str = "/var/lib/appliance/services.json";

/// What an installed node is. The file exists only after a run has gone through to its end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of this program that wrote it.
    pub appliance: String,
    /// The name of the bundle in use.
    pub bundle: String,
    /// The bundle's Kubernetes version.
    pub kubernetes: String,
    /// The digest of the bundle in use.
    pub digest: String,
    /// Whether the bundle holds stand-ins.
    pub demonstration: bool,
    /// The node's role.
    pub role: String,
    /// The cluster's profile.
    pub profile: String,
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: String,
    /// All masters of its cluster, where there are several.
    #[serde(default)]
    pub masters: Vec<Master>,
    /// The port of its balancer, where there are several masters.
    #[serde(default)]
    pub balancer_port: Option<u16>,
}

impl State {
    /// What decides which services the node has. Fails where the file says what no run writes.
    pub fn shape(&self) -> Result<Shape> {
        let role = self.role.parse().map_err(anyhow::Error::msg);
        let profile = self.profile.parse().map_err(anyhow::Error::msg);
        Ok(Shape {
            role: role.with_context(|| format!("the node's role in {STATE_FILE}"))?,
            profile: profile.with_context(|| format!("the node's profile in {STATE_FILE}"))?,
            balanced: self.balancer_port.is_some(),
        })
    }

    /// The state of an installed node; `None` if no run has gone through yet.
    pub fn read(root: &Root) -> Result<Option<State>> {
        read_json(root, STATE_FILE)
    }

    /// Writes it, unless it is already so. Tells whether it wrote.
    pub fn write(&self, root: &Root) -> Result<bool> {
        if State::read(root).ok().flatten().as_ref() == Some(self) {
            return Ok(false);
        }
        write_json(root, STATE_FILE, self)?;
        Ok(true)
    }
}

/// Removes both, so that the next run makes the node anew.
pub fn forget(root: &Root) -> Result<()> {
    root.remove_file(SERVICES_FILE)?;
    root.remove_file(STATE_FILE)
}

/// For each service, the digest of what it was last started with.
pub fn started_with(root: &Root) -> Result<BTreeMap<String, String>> {
    Ok(read_json(root, SERVICES_FILE)?.unwrap_or_default())
}

/// Notes that `service` was started with the inputs of digest `inputs`.
pub fn note_started(root: &Root, service: &str, inputs: &str) -> Result<()> {
    let mut all = started_with(root)?;
    all.insert(service.to_owned(), inputs.to_owned());
    write_json(root, SERVICES_FILE, &all)
}

/// The JSON document at `path`; `None` if nothing is there.
pub(super) fn read_json<T: for<'de> Deserialize<'de>>(
    root: &Root,
    path: &str,
) -> Result<Option<T>> {
    let Some(bytes) = root.read(path)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&bytes).with_context(|| {
        format!("{path} is damaged; remove it and run `appliance install` again")
    })?;
    Ok(Some(value))
}

/// Writes a JSON document to `path`.
pub(super) fn write_json(root: &Root, path: &str, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    root.write(path, &text, 0o644)
}
