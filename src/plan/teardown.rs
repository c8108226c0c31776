//! What is taken down of a node that is to become one of another profile: what the tutorial takes
//! down between its two clusters, except that etcd's data is put aside and not removed. Pure.

use super::{Plan, Step};
use crate::components::{self, KUBELET_KUBECONFIG, Runs};
use crate::nodespec::Shape;

const ETCD_DATA: &str = "/var/lib/etcd";
/// What pods and their proxy leave. Nothing of it serves another cluster.
const OF_PODS: &[&str] = &["/var/lib/kubelet", "/var/lib/kube-proxy"];

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
        steps.push(Step::RemoveFile(KUBELET_KUBECONFIG));
    }
    if role.is_master() {
        steps.push(Step::PutAside {
            path: ETCD_DATA,
            to: format!("{ETCD_DATA}.{profile}-{stamp}"),
        });
    }
    steps.push(Step::ForgetNode);
    Plan { steps }
}
