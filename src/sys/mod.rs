//! The machine: files, processes, devices. Knows nothing of Kubernetes.

pub mod atomic;
pub mod block;
pub mod change;
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
