//! PodSecurityPolicy with the policies of the product: who may run which pods, and where.

use std::fs;

use crate::harness::{Cluster, flag, said};

/// The product's policies.
const POLICIES: &str = include_str!("../../../../bundle/templates/manifests/pod-security.yaml");

/// Whoever creates pods may create pods, and nothing more.
const CREATORS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: 'test:pods'}
rules:
- {apiGroups: [''], resources: [pods], verbs: [create, get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: 'test:pods'}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'test:pods'}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:authenticated'}
";

#[test]
fn privileged_pods_run_in_kube_system_only() {
    let cluster = Cluster::start();
    let _server = cluster.apiserver(&[flag("admission-control", "PodSecurityPolicy")]);
    let path = cluster.directory.path().join("objects.yaml");
    let create = |kubeconfig: &std::path::Path, text: &str| {
        fs::write(&path, text).unwrap();
        said(&cluster.kubectl(kubeconfig, &["apply", "-f", path.to_str().unwrap()]))
    };
    let pod = |name: &str, namespace: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}, \
             containers: [{{name: c, image: pause}}]}}\n"
        )
    };
    let (plain, wide) = ("restartPolicy: Always", "hostNetwork: true");
    let admin = cluster.kubeconfig("admin", "system:masters");
    assert!(!create(&admin, CREATORS).contains("rror"));
    let user = cluster.kubeconfig("someone", "people");
    // Without any policy, nobody starts a pod.
    let refused = create(&user, &pod("a", "default", plain));
    assert!(refused.contains("any pod security policy: []"), "{refused}");

    let applied = create(&admin, POLICIES);
    assert!(!applied.contains("rror"), "{applied}");
    let created = create(&user, &pod("b", "default", plain));
    assert!(created.contains("created"), "{created}");
    for namespace in ["default", "kube-system"] {
        let refused = create(&user, &pod("c", namespace, wide));
        assert!(refused.contains("hostNetwork is not allowed"), "{refused}");
    }
    // The controller that creates the pods of every namespace is a service account of kube-system.
    let controller = cluster.kubeconfig(
        "system:serviceaccount:kube-system:replicaset-controller",
        "system:serviceaccounts:kube-system",
    );
    let created = create(&controller, &pod("d", "kube-system", wide));
    assert!(created.contains("created"), "{created}");
    let refused = create(&controller, &pod("e", "default", wide));
    assert!(refused.contains("hostNetwork is not allowed"), "{refused}");
}
