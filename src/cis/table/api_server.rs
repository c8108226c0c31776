//! Section 1.1: the API server.

use super::{Flag, Item, PLUGINS, Program, Rule, Section, paths};

const fn api(name: &'static str) -> Flag {
    super::flag(Program::ApiServer, name)
}

const fn api_or(name: &'static str, default: &'static str) -> Flag {
    super::with_default(Program::ApiServer, name, default)
}

const ENCRYPTION: Flag = api("--experimental-encryption-provider-config");
const MODES: Flag = api_or("--authorization-mode", "AlwaysAllow");

pub const SECTION: Section = Section {
    number: "1.1",
    title: "API server",
    items: ITEMS,
};

const ITEMS: &[Item] = &[
    Item::new(
        "1.1.1",
        "requests without credentials are refused",
        Rule::Is(api_or("--anonymous-auth", "true"), "false"),
    ),
    Item::new(
        "1.1.2",
        "there are no users with passwords in a file",
        Rule::Unset(api("--basic-auth-file")),
    ),
    Item::new(
        "1.1.3",
        "no token is taken without a check",
        Rule::Unset(api("--insecure-allow-any-token")),
    ),
    Item::new(
        "1.1.4",
        "kubelets are reached over TLS",
        Rule::Is(api_or("--kubelet-https", "true"), "true"),
    ),
    Item::new(
        "1.1.5",
        "the port without TLS is not bound to another address",
        Rule::Unset(api("--insecure-bind-address")),
    ),
    Item::new(
        "1.1.6",
        "the port without TLS is off",
        Rule::Is(api_or("--insecure-port", "8080"), "0"),
    ),
    Item::new(
        "1.1.7",
        "the port with TLS is on",
        Rule::IsNot(api_or("--secure-port", "6443"), "0"),
    ),
    Item::new(
        "1.1.8",
        "profiling is off",
        Rule::Is(api_or("--profiling", "true"), "false"),
    ),
    Item::new(
        "1.1.9",
        "malformed updates are refused and not repaired",
        Rule::Is(api_or("--repair-malformed-updates", "true"), "false"),
    ),
    Item::new(
        "1.1.10",
        "not every object is admitted",
        Rule::Lacks(PLUGINS, "AlwaysAdmit"),
    ),
    Item::new(
        "1.1.11",
        "each start of a pod asks the registry for its images",
        Rule::Holds(PLUGINS, "AlwaysPullImages"),
    )
    .differs(
        Rule::Lacks(PLUGINS, "AlwaysPullImages"),
        "nodes have their images on disk and need no registry; with this plugin, no pod starts while the registry \
         does not answer. Set `alwaysPullImages: on` if every node reaches a registry with all images, those of \
         the add-ons too",
    ),
    Item::new(
        "1.1.12",
        "nobody may run commands in privileged pods",
        Rule::Holds(PLUGINS, "DenyEscalatingExec"),
    ),
    Item::new(
        "1.1.13",
        "pods cannot choose their user, group or SELinux label",
        Rule::Holds(PLUGINS, "SecurityContextDeny"),
    )
    .differs(
        Rule::Lacks(PLUGINS, "SecurityContextDeny"),
        "it also refuses pods that give up root by naming another user. `podSecurityPolicy: on` limits pods and \
         lets those pass",
    ),
    Item::new(
        "1.1.14",
        "no object comes into a namespace that is missing or ends",
        Rule::Holds(PLUGINS, "NamespaceLifecycle"),
    ),
    Item::new(
        "1.1.15",
        "there is an audit log",
        Rule::Set(&[api("--audit-log-path")]),
    ),
    Item::new(
        "1.1.16",
        "the audit log is kept for 30 days",
        Rule::AtLeast(api("--audit-log-maxage"), 30),
    ),
    Item::new(
        "1.1.17",
        "10 old files of the audit log are kept",
        Rule::AtLeast(api("--audit-log-maxbackup"), 10),
    ),
    Item::new(
        "1.1.18",
        "a file of the audit log may have 100 MB",
        Rule::AtLeast(api("--audit-log-maxsize"), 100),
    ),
    Item::new(
        "1.1.19",
        "not every request is allowed",
        Rule::Lacks(MODES, "AlwaysAllow"),
    ),
    Item::new(
        "1.1.20",
        "there are no tokens in a file",
        Rule::Unset(api("--token-auth-file")),
    )
    .differs(
        Rule::Is(api("--token-auth-file"), paths::TOKEN_FILE),
        "the file has one random token, of the user `kubelet-bootstrap` of the tutorial. It may only request a \
         certificate, which a person must approve. Only root can read the file",
    ),
    Item::new(
        "1.1.21",
        "the certificates of kubelets are checked",
        Rule::Set(&[api("--kubelet-certificate-authority")]),
    ),
    Item::new(
        "1.1.22",
        "it shows a certificate to kubelets",
        Rule::Set(&[
            api("--kubelet-client-certificate"),
            api("--kubelet-client-key"),
        ]),
    ),
    Item::new(
        "1.1.23",
        "the token of a deleted service account is refused",
        Rule::Is(api_or("--service-account-lookup", "true"), "true"),
    ),
    Item::new(
        "1.1.24",
        "only pods that a policy allows are admitted",
        Rule::Holds(PLUGINS, "PodSecurityPolicy"),
    )
    .differs(
        Rule::Lacks(PLUGINS, "PodSecurityPolicy"),
        "the tutorial's pods, and many images, run as root, and would not start. Set `podSecurityPolicy: on`: \
         `appliance help security` describes the two policies",
    ),
    Item::new(
        "1.1.25",
        "service accounts have keys of their own",
        Rule::Set(&[api("--service-account-key-file")]),
    ),
    Item::new(
        "1.1.26",
        "it shows a certificate to etcd",
        Rule::Set(&[api("--etcd-certfile"), api("--etcd-keyfile")]),
    ),
    Item::new(
        "1.1.27",
        "each pod gets a service account",
        Rule::Holds(PLUGINS, "ServiceAccount"),
    ),
    Item::new(
        "1.1.28",
        "it has a certificate for TLS",
        Rule::Set(&[api("--tls-cert-file"), api("--tls-private-key-file")]),
    ),
    Item::new(
        "1.1.29",
        "the certificates of clients are checked",
        Rule::Set(&[api("--client-ca-file")]),
    ),
    Item::new(
        "1.1.30",
        "the certificate of etcd is checked",
        Rule::Set(&[api("--etcd-cafile")]),
    ),
    Item::new(
        "1.1.31",
        "a kubelet may read only what its own pods need",
        Rule::Holds(MODES, "Node"),
    ),
    Item::new(
        "1.1.32",
        "a kubelet may change only its own node and pods",
        Rule::Holds(PLUGINS, "NodeRestriction"),
    ),
    Item::new(
        "1.1.33",
        "secrets are encrypted in etcd",
        Rule::Set(&[ENCRYPTION]),
    ),
    Item::new(
        "1.1.34",
        "the encryption is AES-CBC",
        Rule::Encrypts("aescbc"),
    ),
    Item::new(
        "1.1.35",
        "the number of events is limited",
        Rule::All(&[
            Rule::Holds(PLUGINS, "EventRateLimit"),
            Rule::Set(&[api("--admission-control-config-file")]),
        ]),
    ),
    Item::new(
        "1.1.36",
        "the audit log follows a policy",
        Rule::All(&[
            Rule::Lacks(api("--feature-gates"), "AdvancedAuditing=false"),
            Rule::Set(&[api("--audit-policy-file")]),
        ]),
    ),
    Item::new(
        "1.1.37",
        "a request ends after a minute",
        Rule::Is(api_or("--request-timeout", "1m0s"), "1m0s"),
    ),
];
