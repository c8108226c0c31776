//! What is applied to the cluster once its API answers: its own add-ons, then workloads. Pure:
//! what there is to apply, and what the cluster's answers say of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub mod object;
mod state;

pub use state::{Cluster, Standing, judge, namespaces, peers_up};

/// One manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Addon {
    /// What people call it.
    pub name: String,
    /// The file with its manifest.
    pub path: String,
    /// SHA-256 of the file.
    pub digest: String,
    /// What has to be available before it is applied.
    #[serde(default)]
    pub after: Vec<String>,
}

/// What came of applying an add-on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Note {
    /// SHA-256 of the file that was applied last.
    #[serde(default)]
    pub applied: Option<String>,
    /// What the API server said against it, if it did.
    #[serde(default)]
    pub refused: Option<String>,
}

/// What came of applying each add-on, by name.
pub type Notes = BTreeMap<String, Note>;

/// What still has to be available before `addon` may be applied.
pub fn missing<'a>(addon: &'a Addon, available: &BTreeSet<&str>) -> Vec<&'a str> {
    let after = addon.after.iter().map(String::as_str);
    after.filter(|name| !available.contains(name)).collect()
}

/// What kubectl v1.9 says where no API server answered it, or one that cannot just now.
const UNANSWERED: [&str; 8] = [
    "The connection to the server ",
    "Unable to connect to the server",
    "dial tcp ",
    "net/http: ",
    "connection reset by peer",
    "(ServiceUnavailable)",
    "Timeout)",
    "etcdserver: ",
];

/// Whether kubectl's complaint is the API server's own, of what it was given: anything else may be
/// another a moment later.
pub fn is_refusal(said: &str) -> bool {
    !UNANSWERED.iter().any(|sign| said.contains(sign))
}

/// What the API server's refusal means, where it has a reason that can be mended.
pub fn explained(refusal: &str) -> String {
    let text = refusal.trim().lines().last().unwrap_or_default();
    if text.contains("provided port is already allocated") {
        return format!(
            "{text}: another service has this nodePort (`kubectl get services --all-namespaces` \
             shows which); choose another in the manifest"
        );
    }
    if text.contains("provided port is not in the valid range") {
        return format!("{text}: the setting nodePortRange says which ports there are");
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_port_that_is_taken_is_explained() {
        let said = "Error from server (Invalid): error when creating \"/etc/kubernetes/addons/50-api-gateway.yaml\": \
                    Service \"api-gateway\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: \
                    provided port is already allocated\n";
        let text = explained(said);
        assert!(
            text.contains("30080") && text.contains("choose another"),
            "{text}"
        );
    }

    #[test]
    fn an_api_server_that_does_not_answer_has_refused_nothing() {
        for said in [
            "The connection to the server 192.168.1.102:6443 was refused - did you specify the right host or port?",
            "Unable to connect to the server: net/http: TLS handshake timeout",
            "from server for: \"a.yaml\": Get https://192.168.1.102:6443/api: dial tcp 192.168.1.102:6443: getsockopt: \
             connection refused",
            "Error from server (Timeout): the server was unable to return a response in the time allotted",
            "Error from server (ServerTimeout): the server cannot complete the requested operation at this time",
            "Error from server: etcdserver: request timed out",
        ] {
            assert!(!is_refusal(said), "{said}");
        }
        for said in [
            "Error from server (Forbidden): services is forbidden",
            "The Service \"app\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated",
            "error: error validating \"a.yaml\": error validating data: unknown field",
        ] {
            assert!(is_refusal(said), "{said}");
        }
    }

    #[test]
    fn what_an_addon_waits_for_is_named() {
        let addon = Addon {
            name: "c".to_owned(),
            path: String::new(),
            digest: String::new(),
            after: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(missing(&addon, &BTreeSet::from(["a"])), ["b"]);
    }
}
