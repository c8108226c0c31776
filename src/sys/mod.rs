//! The machine: files, processes, devices. Nothing here depends on Kubernetes.

pub mod atomic;
pub mod block;
pub mod digest;
pub mod host;
pub mod http;
pub mod interrupt;
pub mod lock;
pub mod mount;
pub mod parallel;
pub mod process;
pub mod progress;
pub mod read;
pub mod retry;
pub mod root;
pub mod stream;
