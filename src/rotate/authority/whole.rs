//! Whether the files of a rotation on a master are whole. After a restore or a mistake, one can be missing, or hold
//! something else. Then they do not show how far the rotation is, so nothing may be written.

use anyhow::{Result, bail};

use super::held::{Held, Next, Stage};
use crate::components::AUTHORITY;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::paths;
use crate::pki::inspect::{CertificateInfo, authorities, inspect, newest};
use crate::pki::{Secret, key};

/// Refuses the files of this master if the rotation cannot go on with them alone.
///
/// # Errors
/// [`Refused`] with each file that is missing or does not fit, and the commands that bring it back.
pub(super) fn refuse_broken(all: &[Held]) -> Result<()> {
    let mut problems = Vec::new();
    for one in all {
        if let Some(problem) = problem(one, all)? {
            problems.push(problem);
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => bail!(Refused { problems }),
    }
}

/// Refuses authorities that other masters agreed on, if a key does not belong to its certificate.
pub(super) fn refuse_unfit(agreed: &[Next]) -> Result<()> {
    let unfit = |next: &&Next| !belongs(&next.secret(), next.issuing());
    match agreed.iter().find(unfit) {
        None => Ok(()),
        Some(next) => bail!(Refused::new(tr!(
            "the record authorities/agreed in etcd has a key of {} that does not belong to its certificate; this \
                 master does not take it",
            next.name
        ))),
    }
}

/// Whether `key` is the private key of the certificate `pem`.
fn belongs(key: &Secret, pem: &str) -> bool {
    let certificate = inspect(pem.as_bytes());
    certificate.is_ok_and(|info| is_key_of(key, &info))
}

fn is_key_of(key: &Secret, certificate: &CertificateInfo) -> bool {
    key::read(key.expose()).is_ok_and(|key| key::public(&key) == certificate.public_key)
}

/// What is wrong with the files of `one` among `all` authorities of this master.
fn problem(one: &Held, all: &[Held]) -> Result<Option<String>> {
    let (pem, key) = (paths::next_authority(one.name), one.next_key_path());
    let trusts_two = !authorities(&one.current.concat())?.1.is_empty();
    let is_over = is_over(all)?;
    let stage = one.stage();
    let is_unfit = |certificate: &str| {
        let next_key = one.next_key.as_ref();
        next_key.is_some_and(|own| !belongs(own, certificate))
    };
    let what = match (&one.next, stage) {
        (None, _) if trusts_two && one.next_key.is_none() => {
            tr!("{pem} and {key} are missing", pem, key)
        }
        (None, _) if trusts_two => tr!("{pem} is missing", pem),
        // The other one issues, or is dropped: then this one was replaced with it, and its files were there.
        (None, _) if !is_over && all.iter().any(|other| other.stage() == Stage::Anew) => {
            tr!("{pem} is missing", pem)
        }
        (None, _) => return Ok(None),
        (Some(_), Stage::Made) if trusts_two => tr!(
            "{pem} is not one of the authorities in {}",
            paths::certificate(one.name),
            pem
        ),
        (Some(next), _) if next.first().is_some_and(|first| is_unfit(first)) => {
            tr!("{key} is not the private key of {pem}", key, pem)
        }
        // At the end, the keys are removed before the certificates.
        (Some(_), Stage::Dropped) if is_over => return Ok(None),
        (Some(_), _) if one.next_key.is_none() => tr!("{key} is missing", key),
        (Some(_), _) => return Ok(None),
    };
    let way = match stage {
        Stage::Made if !trusts_two => unused(&pem, &key, one.next_key.is_some()),
        _ => restore(one, trusts_two)?,
    };
    Ok(Some(tr!(
        "{what}, and a rotation is under way; nothing was changed. {way} Then run `appliance certs rotate-ca --continue`",
        what,
        way
    )))
}

/// Whether only the files of the rotation are left to remove.
fn is_over(all: &[Held]) -> Result<bool> {
    for one in all {
        let has_one = authorities(&one.current.concat())?.1.is_empty();
        if !(has_one && matches!(one.stage(), Stage::Dropped | Stage::None)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How to go on without a new authority that nobody trusts yet.
fn unused(pem: &str, key: &str, has_key: bool) -> String {
    let key = match has_key {
        true => format!("; mv {key} {key}.old"),
        false => String::new(),
    };
    tr!(
        "Nothing trusts this new authority yet: to have another one made, move it away: `mv {pem} {pem}.old{key}`.",
        pem,
        key
    )
}

/// How to bring back the files of the new authority of `one`.
fn restore(one: &Held, trusts_two: bool) -> Result<String> {
    let (pem, key) = (paths::next_authority(one.name), one.next_key_path());
    let copy = tr!(
        "Bring {pem} and {key} back from a backup of this machine (`appliance help backup`), or from another master \
         that has them.",
        pem,
        key
    );
    // A rotation makes the next authority newer than all others.
    let newest = newest(&one.current.concat())?;
    let [(certificate, info)] = &newest[..] else {
        return Ok(copy);
    };
    let certificate = &certificate.replace('\r', "");
    // The cluster's own authority is dropped first.
    if !trusts_two && one.name != AUTHORITY && one.next.is_none() {
        return Ok(copy);
    }
    let mut commands = Vec::new();
    let fits = |own: Option<&Secret>| own.is_some_and(|own| is_key_of(own, info));
    if !fits(one.next_key.as_ref()) {
        if !fits(one.key.as_ref()) {
            return Ok(copy);
        }
        commands.push(format!("install -D -m 0600 {} {key}", paths::key(one.name)));
    }
    if one.next.as_ref().and_then(|next| next.first()) != Some(certificate) {
        let place = one.current.iter().position(|pem| pem == certificate);
        let (Some(place), true) = (place, info.is_self_issued) else {
            return Ok(copy);
        };
        commands.push(format!(
            "awk '/-BEGIN CERTIFICATE-/ {{n++}} n == {}' {} > {pem}",
            place + 1,
            paths::certificate(one.name)
        ));
    }
    Ok(tr!(
        "This machine has what was there: `{}`.",
        commands.join(" && ")
    ))
}
