//! Sections 1.2, 1.3 and 1.5: scheduler, controller manager and etcd.

use super::{Flag, Item, Place, Program, Rule, SERVING_GATE, SERVING_GATE_WHY, Section};

const fn manager(name: &'static str) -> Flag {
    super::flag(Program::ControllerManager, name)
}

const fn manager_or(name: &'static str, default: &'static str) -> Flag {
    super::with_default(Program::ControllerManager, name, default)
}

const fn etcd(name: &'static str) -> Flag {
    super::flag(Program::Etcd, name)
}

const fn etcd_or(name: &'static str, default: &'static str) -> Flag {
    super::with_default(Program::Etcd, name, default)
}

pub const SCHEDULER: Section = Section {
    number: "1.2",
    title: "Scheduler",
    items: &[Item::new(
        "1.2.1",
        "profiling is off",
        Rule::Is(
            super::with_default(Program::Scheduler, "--profiling", "true"),
            "false",
        ),
    )],
};

pub const CONTROLLER_MANAGER: Section = Section {
    number: "1.3",
    title: "Controller manager",
    items: &[
        Item::new(
            "1.3.1",
            "pods that ended are removed above a chosen number",
            Rule::Set(&[manager("--terminated-pod-gc-threshold")]),
        ),
        Item::new(
            "1.3.2",
            "profiling is off",
            Rule::Is(manager_or("--profiling", "true"), "false"),
        ),
        Item::new(
            "1.3.3",
            "each controller has a service account of its own",
            Rule::Is(
                manager_or("--use-service-account-credentials", "false"),
                "true",
            ),
        ),
        Item::new(
            "1.3.4",
            "the tokens of service accounts are signed with a key of their own",
            Rule::Set(&[manager("--service-account-private-key-file")]),
        ),
        Item::new(
            "1.3.5",
            "pods can check the certificate of the API server",
            Rule::Set(&[manager("--root-ca-file")]),
        ),
        Item::new(
            "1.3.6",
            "pods and containers have security contexts",
            Rule::Person(
                "look at your own manifests for `securityContext`; item 1.6.6 is the same",
            ),
        )
        .unscored(),
        Item::new(
            "1.3.7",
            "kubelets get their TLS certificates from the cluster",
            Rule::Holds(manager("--feature-gates"), SERVING_GATE),
        )
        .differs(
            Rule::Lacks(manager("--feature-gates"), SERVING_GATE),
            SERVING_GATE_WHY,
        ),
    ],
};

pub const ETCD: Section = Section {
    number: "1.5",
    title: "etcd",
    items: &[
        Item::new(
            "1.5.1",
            "it has a certificate for clients",
            Rule::Set(&[etcd("--cert-file"), etcd("--key-file")]),
        ),
        Item::new(
            "1.5.2",
            "the certificates of clients are checked",
            Rule::Is(etcd_or("--client-cert-auth", "false"), "true"),
        ),
        Item::new(
            "1.5.3",
            "it does not make its certificate itself",
            Rule::IsNot(etcd_or("--auto-tls", "false"), "true"),
        ),
        Item::new(
            "1.5.4",
            "it has a certificate for other members",
            Rule::Set(&[etcd("--peer-cert-file"), etcd("--peer-key-file")]),
        ),
        Item::new(
            "1.5.5",
            "the certificates of other members are checked",
            Rule::Is(etcd_or("--peer-client-cert-auth", "false"), "true"),
        ),
        Item::new(
            "1.5.6",
            "it does not make its certificate for members itself",
            Rule::IsNot(etcd_or("--peer-auto-tls", "false"), "true"),
        ),
        Item::new(
            "1.5.7",
            "its log of writes is in a directory of its own",
            Rule::Set(&[etcd("--wal-dir")]),
        )
        .differs(
            Rule::Unset(etcd("--wal-dir")),
            "the log is below the data directory, on the same volume and with the same owner: a second directory \
             would only be one more to back up. Later versions of the benchmark dropped this item",
        ),
        Item::new(
            "1.5.8",
            "no file of its log of writes is ever removed",
            Rule::Is(etcd_or("--max-wals", "5"), "0"),
        )
        .differs(
            Rule::Unset(etcd("--max-wals")),
            "the log would fill the volume, and etcd would stop. Later versions of the benchmark dropped this item",
        ),
        Item::new(
            "1.5.9",
            "it has a certificate authority (CA) of its own",
            Rule::Apart(
                Place::FlagOf(Program::Etcd, "--trusted-ca-file"),
                Place::FlagOf(Program::ApiServer, "--client-ca-file"),
            ),
        )
        .second_level()
        .unscored(),
    ],
};
