//! What is taken down of a node that is to become one of another profile: what the tutorial takes
//! down between its two clusters, except that etcd's data is put aside and not removed. Pure.

use super::{Plan, Step};
use crate::components::{self, Runs};
use crate::nodespec::Shape;
use crate::paths::{self, ETCD_DIR};

/// What pods and their proxy leave. Nothing of it serves another cluster.
const OF_PODS: &[&str] = &[paths::KUBELET_DIR, paths::PROXY_DIR];

/// Takes down a node of that shape. What is put aside gets `stamp` to its name.
pub fn teardown(shape: Shape, stamp: &str) -> Plan {
    let (role, profile) = (shape.role, shape.profile);
    let mut steps: Vec<Step> = components::services(shape)
        .into_iter()
        .rev()
        .filter(|service| service.runs != Runs::Docker)
        .map(|service| Step::Stop(service.name))
        .collect();
    if role.is_worker() {
        steps.push(Step::RemovePods);
        steps.extend(OF_PODS.iter().map(|&path| Step::RemoveContent(path)));
        // With it, a kubelet would not ask for a certificate.
        steps.push(Step::RemoveFile(paths::KUBELET_KUBECONFIG));
    }
    if role.is_master() {
        steps.push(Step::PutAside {
            path: ETCD_DIR,
            to: format!("{ETCD_DIR}.{profile}-{stamp}"),
        });
    }
    steps.push(Step::ForgetNode);
    Plan { steps }
}
