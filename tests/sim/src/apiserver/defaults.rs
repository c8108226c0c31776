//! The objects of a new cluster: the namespaces, roles and bindings that the real server makes, as
//! far as the stand-ins use them.

use anyhow::Result;
use serde_json::{Value, json};

use crate::etcd::Store;
use crate::kinds::Kind;

use super::objects;

const READ: [&str; 3] = ["get", "list", "watch"];
const CERTIFICATES: &str = "certificates.k8s.io";
const BASIC_USER: &str = "system:basic-user";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// Writes missing objects; existing ones stay as they are.
///
/// # Errors etcd does not accept them.
pub fn write(store: &Store) -> Result<()> {
    let roles = roles();
    let bindings = bindings();
    let namespaces = ["default", "kube-public", "kube-system"]
        .map(|name| json!({"metadata": {"name": name}, "status": {"phase": "Active"}}));
    for (resource, made) in [
        ("namespaces", &namespaces[..]),
        ("clusterroles", &roles),
        ("clusterrolebindings", &bindings),
    ] {
        let Some(kind) = Kind::named(resource) else {
            continue;
        };
        for object in made {
            objects::write_new(store, kind, object.clone())?;
        }
    }
    Ok(())
}

fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources})
}

fn role(name: &str, rules: &[Value]) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "rules": rules,
    })
}

/// The rules of the Node authorizer, and of the role `system:node`, which v1.9 binds to no user.
pub fn node_rules() -> Vec<Value> {
    vec![
        rule(&["create"], "authentication.k8s.io", &["tokenreviews"]),
        rule(
            &["create"],
            "authorization.k8s.io",
            &["subjectaccessreviews", "localsubjectaccessreviews"],
        ),
        rule(&READ, "", &["services", "pods"]),
        rule(&["create", "get", "list", "watch"], "", &["nodes"]),
        rule(&["update", "patch"], "", &["nodes/status"]),
        rule(&["update", "patch", "delete"], "", &["nodes"]),
        rule(&["create", "update", "patch"], "", &["events"]),
        rule(&["create", "delete"], "", &["pods"]),
        rule(&["update"], "", &["pods/status"]),
        rule(&["get"], "", &["endpoints", "configmaps", "secrets"]),
        bootstrap_rule(),
    ]
}

fn bootstrap_rule() -> Value {
    let resources = ["certificatesigningrequests"];
    rule(
        &["create", "get", "list", "watch"],
        CERTIFICATES,
        &resources,
    )
}

/// The default roles.
pub fn roles() -> Vec<Value> {
    let events = || rule(&["create", "update", "patch"], "", &["events"]);
    let signing = |sub: &str| {
        let resource = format!("certificatesigningrequests/{sub}");
        role(
            &format!("system:certificates.k8s.io:certificatesigningrequests:{sub}"),
            &[rule(&["create"], CERTIFICATES, &[&resource])],
        )
    };
    let mut roles = vec![
        role(
            "cluster-admin",
            &[
                rule(&["*"], "*", &["*"]),
                json!({"verbs": ["*"], "nonResourceURLs": ["*"]}),
            ],
        ),
        discovery(),
        role(
            BASIC_USER,
            &[rule(
                &["create"],
                "authorization.k8s.io",
                &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            )],
        ),
        role("system:node", &node_rules()),
        role("system:node-bootstrapper", &[bootstrap_rule()]),
        role(
            "system:node-proxier",
            &[
                rule(&["list", "watch"], "", &["services", "endpoints"]),
                rule(&["get"], "", &["nodes"]),
                events(),
            ],
        ),
        role(
            "system:auth-delegator",
            &[
                rule(&["create"], "authentication.k8s.io", &["tokenreviews"]),
                rule(
                    &["create"],
                    "authorization.k8s.io",
                    &["subjectaccessreviews"],
                ),
            ],
        ),
        role(
            "system:kube-dns",
            &[rule(&["list", "watch"], "", &["endpoints", "services"])],
        ),
        signing("nodeclient"),
        signing("selfnodeclient"),
        controller_manager(),
        scheduler(),
        node_controller(),
        certificate_controller(),
    ];
    roles.extend(workload_controllers());
    roles
}

fn workload_controllers() -> impl Iterator<Item = Value> {
    WORKLOAD_CONTROLLERS.iter().map(|(name, rules)| {
        let rules: Vec<Value> = rules
            .iter()
            .map(|(verbs, groups, resources)| {
                json!({"verbs": verbs, "apiGroups": groups, "resources": resources})
            })
            .collect();
        role(&format!("system:controller:{name}"), &rules)
    })
}

type Rules = &'static [(
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
)];

const APPS: &[&str] = &["apps", "extensions"];

