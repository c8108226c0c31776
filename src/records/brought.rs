//! What the installations on a machine brought that was not there before, and what they changed. Pure.
//!
//! `appliance reset` removes this, and nothing that was there before.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What was brought, since the machine became a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Brought {
    /// Whether it begins before the first installation. Otherwise, what it does not name may be brought, too.
    pub whole: bool,
    /// The files that were in directories of the node before it; or such a directory as a whole, if it had very many.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub here: BTreeSet<String>,
    /// The directories that did not exist.
    pub directories: BTreeSet<String>,
    /// The files and links that did not exist.
    pub files: BTreeSet<String>,
    /// The digests of the bundles that were not unpacked.
    pub bundles: BTreeSet<String>,
    /// The references of the images that docker did not have.
    pub images: BTreeSet<String>,
    /// The kernel modules that were not loaded.
    pub modules: BTreeSet<String>,
    /// The kernel settings that were changed, with their values before: by the installation, or by the programs of
    /// the node.
    pub sysctls: BTreeMap<String, String>,
    /// The directories whose permission bits were changed, with the bits before.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub modes: BTreeMap<String, u32>,
    /// The policy of the chain FORWARD before docker's drop-in changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward: Option<String>,
}

impl Brought {
    /// Adds what `more` says. What this record says of a setting is older, and stays.
    pub fn add(&mut self, more: Brought) {
        self.here.extend(more.here);
        self.directories.extend(more.directories);
        self.files.extend(more.files);
        self.bundles.extend(more.bundles);
        self.images.extend(more.images);
        self.modules.extend(more.modules);
        for (key, value) in more.sysctls {
            self.sysctls.entry(key).or_insert(value);
        }
        for (path, mode) in more.modes {
            self.modes.entry(path).or_insert(mode);
        }
        self.forward = self.forward.take().or(more.forward);
    }
}

#[cfg(test)]
mod tests {
    use super::Brought;

    #[test]
    fn the_first_value_of_a_setting_is_the_one_before_the_node() {
        let with = |value: &str, mode: u32, policy: &str| Brought {
            sysctls: [("vm.panic_on_oom".to_owned(), value.to_owned())].into(),
            modes: [("/etc/cni/net.d".to_owned(), mode)].into(),
            forward: Some(policy.to_owned()),
            ..Brought::default()
        };
        let mut record = with("2", 0o700, "DROP");
        record.add(with("0", 0o755, "ACCEPT"));
        assert_eq!(record, with("2", 0o700, "DROP"));
    }
}
