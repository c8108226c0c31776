//! The records of earlier runs on this node: the inputs that each service was started with, and the
//! state of the node, which is written last.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::components::Shape;
use crate::spec::masters::Master;
use crate::sys::root::Root;

const STATE_FILE: &str = "/var/lib/appliance/state.json";
const SERVICES_FILE: &str = "/var/lib/appliance/services.json";
/// How to repair a damaged record.
const REPAIR: &str = "remove the file and run `appliance install`";

/// The state of an installed node. The file exists only after a run has completed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the program that wrote it.
    pub appliance: String,
    /// The name of the bundle in use.
    pub bundle: String,
    /// The bundle's Kubernetes version.
    pub kubernetes: String,
    /// The digest of the bundle in use.
    pub digest: String,
    /// Whether the bundle contains stand-ins.
    pub demonstration: bool,
    /// The node's role.
    pub role: String,
    /// The cluster's profile.
    pub profile: String,
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: String,
    /// All masters of its cluster, if there are several.
    #[serde(default)]
    pub masters: Vec<Master>,
    /// The port of its balancer, if there are several masters.
    #[serde(default)]
    pub balancer_port: Option<u16>,
}

impl State {
    /// The facts that decide which services the node has. Fails if the file has an invalid role or
    /// profile.
    pub fn shape(&self) -> Result<Shape> {
        let role = self.role.parse().map_err(anyhow::Error::msg);
        let profile = self.profile.parse().map_err(anyhow::Error::msg);
        Ok(Shape {
            role: role.with_context(|| format!("invalid `role` in {STATE_FILE}; {REPAIR}"))?,
            profile: profile
                .with_context(|| format!("invalid `profile` in {STATE_FILE}; {REPAIR}"))?,
            balanced: self.balancer_port.is_some(),
        })
    }

    /// The state of an installed node; `None` if no run has completed yet.
    pub fn read(root: &Root) -> Result<Option<State>> {
        read_json(root, STATE_FILE)
    }

    /// Writes the state if it changed. Returns whether it wrote.
    pub fn write(&self, root: &Root) -> Result<bool> {
        if State::read(root).ok().flatten().as_ref() == Some(self) {
            return Ok(false);
        }
        write_json(root, STATE_FILE, self)?;
        Ok(true)
    }
}

/// Removes both records, so that the next run installs the node from the beginning.
pub fn forget(root: &Root) -> Result<()> {
    root.remove_file(SERVICES_FILE)?;
    root.remove_file(STATE_FILE)
}

/// For each service, the digest of the inputs it was last started with.
pub fn started_with(root: &Root) -> Result<BTreeMap<String, String>> {
    Ok(read_json(root, SERVICES_FILE)?.unwrap_or_default())
}

/// Records that `service` was started with inputs of the digest `inputs`.
pub fn note_started(root: &Root, service: &str, inputs: &str) -> Result<()> {
    let mut all = started_with(root)?;
    all.insert(service.to_owned(), inputs.to_owned());
    write_json(root, SERVICES_FILE, &all)
}

/// The JSON document at `path`; `None` if there is no file.
pub(super) fn read_json<T: for<'de> Deserialize<'de>>(
    root: &Root,
    path: &str,
) -> Result<Option<T>> {
    let Some(bytes) = root.read(path)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&bytes).with_context(|| {
        format!("{path} is not valid JSON; remove it (`rm {path}`) and run `appliance install`")
    })?;
    Ok(Some(value))
}

/// Writes a JSON document to `path`.
pub(super) fn write_json(root: &Root, path: &str, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    root.write(path, &text, 0o644)
}
