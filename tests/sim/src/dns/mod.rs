//! The stand-ins for the three programs of kube-dns 1.14.5: the server that knows the
//! cluster's names, the forwarder that pods ask, and what tells whether both answer.

pub mod nanny;
mod options;
pub mod server;
pub mod sidecar;
mod transport;
mod zone;
