//! Stand-ins for the Kubernetes v1.9 programs.
fn main() {}
