//! Makes a machine the first master of a cluster again, from a backup: keys, settings and etcd's data. What makes it run
//! is an installation, which finds all of it in place.
//!
//! A restoration can be cut at any time. Its record is written first. While the record says that files are being placed,
//! no installation begins: it would make new keys in place of those that are missing. The same restoration, run again,
//! begins anew.

use core::net::Ipv4Addr;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{Context, Result};
use time::OffsetDateTime;

use crate::backup::read::Contents;
use crate::digest::Sha256;
use crate::language::tr;
use crate::nodespec::NodeSpec;
use crate::nodespec::token::TokenId;
use crate::observe::records;
use crate::paths::{CONFIG, ETCD_DIR, ETCD_MEMBER_DATA, RESTORED};
use crate::pki::Secret;
use crate::records::backup::Manifest;
use crate::records::restored::{Phase, Restored};
use crate::sys::atomic::{sync_directory, sync_tree};
use crate::sys::change::Change;
use crate::sys::root::Root;
use crate::sys::temporary;

pub mod alone;
mod bolt;
pub mod files;
pub mod fit;
pub mod member;
mod proto;
pub mod told;

use alone::Programs;
use member::{Member, Workshop};

/// The master that a backup is restored to.
pub struct Target<'a> {
    /// Its files.
    pub root: &'a Root,
    /// Its specification.
    pub spec: &'a NodeSpec,
    /// etcd and etcdctl.
    pub programs: Programs<'a>,
    /// Whether join tokens stay as they are in the backup.
    pub keeps_tokens: bool,
    /// When the restoration is begun.
    pub now: OffsetDateTime,
}

/// What a restoration did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// The join tokens that were revoked.
    pub revoked: Vec<TokenId>,
    /// The masters of the backup that the cluster no longer has.
    pub gone: BTreeSet<String>,
}

/// What tells a backup from all others.
pub fn identifier(manifest: &Manifest) -> Result<Sha256> {
    Ok(Sha256::of(&serde_json::to_vec(manifest)?))
}

/// Begins to restore the backup of `manifest`, at the time `now`. Returns whether what is there has to be moved aside: a
/// run that was cut may have done it.
pub fn begin(root: &Root, manifest: &Manifest, now: OffsetDateTime) -> Result<bool> {
    let record = begun(manifest, now)?;
    let before = records::restored(root)?;
    if before.is_some_and(|one| one.backup == record.backup && one.phase == Phase::Placing) {
        return Ok(false);
    }
    note(root, &record)?;
    Ok(true)
}

fn begun(manifest: &Manifest, now: OffsetDateTime) -> Result<Restored> {
    Ok(Restored {
        backup: identifier(manifest)?,
        created: manifest.created,
        begun: now,
        phase: Phase::Begun,
    })
}

