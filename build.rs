//! Makes cargo embed the payload again when it changes.

fn main() {
    println!("cargo::rerun-if-env-changed=APPLIANCE_PAYLOAD");
    if let Ok(payload) = std::env::var("APPLIANCE_PAYLOAD") {
        println!("cargo::rerun-if-changed={payload}");
    }
}
