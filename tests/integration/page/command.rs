//! `appliance serve-status` itself, on a system that runs.

use std::process::Command;

use serde_json::Value;

use crate::harness::said;
use crate::living::Living;

/// Serves the page in the background. `ask` asks until the node has answered. A shell has what is in the background
/// ignore SIGINT, which `env` undoes.
const SERVE: &str = r#"
ip link set lo up
env --default-signal=INT chroot "$root" /usr/local/bin/appliance serve-status &
page=$!
ask() {
    curl --silent --fail --retry 100 --retry-all-errors --retry-max-time 120 "http://127.0.0.1:6480$1"
}
"#;

fn in_living(living: &Living, script: &str) -> String {
    let output = living.script(&format!("{SERVE}\n{script}"), &[]);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_page_and_the_document_are_those_of_the_node() {
    let living = Living::new(&["--role", "single"]);
    let text = in_living(
        &living,
        "ask /status.json; kill $page; appliance status -o json || [ $? = 3 ]",
    );
    let mut documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let [served, printed] = [(); 2].map(|()| documents.next().unwrap().unwrap());
    assert_eq!(served["node"], printed["node"]);
    assert_eq!(served["overall"], "degraded");
    let keys = |one: &Value| one.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&served), keys(&printed));
    // No API server answers here, and no health endpoint: the page comes nevertheless.
    let page = in_living(&living, "ask /; kill $page");
    assert!(page.contains("<h1>server02</h1>"), "{page}");
    assert!(page.contains("The API server does not answer"), "{page}");
}

#[test]
fn a_signal_ends_it() {
    let living = Living::new(&[]);
    for (signal, code) in [("INT", "130\n"), ("TERM", "143\n")] {
        let script = format!(
            "ask /status.json >/dev/null; kill -{signal} $page; code=0; wait $page || code=$?; echo $code"
        );
        assert_eq!(in_living(&living, &script), code, "{signal}");
    }
}

#[test]
fn a_machine_that_is_no_node_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_appliance"))
        .args(["serve-status", "--port", "0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(
        said(&output).contains("appliance install"),
        "{}",
        said(&output)
    );
}
