//! kubectl's line about a pod.

use serde_json::Value;

use super::table::text;

fn statuses<'a>(pod: &'a Value, member: &str) -> &'a [Value] {
    pod["status"][member].as_array().map_or(&[], Vec::as_slice)
}

/// How many of the containers are ready.
pub fn ready(pod: &Value) -> String {
    let all = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let own = statuses(pod, "containerStatuses");
    let ready = own
        .iter()
        .filter(|one| one["ready"] == true && one["state"]["running"].is_object());
    format!("{}/{all}", ready.count())
}

/// How often containers were restarted.
pub fn restarts(pod: &Value) -> String {
    let own = statuses(pod, "containerStatuses").iter();
    let sum: u64 = own.filter_map(|one| one["restartCount"].as_u64()).sum();
    sum.to_string()
}

/// The pod's phase, or the reason why a container does not run.
pub fn state(pod: &Value) -> String {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        let lost = pod["status"]["reason"] == "NodeLost";
        return if lost { "Unknown" } else { "Terminating" }.to_owned();
    }
    let init = statuses(pod, "initContainerStatuses");
    let done = |one: &Value| one["state"]["terminated"]["exitCode"] == 0;
    if let Some((index, blocks)) = init.iter().enumerate().find(|(_, one)| !done(one)) {
        let reason = reason(blocks).filter(|reason| reason != "PodInitializing");
        return match reason {
            Some(reason) => format!("Init:{reason}"),
            None => format!("Init:{index}/{}", init.len()),
        };
    }
    let reasons = statuses(pod, "containerStatuses").iter().filter_map(reason);
    let mut state = text(&pod["status"]["phase"]);
    if pod["status"]["reason"].is_string() {
        state = text(&pod["status"]["reason"]);
    }
    reasons.into_iter().next().unwrap_or(state)
}

/// Why a container waits, or that it ended.
fn reason(one: &Value) -> Option<String> {
    let state = &one["state"];
    let found = state["waiting"]["reason"].as_str();
    let found = found.or_else(|| state["terminated"]["reason"].as_str());
    found.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_tells_what_keeps_it_from_running() {
        let pod = |state: Value| json!({"status": {"phase": "Pending", "containerStatuses": [{"state": state}]}});
        let waiting = pod(json!({"waiting": {"reason": "ErrImagePull"}}));
        assert_eq!(state(&waiting), "ErrImagePull");
        assert_eq!(state(&pod(json!({}))), "Pending");
        assert_eq!(
            state(&pod(json!({"terminated": {"reason": "Completed"}}))),
            "Completed"
        );
        let mut ending = waiting;
        ending["metadata"]["deletionTimestamp"] = json!("x");
        assert_eq!(state(&ending), "Terminating");
        let init = json!({"status": {"initContainerStatuses": [
            {"state": {"terminated": {"exitCode": 0}}}, {"state": {"running": {}}},
        ]}});
        assert_eq!(state(&init), "Init:1/2");
    }

    #[test]
    fn containers_that_are_ready_are_counted() {
        let pod = json!({
            "spec": {"containers": [{}, {}]},
            "status": {"containerStatuses": [
                {"ready": true, "state": {"running": {}}, "restartCount": 2},
                {"ready": false, "state": {"running": {}}, "restartCount": 1},
            ]},
        });
        assert_eq!(
            (ready(&pod).as_str(), restarts(&pod).as_str()),
            ("1/2", "3")
        );
    }
}
