//! The stand-ins for CNI plugins: they tell their versions and set nothing up.

use std::process::ExitCode;

use serde_json::json;

/// Acts on `CNI_COMMAND` as a plugin does.
pub fn run(name: &str) -> ExitCode {
    if std::env::var("CNI_COMMAND").as_deref() == Ok("VERSION") {
        let versions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1"];
        println!(
            "{}",
            json!({"cniVersion": "0.3.1", "supportedVersions": versions})
        );
        return ExitCode::SUCCESS;
    }
    println!(
        "{}",
        json!({
            "cniVersion": "0.3.1",
            "code": 100,
            "msg": format!("appliance test stand-in; not the real {name}: it sets up no network"),
        })
    );
    ExitCode::FAILURE
}
