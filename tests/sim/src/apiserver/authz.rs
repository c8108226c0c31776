//! Authorization: the modes, and what each of them allows.

use anyhow::Result;
use serde::Deserialize;

use crate::etcd::Store;
use crate::user::User;

use super::attributes::Attributes;
use super::defaults;
use super::rbac::{Policy, Rule};

/// Decides what a user may do.
pub struct Authorizer {
    open: bool,
    roles: bool,
    node: bool,
    node_rules: Vec<Rule>,
}

impl Authorizer {
    /// With the modes of `--authorization-mode`.
    pub fn new(modes: &[&str]) -> Self {
        let rules = defaults::node_rules();
        Self {
            open: modes.contains(&"AlwaysAllow"),
            roles: modes.contains(&"RBAC"),
            node: modes.contains(&"Node"),
            node_rules: rules.iter().flat_map(Rule::deserialize).collect(),
        }
    }

    /// Whether the user may do this.
    ///
    /// # Errors
    /// The roles cannot be read.
    pub fn allows(&self, store: &Store, user: &User, asked: &Attributes) -> Result<bool> {
        self.decide(user, asked, || {
            let namespace = asked.resource.as_ref().map(|r| r.namespace.as_str());
            Policy::read(store, namespace.unwrap_or_default())
        })
    }

    fn decide(
        &self,
        user: &User,
        asked: &Attributes,
        policy: impl FnOnce() -> Result<Policy>,
    ) -> Result<bool> {
        // In every mode, the real server allows everything to this group.
        if self.open || user.is_in("system:masters") || (self.node && self.as_node(user, asked)) {
            return Ok(true);
        }
        Ok(self.roles && policy()?.allows(user, asked))
    }

    /// The Node mode, with the restrictions of the admission plugin `NodeRestriction`: a kubelet
    /// may only write its own node.
    fn as_node(&self, user: &User, asked: &Attributes) -> bool {
        let (Some(node), Some(resource)) = (user.node(), &asked.resource) else {
            return false;
        };
        let own = resource.name.is_empty() || resource.name == node;
        let reads = matches!(asked.verb.as_str(), "get" | "list" | "watch");
        (resource.resource != "nodes" || own || reads)
            && self.node_rules.iter().any(|rule| rule.allows(asked))
    }
}

/// The refusal, in the words of the real server.
pub fn refusal(user: &User, asked: &Attributes) -> String {
    let (name, verb) = (&user.name, &asked.verb);
    let Some(resource) = &asked.resource else {
        return format!(
            "forbidden: User \"{name}\" cannot {verb} path \"{}\"",
            asked.path
        );
    };
    let mut full = resource.resource.clone();
    if !resource.group.is_empty() {
        full = format!("{full}.{}", resource.group);
    }
    let mut what = full.clone();
    if !resource.name.is_empty() {
        what = format!("{what} \"{}\"", resource.name);
    }
    if !resource.subresource.is_empty() {
        full = format!("{full}/{}", resource.subresource);
    }
    let place = if resource.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", resource.namespace)
    };
    format!("{what} is forbidden: User \"{name}\" cannot {verb} {full} {place}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::server::Request;

    const NODES: &str = "/api/v1/nodes";
    const REQUESTS: &str = "/apis/certificates.k8s.io/v1beta1/certificatesigningrequests";

    fn decide(modes: &[&str], name: &str, group: &str, method: &str, path: &str) -> bool {
        let user = User {
            name: name.to_owned(),
            groups: vec![group.to_owned()],
        };
        let asked = Attributes::of(&Request::test(method, path, ""));
        let policy = || Policy::of(&defaults::roles(), &defaults::bindings());
        Authorizer::new(modes)
            .decide(&user, &asked, policy)
            .unwrap()
    }

    #[test]
    fn administrators_may_everything() {
        assert!(decide(&["RBAC"], "admin", "system:masters", "GET", NODES));
        assert!(decide(&["Node"], "admin", "system:masters", "GET", NODES));
        assert!(!decide(&["RBAC"], "admin", "k8s", "GET", NODES));
    }

    #[test]
    fn a_component_may_write_its_lease() {
        let lease = |name: &str| format!("/api/v1/namespaces/kube-system/endpoints/{name}");
        let may = |user: &str, name: &str| decide(&["RBAC"], user, "", "PUT", &lease(name));
        assert!(may("system:kube-scheduler", "kube-scheduler"));
        assert!(!may("system:kube-scheduler", "kube-controller-manager"));
        assert!(may(
            "system:kube-controller-manager",
            "kube-controller-manager"
        ));
        assert!(!may("kube-scheduler", "kube-scheduler"));
    }

    #[test]
    fn a_kubelet_writes_its_own_node_and_only_in_node_mode() {
        let may = |modes: &[&str], group: &str, path: &str| {
            decide(modes, "system:node:a", group, "PUT", path)
        };
        assert!(may(&["Node", "RBAC"], "system:nodes", "/api/v1/nodes/a"));
        assert!(may(
            &["Node", "RBAC"],
            "system:nodes",
            "/api/v1/nodes/a/status"
        ));
        assert!(!may(&["Node", "RBAC"], "system:nodes", "/api/v1/nodes/b"));
        assert!(!may(&["Node", "RBAC"], "k8s", "/api/v1/nodes/a"));
        assert!(!may(&["RBAC"], "system:nodes", "/api/v1/nodes/a"));
    }

    #[test]
    fn nobody_may_ask_for_a_node_certificate_by_default() {
        let may =
            |name: &str, group: &str| decide(&["Node", "RBAC"], name, group, "POST", REQUESTS);
        assert!(!may("kubelet-bootstrap", "system:bootstrappers"));
        assert!(!may("kubelet-bootstrap", "system:kubelet-bootstrap"));
        assert!(may("system:node:a", "system:nodes"));
        let signing = format!("{REQUESTS}/x/nodeclient");
        assert!(!decide(
            &["Node", "RBAC"],
            "system:node:a",
            "system:nodes",
            "POST",
            &signing
        ));
    }

    #[test]
    fn a_refusal_names_who_what_and_where() {
        let user = User::authenticated("u".into(), Vec::new());
        let of = |method: &str, path: &str| {
            refusal(&user, &Attributes::of(&Request::test(method, path, "")))
        };
        assert_eq!(
            of("GET", "/api/v1/nodes/x/status"),
            "nodes \"x\" is forbidden: User \"u\" cannot get nodes/status at the cluster scope"
        );
        assert_eq!(
            of("GET", "/apis/apps/v1/namespaces/a/deployments"),
            "deployments.apps is forbidden: User \"u\" cannot list deployments.apps in the \
             namespace \"a\""
        );
        assert_eq!(
            of("GET", "/foo"),
            "forbidden: User \"u\" cannot get path \"/foo\""
        );
    }
}
