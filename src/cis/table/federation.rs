//! Sections 3.1 and 3.2: federation, which this product does not have.

use super::{Item, Rule, Section};

const fn none(number: &'static str, requires: &'static str) -> Item {
    Item::new(
        number,
        requires,
        Rule::Never("the appliance runs no federation"),
    )
}

pub const API_SERVER: Section = Section {
    number: "3.1",
    title: "API server of a federation",
    items: &[
        none("3.1.1", "as 1.1.1: no requests without credentials"),
        none("3.1.2", "as 1.1.2: no passwords in a file"),
        none("3.1.3", "as 1.1.3: no token without a check"),
        none("3.1.4", "as 1.1.5: no other address without TLS"),
        none("3.1.5", "as 1.1.6: no port without TLS"),
        none("3.1.6", "as 1.1.7: a port with TLS"),
        none("3.1.7", "as 1.1.8: no profiling"),
        none("3.1.8", "as 1.1.10: not every object is admitted"),
        none("3.1.9", "as 1.1.14: only existing namespaces"),
        none("3.1.10", "as 1.1.15: an audit log"),
        none("3.1.11", "as 1.1.16: its age"),
        none("3.1.12", "as 1.1.17: its old files"),
        none("3.1.13", "as 1.1.18: its size"),
        none("3.1.14", "as 1.1.19: not every request is allowed"),
        none("3.1.15", "as 1.1.20: no tokens in a file"),
        none("3.1.16", "as 1.1.23: deleted service accounts"),
        none("3.1.17", "as 1.1.25: keys of service accounts"),
        none("3.1.18", "as 1.1.26: a certificate for etcd"),
        none("3.1.19", "as 1.1.28: a certificate for TLS"),
    ],
};

pub const CONTROLLER_MANAGER: Section = Section {
    number: "3.2",
    title: "Controller manager of a federation",
    items: &[none("3.2.1", "as 1.3.2: no profiling")],
};
