//! The machine: files, processes, devices. Knows nothing of Kubernetes.

pub mod process;
pub mod root;
