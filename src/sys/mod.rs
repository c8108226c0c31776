//! The machine: files, processes, devices. Nothing here depends on Kubernetes.

pub mod atomic;
pub mod attribute;
pub mod block;
pub mod change;
pub mod clock;
pub mod door;
pub mod host;
pub mod http;
pub mod interrupt;
pub mod lock;
pub mod mount;
pub mod notify;
pub mod out;
pub mod parallel;
pub mod process;
pub mod progress;
pub mod read;
pub mod retry;
pub mod root;
pub mod scratch;
pub mod stopwatch;
pub mod stream;
pub mod temporary;
pub mod terminal;
pub mod tls;
pub mod waiting;
