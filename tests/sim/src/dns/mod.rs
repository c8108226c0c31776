//! The stand-ins for the three programs of kube-dns 1.14.5: the server with the cluster's names,
//! the forwarder for pods, and the program that checks both.

pub mod nanny;
mod options;
pub mod server;
pub mod sidecar;
mod transport;
mod zone;
