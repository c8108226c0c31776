//! Collects the inputs of a node specification: flags, environment, configuration, metadata,
//! bundle, machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use time::OffsetDateTime;

use crate::bundle::manifest::Manifest;
use crate::language::tr;
use crate::metadata::hardware::Hardware;
use crate::metadata::service::Service;
use crate::metadata::{self, Asked, Found, Source};
use crate::nodespec::settings::Settings;
use crate::nodespec::value::{Layer, Place};
use crate::nodespec::{HostFacts, Inputs, Refused, user_data};
use crate::observe::{interfaces, records};
use crate::paths::CONFIG;
use crate::sys::host;
use crate::sys::read::bounded;
use crate::sys::root::Root;

/// The size limit of a configuration, in bytes, in case someone names a device or log by mistake.
pub const MAX_CONFIG: u64 = 1024 * 1024;

/// The settings on the command line.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    /// The role; `auto` is the same as none.
    pub role: Option<String>,
    /// The profile.
    pub profile: Option<String>,
    /// Settings, each as `KEY=VALUE`.
    pub set: Vec<String>,
    /// A file of settings instead of [`CONFIG`].
    pub config: Option<PathBuf>,
    /// The content of that file, if it was read before: what is checked is then what is written.
    pub content: Option<Vec<u8>>,
    /// The metadata sources, in order; none for the usual ones.
    pub sources: Vec<Source>,
    /// How long to try to reach a metadata service.
    pub patience: Duration,
}

/// The inputs, and the sources that were read.
pub struct Collected {
    /// The inputs of the specification.
    pub inputs: Inputs,
    /// Every metadata source that was asked.
    pub asked: Vec<Asked>,
}

/// Reads all sources that `typed` allows. Input that cannot be read is a [`Refused`].
pub fn collect(typed: &Typed, root: &Root, manifest: Option<&Manifest>) -> Result<Collected> {
    gather(typed, root, manifest).map_err(|error| Refused::because(error).into())
}

fn gather(typed: &Typed, root: &Root, manifest: Option<&Manifest>) -> Result<Collected> {
    // Check the fast sources before those that may take a minute.
    let mut layers = vec![Layer::of_flags(
        &typed.set,
        &[
            ("role", typed.role.as_ref().filter(|role| *role != "auto")),
            ("profile", typed.profile.as_ref()),
        ],
    )?];
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    layers.push(Layer::of_environment(&variables)?);
    let mut looked_at = Vec::new();
    match config(typed, root)? {
        Some(layer) => layers.push(layer),
        None => looked_at.push(tr!("no {CONFIG}", CONFIG)),
    }
    if let Some(manifest) = manifest {
        layers.push(Layer::of_bundle(
            &manifest.bundle.name,
            &manifest.bundle.settings,
        )?);
    }
    let found = metadata(typed, root)?;
    for metadata in &found.metadata {
        layers.extend(user_data::layers(metadata)?);
    }
    for asked in &found.asked {
        if let Some(why) = &asked.passed_over {
            looked_at.push(format!("{}: {why}", asked.source));
        }
    }
    let mut host = host_facts(root)?;
    if typed.config.is_some() {
        // A file that takes the place of all settings has the role. One that lacks it is only a part of them.
        host.role = None;
    }
    Ok(Collected {
        inputs: Inputs {
            layers,
            metadata: found.metadata,
            looked_at,
            host,
        },
        asked: found.asked,
    })
}

fn config(typed: &Typed, root: &Root) -> Result<Option<Layer>> {
    let (path, shown) = match &typed.config {
        Some(path) => (path.clone(), path.display().to_string()),
        None => (root.resolve(CONFIG)?, CONFIG.to_owned()),
    };
    if typed.config.is_none() && !path.exists() {
        return Ok(None);
    }
    let settings = match &typed.content {
        Some(content) => parse_config(content.clone(), &shown)?,
        None => read_config(&path, &shown)?,
    };
    Ok(Some(Layer::new(Place::Config(shown), settings)))
}

/// The settings in the configuration file at `path`; errors call it `shown`.
pub fn read_config(path: &Path, shown: &str) -> Result<Settings> {
    parse_config(config_bytes(path, shown)?, shown)
}

/// The bytes of the configuration file at `path`; errors call it `shown`.
pub fn config_bytes(path: &Path, shown: &str) -> Result<Vec<u8>> {
    let content = bounded(path, MAX_CONFIG)
        .with_context(|| tr!("cannot read configuration {shown}", shown))?;
    content.with_context(|| tr!("configuration {shown}: there is no such file", shown))
}

/// The settings in a configuration file's content; errors call the file `shown`.
pub fn parse_config(content: Vec<u8>, shown: &str) -> Result<Settings> {
    let place = tr!("configuration {shown}", shown);
    let text = String::from_utf8(content).map_err(|error| {
        let byte = error.utf8_error().valid_up_to() + 1;
        anyhow!(tr!("{place}: byte {byte} is not UTF-8", place, byte))
    })?;
    Settings::from_yaml(&place, &text)
}

fn metadata(typed: &Typed, root: &Root) -> Result<Found> {
    let mut sources = typed.sources.clone();
    // A directory that is being prepared belongs to another machine. The devices and the metadata
    // of this machine do not apply to it.
    if sources.is_empty() && root.is_live() {
        sources = vec![
            Source::ConfigDrive,
            Source::Service(Service::default()),
            Source::CloudInit(PathBuf::from("/")),
        ];
    }
    let found = metadata::find(&sources, typed.patience)?;
    for asked in found.asked.iter().filter(|asked| asked.broken) {
        if let Some(why) = &asked.passed_over {
            log::warn!("{}", tr!("{why}; using the other metadata sources", why));
        }
    }
    Ok(found)
}

fn host_facts(root: &Root) -> Result<HostFacts> {
    let clock = Some(OffsetDateTime::now_utc());
    let resolv_conf = resolv_conf(root)?;
    let ipip = records::cluster(root)?.map(|record| record.ipip);
    // A damaged record is refused where more than the role is needed from it.
    let state = records::state(root).ok().flatten();
    let role = state.and_then(|state| state.role.parse().ok());
    if !root.is_live() {
        let hostname = root.read("/etc/hostname")?.unwrap_or_default();
        let hostname = String::from_utf8_lossy(&hostname).trim().to_owned();
        return Ok(HostFacts {
            hostname,
            interfaces: None,
            // Of the machine that this directory is prepared on.
            uuid: None,
            is_openstack: false,
            ipip,
            role,
            clock,
            resolv_conf,
        });
    }
    Ok(HostFacts {
        hostname: host::hostname()?,
        interfaces: Some(interfaces::of_host(host::interfaces()?)),
        uuid: host::product_uuid(),
        is_openstack: Hardware::default().is_openstack_guest(),
        ipip,
        role,
        clock,
        resolv_conf,
    })
}

/// The file with this machine's name servers. If it names only the stub of systemd-resolved, which
/// pods cannot reach at its loopback address, this is the file in which systemd-resolved lists
/// them.
fn resolv_conf(root: &Root) -> Result<Option<String>> {
    const USUAL: &str = "/etc/resolv.conf";
    const OF_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
    const STUB: &str = "127.0.0.53";
    let Some(text) = root.read(USUAL)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&text);
    let mut servers = text
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver"));
    let is_stub = servers.any(|server| server.trim() == STUB);
    let path = if is_stub && root.exists(OF_RESOLVED)? {
        OF_RESOLVED
    } else {
        USUAL
    };
    Ok(Some(path.to_owned()))
}
