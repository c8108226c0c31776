//! The kinds of objects that the stand-ins know: their names in the API, etcd and kubectl.

/// A kind of object in one version of one group of the API.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group; empty for the core one.
    pub group: &'static str,
    /// The version of the group.
    pub version: &'static str,
    /// The name in paths, a plural.
    pub resource: &'static str,
    /// The name in objects.
    pub kind: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Other names of the resource in kubectl: the singular first.
    pub names: &'static [&'static str],
    /// The directory in etcd, as in the real server.
    pub directory: &'static str,
}

const RBAC: &str = "rbac.authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";

/// If a kind is served in several groups, kubectl uses the first.
pub const KINDS: [Kind; 27] = [
    core("nodes", "Node", false, &["node", "no"], "minions"),
    core("namespaces", "Namespace", false, &["namespace", "ns"], ""),
    core("pods", "Pod", true, &["pod", "po"], ""),
    core("events", "Event", true, &["event", "ev"], ""),
    core(
        "endpoints",
        "Endpoints",
        true,
        &["endpoints", "ep"],
        "services/endpoints",
    ),
    core(
        "services",
        "Service",
        true,
        &["service", "svc"],
        "services/specs",
    ),
    core(
        "serviceaccounts",
        "ServiceAccount",
        true,
        &["serviceaccount", "sa"],
        "",
    ),
    core("configmaps", "ConfigMap", true, &["configmap", "cm"], ""),
    core("secrets", "Secret", true, &["secret"], ""),
    of_rbac("clusterroles", "ClusterRole", false, &["clusterrole"]),
    of_rbac(
        "clusterrolebindings",
        "ClusterRoleBinding",
        false,
        &["clusterrolebinding"],
    ),
    of_rbac("roles", "Role", true, &["role"]),
    of_rbac("rolebindings", "RoleBinding", true, &["rolebinding"]),
    Kind {
        group: CERTIFICATES,
        version: "v1beta1",
        resource: "certificatesigningrequests",
        kind: "CertificateSigningRequest",
        namespaced: false,
        names: &["certificatesigningrequest", "csr"],
        directory: "certificatesigningrequests",
    },
    deployments("extensions", "v1beta1"),
    deployments("apps", "v1beta1"),
    deployments("apps", "v1beta2"),
    deployments("apps", "v1"),
    daemon_sets("extensions", "v1beta1"),
    daemon_sets("apps", "v1beta2"),
    daemon_sets("apps", "v1"),
    replica_sets("extensions", "v1beta1"),
    replica_sets("apps", "v1beta2"),
    replica_sets("apps", "v1"),
    network_policies("networking.k8s.io", "v1"),
    network_policies("extensions", "v1beta1"),
    Kind {
        group: "extensions",
        version: "v1beta1",
        resource: "podsecuritypolicies",
        kind: "PodSecurityPolicy",
        namespaced: false,
        names: &["podsecuritypolicy", "psp"],
        directory: "podsecuritypolicy",
    },
];

const fn core(
    resource: &'static str,
    kind: &'static str,
    namespaced: bool,
    names: &'static [&'static str],
    directory: &'static str,
) -> Kind {
    Kind {
        group: "",
        version: "v1",
        resource,
        kind,
        namespaced,
        names,
        directory: if directory.is_empty() {
            resource
        } else {
            directory
        },
    }
}

const fn of_rbac(
    resource: &'static str,
    kind: &'static str,
    namespaced: bool,
    names: &'static [&'static str],
) -> Kind {
    Kind {
        group: RBAC,
        version: "v1",
        resource,
        kind,
        namespaced,
        names,
        directory: resource,
    }
}

const fn deployments(group: &'static str, version: &'static str) -> Kind {
    let names = &["deployment", "deploy"];
    grouped((group, version), "deployments", "Deployment", names)
}

const fn daemon_sets(group: &'static str, version: &'static str) -> Kind {
    let names = &["daemonset", "ds"];
    grouped((group, version), "daemonsets", "DaemonSet", names)
}

const fn replica_sets(group: &'static str, version: &'static str) -> Kind {
    let names = &["replicaset", "rs"];
    grouped((group, version), "replicasets", "ReplicaSet", names)
}

const fn network_policies(group: &'static str, version: &'static str) -> Kind {
    let names = &["networkpolicy", "netpol"];
    grouped((group, version), "networkpolicies", "NetworkPolicy", names)
}

const fn grouped(
    (group, version): (&'static str, &'static str),
    resource: &'static str,
    kind: &'static str,
    names: &'static [&'static str],
) -> Kind {
    Kind {
        group,
        version,
        resource,
        kind,
        namespaced: true,
        names,
        directory: resource,
    }
}

impl Kind {
    /// The kind that a path of the API names.
    pub fn at(group: &str, version: &str, resource: &str) -> Option<&'static Self> {
        KINDS.iter().find(|known| {
            known.group == group && known.version == version && known.resource == resource
        })
    }

    /// The kind that an object names.
    pub fn of(api_version: &str, kind: &str) -> Option<&'static Self> {
        KINDS
            .iter()
            .find(|known| known.kind == kind && known.api_version() == api_version)
    }

    /// The kind that a user of kubectl names.
    pub fn named(word: &str) -> Option<&'static Self> {
        let word = word.to_lowercase();
        KINDS
            .iter()
            .find(|known| known.resource == word || known.names.contains(&word.as_str()))
    }

    /// The `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The resource with its group, in the form for messages.
    pub fn full_resource(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    /// Whether its objects have a generation, which counts changes of the spec.
    pub fn has_generation(&self) -> bool {
        let workloads = [
            "deployments",
            "daemonsets",
            "replicasets",
            "networkpolicies",
        ];
        workloads.contains(&self.resource)
    }

    /// The name of one object in kubectl's output.
    pub fn singular(&self) -> &'static str {
        self.names.first().copied().unwrap_or(self.resource)
    }

    /// The path of its objects in a namespace, or in all of them; of one of them if
    /// a name is given.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        let namespace = namespace
            .filter(|_| self.namespaced)
            .map(|namespace| format!("/namespaces/{namespace}"))
            .unwrap_or_default();
        let name = name.map(|name| format!("/{name}")).unwrap_or_default();
        format!("{root}{namespace}/{}{name}", self.resource)
    }

    /// Whether a separate request writes an object's status.
    pub fn has_status(&self) -> bool {
        const WITH: [&str; 8] = [
            "nodes",
            "namespaces",
            "pods",
            "services",
            "deployments",
            "daemonsets",
            "replicasets",
            "certificatesigningrequests",
        ];
        WITH.contains(&self.resource)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn kubectl_takes_the_group_it_took_in_its_time() {
        assert_eq!(Kind::named("deploy").unwrap().group, "extensions");
        assert_eq!(
            Kind::named("csr").unwrap().kind,
            "CertificateSigningRequest"
        );
        assert_eq!(Kind::named("foo"), None);
        assert_eq!(Kind::of("apps/v1", "DaemonSet").unwrap().group, "apps");
    }

    #[test]
    fn paths_are_those_of_the_api() {
        let roles = Kind::named("clusterrole").unwrap();
        assert_eq!(
            roles.path(Some("default"), Some("a")),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/a"
        );
        let services = Kind::named("svc").unwrap();
        assert_eq!(services.path(None, None), "/api/v1/services");
        assert_eq!(
            services.path(Some("kube-system"), Some("a")),
            "/api/v1/namespaces/kube-system/services/a"
        );
    }
}
