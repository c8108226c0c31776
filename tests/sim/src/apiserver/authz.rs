//! Who may: the modes, and under RBAC the roles v1.9.0 binds by default, as far
//! as they reach what this server serves.

use crate::server::Request;

use super::authn::User;

/// Tells who may.
pub struct Authorizer {
    open: bool,
    roles: bool,
    node: bool,
}

const LEASES: &str = "/api/v1/namespaces/kube-system/endpoints/";
const NODES: &str = "/api/v1/nodes";

/// What the role system:discovery lets everybody read.
const DISCOVERY: [&str; 3] = ["/healthz", "/version", "/api"];

impl Authorizer {
    /// With the modes of `--authorization-mode`.
    pub fn new(modes: &[&str]) -> Self {
        Self {
            open: modes.contains(&"AlwaysAllow"),
            roles: modes.contains(&"RBAC"),
            node: modes.contains(&"Node"),
        }
    }

    /// Whether the user may do this.
    ///
    /// # Errors
    /// The refusal, worded as the real server words it.
    pub fn decide(&self, user: &User, request: &Request) -> Result<(), String> {
        let by_role = self.roles && role_allows(user, request);
        let as_node = self.node && node_allows(user, request);
        if self.open || by_role || as_node {
            Ok(())
        } else {
            Err(refusal(user, request))
        }
    }
}

fn role_allows(user: &User, request: &Request) -> bool {
    let path = request.path.as_str();
    let reads = request.method == "GET";
    if user.is_in("system:masters") {
        return true;
    }
    if reads && DISCOVERY.contains(&path) {
        return true;
    }
    let node = path == NODES || path.starts_with("/api/v1/nodes/");
    match user.name.as_str() {
        "system:kube-controller-manager" => node || path == lease("kube-controller-manager"),
        "system:kube-scheduler" => (node && reads) || path == lease("kube-scheduler"),
        "system:kube-proxy" => node && reads,
        _ => false,
    }
}

fn lease(name: &str) -> String {
    format!("{LEASES}{name}")
}

/// The Node mode: a kubelet may read nodes and write its own.
fn node_allows(user: &User, request: &Request) -> bool {
    let Some(name) = user.name.strip_prefix("system:node:") else {
        return false;
    };
    let own = format!("{NODES}/{name}");
    let path = request.path.as_str();
    user.is_in("system:nodes")
        && (path == own
            || (request.method == "GET" && (path == NODES || path.starts_with("/api/v1/nodes/"))))
}

fn refusal(user: &User, request: &Request) -> String {
    let name = &user.name;
    let verb = super::audit::verb(&request.method);
    match request.path.strip_prefix("/api/v1/") {
        Some(resource) => {
            let kind = resource.split('/').next().unwrap_or_default();
            format!(
                "{kind} is forbidden: User \"{name}\" cannot {verb} {kind} at the cluster scope"
            )
        }
        None => format!(
            "forbidden: User \"{name}\" cannot {verb} path \"{}\"",
            request.path
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn decide(modes: &[&str], name: &str, group: &str, method: &str, path: &str) -> bool {
        let user = User {
            name: name.to_owned(),
            groups: vec![group.to_owned()],
        };
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            bearer: None,
            certificate: None,
            body: Vec::new(),
        };
        Authorizer::new(modes).decide(&user, &request).is_ok()
    }

    #[test]
    fn administrators_may_everything_under_rbac() {
        assert!(decide(&["RBAC"], "admin", "system:masters", "GET", NODES));
        assert!(!decide(&["Node"], "admin", "system:masters", "GET", NODES));
        assert!(!decide(&["RBAC"], "admin", "k8s", "GET", NODES));
    }

    #[test]
    fn a_component_may_write_its_own_lease_only() {
        let scheduler = lease("kube-scheduler");
        let may = |name: &str| decide(&["RBAC"], name, "", "PUT", &scheduler);
        assert!(may("system:kube-scheduler"));
        assert!(!may("system:kube-controller-manager"));
        assert!(!may("kube-scheduler"));
    }

    #[test]
    fn a_kubelet_writes_its_own_node_and_only_in_node_mode() {
        let may = |modes: &[&str], group: &str, path: &str| {
            decide(modes, "system:node:a", group, "PUT", path)
        };
        assert!(may(&["Node", "RBAC"], "system:nodes", "/api/v1/nodes/a"));
        assert!(!may(&["Node", "RBAC"], "system:nodes", "/api/v1/nodes/b"));
        assert!(!may(&["Node", "RBAC"], "k8s", "/api/v1/nodes/a"));
        assert!(!may(&["RBAC"], "system:nodes", "/api/v1/nodes/a"));
    }
}
