//! Every secret that a node has, so that it is found wherever it does not belong.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::redact::SHORTEST;
use crate::components;
use crate::nodespec::Role;
use crate::observe::{inputs, records};
use crate::paths;
use crate::pki::Secret;
use crate::sys::root::Root;

/// The kubeconfigs of a node.
pub const KUBECONFIGS: &[&str] = &[
    paths::ADMIN_KUBECONFIG,
    paths::CONTROLLER_MANAGER_KUBECONFIG,
    paths::SCHEDULER_KUBECONFIG,
    paths::KUBELET_KUBECONFIG,
    paths::BOOTSTRAP_KUBECONFIG,
    paths::PROXY_KUBECONFIG,
    paths::CALICO_KUBECONFIG,
    paths::ROOT_KUBECONFIG,
];
/// Directories in which every file is a certificate or a key.
const KEY_DIRS: &[&str] = &[
    paths::KUBELET_PKI_DIR,
    paths::DATASTORE_DIR,
    paths::ROTATION_DIR,
];
/// What stands before a secret in a kubeconfig, and in the file with the key that encrypts secrets.
const BEFORE: &[&str] = &["client-key-data:", "token:", "password:", "secret:"];

/// The secrets of the node below `root`, and the files of the archive whose secrets cannot be known, each with the reason:
/// these must not be shown.
pub fn known(root: &Root) -> (Vec<Secret>, Vec<(String, String)>) {
    let mut values: Vec<Vec<u8>> = Vec::new();
    for path in keys(root) {
        values.extend(
            root.read(&path)
                .ok()
                .flatten()
                .iter()
                .flat_map(|pem| of_pem(pem)),
        );
    }
    for path in KUBECONFIGS.iter().chain([&paths::ENCRYPTION]) {
        let text = root.read(path).ok().flatten().unwrap_or_default();
        values.extend(of_yaml(&String::from_utf8_lossy(&text)));
    }
    let tokens = root
        .read(paths::TOKEN_FILE)
        .ok()
        .flatten()
        .unwrap_or_default();
    let tokens = String::from_utf8_lossy(&tokens).into_owned();
    let first = tokens.lines().filter_map(|line| line.split(',').next());
    values.extend(first.map(|token| token.trim_matches('"').as_bytes().to_vec()));
    values.extend(of_backups(root));
    let mut doubts = Vec::new();
    match of_settings(root) {
        Ok(found) => values.extend(found),
        Err(why) => doubts.push((
            paths::CONFIG.to_owned(),
            format!("its secrets are not known: {why}"),
        )),
    }
    values.retain(|value| value.len() >= SHORTEST);
    values.sort();
    values.dedup();
    (values.into_iter().map(Secret::new).collect(), doubts)
}

/// The private keys that a node can have.
fn keys(root: &Root) -> Vec<String> {
    let names = components::certificate_names(Role::Single);
    let of_certificates = names.into_iter().map(paths::key);
    let more = [
        paths::SERVICE_ACCOUNT_PRIVATE,
        paths::NEXT_SERVICE_ACCOUNT,
        paths::NEXT_AUTHORITY_KEY,
        paths::NEXT_ETCD_AUTHORITY_KEY,
        paths::PREVIOUS_AUTHORITY_KEY,
    ];
    let in_dirs = KEY_DIRS.iter().flat_map(|dir| {
        let names = root.list(dir).unwrap_or_default();
        names.into_iter().map(move |name| format!("{dir}/{name}"))
    });
    of_certificates
        .chain(more.map(str::to_owned))
        .chain(in_dirs)
        .collect()
}

/// The lines and the bytes of each private key in a file of PEM.
fn of_pem(pem: &[u8]) -> Vec<Vec<u8>> {
    let blocks = pem::parse_many(pem).unwrap_or_default();
    let keys = blocks
        .iter()
        .filter(|block| block.tag().contains("PRIVATE"));
    let mut values: Vec<Vec<u8>> = keys.map(|key| key.contents().to_vec()).collect();
    // A line of a journal has one line of a key at most. The last line may be short.
    let text = String::from_utf8_lossy(pem);
    let mut in_key = false;
    for line in text.lines() {
        if line.contains("-----") {
            in_key = line.contains("BEGIN") && line.contains("PRIVATE");
        } else if in_key {
            values.push(line.trim().as_bytes().to_vec());
        }
    }
    values
}

/// The secrets in lines such as `token: VALUE`; of what is base64, also what it encodes.
fn of_yaml(text: &str) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for line in text.lines() {
        let line = line.trim().trim_start_matches("- ");
        let value = BEFORE.iter().find_map(|name| line.strip_prefix(name));
        let Some(value) = value.map(|value| value.trim().trim_matches(['"', '\''])) else {
            continue;
        };
        values.push(value.as_bytes().to_vec());
        if let Ok(decoded) = BASE64.decode(value) {
            values.extend(of_pem(&decoded));
            values.push(decoded);
        }
    }
    values
}

/// The join token in the settings, whole and its secret alone.
fn of_settings(root: &Root) -> Result<Vec<Vec<u8>>, String> {
    let content = root
        .read(paths::CONFIG)
        .map_err(|error| format!("{error:#}"))?;
    let Some(content) = content else {
        return Ok(Vec::new());
    };
    let settings = inputs::parse_config(content, paths::CONFIG).map_err(|_| {
        format!(
            "it is not valid; see `appliance config validate {}`",
            paths::CONFIG
        )
    })?;
    let token = settings.join.and_then(|join| join.token);
    let mut values = Vec::new();
    if let Some(token) = token {
        let text = token.expose();
        values.extend(
            text.split_once('.')
                .map(|(_, secret)| secret.as_bytes().to_vec()),
        );
        values.push(text.as_bytes().to_vec());
    }
    Ok(values)
}

/// The passphrase of backups, and the credentials of the object store.
fn of_backups(root: &Root) -> Vec<Vec<u8>> {
    let schedule = records::backup_schedule(root)
        .ok()
        .flatten()
        .unwrap_or_default();
    let credentials = schedule.s3.map(|s3| s3.credentials.display().to_string());
    let files = schedule.passphrase_file.into_iter().chain(credentials);
    let texts = files.filter_map(|path| root.read(&path).ok()?);
    texts
        .flat_map(|text| {
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines = text.lines().map(|line| {
                let value = line.split_once('=').map_or(line, |(name, value)| {
                    if name.trim().starts_with("aws_") {
                        value
                    } else {
                        line
                    }
                });
                value.trim().as_bytes().to_vec()
            });
            lines.collect::<Vec<_>>()
        })
        .collect()
}
