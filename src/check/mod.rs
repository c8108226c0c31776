//! The tutorial's checks of a cluster, and those of the network below it: a table of small checks
//! over what was found out. [`facts`] finds it out, [`workload`] brings pods to ask with, [`serve`]
//! runs in them.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

mod checks;
pub mod facts;
pub mod probe;
pub mod serve;
pub mod workload;

/// What the cluster should be, as the last installation left it on the master.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expected {
    /// The version of Kubernetes.
    pub kubernetes: String,
    /// The addresses of pods.
    pub pod_cidr: String,
    /// The addresses of services.
    pub service_cidr: String,
    /// When Calico tunnels.
    pub ipip: String,
    /// The MTU of pods, in bytes.
    pub pod_mtu: u32,
    /// What a tunnel takes of the nodes' MTU, in bytes.
    pub tunnel: u32,
    /// The DNS domain of services.
    pub domain: String,
    /// The API server's address for pods.
    pub api_server_ip: String,
    /// The image of pods that do nothing.
    pub pause: String,
    /// The names of the masters: they join each other, and are no nodes of the cluster.
    pub masters: Vec<String>,
    /// Whether pods may ask OpenStack's metadata service.
    pub pod_metadata: bool,
}

/// How a check came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "result")]
pub enum Verdict {
    /// It is as it should be.
    Passed {
        /// What was found.
        found: String,
    },
    /// It is not.
    Failed {
        /// What was found.
        found: String,
        /// What mends it.
        hint: String,
    },
    /// It could not be found out, or does not apply.
    Skipped {
        /// Why.
        found: String,
    },
}

impl Verdict {
    pub(crate) fn passed(found: impl Display) -> Verdict {
        Verdict::Passed {
            found: found.to_string(),
        }
    }

    pub(crate) fn failed(found: impl Display, hint: impl Display) -> Verdict {
        Verdict::Failed {
            found: found.to_string(),
            hint: hint.to_string(),
        }
    }

    pub(crate) fn skipped(found: impl Display) -> Verdict {
        Verdict::Skipped {
            found: found.to_string(),
        }
    }
}

/// One check with its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What was checked.
    pub check: &'static str,
    /// How it came out.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// All verdicts, in the order of the table.
pub fn judge(expected: &Expected, facts: &facts::Facts) -> Vec<Checked> {
    let judged = checks::CHECKS.iter();
    judged
        .map(|(check, judge)| Checked {
            check,
            verdict: judge(expected, facts),
        })
        .collect()
}

/// Whether no check failed.
pub fn is_sound(checked: &[Checked]) -> bool {
    let failed = |c: &Checked| matches!(c.verdict, Verdict::Failed { .. });
    !checked.iter().any(failed)
}
