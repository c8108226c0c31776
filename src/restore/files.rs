//! Puts the files of a backup in their places, and moves what is there aside.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use time::OffsetDateTime;

use crate::backup::check::tokens;
use crate::backup::read::Contents;
use crate::nodespec::token::TokenId;
use crate::paths;
use crate::pki::Secret;
use crate::records::tokens::Standing;
use crate::sys::change::Change;
use crate::sys::root::Root;

/// What belongs to a cluster, in its order: who finds the first one, finds a cluster.
const OF_CLUSTER: [&str; 6] = [
    paths::ETCD_MEMBER_DATA,
    paths::CA_DIR,
    paths::JOIN_DIR,
    paths::AUTHORITIES,
    paths::KUBELET_PKI_DIR,
    paths::KUBELET_KUBECONFIG,
];
/// The permission bits of everything until `install` gives each file its own.
const SECRET: u32 = 0o600;

/// What this machine has of a cluster.
pub fn occupied(root: &Root) -> Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for path in OF_CLUSTER {
        // Directories without content are what a reset leaves.
        let is_there = match root.is_dir(path)? {
            true => !root.list(path)?.is_empty(),
            false => root.exists(path)?,
        };
        if is_there {
            found.push(path);
        }
    }
    Ok(found)
}

/// The new name of what is moved aside.
pub fn aside(path: &str, stamp: &str) -> String {
    format!("{path}.replaced-{stamp}")
}

/// Moves everything of a cluster aside. Nothing is removed. Returns the new names.
pub fn move_aside(root: &Root, stamp: &str) -> Result<Vec<String>> {
    let mut moved = Vec::new();
    for path in occupied(root)? {
        let to = aside(path, stamp);
        root.rename(path, &to)?;
        moved.push(to);
    }
    Ok(moved)
}

/// Revokes every join token that could still be used, because nobody knows how often it was used after the backup, or
/// whether it was revoked. Returns their identifiers, and the file with all of them.
pub fn revoked(contents: &Contents, now: OffsetDateTime) -> Result<(Vec<TokenId>, Option<Secret>)> {
    let mut all = tokens(contents)?;
    let mut revoked = Vec::new();
    for (id, token) in &mut all {
        if matches!(token.standing(now), Standing::Live | Standing::Ahead) {
            token.revoked = Some(now);
            revoked.push(id.clone());
        }
    }
    if all.is_empty() {
        return Ok((revoked, None));
    }
    let mut text = serde_json::to_vec_pretty(&all)?;
    text.push(b'\n');
    Ok((revoked, Some(Secret::new(text))))
}

/// The file with the join tokens.
pub fn tokens_file() -> String {
    format!("{}/tokens.json", paths::JOIN_DIR)
}

/// Writes these files. Settings that this machine has stay.
pub fn write(root: &Root, files: &BTreeMap<String, Secret>) -> Result<()> {
    root.create_dir(paths::JOIN_DIR, 0o700)?;
    for (path, content) in files {
        let of_settings = path.starts_with(crate::records::backup::SETTINGS_DIR);
        if of_settings && root.exists(path)? {
            continue;
        }
        root.write(path, content.expose(), SECRET)
            .with_context(|| path.clone())?;
    }
    Ok(())
}