/// The controllers that make pods and the objects for them, and what each may do.
const WORKLOAD_CONTROLLERS: [(&str, Rules); 6] = [
    (
        "deployment-controller",
        &[
            (&["get", "list", "watch", "update"], APPS, &["deployments"]),
            (&["update"], APPS, &["deployments/status"]),
            (
                &[
                    "create", "delete", "get", "list", "patch", "update", "watch",
                ],
                APPS,
                &["replicasets"],
            ),
            (&["get", "list", "update", "watch"], &[""], &["pods"]),
        ],
    ),
    (
        "replicaset-controller",
        &[
            (&["get", "list", "watch", "update"], APPS, &["replicasets"]),
            (&["update"], APPS, &["replicasets/status"]),
            (
                &["create", "delete", "list", "patch", "watch"],
                &[""],
                &["pods"],
            ),
        ],
    ),
    (
        "daemon-set-controller",
        &[
            (&["get", "list", "watch"], APPS, &["daemonsets"]),
            (&["update"], APPS, &["daemonsets/status"]),
            (&["list", "watch"], &[""], &["nodes"]),
            (
                &["create", "delete", "list", "patch", "watch"],
                &[""],
                &["pods"],
            ),
        ],
    ),
    (
        "endpoint-controller",
        &[
            (&["get", "list", "watch"], &[""], &["services", "pods"]),
            (
                &["create", "delete", "get", "list", "update"],
                &[""],
                &["endpoints"],
            ),
        ],
    ),
    (
        "service-account-controller",
        &[(&["create"], &[""], &["serviceaccounts"])],
    ),
    (
        "generic-garbage-collector",
        &[(
            &["delete", "get", "list", "patch", "update", "watch"],
            &["*"],
            &["*"],
        )],
    ),
];

fn discovery() -> Value {
    let paths = [
        "/healthz",
        "/version",
        "/swaggerapi",
        "/swaggerapi/*",
        "/swagger.json",
        "/swagger-2.0.0.pb-v1",
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
    ];
    role(
        "system:discovery",
        &[json!({"verbs": ["get"], "nonResourceURLs": paths})],
    )
}

fn controller_manager() -> Value {
    let written = ["endpoints", "secrets", "serviceaccounts"];
    role(
        CONTROLLER_MANAGER,
        &[
            rule(&["create", "update", "patch"], "", &["events"]),
            rule(&["create", "get", "update"], "", &written),
            rule(&["get"], "", &["namespaces"]),
            rule(&["delete"], "", &["secrets"]),
            rule(&["create"], "authentication.k8s.io", &["tokenreviews"]),
            rule(&["list", "watch"], "*", &["*"]),
        ],
    )
}

fn scheduler() -> Value {
    let mut lease = rule(&["get", "update", "patch", "delete"], "", &["endpoints"]);
    lease["resourceNames"] = json!(["kube-scheduler"]);
    role(
        "system:kube-scheduler",
        &[
            rule(&["create", "update", "patch"], "", &["events"]),
            rule(&["create"], "", &["endpoints"]),
            lease,
            rule(&READ, "", &["nodes", "services", "replicationcontrollers"]),
            rule(&["get", "list", "watch", "delete"], "", &["pods"]),
            rule(&["create"], "", &["pods/binding", "bindings"]),
            rule(&["patch", "update"], "", &["pods/status"]),
        ],
    )
}

fn node_controller() -> Value {
    role(
        "system:controller:node-controller",
        &[
            rule(
                &["get", "list", "update", "delete", "patch"],
                "",
                &["nodes"],
            ),
            rule(&["patch", "update"], "", &["nodes/status", "pods/status"]),
            rule(&["list", "delete"], "", &["pods"]),
        ],
    )
}

fn certificate_controller() -> Value {
    let parts = [
        "certificatesigningrequests/approval",
        "certificatesigningrequests/status",
    ];
    role(
        "system:controller:certificate-controller",
        &[
            rule(
                &["get", "list", "watch", "delete"],
                CERTIFICATES,
                &["certificatesigningrequests"],
            ),
            rule(&["update"], CERTIFICATES, &parts),
            rule(
                &["create"],
                "authorization.k8s.io",
                &["subjectaccessreviews"],
            ),
        ],
    )
}

/// The default bindings. The controllers' roles are bound to the controller-manager itself, and to
/// the service accounts that the real one uses: the stand-in has no tokens for these.
pub fn bindings() -> Vec<Value> {
    let user = |name: &str| json!({"kind": "User", "name": name});
    let group = |name: &str| json!({"kind": "Group", "name": name});
    let account =
        |name: &str| json!({"kind": "ServiceAccount", "namespace": "kube-system", "name": name});
    let everybody = || {
        vec![
            group("system:authenticated"),
            group("system:unauthenticated"),
        ]
    };
    let controller = |name: &str| {
        let role = format!("system:controller:{name}");
        binding(&role, &role, &[account(name), user(CONTROLLER_MANAGER)])
    };
    let mut bindings = vec![
        binding("cluster-admin", "cluster-admin", &[group("system:masters")]),
        binding("system:discovery", "system:discovery", &everybody()),
        binding(BASIC_USER, BASIC_USER, &everybody()),
        binding("system:node", "system:node", &[]),
        binding(
            "system:node-proxier",
            "system:node-proxier",
            &[user("system:kube-proxy")],
        ),
        binding(
            CONTROLLER_MANAGER,
            CONTROLLER_MANAGER,
            &[user(CONTROLLER_MANAGER)],
        ),
        binding(
            "system:kube-scheduler",
            "system:kube-scheduler",
            &[user("system:kube-scheduler")],
        ),
        binding("system:kube-dns", "system:kube-dns", &[account("kube-dns")]),
        controller("node-controller"),
        controller("certificate-controller"),
    ];
    bindings.extend(WORKLOAD_CONTROLLERS.map(|(name, _)| controller(name)));
    bindings
}

fn binding(name: &str, role: &str, subjects: &[Value]) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "subjects": subjects,
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role,
        },
    })
}
