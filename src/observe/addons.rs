//! Reads which add-ons and workloads this node applies, and their state in the cluster.

use anyhow::{Context, Result};
use serde_json::Value;
use time::OffsetDateTime;

use super::records;
use crate::addons::object::listed;
use crate::addons::{Addon, Cluster, Notes, Standing, judge, lacking_since, namespaces};
use crate::clients::kubectl;
use crate::formats;
use crate::language::tr;
use crate::sys::process::Runner;
use crate::sys::root::Root;

/// The add-ons and workloads to apply on this machine, in order; none if it is no master.
pub fn index(root: &Root) -> Result<Vec<Addon>> {
    Ok(records::json(root, &formats::ADDONS)?.unwrap_or_default())
}

/// The results of applying so far.
pub fn notes(root: &Root) -> Result<Notes> {
    Ok(records::json(root, &formats::NOTES)?.unwrap_or_default())
}

/// The state of an add-on in the cluster.
pub fn standing(runner: &dyn Runner, addon: &Addon, cluster: &Cluster) -> Result<Standing> {
    Ok(look(runner, addon, cluster)?.0)
}

/// The state of an add-on in the cluster, and since when it is not available, if the cluster says so.
pub fn look(
    runner: &dyn Runner,
    addon: &Addon,
    cluster: &Cluster,
) -> Result<(Standing, Option<OffsetDateTime>)> {
    let Some(objects) = kubectl::get_file(runner, &addon.path)? else {
        return Ok((Standing::Waiting(tr!("not applied yet")), None));
    };
    let first = judge(&objects, &[], cluster);
    if matches!(first, Standing::Available(_)) {
        return Ok((first, None));
    }
    let since = lacking_since(&objects);
    if cluster.able.is_empty() {
        return Ok((first, since));
    }
    let mut lists: Vec<Value> = Vec::new();
    for namespace in namespaces(&objects) {
        let pods = kubectl::get(runner, &["pods", "--namespace", &namespace]);
        lists.push(pods.with_context(|| tr!("pods of namespace {namespace}", namespace))?);
    }
    let pods: Vec<&Value> = lists.iter().flat_map(listed).collect();
    Ok((judge(&objects, &pods, cluster), since))
}
