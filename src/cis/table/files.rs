//! Sections 1.4 and 2.2: the mode and the owner of files. The units of this product stand in place of the
//! manifests of static pods.

use super::{Item, Place, Program, Rule, Section, paths};

/// Anyone may read, and only the owner may write.
const READABLE: u32 = 0o644;
/// Only the owner may look into it.
const CLOSED: u32 = 0o700;
const ROOT: &str = "root:root";

const CNI: Place = Place::Within(paths::CNI_DIR);
const ETCD_DATA: Place = Place::FlagOf(Program::Etcd, "--data-dir");
const ADMIN: Place = Place::At(paths::ADMIN_KUBECONFIG);
const SCHEDULER: Place = Place::FlagOf(Program::Scheduler, "--kubeconfig");
const MANAGER: Place = Place::FlagOf(Program::ControllerManager, "--kubeconfig");
const KUBELET: Place = Place::FlagOf(Program::Kubelet, "--kubeconfig");
const PROXY: Place = Place::At(paths::PROXY_KUBECONFIG);
const CLIENT_CA: Place = Place::FlagOf(Program::Kubelet, "--client-ca-file");

const fn mode(number: &'static str, requires: &'static str, place: Place) -> Item {
    Item::new(number, requires, Rule::Mode(place, READABLE))
}

const fn owner(number: &'static str, requires: &'static str, place: Place) -> Item {
    Item::new(number, requires, Rule::Owner(place, ROOT))
}

pub const MASTER: Section = Section {
    number: "1.4",
    title: "Files of masters",
    items: &[
        mode(
            "1.4.1",
            "only its owner may write the unit of the API server",
            Place::Unit(Program::ApiServer),
        ),
        owner(
            "1.4.2",
            "the unit of the API server belongs to root",
            Place::Unit(Program::ApiServer),
        ),
        mode(
            "1.4.3",
            "only its owner may write the unit of the controller manager",
            Place::Unit(Program::ControllerManager),
        ),
        owner(
            "1.4.4",
            "the unit of the controller manager belongs to root",
            Place::Unit(Program::ControllerManager),
        ),
        mode(
            "1.4.5",
            "only its owner may write the unit of the scheduler",
            Place::Unit(Program::Scheduler),
        ),
        owner(
            "1.4.6",
            "the unit of the scheduler belongs to root",
            Place::Unit(Program::Scheduler),
        ),
        mode(
            "1.4.7",
            "only its owner may write the unit of etcd",
            Place::Unit(Program::Etcd),
        ),
        owner(
            "1.4.8",
            "the unit of etcd belongs to root",
            Place::Unit(Program::Etcd),
        ),
        mode("1.4.9", "only their owner may write the files of CNI", CNI),
        owner("1.4.10", "the files of CNI belong to root", CNI),
        Item::new(
            "1.4.11",
            "only its owner may look into the data directory of etcd",
            Rule::Mode(ETCD_DATA, CLOSED),
        ),
        Item::new(
            "1.4.12",
            "the data directory of etcd belongs to the user etcd",
            Rule::Owner(ETCD_DATA, "etcd:etcd"),
        )
        .differs(
            Rule::Owner(ETCD_DATA, ROOT),
            "etcd runs as root, as in the tutorial. Whoever controls etcd controls all nodes, whatever its user. Only root \
             can look into the directory",
        ),
        mode(
            "1.4.13",
            "only its owner may write the admin's kubeconfig",
            ADMIN,
        ),
        owner("1.4.14", "the admin's kubeconfig belongs to root", ADMIN),
        mode(
            "1.4.15",
            "only its owner may write the scheduler's kubeconfig",
            SCHEDULER,
        ),
        owner(
            "1.4.16",
            "the scheduler's kubeconfig belongs to root",
            SCHEDULER,
        ),
        mode(
            "1.4.17",
            "only its owner may write the controller manager's kubeconfig",
            MANAGER,
        ),
        owner(
            "1.4.18",
            "the controller manager's kubeconfig belongs to root",
            MANAGER,
        ),
    ],
};

pub const WORKER: Section = Section {
    number: "2.2",
    title: "Files of nodes that run pods",
    items: &[
        mode(
            "2.2.1",
            "only its owner may write the kubelet's kubeconfig",
            KUBELET,
        ),
        owner("2.2.2", "the kubelet's kubeconfig belongs to root", KUBELET),
        mode(
            "2.2.3",
            "only its owner may write the unit of the kubelet",
            Place::Unit(Program::Kubelet),
        ),
        owner(
            "2.2.4",
            "the unit of the kubelet belongs to root",
            Place::Unit(Program::Kubelet),
        ),
        mode(
            "2.2.5",
            "only its owner may write kube-proxy's kubeconfig",
            PROXY,
        ),
        owner("2.2.6", "kube-proxy's kubeconfig belongs to root", PROXY),
        mode(
            "2.2.7",
            "only its owner may write the CA certificates of the kubelet",
            CLIENT_CA,
        ),
        owner(
            "2.2.8",
            "the CA certificates of the kubelet belong to root",
            CLIENT_CA,
        ),
    ],
};
