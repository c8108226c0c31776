//! The state of an add-on, from the cluster's objects.

use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::language::tr;

use super::object::{condition, items, text};

/// How long an add-on may take after the cluster has a node that can run pods. Later, a missing
/// add-on is a problem. `appliance install` waits as long for a healthy node.
const BRING_UP: Duration = Duration::minutes(15);

/// The state of an add-on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything is available; the text describes it.
    Available(String),
    /// Not available yet; the text is the reason.
    Waiting(String),
    /// Not available, and this will not change by itself; the text is the reason and the next step.
    Stuck(String),
}

/// The cluster, from the list of its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The nodes that accept pods: the time since when each one does, if it is known.
    pub able: Vec<Option<OffsetDateTime>>,
    /// How many nodes there are.
    pub known: usize,
}

impl Cluster {
    /// The cluster from a list of nodes of the API.
    pub fn of(list: &Value) -> Cluster {
        let items = items(list);
        Cluster {
            able: items.iter().copied().filter_map(able).collect(),
            known: items.len(),
        }
    }

    /// Whether the cluster has been up so long at `now` that everything should be available.
    pub fn is_up(&self, now: OffsetDateTime) -> bool {
        let since = self.able.iter().flatten().min();
        since.is_some_and(|since| now - *since > BRING_UP)
    }
}

fn able(node: &Value) -> Option<Option<OffsetDateTime>> {
    let ready = condition(&node["status"]["conditions"], "Ready", "True")?;
    if node["spec"]["unschedulable"] == true {
        return None;
    }
    let since = text(&ready["lastTransitionTime"]);
    Some(OffsetDateTime::parse(since, &Rfc3339).ok())
}

/// How many pods an object needs, and how many are available; `None` for an object without pods.
fn count(object: &Value) -> Option<(u64, u64)> {
    let number = |value: &Value| value.as_u64();
    let (spec, status) = (&object["spec"], &object["status"]);
    let wanted = || number(&spec["replicas"]).unwrap_or(1);
    let found = |field: &str| number(&status[field]).unwrap_or(0);
    let (wanted, found) = match text(&object["kind"]) {
        "Deployment" => (
            wanted(),
            found("availableReplicas").min(found("updatedReplicas")),
        ),
        "StatefulSet" | "ReplicaSet" | "ReplicationController" => {
            (wanted(), found("readyReplicas"))
        }
        "DaemonSet" => (
            found("desiredNumberScheduled"),
            found("numberAvailable").min(found("updatedNumberScheduled")),
        ),
        "Job" => (
            number(&spec["completions"]).unwrap_or(1),
            found("succeeded"),
        ),
        "Pod" => (
            1,
            u64::from(condition(&status["conditions"], "Ready", "True").is_some()),
        ),
        _ => return None,
    };
    // The status is of an older version of the object, so ignore it.
    let seen = number(&status["observedGeneration"]);
    let is_old =
        seen.is_some_and(|seen| seen < number(&object["metadata"]["generation"]).unwrap_or(0));
    Some((wanted, if is_old { 0 } else { found.min(wanted) }))
}

/// The namespaces of an add-on's pods, without duplicates.
pub fn namespaces(objects: &Value) -> Vec<String> {
    let mut namespaces: Vec<String> = items(objects)
        .into_iter()
        .filter(|object| count(object).is_some())
        .map(|object| match text(&object["metadata"]["namespace"]) {
            "" => "default".to_owned(),
            namespace => namespace.to_owned(),
        })
        .collect();
    namespaces.sort();
    namespaces.dedup();
    namespaces
}

/// The state of an add-on, from its `objects` and the `pods` of its namespaces.
pub fn judge(objects: &Value, pods: &[&Value], cluster: &Cluster) -> Standing {
    let counted: Vec<(&Value, u64, u64)> = items(objects)
        .into_iter()
        .filter_map(|object| count(object).map(|(wanted, found)| (object, wanted, found)))
        .collect();
    if counted.is_empty() {
        return Standing::Available(tr!("applied"));
    }
    let wanted: u64 = counted.iter().map(|(_, wanted, _)| wanted).sum();
    let found: u64 = counted.iter().map(|(_, _, found)| found).sum();
    // The controller has not seen this daemon set yet, so the number of pods is still 0.
    let unseen = |object: &Value| {
        text(&object["kind"]) == "DaemonSet" && object["status"]["observedGeneration"].is_null()
    };
    if found == wanted && !counted.iter().any(|(object, ..)| unseen(object)) {
        return Standing::Available(tr!("available, {found} of {wanted}", found, wanted));
    }
    let there = tr!("{found} of {wanted} available", found, wanted);
    if cluster.able.is_empty() {
        return Standing::Waiting(tr!("{there}: no node can run pods yet", there));
    }
    let lacking = counted.iter().filter(|(_, wanted, found)| found < wanted);
    for (object, ..) in lacking {
        let own = pods.iter().filter(|pod| belongs(pod, object));
        for pod in own {
            if let Some(standing) = trouble(pod) {
                return standing;
            }
        }
        if let Some(why) = failure(object) {
            return Standing::Stuck(format!("{there}: {why}"));
        }
    }
    Standing::Waiting(there)
}

/// Since when the first of the objects is not available. Only the status of Deployments says so.
pub fn lacking_since(objects: &Value) -> Option<OffsetDateTime> {
    let since = |object: &Value| {
        let lacking = condition(&object["status"]["conditions"], "Available", "False")?;
        OffsetDateTime::parse(text(&lacking["lastTransitionTime"]), &Rfc3339).ok()
    };
    items(objects).into_iter().filter_map(since).min()
}

