//! The audit log: without a policy, v1.9.0 records nothing.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

use crate::lifecycle;
use crate::server::Request;
use crate::user::User;

use super::attributes::Attributes;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    api_version: String,
    kind: String,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    level: String,
}

/// An open audit log.
pub struct Audit {
    file: Mutex<File>,
    level: String,
}

impl Audit {
    /// Checks the policy and opens the log; `None` unless both are given.
    ///
    /// # Errors A policy that v1.9.0 cannot read, or a log that cannot be written.
    pub fn open(policy: Option<&Path>, log: Option<&str>) -> Result<Option<Self>> {
        let Some(policy) = policy else {
            return Ok(None);
        };
        let policy =
            read(policy).with_context(|| format!("--audit-policy-file: {}", policy.display()))?;
        let Some(log) = log else {
            return Ok(None);
        };
        let path = if log == "-" { "/dev/stdout" } else { log };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("--audit-log-path: {path}"))?;
        let level = policy.rules.into_iter().next().map(|rule| rule.level);
        Ok(level.filter(|level| level != "None").map(|level| Self {
            file: Mutex::new(file),
            level,
        }))
    }

    /// Appends one line for an answered request.
    pub fn record(&self, request: &Request, user: &User, status: u16) {
        let line = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1beta1",
            "metadata": {"creationTimestamp": lifecycle::now()},
            "level": self.level,
            "stage": "ResponseComplete",
            "requestURI": request.path,
            "verb": Attributes::of(request).verb,
            "user": {"username": user.name, "groups": user.groups},
            "responseStatus": {"code": status},
        });
        let written = self
            .file
            .lock()
            .map(|mut file| writeln!(file, "{line}").is_ok());
        if !matches!(written, Ok(true)) {
            eprintln!("the audit log cannot be written");
        }
    }
}

fn read(path: &Path) -> Result<Policy> {
    let text = std::fs::read_to_string(path)?;
    let policy: Policy = serde_saphyr::from_str(&text)?;
    if policy.kind != "Policy" {
        bail!("kind is {:?}, expected Policy", policy.kind);
    }
    // audit.k8s.io/v1 exists since 1.12.
    if !["audit.k8s.io/v1alpha1", "audit.k8s.io/v1beta1"].contains(&policy.api_version.as_str()) {
        bail!("v1.9.0 does not know apiVersion {:?}", policy.api_version);
    }
    if policy.rules.is_empty() {
        bail!("loaded illegal policy with 0 rules");
    }
    const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];
    match policy
        .rules
        .iter()
        .find(|r| !LEVELS.contains(&r.level.as_str()))
    {
        Some(rule) => bail!("unknown level {:?}", rule.level),
        None => Ok(policy),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn refusal(policy: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy");
        std::fs::write(&path, policy).unwrap();
        read(&path)
            .err()
            .map(|e| format!("{e:#}"))
            .unwrap_or_default()
    }

    #[test]
    fn takes_only_policies_of_its_age() {
        assert_eq!(
            refusal("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules:\n- level: Metadata\n"),
            ""
        );
        let of = |version: &str, kind: &str, rules: &str| {
            refusal(&format!(
                "apiVersion: {version}\nkind: {kind}\nrules: {rules}\n"
            ))
        };
        let good = "[{level: Metadata}]";
        assert!(of("audit.k8s.io/v1", "Policy", good).contains("apiVersion"));
        assert!(of("audit.k8s.io/v1beta1", "Pod", good).contains("expected Policy"));
        assert!(of("audit.k8s.io/v1beta1", "Policy", "[]").contains("0 rules"));
        assert!(of("audit.k8s.io/v1beta1", "Policy", "[{level: All}]").contains("All"));
    }
}
