//! The settings of the admission plugin EventRateLimit, without which v1.9.0 does not start it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::flags::Flags;

/// The plugin.
const PLUGIN: &str = "EventRateLimit";
/// The flag with the settings of all plugins.
const FLAG: &str = "admission-control-config-file";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Plugins {
    api_version: String,
    kind: String,
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limits {
    api_version: String,
    kind: String,
    limits: Vec<Limit>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limit {
    r#type: String,
    qps: i32,
    burst: i32,
    #[serde(default)]
    cache_size: i32,
}

/// Checks the settings, if the plugin is on.
///
/// # Errors
/// Settings with which the real program does not start.
pub fn check(flags: &Flags) -> Result<()> {
    if !flags.list("admission-control").contains(&PLUGIN) {
        return Ok(());
    }
    let Some(path) = flags.text(FLAG) else {
        bail!("{PLUGIN}: limits: Invalid value: []: must not be empty");
    };
    let plugins: Plugins = read(path).with_context(|| format!("--{FLAG}"))?;
    ensure!(
        plugins.api_version == "apiserver.k8s.io/v1alpha1"
            && plugins.kind == "AdmissionConfiguration",
        "{path}: no kind {} is registered for version {}",
        plugins.kind,
        plugins.api_version
    );
    let own = plugins.plugins.iter().find(|plugin| plugin.name == PLUGIN);
    let own = own.with_context(|| format!("{PLUGIN}: limits: must not be empty"))?;
    let limits: Limits = read(&own.path).context(PLUGIN)?;
    ensure!(
        limits.api_version == "eventratelimit.admission.k8s.io/v1alpha1"
            && limits.kind == "Configuration",
        "{}: no kind {} is registered for version {}",
        own.path,
        limits.kind,
        limits.api_version
    );
    ensure!(
        !limits.limits.is_empty(),
        "{PLUGIN}: limits: must not be empty"
    );
    limits
        .limits
        .iter()
        .try_for_each(check_limit)
        .context(PLUGIN)
}

fn check_limit(limit: &Limit) -> Result<()> {
    const TYPES: [&str; 4] = ["Server", "Namespace", "User", "SourceAndObject"];
    ensure!(
        TYPES.contains(&limit.r#type.as_str()),
        "type: Unsupported value: {:?}",
        limit.r#type
    );
    ensure!(limit.burst > 0, "burst: must be positive");
    ensure!(limit.qps > 0, "qps: must be positive");
    ensure!(limit.cache_size >= 0, "cacheSize: must not be negative");
    Ok(())
}

fn read<T: DeserializeOwned>(path: &str) -> Result<T> {
    let text = fs::read_to_string(Path::new(path)).with_context(|| path.to_owned())?;
    serde_saphyr::from_str(&text).with_context(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::flags::Parsed;

    const LIMITS: &str = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\n\
        limits: [{type: Server, qps: 1, burst: 2}]\n";

    /// Checks with these settings of the plugin, or without any.
    fn checked(limits: Option<&str>) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let (settings, own) = (dir.path().join("a"), dir.path().join("b"));
        let text = format!(
            "apiVersion: apiserver.k8s.io/v1alpha1\nkind: AdmissionConfiguration\nplugins:\n\
             - name: EventRateLimit\n  path: {}\n",
            own.display()
        );
        fs::write(&settings, text).unwrap();
        let mut arguments = vec!["--admission-control=LimitRanger,EventRateLimit".to_owned()];
        if let Some(limits) = limits {
            fs::write(&own, limits).unwrap();
            arguments.push(format!("--{FLAG}={}", settings.display()));
        }
        let known = "--admission-control\n--admission-control-config-file\n--version\n";
        match Flags::parse(known, &arguments)? {
            Parsed::Run(flags) => check(&flags),
            other => bail!("{other:?}"),
        }
    }

    #[test]
    fn the_plugin_needs_settings_that_v1_9_0_can_read() {
        checked(Some(LIMITS)).unwrap();
        assert!(checked(None).is_err());
        for (good, bad) in [
            ("Server", "Node"),
            ("qps: 1", "qps: 0"),
            ("burst: 2", "burst: -1"),
            ("v1alpha1", "v1"),
            ("[{type: Server, qps: 1, burst: 2}]", "[]"),
        ] {
            assert!(checked(Some(&LIMITS.replace(good, bad))).is_err(), "{bad}");
        }
    }
}
