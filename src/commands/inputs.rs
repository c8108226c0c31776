//! Collects what a node specification is made from: flags, configuration, metadata, machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use crate::cli::Install;
use crate::metadata::{self, Metadata, Source};
use crate::spec::settings::Settings;
use crate::spec::{HostFacts, HostInterface, Inputs, Refused};
use crate::sys::host;
use crate::sys::root::Root;

const CONFIG_FILE: &str = "/etc/appliance/config.yaml";
/// More than any configuration needs, in bytes: a device or log given by mistake ends here.
const MAX_CONFIG: u64 = 1024 * 1024;

/// Looks everywhere the arguments allow. Input that cannot be read is a [`Refused`].
pub fn collect(arguments: &Install, root: &Root) -> Result<Inputs> {
    let gather = || -> Result<Inputs> {
        let config = config(arguments, root)?;
        let metadata = metadata(arguments, root)?;
        let mut inputs = Inputs {
            role: (arguments.role != "auto").then(|| arguments.role.clone()),
            profile: arguments.profile.clone(),
            config,
            host: host_facts(root)?,
            ..Inputs::default()
        };
        match metadata {
            Some(metadata) => {
                let settings = Settings::from_properties(&metadata.source, &metadata.meta)?;
                inputs.metadata = Some((metadata, settings));
            }
            None => inputs
                .looked_at
                .push("no config drive (a block device labelled config-2)".to_owned()),
        }
        Ok(inputs)
    };
    gather().map_err(|error| Refused::because(error).into())
}

fn config(arguments: &Install, root: &Root) -> Result<Option<(String, Settings)>> {
    let (path, shown) = match &arguments.config {
        Some(path) => (path.clone(), path.display().to_string()),
        None => (root.resolve(CONFIG_FILE)?, CONFIG_FILE.to_owned()),
    };
    if arguments.config.is_none() && !path.exists() {
        return Ok(None);
    }
    let text = read_config(&path).with_context(|| format!("configuration {shown}"))?;
    Ok(Some((shown.clone(), Settings::from_yaml(&shown, &text)?)))
}

fn read_config(path: &Path) -> Result<String> {
    let size = fs::metadata(path)?.len();
    anyhow::ensure!(
        size <= MAX_CONFIG,
        "{size} bytes is too big for a configuration"
    );
    Ok(fs::read_to_string(path)?)
}

/// A directory that is being prepared belongs to another machine: the devices here say nothing of it.
fn metadata(arguments: &Install, root: &Root) -> Result<Option<Metadata>> {
    let source = match &arguments.metadata_dir {
        Some(dir) => Some(Source::Directory(dir.clone())),
        None => root.is_live().then_some(Source::ConfigDrive),
    };
    metadata::find(source.as_slice())
}

fn host_facts(root: &Root) -> Result<HostFacts> {
    if !root.is_live() {
        let hostname = root.read("/etc/hostname")?.unwrap_or_default();
        let hostname = String::from_utf8_lossy(&hostname).trim().to_owned();
        return Ok(HostFacts {
            hostname,
            interfaces: None,
        });
    }
    let addresses = host::interface_addresses()?;
    let any_device = addresses.iter().any(|address| address.has_device);
    let interfaces = addresses
        .into_iter()
        // Where there are real interfaces, docker's bridge and tunnels are not the node's.
        .filter(|address| address.has_device || !any_device)
        .map(|found| {
            let address = Ipv4Net::new(found.address, found.prefix_len)?;
            Ok(HostInterface {
                name: found.name,
                address,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(HostFacts {
        hostname: host::hostname()?,
        interfaces: Some(interfaces),
    })
}
