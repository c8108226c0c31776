//! The admission plugin PodSecurityPolicy: whether a policy that the user or the pod's service account may use
//! allows a new pod. It judges privileges, the node's namespaces, volumes and users, and changes no pod.

use anyhow::Result;
use serde_json::Value;

use crate::etcd::Store;
use crate::server::Response;
use crate::user::User;

use super::attributes::{Attributes, Resource};
use super::rbac::Policy;
use super::{answers, tokens};

/// The lists of containers in a pod's spec.
const LISTS: [&str; 2] = ["initContainers", "containers"];

/// The refusal of a pod that no policy allows; `None` if one does.
///
/// # Errors
/// etcd does not answer, or has a damaged object.
pub fn refusal(store: &Store, user: &User, pod: &Value) -> Result<Option<Response>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, namespace) = (
        text(&pod["metadata"]["name"]),
        text(&pod["metadata"]["namespace"]),
    );
    let account = match text(&pod["spec"]["serviceAccountName"]) {
        none if none.is_empty() => None,
        account => Some(tokens::account_user(&namespace, &account)),
    };
    let roles = Policy::read(store, &namespace)?;
    let mut problems = Vec::new();
    for entry in store.recent("/podsecuritypolicy/")?.iter() {
        let policy: Value = serde_json::from_slice(&entry.value)?;
        let asked = uses(&policy["metadata"]["name"], &namespace);
        let may = |user: &User| user.is_in("system:masters") || roles.allows(user, &asked);
        if !account.as_ref().is_some_and(may) && !may(user) {
            continue;
        }
        match problem(&policy["spec"], &pod["spec"]) {
            None => return Ok(None),
            Some(problem) => problems.push(problem),
        }
    }
    let message = format!(
        "pods {name:?} is forbidden: unable to validate against any pod security policy: [{}]",
        problems.join(" ")
    );
    Ok(Some(answers::status(403, "Forbidden", &message)))
}

/// The request to use a policy, in the group that v1.9.0 asks for.
fn uses(policy: &Value, namespace: &str) -> Attributes {
    Attributes {
        verb: "use".to_owned(),
        path: String::new(),
        resource: Some(Resource {
            group: "extensions".to_owned(),
            namespace: namespace.to_owned(),
            resource: "podsecuritypolicies".to_owned(),
            name: policy.as_str().unwrap_or_default().to_owned(),
            ..Resource::default()
        }),
    }
}

/// Why a policy does not allow a pod.
fn problem(policy: &Value, pod: &Value) -> Option<String> {
    for shared in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod[shared] == true && policy[shared] != true {
            return Some(format!(
                "spec.securityContext.{shared}: Invalid value: true: {shared} is not allowed to be used"
            ));
        }
    }
    let allowed: Vec<&str> = strings(&policy["volumes"]).collect();
    let volumes = pod["volumes"].as_array().into_iter().flatten();
    for volume in volumes {
        let kinds = volume.as_object().into_iter().flatten();
        let mut kinds = kinds
            .map(|(kind, _)| kind.as_str())
            .filter(|kind| *kind != "name");
        let kind = kinds.next().unwrap_or("emptyDir");
        if !allowed.contains(&"*") && !allowed.contains(&kind) {
            return Some(format!(
                "spec.volumes: Invalid value: {kind:?}: {kind} volumes are not allowed to be used"
            ));
        }
    }
    let lists = LISTS.iter().filter_map(|list| pod[*list].as_array());
    lists
        .flatten()
        .find_map(|container| of_container(policy, pod, container))
}

fn of_container(policy: &Value, pod: &Value, container: &Value) -> Option<String> {
    let context = &container["securityContext"];
    if context["privileged"] == true && policy["privileged"] != true {
        return Some(
            "spec.containers.securityContext.privileged: Invalid value: true: Privileged containers are not allowed"
                .to_owned(),
        );
    }
    let user = match &context["runAsUser"] {
        Value::Null => &pod["securityContext"]["runAsUser"],
        own => own,
    };
    // Without a user, the kubelet decides when it sees the image.
    if policy["runAsUser"]["rule"] == "MustRunAsNonRoot" && user.as_u64() == Some(0) {
        return Some(
            "spec.containers.securityContext.runAsUser: Invalid value: 0: running with the root UID is forbidden"
                .to_owned(),
        );
    }
    None
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_policy_does_not_name_is_refused() {
        let restricted = json!({
            "volumes": ["emptyDir", "secret"],
            "runAsUser": {"rule": "MustRunAsNonRoot"},
        });
        let all = json!({
            "privileged": true, "hostNetwork": true, "volumes": ["*"],
            "runAsUser": {"rule": "RunAsAny"},
        });
        let plain =
            json!({"containers": [{"name": "a"}], "volumes": [{"name": "v", "emptyDir": {}}]});
        assert_eq!(problem(&restricted, &plain), None);
        for pod in [
            json!({"hostNetwork": true, "containers": []}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": []}),
            json!({"containers": [{"securityContext": {"privileged": true}}]}),
            json!({"containers": [{"securityContext": {"runAsUser": 0}}]}),
            json!({"securityContext": {"runAsUser": 0}, "containers": [{}]}),
        ] {
            assert!(problem(&restricted, &pod).is_some(), "{pod}");
            assert_eq!(problem(&all, &pod), None, "{pod}");
        }
    }
}
