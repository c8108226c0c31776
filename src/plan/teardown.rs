//! Takes a node down before it gets another profile, as the tutorial does between its two clusters,
//! but renames the directory of etcd's data instead of removing it. Pure.

use super::{Plan, Step};
use crate::components::{self, Runs};
use crate::nodespec::Shape;
use crate::paths::{self, ETCD_DIR};

/// Directories with data of pods and of kube-proxy. Another cluster cannot use it.
const OF_PODS: &[&str] = &[paths::KUBELET_DIR, paths::PROXY_DIR];

/// The plan to take down a node of this shape. The renamed directory gets `stamp` in its name.
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
        // With this file, a kubelet would not ask for a certificate.
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
