//! Takes a node down before it gets another profile, as the tutorial does between its two clusters,
//! but renames the directory of etcd's data instead of removing it. Pure.

use super::Step;
use crate::components::{self, Runs};
use crate::nodespec::{Profile, Shape};
use crate::paths::{self, ETCD_DIR};

/// Directories with data of pods and of kube-proxy. Another cluster cannot use it.
const OF_PODS: &[&str] = &[paths::KUBELET_DIR, paths::PROXY_DIR];

/// Whether `path` is the directory of etcd's data that [`teardown`] renamed.
pub fn is_put_aside(path: &str) -> bool {
    let rest = path
        .strip_prefix(ETCD_DIR)
        .and_then(|rest| rest.strip_prefix('.'));
    rest.is_some_and(|rest| {
        let mut profiles = [Profile::Simple, Profile::WithCa].into_iter();
        profiles.any(|profile| rest.starts_with(&format!("{profile}-")))
    })
}

/// The steps that take down a node of this shape. The renamed directory gets `stamp` in its name.
pub fn teardown(shape: Shape, stamp: &str) -> Vec<Step> {
    let (role, profile) = (shape.role, shape.profile);
    let mut steps: Vec<Step> = components::services(shape)
        .into_iter()
        .rev()
        .filter(|service| service.runs != Runs::Docker)
        .map(|service| Step::Stop(service.name.to_owned()))
        .collect();
    if role.is_worker() {
        steps.push(Step::RemovePods);
        let of_pods = OF_PODS.iter().map(|&path| path.to_owned());
        steps.extend(of_pods.map(Step::RemoveContent));
        // With this file, a kubelet would not ask for a certificate.
        steps.push(Step::RemoveFile(paths::KUBELET_KUBECONFIG.to_owned()));
    }
    if role.is_master() {
        steps.push(Step::PutAside {
            path: ETCD_DIR.to_owned(),
            to: format!("{ETCD_DIR}.{profile}-{stamp}"),
        });
    }
    steps.push(Step::ForgetNode);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodespec::Role;

    #[test]
    fn the_renamed_data_is_known() {
        for profile in [Profile::Simple, Profile::WithCa] {
            let shape = Shape {
                role: Role::Master,
                profile,
                balanced: false,
            };
            let steps = teardown(shape, "2026-01-02");
            let is_known =
                |step: &Step| matches!(step, Step::PutAside { to, .. } if is_put_aside(to));
            assert!(steps.iter().any(is_known), "{profile}");
        }
        for other in [
            "/var/lib/etcd",
            "/var/lib/etcd.backup",
            "/var/lib/etcd2.simple-1",
        ] {
            assert!(!is_put_aside(other), "{other}");
        }
    }
}
