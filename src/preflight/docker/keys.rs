//! The keys of `daemon.json`.

/// The type of a value in `daemon.json`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// True or false. On the command line, it needs no value.
    Switch,
    /// A number.
    Number,
    /// A text.
    Text,
    /// A list.
    List,
    /// An object.
    Object,
}

/// The keys that dockerd 1.11 to 28 knows, by type. It does not start if there is another one.
pub const KEYS: &[(Type, &[&str])] = &[
    (
        Type::Switch,
        &[
            "allow-direct-routing",
            "allow-nondistributable-artifacts-all",
            "debug",
            "disable-legacy-registry",
            "enable-cors",
            "experimental",
            "icc",
            "init",
            "ip-forward",
            "ip-forward-no-drop",
            "ip-masq",
            "ip6tables",
            "iptables",
            "ipv6",
            "live-restore",
            "no-new-privileges",
            "raw-logs",
            "rootless",
            "selinux-enabled",
            "tls",
            "tlsverify",
            "userland-proxy",
        ],
    ),
    (
        Type::Number,
        &[
            "cpu-rt-period",
            "cpu-rt-runtime",
            "max-concurrent-downloads",
            "max-concurrent-uploads",
            "max-download-attempts",
            "mtu",
            "network-control-plane-mtu",
            "network-diagnostic-port",
            "oom-score-adjust",
            "shutdown-timeout",
        ],
    ),
    (
        Type::Text,
        &[
            "api-cors-header",
            "bip",
            "bip6",
            "bridge",
            "cgroup-parent",
            "cluster-advertise",
            "cluster-store",
            "containerd",
            "containerd-namespace",
            "containerd-plugin-namespace",
            "data-root",
            "default-cgroupns-mode",
            "default-gateway",
            "default-gateway-v6",
            "default-ipc-mode",
            "default-network",
            "default-runtime",
            "default-shm-size",
            "exec-root",
            "firewall-backend",
            "fixed-cidr",
            "fixed-cidr-v6",
            "graph",
            "group",
            "host-gateway-ip",
            "http-proxy",
            "https-proxy",
            "init-path",
            "ip",
            "log-driver",
            "log-format",
            "log-level",
            "metrics-addr",
            "min-api-version",
            "no-proxy",
            "pidfile",
            "seccomp-profile",
            "storage-driver",
            "swarm-default-advertise-addr",
            "tlscacert",
            "tlscert",
            "tlskey",
            "userland-proxy-path",
            "userns-remap",
        ],
    ),
    (
        Type::List,
        &[
            "allow-nondistributable-artifacts",
            "authorization-plugins",
            "cdi-spec-dirs",
            "default-address-pools",
            "dns",
            "dns-opts",
            "dns-search",
            "exec-opts",
            "host-gateway-ips",
            "hosts",
            "insecure-registries",
            "labels",
            "node-generic-resources",
            "registry-mirrors",
            "storage-opts",
        ],
    ),
    (
        Type::Object,
        &[
            "builder",
            "cluster-store-opts",
            "default-network-opts",
            "default-ulimits",
            "features",
            "log-opts",
            "proxies",
            "runtimes",
        ],
    ),
];

/// The type of the key's value, if there is such a key.
pub fn kind_of(key: &str) -> Option<Type> {
    let of_key = KEYS.iter().find(|(_, keys)| keys.contains(&key));
    of_key.map(|(kind, _)| *kind)
}

/// Whether this is the key of a switch.
pub fn is_switch(key: &str) -> bool {
    kind_of(key) == Some(Type::Switch)
}
