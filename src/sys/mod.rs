//! The machine itself: block devices. A leaf that knows nothing of OpenStack or Kubernetes.

pub mod block;