/// Places everything of the backup with these `contents`. `snapshot` hands out etcd's snapshot of the same backup. The
/// caller holds the lock of the machine, has begun ([`begin`]), and has moved aside what was there.
///
/// # Errors
/// If anything cannot be written. The same call, again, begins anew.
pub fn place(
    target: &Target<'_>,
    contents: &Contents,
    snapshot: impl FnOnce(&mut crate::backup::read::Take<'_>) -> Result<()>,
) -> Result<Placed> {
    let root = target.root;
    let record = Restored {
        phase: Phase::Placing,
        ..begun(&contents.manifest, target.now)?
    };
    note(root, &record)?;
    // Of an earlier run that was cut after this was in its place: everything else was moved aside.
    root.remove_tree(ETCD_MEMBER_DATA)?;
    let gone = gone(target.spec, &contents.manifest);
    let (revoked, files) = files_of(target, contents)?;
    files::write(root, &files)?;
    root.create_dir(ETCD_DIR, 0o700)?;
    let workshop = temporary::directory_in(&root.resolve(ETCD_DIR)?)?;
    make(
        target,
        contents,
        &gone,
        &Workshop::new(workshop.path()),
        snapshot,
    )?;
    let data = root.resolve(ETCD_MEMBER_DATA)?;
    let member = Workshop::new(workshop.path()).member();
    // etcd does not flush all of it: without this, a power cut soon afterwards would leave damaged data, and the record
    // that says that it is in its place.
    sync_tree(&member).with_context(|| tr!("cannot flush {} to the disk", member.display()))?;
    std::fs::rename(&member, &data).with_context(|| {
        tr!(
            "cannot rename {} to {ETCD_MEMBER_DATA}",
            member.display(),
            ETCD_MEMBER_DATA
        )
    })?;
    sync_directory(&root.resolve(ETCD_DIR)?)?;
    let placed = Restored {
        phase: Phase::Placed,
        ..record
    };
    note(root, &placed)?;
    Ok(Placed { revoked, gone })
}

fn files_of(
    target: &Target<'_>,
    contents: &Contents,
) -> Result<(Vec<TokenId>, BTreeMap<String, Secret>)> {
    let mut files = contents.files.clone();
    if !fit::is_same_master(target.spec, &contents.manifest) {
        files.remove(CONFIG);
    }
    if target.keeps_tokens {
        return Ok((Vec::new(), files));
    }
    let (revoked, tokens) = files::revoked(contents, target.now)?;
    files.extend(tokens.map(|tokens| (files::tokens_file(), tokens)));
    Ok((revoked, files))
}

fn make(
    target: &Target<'_>,
    contents: &Contents,
    gone: &BTreeSet<String>,
    workshop: &Workshop,
    snapshot: impl FnOnce(&mut crate::backup::read::Take<'_>) -> Result<()>,
) -> Result<()> {
    let spec = target.spec;
    snapshot(&mut |_size, content: &mut dyn Read| workshop.take(content))?;
    let token = format!(
        "{}-restored-{}",
        *spec.cluster.name,
        target.now.unix_timestamp()
    );
    let member = Member {
        programs: target.programs,
        name: &spec.name,
        address: *spec.address,
        token: &token,
    };
    let keys = contents.keys.values.iter();
    let values: Vec<(&str, &str)> = keys
        .filter(|(key, _)| stays(key, gone, spec.has_several_masters()))
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let manifest = &contents.manifest;
    let note = format!("from a backup of {}", manifest.created);
    workshop.make(
        &member,
        &member::Wanted {
            values: &values,
            index: contents.keys.index,
            revision: manifest.revision,
            note: &note,
        },
    )
}

/// The masters of the backup that are none of the new cluster.
pub fn gone(spec: &NodeSpec, manifest: &Manifest) -> BTreeSet<String> {
    let old = &manifest.master;
    let mut all: BTreeSet<String> = old.masters.iter().map(|one| one.name.clone()).collect();
    all.insert(old.node.clone());
    all.retain(|name| {
        *name != *spec.name && !spec.cluster.masters.iter().any(|one| one.name == *name)
    });
    all
}

/// Whether a key of API v2 is written back: not Calico's entries of masters that are gone, and what masters share only if
/// there are several.
fn stays(key: &str, gone: &BTreeSet<String>, has_several_masters: bool) -> bool {
    if key.starts_with("/appliance/") {
        return has_several_masters;
    }
    let of_node = |name: &String| {
        ["bgp/v1/host", "v1/host", "felix/v1/host", "ipam/v2/host"]
            .iter()
            .any(|kind| key.starts_with(&format!("/calico/{kind}/{name}/")))
    };
    !gone.iter().any(of_node)
}

fn note(root: &Root, record: &Restored) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    root.write(RESTORED, &text, 0o644)
}

/// The record of the last restoration on this machine.
pub fn record(root: &Root) -> Result<Option<Restored>> {
    records::restored(root)
}

/// The addresses of the masters of the backup besides this machine's.
pub fn old_addresses(spec: &NodeSpec, manifest: &Manifest) -> BTreeSet<Ipv4Addr> {
    let old = &manifest.master;
    let mut all: BTreeSet<Ipv4Addr> = old.masters.iter().map(|one| one.address).collect();
    all.extend(old.address.parse::<Ipv4Addr>().ok());
    all.remove(&*spec.address);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calicos_entries_of_masters_that_are_gone_are_left_out() {
        let gone = BTreeSet::from(["server02".to_owned()]);
        for (key, several, expected) in [
            ("/calico/bgp/v1/host/server02/ip_addr_v4", false, false),
            (
                "/calico/v1/host/server02/workload/k8s/a/endpoint/eth0",
                true,
                false,
            ),
            ("/calico/v1/host/server020/x", false, true),
            (
                "/calico/v1/host/server01/workload/k8s/a/endpoint/eth0",
                false,
                true,
            ),
            ("/calico/v1/Ready", false, true),
            ("/appliance/join/tokens/abcdef", false, false),
            ("/appliance/join/tokens/abcdef", true, true),
        ] {
            assert_eq!(stays(key, &gone, several), expected, "{key}");
        }
    }
}
