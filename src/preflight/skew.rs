//! Which versions may follow which: the rules of Kubernetes for versions beside each other, and of etcd for its data.
//!
//! Sources: "Kubernetes version and version skew support policy" (the API server moves one minor version at a time, a
//! kubelet is never newer than the API server), and etcd's "Upgrade etcd" (data of a newer minor version cannot be read by
//! an older one; members agree on a cluster version when all of them have it).

use crate::language::tr;

/// A version such as `v1.9.11` or `3.1.10`: major, minor, patch.
type Numbers = (u64, u64, u64);

/// What is known about the versions of a node and its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Kubernetes on the node.
    pub kubernetes: String,
    /// Kubernetes in the other bundle.
    pub other_kubernetes: String,
    /// etcd in the other bundle; `None` on a worker.
    pub other_etcd: Option<String>,
    /// The version on which the members of etcd's cluster agree; `None` if it is not known.
    pub etcd_cluster: Option<String>,
    /// The API server that the node uses; `None` on a master, which brings its own, or if it is not known.
    pub api_server: Option<String>,
    /// The kubelets of the cluster: the names of their nodes, and their versions. None on a worker.
    pub kubelets: Vec<(String, String)>,
}

/// Why the node may not get the other bundle by an upgrade. Empty if it may.
pub fn of_upgrade(versions: &Versions) -> Vec<String> {
    let mut problems = Vec::new();
    let (from, to) = (&versions.kubernetes, &versions.other_kubernetes);
    if let (Some(old), Some(new)) = (numbers(from), numbers(to)) {
        if minor(new) < minor(old) {
            problems.push(tr!("Kubernetes {to} is older than {from} on this node: the API server cannot read what a newer one stored; to \
                 return to the bundle before the last upgrade, run `appliance rollback`", to, from));
        }
        if new.0 != old.0 || new.1 > old.1 + 1 {
            problems.push(tr!("Kubernetes {to} is more than one minor version newer than {from} on this node; install a bundle of each \
                 version between them first", to, from));
        }
    }
    if let Some(server) = &versions.api_server
        && let (Some(server_numbers), Some(new)) = (numbers(server), numbers(to))
        && minor(new) > minor(server_numbers)
    {
        problems.push(tr!("a kubelet may not be newer than the API server, which has {server}; run the upgrade to {to} on the masters \
             first", server, to));
    }
    for (node, kubelet) in &versions.kubelets {
        if let (Some(old), Some(new)) = (numbers(kubelet), numbers(to))
            && (old.0 != new.0 || new.1 > old.1 + 1)
        {
            problems.push(tr!("the kubelet of {node} has {kubelet}, more than one minor version older than {to}; run the upgrade of that \
                 node to a version between them first", node, kubelet, to));
        }
    }
    problems.extend(of_storage(versions));
    problems
}

/// Why etcd in the other bundle cannot read the data of the cluster.
pub fn of_storage(versions: &Versions) -> Option<String> {
    let (other, cluster) = (
        versions.other_etcd.as_ref()?,
        versions.etcd_cluster.as_ref()?,
    );
    let older = minor(numbers(other)?) < minor(numbers(cluster)?);
    older.then(|| {
        tr!("etcd {other} in bundle {} cannot read the data of this cluster, which is of etcd {cluster}; to have that \
             version again, restore a snapshot from before the upgrade", versions.other_kubernetes, other, cluster)
    })
}

/// Whether the version on which etcd's members agree grows from one etcd to the other: then nothing leads back once all
/// masters have it.
pub fn storage_grows(from: Option<&str>, to: Option<&str>) -> bool {
    let numbers = |version: Option<&str>| version.and_then(numbers).map(minor);
    matches!((numbers(from), numbers(to)), (Some(from), Some(to)) if to > from)
}

fn minor((major, minor, _): Numbers) -> (u64, u64) {
    (major, minor)
}

/// The numbers of a version; `None` for other texts. What follows the numbers, such as `-rc.1`, does not count.
fn numbers(version: &str) -> Option<Numbers> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let version = version.split(['-', '+']).next().unwrap_or(version);
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let patch = parts.next().map_or(Some(0), |patch| patch.parse().ok())?;
    parts.next().is_none().then_some((major, minor, patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(from: &str, to: &str) -> Versions {
        Versions {
            kubernetes: from.to_owned(),
            other_kubernetes: to.to_owned(),
            ..Versions::default()
        }
    }

    #[test]
    fn one_minor_version_at_a_time_and_never_back() {
        for (from, to, expected) in [
            ("v1.9.0", "v1.9.11", ""),
            ("v1.9.11", "v1.9.0", ""),
            ("v1.9.0", "v1.10.0-rc.1", ""),
            ("v1.9.0", "v1.11.0", "more than one minor version newer"),
            ("v1.9.0", "v2.9.0", "more than one minor version newer"),
            ("v1.10.3", "v1.9.11", "is older than v1.10.3"),
            ("something", "v1.11.0", ""),
        ] {
            let found = of_upgrade(&versions(from, to)).join("\n");
            assert!(found.contains(expected), "{from} {to}: {found}");
            assert_eq!(
                found.is_empty(),
                expected.is_empty(),
                "{from} {to}: {found}"
            );
        }
    }

    #[test]
    fn no_kubelet_is_newer_than_the_api_server_or_far_behind_it() {
        let with_server = |server: &str| Versions {
            api_server: Some(server.to_owned()),
            ..versions("v1.9.0", "v1.10.0")
        };
        assert!(of_upgrade(&with_server("v1.9.11"))[0].contains("on the masters first"));
        assert!(of_upgrade(&with_server("v1.10.0")).is_empty());
        let behind = |kubelet: &str| Versions {
            kubelets: vec![("server03".to_owned(), kubelet.to_owned())],
            ..versions("v1.9.0", "v1.10.0")
        };
        assert!(of_upgrade(&behind("v1.9.4")).is_empty());
        assert!(of_upgrade(&behind("v1.8.4"))[0].contains("server03"));
    }

    #[test]
    fn data_of_a_newer_etcd_is_not_given_to_an_older_one() {
        let with = |etcd: &str, cluster: &str| Versions {
            other_etcd: Some(etcd.to_owned()),
            etcd_cluster: Some(cluster.to_owned()),
            ..versions("v1.9.0", "v1.9.0")
        };
        assert_eq!(of_storage(&with("3.1.10", "3.1.0")), None);
        assert_eq!(of_storage(&with("3.2.1", "3.1.0")), None);
        let refused = of_storage(&with("3.1.10", "3.2.0")).unwrap_or_default();
        assert!(refused.contains("3.1.10"), "{refused}");
        assert!(!of_upgrade(&with("3.1.10", "3.2.0")).is_empty());
        assert!(storage_grows(Some("3.1.10"), Some("3.2.1")));
        assert!(!storage_grows(Some("3.1.10"), Some("3.1.20")));
        assert!(!storage_grows(Some("1"), Some("3.1.20")));
    }
}
