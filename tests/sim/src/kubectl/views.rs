//! The columns of each kind of object in a table.

use serde_json::Value;

use crate::kinds::Kind;

use super::pods;
use super::table::{Table, age, node_state, roles, text};

type Cell = fn(&Value) -> String;
type Columns = Vec<(&'static str, Cell)>;

/// The table of objects of a kind.
pub fn table(kind: &Kind, items: &[Value], wide: bool) -> Table {
    let (columns, more) = columns(kind);
    let columns: Columns = columns
        .into_iter()
        .chain(more.into_iter().filter(|_| wide))
        .collect();
    let row = |item: &Value| columns.iter().map(|(_, cell)| cell(item)).collect();
    Table::new(
        columns.iter().map(|(head, _)| *head).collect(),
        items.iter().map(row).collect(),
    )
}

const NAME: (&str, Cell) = ("NAME", |item| text(&item["metadata"]["name"]));
const AGE: (&str, Cell) = ("AGE", |item| age(&item["metadata"]["creationTimestamp"]));

/// The columns of a kind, and those `-o wide` adds.
fn columns(kind: &Kind) -> (Columns, Columns) {
    match kind.resource {
        "nodes" => nodes(),
        "namespaces" => (
            vec![NAME, ("STATUS", |item| text(&item["status"]["phase"])), AGE],
            vec![],
        ),
        "serviceaccounts" => (
            vec![NAME, ("SECRETS", |item| size(&item["secrets"])), AGE],
            vec![],
        ),
        "configmaps" => (
            vec![NAME, ("DATA", |item| size(&item["data"])), AGE],
            vec![],
        ),
        "secrets" => (
            vec![
                NAME,
                ("TYPE", |item| text(&item["type"])),
                ("DATA", |item| size(&item["data"])),
                AGE,
            ],
            vec![],
        ),
        "services" => services(),
        "pods" => pods(),
        "endpoints" => (vec![NAME, ("ENDPOINTS", endpoints), AGE], vec![]),
        "events" => events(),
        "networkpolicies" => (
            vec![
                NAME,
                ("POD-SELECTOR", |item| {
                    selector(&item["spec"]["podSelector"])
                }),
                AGE,
            ],
            vec![],
        ),
        "replicasets" => replica_sets(),
        "deployments" => deployments(),
        "daemonsets" => daemon_sets(),
        "clusterrolebindings" | "rolebindings" => (vec![NAME, AGE], bound()),
        "certificatesigningrequests" => (
            vec![
                NAME,
                AGE,
                ("REQUESTOR", |item| text(&item["spec"]["username"])),
                ("CONDITION", condition),
            ],
            vec![],
        ),
        _ => (vec![NAME, AGE], vec![]),
    }
}

fn nodes() -> (Columns, Columns) {
    (
        vec![
            NAME,
            ("STATUS", node_state),
            ("ROLES", roles),
            AGE,
            ("VERSION", |item| {
                text(&item["status"]["nodeInfo"]["kubeletVersion"])
            }),
        ],
        vec![
            ("EXTERNAL-IP", |_| "<none>".to_owned()),
            ("OS-IMAGE", |item| {
                text(&item["status"]["nodeInfo"]["osImage"])
            }),
            ("KERNEL-VERSION", |item| {
                text(&item["status"]["nodeInfo"]["kernelVersion"])
            }),
            ("CONTAINER-RUNTIME", |item| {
                text(&item["status"]["nodeInfo"]["containerRuntimeVersion"])
            }),
        ],
    )
}

fn services() -> (Columns, Columns) {
    (
        vec![
            NAME,
            ("TYPE", |item| or(&item["spec"]["type"], "ClusterIP")),
            ("CLUSTER-IP", |item| {
                or(&item["spec"]["clusterIP"], "<none>")
            }),
            ("EXTERNAL-IP", |item| {
                let awaited = item["spec"]["type"] == "LoadBalancer";
                if awaited { "<pending>" } else { "<none>" }.to_owned()
            }),
            ("PORT(S)", ports),
            AGE,
        ],
        vec![("SELECTOR", |item| labels(&item["spec"]["selector"]))],
    )
}

fn replica_sets() -> (Columns, Columns) {
    (
        vec![
            NAME,
            ("DESIRED", |item| number(&item["spec"]["replicas"], 1)),
            ("CURRENT", |item| number(&item["status"]["replicas"], 0)),
            ("READY", |item| number(&item["status"]["readyReplicas"], 0)),
            AGE,
        ],
        of_template(),
    )
}

fn deployments() -> (Columns, Columns) {
    (
        vec![
            NAME,
            ("DESIRED", |item| number(&item["spec"]["replicas"], 1)),
            ("CURRENT", |item| number(&item["status"]["replicas"], 0)),
            ("UP-TO-DATE", |item| {
                number(&item["status"]["updatedReplicas"], 0)
            }),
            ("AVAILABLE", |item| {
                number(&item["status"]["availableReplicas"], 0)
            }),
            AGE,
        ],
        of_template(),
    )
}

fn daemon_sets() -> (Columns, Columns) {
    (
        vec![
            NAME,
            ("DESIRED", |item| {
                number(&item["status"]["desiredNumberScheduled"], 0)
            }),
            ("CURRENT", |item| {
                number(&item["status"]["currentNumberScheduled"], 0)
            }),
            ("READY", |item| number(&item["status"]["numberReady"], 0)),
            ("UP-TO-DATE", |item| {
                number(&item["status"]["updatedNumberScheduled"], 0)
            }),
            ("AVAILABLE", |item| {
                number(&item["status"]["numberAvailable"], 0)
            }),
            ("NODE SELECTOR", |item| {
                labels(&item["spec"]["template"]["spec"]["nodeSelector"])
            }),
            AGE,
        ],
        of_template(),
    )
}

fn pods() -> (Columns, Columns) {
    (
        vec![
            NAME,
            ("READY", pods::ready),
            ("STATUS", pods::state),
            ("RESTARTS", pods::restarts),
            AGE,
        ],
        vec![
            ("IP", |item| or(&item["status"]["podIP"], "<none>")),
            ("NODE", |item| or(&item["spec"]["nodeName"], "<none>")),
        ],
    )
}

fn events() -> (Columns, Columns) {
    (
        vec![
            ("LAST SEEN", |item| age(&item["lastTimestamp"])),
            ("FIRST SEEN", |item| age(&item["firstTimestamp"])),
            ("COUNT", |item| number(&item["count"], 1)),
            NAME,
            ("KIND", |item| text(&item["involvedObject"]["kind"])),
            ("TYPE", |item| text(&item["type"])),
            ("REASON", |item| text(&item["reason"])),
            ("SOURCE", |item| text(&item["source"]["component"])),
            ("MESSAGE", |item| text(&item["message"])),
        ],
        vec![],
    )
}

/// The columns of a workload's pods with `-o wide`.
fn of_template() -> Columns {
    vec![
        ("CONTAINERS", |item| containers(item, "name")),
        ("IMAGES", |item| containers(item, "image")),
        ("SELECTOR", |item| selector(&item["spec"]["selector"])),
    ]
}

fn containers(item: &Value, member: &str) -> String {
    let listed = item["spec"]["template"]["spec"]["containers"].as_array();
    let shown: Vec<String> = listed
        .into_iter()
        .flatten()
        .map(|one| text(&one[member]))
        .collect();
    shown.join(",")
}

fn selector(value: &Value) -> String {
    labels(&value["matchLabels"])
}

/// The first three addresses with their ports, and how many more there are.
fn endpoints(item: &Value) -> String {
    let mut all = Vec::new();
    for subset in item["subsets"].as_array().into_iter().flatten() {
        for port in subset["ports"].as_array().into_iter().flatten() {
            for address in subset["addresses"].as_array().into_iter().flatten() {
                all.push(format!(
                    "{}:{}",
                    text(&address["ip"]),
                    number(&port["port"], 0)
                ));
            }
        }
    }
    match all.len() {
        0 => "<none>".to_owned(),
        1..=3 => all.join(","),
        many => format!("{} + {} more...", all[..3].join(","), many - 3),
    }
}

fn bound() -> Columns {
    vec![
        ("ROLE", |item| {
            let role = &item["roleRef"];
            format!("{}/{}", text(&role["kind"]), text(&role["name"]))
        }),
        ("USERS", |item| subjects(item, "User")),
        ("GROUPS", |item| subjects(item, "Group")),
        ("SERVICEACCOUNTS", |item| subjects(item, "ServiceAccount")),
    ]
}

fn size(value: &Value) -> String {
    let members = value.as_object().map(serde_json::Map::len);
    let items = value.as_array().map(Vec::len);
    members.or(items).unwrap_or(0).to_string()
}

fn number(value: &Value, default: u64) -> String {
    value.as_u64().unwrap_or(default).to_string()
}

fn or(value: &Value, default: &str) -> String {
    value.as_str().unwrap_or(default).to_owned()
}

/// Labels as kubectl shows them.
pub fn labels(value: &Value) -> String {
    let pairs: Vec<String> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", text(value)))
        .collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

fn ports(item: &Value) -> String {
    let ports = item["spec"]["ports"].as_array().into_iter().flatten();
    let shown: Vec<String> = ports
        .map(|port| {
            let node = port["nodePort"].as_u64().filter(|&node| node != 0);
            format!(
                "{}{}/{}",
                number(&port["port"], 0),
                node.map(|node| format!(":{node}")).unwrap_or_default(),
                or(&port["protocol"], "TCP")
            )
        })
        .collect();
    if shown.is_empty() {
        "<none>".to_owned()
    } else {
        shown.join(",")
    }
}

fn subjects(item: &Value, kind: &str) -> String {
    let subjects = item["subjects"].as_array().into_iter().flatten();
    let names: Vec<String> = subjects
        .filter(|subject| subject["kind"] == kind)
        .map(|subject| match subject["namespace"].as_str() {
            Some(namespace) => format!("{namespace}/{}", text(&subject["name"])),
            None => text(&subject["name"]),
        })
        .collect();
    names.join(", ")
}

/// `Pending` until a decision, `Issued` as soon as there is a certificate.
fn condition(item: &Value) -> String {
    let conditions = item["status"]["conditions"].as_array();
    let last = conditions.and_then(|conditions| conditions.last());
    let mut state = last.map_or("Pending".to_owned(), |condition| text(&condition["type"]));
    if item["status"]["certificate"].is_string() {
        state.push_str(",Issued");
    }
    state
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn shown(word: &str, item: Value, wide: bool) -> String {
        let mut item = item;
        item["metadata"]["name"] = json!("a");
        let text = table(Kind::named(word).unwrap(), &[item], wide).text(true);
        let words = text.lines().nth(1).unwrap().split_whitespace();
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_request_is_pending_until_somebody_decides() {
        let request = |status: Value| json!({"spec": {"username": "u"}, "status": status});
        let of = |status| shown("csr", request(status), false);
        assert_eq!(of(json!({})), "a <unknown> u Pending");
        let approved = json!([{"type": "Approved"}]);
        assert_eq!(
            of(json!({"conditions": approved})),
            "a <unknown> u Approved"
        );
        let signed = json!({"conditions": approved, "certificate": "x"});
        assert_eq!(of(signed), "a <unknown> u Approved,Issued");
    }

    #[test]
    fn a_service_shows_its_ports() {
        let service = json!({"spec": {
            "clusterIP": "10.68.0.2", "selector": {"k": "v"},
            "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "nodePort": 20000}],
        }});
        assert_eq!(
            shown("svc", service, true),
            "a ClusterIP 10.68.0.2 <none> 53/UDP,53:20000/TCP <unknown> k=v"
        );
    }

    #[test]
    fn endpoints_show_where_pods_are() {
        let addresses = |count: u8| {
            let all: Vec<Value> = (1..=count)
                .map(|n| json!({"ip": format!("10.0.0.{n}")}))
                .collect();
            json!({"subsets": [{"addresses": all, "ports": [{"port": 80}]}]})
        };
        assert_eq!(shown("ep", json!({}), false), "a <none> <unknown>");
        assert_eq!(
            shown("ep", addresses(2), false),
            "a 10.0.0.1:80,10.0.0.2:80 <unknown>"
        );
        assert!(shown("ep", addresses(5), false).contains("10.0.0.3:80 + 2 more..."));
    }

    #[test]
    fn a_binding_shows_who_is_bound_to_what() {
        let binding = json!({
            "roleRef": {"kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "Group", "name": "g"},
                {"kind": "ServiceAccount", "name": "s", "namespace": "n"}],
        });
        assert_eq!(
            shown("clusterrolebinding", binding, true),
            "a <unknown> ClusterRole/r g n/s"
        );
    }
}