/// Whether the object's selector chooses the pod.
fn belongs(pod: &Value, object: &Value) -> bool {
    let selector = &object["spec"]["selector"];
    let labels = selector["matchLabels"].as_object();
    let labels = labels.or_else(|| object["spec"]["template"]["metadata"]["labels"].as_object());
    labels.is_some_and(|labels| {
        let has = |(key, value): (&String, &Value)| pod["metadata"]["labels"][key] == *value;
        labels.iter().all(has)
    })
}

/// Why the controller cannot create pods.
fn failure(object: &Value) -> Option<&str> {
    let failure = condition(&object["status"]["conditions"], "ReplicaFailure", "True")?;
    Some(text(&failure["message"]))
}

/// Why a pod is not ready, if its status says so.
fn trouble(pod: &Value) -> Option<Standing> {
    let (name, namespace) = (
        text(&pod["metadata"]["name"]),
        text(&pod["metadata"]["namespace"]),
    );
    let unscheduled = condition(&pod["status"]["conditions"], "PodScheduled", "False");
    if let Some(condition) = unscheduled {
        return Some(Standing::Waiting(tr!(
            "no node accepts pod {name}: {}",
            text(&condition["message"]),
            name
        )));
    }
    let node = text(&pod["spec"]["nodeName"]);
    let lists = ["initContainerStatuses", "containerStatuses"];
    let statuses = lists
        .iter()
        .filter_map(|list| pod["status"][*list].as_array());
    for status in statuses.flatten() {
        let (container, image) = (text(&status["name"]), text(&status["image"]));
        let waiting = &status["state"]["waiting"];
        match text(&waiting["reason"]) {
            "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
                return Some(Standing::Stuck(tr!(
                    "image {image} is missing on node {node}, which cannot pull it; add it to the \
                     bundle or to the workload's `images`, and run `appliance install` on the node",
                    image,
                    node
                )));
            }
            "CrashLoopBackOff" => {
                return Some(Standing::Stuck(tr!(
                    "container {container} of pod {name} crashes repeatedly; see why: `kubectl -n \
                     {namespace} logs {name} -c {container} --previous`",
                    container,
                    name,
                    namespace
                )));
            }
            "CreateContainerConfigError" | "RunContainerError" | "CreateContainerError" => {
                return Some(Standing::Stuck(tr!(
                    "container {container} of pod {name} cannot be created: {}",
                    text(&waiting["message"]),
                    container,
                    name
                )));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(available: u64) -> Value {
        json!({
            "kind": "Deployment",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "generation": 2},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"k8s-app": "kube-dns"}}},
            "status": {"observedGeneration": 2, "availableReplicas": available, "updatedReplicas": 1},
        })
    }

    fn pod(status: &Value) -> Value {
        json!({
            "metadata": {"name": "kube-dns-1", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
            "spec": {"nodeName": "server01"},
            "status": status,
        })
    }

    fn one_node() -> Cluster {
        Cluster::of(&json!({"items": [{
            "metadata": {"name": "server01"},
            "spec": {},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "192.168.1.101"}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            },
        }]}))
    }

    #[test]
    fn what_is_available_is_counted() {
        let list = json!({"items": [deployment(1), {"kind": "Service"}]});
        let available = Standing::Available("available, 1 of 1".to_owned());
        assert_eq!(judge(&list, &[], &one_node()), available);
        let rules = json!({"kind": "NetworkPolicy"});
        assert_eq!(
            judge(&rules, &[], &one_node()),
            Standing::Available("applied".to_owned())
        );
    }

    #[test]
    fn a_change_the_controller_has_not_seen_is_not_available_yet() {
        let mut older = deployment(1);
        older["status"]["observedGeneration"] = json!(1);
        assert_eq!(
            judge(&older, &[], &one_node()),
            Standing::Waiting("0 of 1 available".to_owned())
        );
    }

    #[test]
    fn without_a_node_for_pods_that_is_said() {
        let Standing::Waiting(why) = judge(&deployment(0), &[], &Cluster::default()) else {
            panic!("not waiting");
        };
        assert!(why.contains("no node can run pods yet"), "{why}");
    }

    #[test]
    fn an_image_that_is_nowhere_is_named_with_the_node() {
        let pod = pod(&json!({"containerStatuses": [{
            "name": "kubedns", "image": "example.org/kube-dns:1",
            "state": {"waiting": {"reason": "ImagePullBackOff"}},
        }]}));
        let Standing::Stuck(why) = judge(&deployment(0), &[&pod], &one_node()) else {
            panic!("not stuck");
        };
        assert!(
            why.contains("image example.org/kube-dns:1 is missing on node server01"),
            "{why}"
        );
    }

    #[test]
    fn the_pods_of_others_do_not_count() {
        let mut other = pod(&json!({"containerStatuses": [{
            "name": "x", "image": "y", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        }]}));
        let standing = judge(&deployment(0), &[&other], &one_node());
        assert!(matches!(standing, Standing::Stuck(_)), "{standing:?}");
        other["metadata"]["labels"]["k8s-app"] = json!("dashboard");
        let standing = judge(&deployment(0), &[&other], &one_node());
        assert_eq!(standing, Standing::Waiting("0 of 1 available".to_owned()));
    }

    #[test]
    fn problems_count_only_when_the_cluster_has_had_time() {
        let ready = one_node().able[0].unwrap_or(OffsetDateTime::UNIX_EPOCH);
        assert!(!one_node().is_up(ready + Duration::minutes(14)));
        assert!(one_node().is_up(ready + Duration::minutes(16)));
        assert!(!Cluster::default().is_up(ready + Duration::minutes(16)));
    }
}
