//! The add-ons and workloads that are applied to the cluster when its API answers. Pure: the list
//! of what to apply, and the state according to the cluster's answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::language::tr;

pub mod object;
mod state;

pub use state::{Cluster, Standing, judge, lacking_since, namespaces};

/// The add-on with Calico's controllers. They give pods of a new namespace their policies.
pub const CALICO: &str = "calico";

/// One manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Addon {
    /// Its name.
    pub name: String,
    /// The path of its manifest.
    pub path: String,
    /// SHA-256 of the file.
    pub digest: String,
    /// The add-ons and workloads that have to be available before it is applied.
    #[serde(default)]
    pub after: Vec<String>,
}

/// The result of applying an add-on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Note {
    /// SHA-256 of the file that was applied last.
    #[serde(default)]
    pub applied: Option<String>,
    /// The error of the API server, if it refused the manifest.
    #[serde(default)]
    pub refused: Option<String>,
}

/// The results of applying the add-ons, by name.
pub type Notes = BTreeMap<String, Note>;

/// What `addon` still waits for before it may be applied.
pub fn missing<'a>(addon: &'a Addon, available: &BTreeSet<&str>) -> Vec<&'a str> {
    let after = addon.after.iter().map(String::as_str);
    after.filter(|name| !available.contains(name)).collect()
}

/// Errors of kubectl v1.9 that go away by themselves: no API server answers, or not now.
const PASSING: [&str; 12] = [
    "The connection to the server ",
    "Unable to connect to the server",
    "dial tcp ",
    "net/http: ",
    "connection reset by peer",
    "(ServiceUnavailable)",
    "Timeout)",
    "etcdserver: ",
    // Another master applied the same manifest at this moment.
    "(AlreadyExists)",
    "(Conflict)",
    // kubectl's own limit of time for a request, while the API server accepts connections.
    "Client.Timeout exceeded",
    "context deadline exceeded",
];

/// Whether kubectl's error is a refusal of the manifest by the API server. Other errors may go away
/// by themselves.
pub fn is_refusal(said: &str) -> bool {
    !PASSING.iter().any(|sign| said.contains(sign))
}

/// The API server's refusal, with the next step if the reason is known.
pub fn explained(refusal: &str) -> String {
    let text = refusal.trim().lines().last().unwrap_or_default();
    if text.contains("provided port is already allocated") {
        return tr!(
            "{text}: another service uses this nodePort; find it with `kubectl get services \
             --all-namespaces`, and choose another in the manifest",
            text
        );
    }
    if text.contains("provided port is not in the valid range") {
        return tr!(
            "{text}: change the nodePort in the manifest, or the range in the setting \
             `nodePortRange`",
            text
        );
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
            "error when creating \"a.yaml\": Error from server (AlreadyExists): roles \"a\" already exists",
            "error when creating \"a.yaml\": Post \"https://192.168.1.102:6443/apis/apps/v1\": context deadline exceeded \
             (Client.Timeout exceeded while awaiting headers)",
            "Error from server (Conflict): Operation cannot be fulfilled on services \"a\": the object has been modified",
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
