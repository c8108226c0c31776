//! The type of a flag's value, by its name, as the v1.9.0 programs declare it. A name has the same
//! type in every program.

/// The type of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes no separate value: `--name`, `--name=true`, `--name=false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A Go duration such as `1h30m`.
    Duration,
    /// Anything else.
    Text,
}

const BOOLEANS: &str = "
allocate-node-cidrs allow-privileged allow-verification-with-non-compliant-keys alsologtostderr
anonymous-auth authentication-token-webhook cgroups-per-qos cleanup cleanup-ipvs
configure-cloud-routes containerized contention-profiling cpu-cfs-quota
disable-attach-detach-reconcile-sync docker-disable-shared-pid docker-only docker-tls
enable-aggregator-routing enable-bootstrap-token-auth enable-controller-attach-detach
enable-debugging-handlers enable-dynamic-provisioning enable-garbage-collector
enable-hostpath-provisioner enable-load-reader enable-logs-handler enable-server
enable-swagger-ui enable-taint-manager exit-on-lock-contention
experimental-allocatable-ignore-eviction experimental-check-node-capabilities-before-mount
experimental-kernel-memcg-notification fail-swap-on horizontal-pod-autoscaler-use-rest-clients
ir-namespace-only kubelet-https leader-elect log-cadvisor-usage logtostderr
make-iptables-util-chains masquerade-all profiling protect-kernel-defaults
really-crash-for-testing register-node repair-malformed-updates rotate-certificates runonce
serialize-image-pulls service-account-lookup storage-driver-secure use-legacy-policy-config
use-service-account-credentials version watch-cache";

const INTEGERS: &str = "
apiserver-count audit-log-maxage audit-log-maxbackup audit-log-maxsize cadvisor-port
concurrent-deployment-syncs concurrent-endpoint-syncs concurrent-gc-syncs
concurrent-namespace-syncs concurrent-rc-syncs concurrent-replicaset-syncs
concurrent-resource-quota-syncs concurrent-service-syncs concurrent-serviceaccount-token-syncs
conntrack-max-per-core conntrack-min default-not-ready-toleration-seconds
default-unreachable-toleration-seconds default-watch-cache-size delete-collection-workers
deserialization-cache-size event-burst event-qps eviction-max-pod-grace-period healthz-port
image-gc-high-threshold image-gc-low-threshold insecure-port iptables-drop-bit
iptables-masquerade-bit kube-api-burst kubelet-read-only-port kubernetes-service-node-port
large-cluster-size-threshold max-connection-bytes-per-sec max-mutating-requests-inflight
max-open-files max-pods max-requests-inflight min-request-timeout network-plugin-mtu
node-cidr-mask-size oom-score-adj pods-per-core port pv-recycler-increment-timeout-nfs
pv-recycler-minimum-timeout-hostpath pv-recycler-minimum-timeout-nfs
pv-recycler-timeout-increment-hostpath read-only-port registry-burst registry-qps secure-port
target-ram-mb terminated-pod-gc-threshold v";

/// Flags whose names end like those of durations, but have another type.
const NOT_DURATIONS: &str = "eviction-soft-grace-period";

const DURATION_ENDS: [&str; 9] = [
    "-period",
    "-timeout",
    "-duration",
    "-deadline",
    "-interval",
    "-ttl",
    "-frequency",
    "-delay",
    "-backoff",
];

/// The type of the flag `name`, written without dashes in front.
pub fn kind(name: &str) -> Kind {
    let listed = |names: &str| names.split_whitespace().any(|listed| listed == name);
    if listed(BOOLEANS) {
        Kind::Boolean
    } else if listed(INTEGERS) {
        Kind::Integer
    } else if DURATION_ENDS.iter().any(|end| name.ends_with(end)) && !listed(NOT_DURATIONS) {
        Kind::Duration
    } else {
        Kind::Text
    }
}

/// Whether the value of the flag `name` is the path of a file that must be readable. This excludes
/// files that the program itself makes, and lists of candidates of which any may be missing.
pub fn names_file(name: &str) -> bool {
    const ENDS: [&str; 5] = ["-file", "-cafile", "-certfile", "-keyfile", "kubeconfig"];
    const OTHERS: [&str; 6] = [
        "cloud-config",
        "config",
        "experimental-encryption-provider-config",
        "kubelet-certificate-authority",
        "kubelet-client-certificate",
        "kubelet-client-key",
    ];
    const MADE_OR_LISTED: [&str; 3] = ["boot-id-file", "lock-file", "machine-id-file"];
    !MADE_OR_LISTED.contains(&name)
        && (ENDS.iter().any(|end| name.ends_with(end)) || OTHERS.contains(&name))
}
