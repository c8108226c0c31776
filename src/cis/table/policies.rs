//! Sections 1.6 and 1.7: what only a person can decide, and PodSecurityPolicy.

use super::{Item, PLUGINS, Rule, Section};

const POLICIES_OFF: &str =
    "without `podSecurityPolicy: on`, the API server asks no policy (item 1.1.24)";

const fn person(number: &'static str, requires: &'static str, task: &'static str) -> Item {
    Item::new(number, requires, Rule::Person(task)).unscored()
}

pub const GENERAL: Section = Section {
    number: "1.6",
    title: "General",
    items: &[
        person(
            "1.6.1",
            "only who needs it has the role cluster-admin",
            "list who has it: `kubectl get clusterrolebindings -o wide`. The appliance binds nobody to it; the \
             admin's certificate has its rights by its group `system:masters`",
        ),
        person(
            "1.6.2",
            "there are policies for pods",
            "set `podSecurityPolicy: on`, then list them: `kubectl get podsecuritypolicies`",
        ),
        person(
            "1.6.3",
            "namespaces separate what belongs to different owners",
            "list them: `kubectl get namespaces`",
        ),
        person(
            "1.6.4",
            "network policies divide the network",
            "list them: `kubectl get networkpolicies --all-namespaces`. `defaultDeny: on` adds one for the \
             namespace `default`",
        )
        .second_level(),
        person(
            "1.6.5",
            "pods run with docker's seccomp profile",
            "`podSecurityPolicy: on` sets it for pods outside kube-system. Without it, look for the annotation \
             `seccomp.security.alpha.kubernetes.io/pod: docker/default` in your manifests",
        )
        .second_level(),
        person(
            "1.6.6",
            "pods and containers have security contexts",
            "look at your own manifests for `securityContext`. `podSecurityPolicy: on` refuses pods that run as \
             root",
        )
        .second_level(),
        person(
            "1.6.7",
            "a webhook decides which images may run",
            "the appliance has no such webhook. Images come from the bundle, and each has a checksum: `appliance help \
             bundles`",
        )
        .second_level(),
        person(
            "1.6.8",
            "network policies fit what runs",
            "as item 1.6.4; look at each policy: `kubectl describe networkpolicies --all-namespaces`",
        )
        .second_level(),
        person(
            "1.6.9",
            "policies and roles limit privileged containers",
            "set `podSecurityPolicy: on`: then only kube-system may run them. List other roles that allow it: \
             `kubectl get clusterroles -o yaml`",
        )
        .second_level(),
    ],
};

/// An item of section 1.7: with the policies on, a person must look at them, because others can add some.
const fn policy(number: &'static str, requires: &'static str, rule: &'static [Rule]) -> Item {
    Item::new(number, requires, Rule::All(rule))
        .unscored()
        .differs(Rule::Lacks(PLUGINS, "PodSecurityPolicy"), POLICIES_OFF)
}

const ON: Rule = Rule::Holds(PLUGINS, "PodSecurityPolicy");

pub const POD_SECURITY: Section = Section {
    number: "1.7",
    title: "PodSecurityPolicy (version 1.3.0 of the benchmark)",
    items: &[
        policy(
            "1.7.1",
            "a policy admits no privileged containers",
            &[
                ON,
                Rule::Person(
                    "`privileged` is not true in the policy of all users: `kubectl get psp appliance-restricted -o \
                     yaml`. Look for other policies: `kubectl get psp`",
                ),
            ],
        ),
        policy(
            "1.7.2",
            "a policy admits no pods that see the node's processes",
            &[ON, Rule::Person("as item 1.7.1, for `hostPID`")],
        ),
        policy(
            "1.7.3",
            "a policy admits no pods that share the node's IPC",
            &[ON, Rule::Person("as item 1.7.1, for `hostIPC`")],
        ),
        policy(
            "1.7.4",
            "a policy admits no pods in the node's network",
            &[ON, Rule::Person("as item 1.7.1, for `hostNetwork`")],
        ),
        policy(
            "1.7.5",
            "a policy lets no process gain rights",
            &[
                ON,
                Rule::Person("as item 1.7.1: `allowPrivilegeEscalation` is false"),
            ],
        ),
        policy(
            "1.7.6",
            "a policy admits no containers of root",
            &[
                ON,
                Rule::Person("as item 1.7.1: `runAsUser` has the rule `MustRunAsNonRoot`"),
            ],
        )
        .second_level(),
        policy(
            "1.7.7",
            "a policy takes the capabilities from containers",
            &[
                ON,
                Rule::Person("as item 1.7.1: `requiredDropCapabilities` is `ALL`"),
            ],
        )
        .second_level(),
    ],
};
