//! The bundle's programs as a person runs them, with what they need to reach this node's cluster.

use std::ffi::OsString;

use crate::components::{ETCD_AUTHORITY, ETCD_CERTIFICATE};
use crate::nodespec::Profile;
use crate::nodespec::ports::ETCD_CLIENTS;
use crate::paths::{self, BIN_DIR};
use crate::sys::process::Replacement;

/// The variable that chooses the version of etcd's API.
const API: &str = "ETCDCTL_API";

/// kubectl with the administrator's kubeconfig, on a master.
pub fn kubectl(arguments: &[OsString]) -> Replacement {
    program("kubectl", arguments).with("KUBECONFIG", paths::ADMIN_KUBECONFIG)
}

/// calicoctl, which finds its settings in `/etc/calico/calicoctl.cfg`.
pub fn calicoctl(arguments: &[OsString]) -> Replacement {
    program("calicoctl", arguments)
}

/// etcdctl for the member of etcd on this master. It uses API v3 unless `api` is another version.
pub fn etcdctl(profile: Profile, api: Option<&str>, arguments: &[OsString]) -> Replacement {
    let (scheme, keys) = match profile {
        Profile::Simple => ("http", &[][..]),
        Profile::WithCa => ("https", keys_of(api)),
    };
    let endpoint = format!("{scheme}://127.0.0.1:{ETCD_CLIENTS}");
    let mut replacement = program("etcdctl", arguments).with(API, api.unwrap_or("3"));
    let variables = [("--endpoints", "ETCDCTL_ENDPOINTS", endpoint)].into_iter();
    let files = keys
        .iter()
        .map(|(flag, variable, file)| (*flag, *variable, file()));
    for (flag, variable, value) in variables.chain(files) {
        // etcdctl refuses a flag together with its variable.
        if !is_given(flag, arguments) {
            replacement = replacement.with(variable, &value);
        }
    }
    replacement
}

/// A flag of etcdctl, the variable in its place, and the file that it names.
type Key = (&'static str, &'static str, fn() -> String);

fn keys_of(api: Option<&str>) -> &'static [Key] {
    match api {
        Some("2") => &[
            ("--ca-file", "ETCDCTL_CA_FILE", authority),
            ("--cert-file", "ETCDCTL_CERT_FILE", certificate),
            ("--key-file", "ETCDCTL_KEY_FILE", key),
        ],
        _ => &[
            ("--cacert", "ETCDCTL_CACERT", authority),
            ("--cert", "ETCDCTL_CERT", certificate),
            ("--key", "ETCDCTL_KEY", key),
        ],
    }
}

fn authority() -> String {
    paths::certificate(ETCD_AUTHORITY)
}

fn certificate() -> String {
    paths::certificate(ETCD_CERTIFICATE)
}

fn key() -> String {
    paths::key(ETCD_CERTIFICATE)
}

fn is_given(flag: &str, arguments: &[OsString]) -> bool {
    let mut arguments = arguments.iter().filter_map(|argument| argument.to_str());
    arguments.any(|argument| argument.split('=').next() == Some(flag))
}

fn program(name: &str, arguments: &[OsString]) -> Replacement {
    Replacement::new(&format!("{BIN_DIR}/{name}"), arguments.to_vec())
}
