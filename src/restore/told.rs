//! What a restoration would do, in words.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use time::OffsetDateTime;

use super::fit::{Todo, is_same_master};
use super::{Target, files, gone};
use crate::backup::check::tokens;
use crate::backup::read::Contents;
use crate::language::tr;
use crate::paths::{CA_DIR, CONFIG, ETCD_MEMBER_DATA};
use crate::records::tokens::Standing;
use crate::sys::clock::{moment, span};
use crate::sys::root::Root;

/// What is lost: the time between the backup and now, or the last change of the data on this machine.
pub fn lost(root: &Root, created: OffsetDateTime, now: OffsetDateTime) -> Result<String> {
    let age = |from: OffsetDateTime, to: OffsetDateTime| {
        let seconds = (to - from).whole_seconds().max(0);
        span(Duration::from_secs(seconds.unsigned_abs()))
    };
    let made = tr!(
        "the backup was made at {}, {} ago: what changed in the cluster since then is lost",
        moment(created),
        age(created, now)
    );
    Ok(match last_change(root)? {
        Some(last) if last > created => tr!(
            "{made}; etcd's data on this machine is newer, it was last changed at {}: {} of changes are moved aside",
            moment(last),
            age(created, last),
            made
        ),
        Some(last) => tr!(
            "{made}; etcd's data on this machine was last changed at {}, before the backup",
            moment(last),
            made
        ),
        None => made,
    })
}

/// When a file of etcd's data was last written.
fn last_change(root: &Root) -> Result<Option<OffsetDateTime>> {
    let mut last: Option<SystemTime> = None;
    for directory in ["snap", "wal"] {
        let directory = format!("{ETCD_MEMBER_DATA}/{directory}");
        for name in root.list(&directory)? {
            let entry = root.entry(&format!("{directory}/{name}"))?;
            last = last.max(entry.and_then(|entry| entry.modified().ok()));
        }
    }
    Ok(last.map(OffsetDateTime::from))
}

/// What would be done, one line each.
pub fn steps(target: &Target<'_>, contents: &Contents, todo: Todo) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let (spec, root) = (target.spec, target.root);
    if todo == Todo::Place {
        for path in files::occupied(root)? {
            let stamp = crate::sys::clock::stamp();
            lines.push(tr!(
                "move {path} aside, to {}",
                files::aside(path, &stamp),
                path
            ));
        }
        lines.push(tr!("write the keys of the cluster to {CA_DIR}", CA_DIR));
        let is_same = is_same_master(spec, &contents.manifest);
        if is_same && contents.files.contains_key(CONFIG) && !root.exists(CONFIG)? {
            lines.push(tr!("write the settings to {CONFIG}", CONFIG));
        }
        let live = tokens(contents)?
            .into_iter()
            .filter(|(_, token)| token.standing(target.now) == Standing::Live);
        for (id, _) in live.filter(|_| !target.keeps_tokens) {
            lines.push(tr!("revoke the join token {id}", id));
        }
        lines.push(tr!("restore etcd's data, with the revision {} and {} keys of API v2, to {ETCD_MEMBER_DATA}: the only member is \
             {} at {}", contents.manifest.revision, contents.keys.values.len(), *spec.name, *spec.address, ETCD_MEMBER_DATA));
        for name in gone(spec, &contents.manifest) {
            lines.push(tr!("leave out Calico's entries of the master {name}", name));
        }
    }
    lines.push(tr!(
        "install this machine as the {} {}",
        *spec.role,
        *spec.name
    ));
    Ok(lines)
}
