//! The command line of upgrades.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::node::Ignore;
use super::{MetadataInputs, Waiting, Wanted};
use crate::language::tr;
use crate::upgrade::AtOnce;

/// The shortest and the longest time that a node may get.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(24 * 3600);

/// Arguments of `upgrade`.
#[derive(Args, Debug)]
pub struct Upgrade {
    /// The node
    #[command(flatten)]
    pub wanted: Wanted,

    /// How long the node may take until it is healthy; then it goes back
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = limit)]
    pub limit: Duration,

    /// Upgrade a node that is not healthy, too
    #[arg(long)]
    pub force: bool,

    /// Upgrade a master whose last backup is older than an hour, too, and make none first
    #[arg(long)]
    pub without_backup: bool,

    /// Then upgrade every other node: masters one after the other, then workers in waves; on a master
    #[arg(long, conflicts_with = "dry_run")]
    pub cluster: bool,

    /// How many workers at a time: a number, or a share such as 10%
    #[arg(long, value_name = "NUMBER", default_value = "1", requires = "cluster")]
    pub at_once: AtOnce,

    /// How long the pods of a worker may take to move elsewhere, as PodDisruptionBudgets allow
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = limit, requires = "cluster")]
    pub drain_limit: Duration,

    /// Let no other node of the cluster begin; go on with `--cluster`
    #[arg(long, conflicts_with_all = ["cluster", "abort"])]
    pub pause: bool,

    /// End the upgrade of the cluster; nodes that have begun go on
    #[arg(long, conflicts_with = "cluster")]
    pub abort: bool,

    /// Show what the upgrade does; change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,

    /// What to do while another run changes this machine
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `apply`.
#[derive(Args, Debug)]
pub struct Apply {
    /// The file with all settings, as /etc/appliance/config.yaml will have them
    pub file: PathBuf,

    /// Where metadata come from
    #[command(flatten)]
    pub metadata: MetadataInputs,

    /// Use the system below this directory, for example a mounted image; start nothing
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Use this payload or appliance, not this program; it must be the one of the node
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,

    /// The failed checks of the machine that only warn
    #[command(flatten)]
    pub ignore: Ignore,

    /// How long the node may take until it is healthy; then it goes back
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = limit)]
    pub limit: Duration,

    /// Change a node that is not healthy, too
    #[arg(long)]
    pub force: bool,

    /// Show what the settings change; change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,

    /// What to do while another run changes this machine
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `rollback`.
#[derive(Args, Debug)]
pub struct Rollback {
    /// How long to wait until the node is healthy
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = limit)]
    pub limit: Duration,

    /// Use the system below this directory, for example a mounted image; start nothing
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Show what the rollback does; change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,

    /// What to do while another run changes this machine
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `prune`.
#[derive(Args, Debug)]
pub struct Prune {
    /// Use the system below this directory, for example a mounted image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Show what goes; change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,

    /// What to do while another run changes this machine
    #[command(flatten)]
    pub waiting: Waiting,
}

fn limit(text: &str) -> Result<Duration, String> {
    let limit = humantime::parse_duration(text).ok();
    let limit = limit.filter(|limit| (LEAST..=MOST).contains(limit));
    limit.ok_or_else(|| tr!("expected a time from 1s to 24h, such as 10m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_time_with_a_unit() {
        assert_eq!(limit("10m"), Ok(Duration::from_secs(600)));
        for wrong in ["", "10", "0s", "25h", "-1s"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
