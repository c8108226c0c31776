//! Whether the parts of a backup fit each other: keys and certificates, records and settings.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use rcgen::PublicKeyData;

use super::read::Contents;
use serde::de::DeserializeOwned;

use crate::components::{AUTHORITY, ETCD_AUTHORITY};
use crate::formats::{self, Format};
use crate::language::{message, tr, translated};
use crate::nodespec::settings::Settings;
use crate::nodespec::token::TokenId;
use crate::paths;
use crate::pki::account::{AccountKey, verifying};
use crate::pki::encryption::resolve_encryption;
use crate::pki::token::resolve_token_csv;
use crate::pki::{Secret, inspect, key};
use crate::records::authorities::digests;
use crate::records::backup::needed;
use crate::records::nodes::NodeRecord;
use crate::records::tokens::TokenRecord;

/// A check of one part. Its name is for people.
type Check = (&'static str, fn(&Contents) -> Result<()>);

const CHECKS: &[Check] = &[
    (message!("files"), has_all),
    (message!("cluster's authority"), |contents| {
        authority(contents, AUTHORITY)?;
        let pem = text(contents, paths::CA_CERTIFICATE)?;
        ensure!(
            digests(pem)? == contents.manifest.authority,
            tr!("{} is not that of the manifest", paths::CA_CERTIFICATE)
        );
        Ok(())
    }),
    (message!("etcd's authority"), |contents| {
        authority(contents, ETCD_AUTHORITY)
    }),
    (message!("key of service accounts"), accounts),
    (message!("key of secrets"), |contents| {
        let file = file(contents, paths::ENCRYPTION)?.expose();
        ensure!(!file.is_empty(), tr!("{} is empty", paths::ENCRYPTION));
        resolve_encryption(Some(file)).map(drop)
    }),
    (message!("tokens of the API server"), |contents| {
        let file = file(contents, paths::TOKEN_FILE)?.expose();
        ensure!(!file.is_empty(), tr!("{} is empty", paths::TOKEN_FILE));
        resolve_token_csv(Some(file)).map(drop)
    }),
    (message!("join tokens"), |contents| {
        tokens(contents).map(drop)
    }),
    (message!("names of nodes"), |contents| {
        records::<BTreeMap<String, NodeRecord>>(contents, &formats::NODES).map(drop)
    }),
    (message!("settings"), |contents| {
        let Some(file) = contents.files.get(paths::CONFIG) else {
            return Ok(());
        };
        let text = str::from_utf8(file.expose()).context(paths::CONFIG)?;
        Settings::from_yaml(paths::CONFIG, text).map(drop)
    }),
];

/// Checks every part. Returns the names of the checks, which all passed.
///
/// # Errors
/// The first part that does not fit. No key is quoted.
pub fn check(contents: &Contents) -> Result<Vec<&'static str>> {
    for (name, check) in CHECKS {
        check(contents).with_context(|| tr!("{name} in the backup", name = translated(name)))?;
    }
    Ok(CHECKS.iter().map(|(name, _)| *name).collect())
}

/// The join tokens in the backup.
pub fn tokens(contents: &Contents) -> Result<BTreeMap<TokenId, TokenRecord>> {
    Ok(records(contents, &formats::TOKENS)?.unwrap_or_default())
}

fn has_all(contents: &Contents) -> Result<()> {
    needed()
        .iter()
        .try_for_each(|path| file(contents, path).map(drop))
}

fn file<'a>(contents: &'a Contents, path: &str) -> Result<&'a Secret> {
    let file = contents.files.get(path);
    file.with_context(|| tr!("{path} is missing", path))
}

fn text<'a>(contents: &'a Contents, path: &str) -> Result<&'a str> {
    str::from_utf8(file(contents, path)?.expose()).with_context(|| path.to_owned())
}

/// Whether the key of the authority of that name belongs to one of its certificates.
fn authority(contents: &Contents, name: &str) -> Result<()> {
    let (path, key_path) = (paths::certificate(name), paths::key(name));
    let certificates = inspect::certificates(text(contents, &path)?).context(path.clone())?;
    let key = key::read(file(contents, &key_path)?.expose()).context(key_path.clone())?;
    let public = key.subject_public_key_info();
    ensure!(
        certificates
            .iter()
            .any(|(_, info)| info.is_ca && info.public_key == public),
        tr!("{key_path} is not the key of {path}", key_path, path)
    );
    Ok(())
}

fn accounts(contents: &Contents) -> Result<()> {
    let (private, public) = (
        paths::SERVICE_ACCOUNT_PRIVATE,
        paths::SERVICE_ACCOUNT_PUBLIC,
    );
    let key = AccountKey::read(file(contents, private)?).context(private)?;
    let keys = verifying(text(contents, public)?).context(public)?;
    ensure!(
        keys.contains(&key.public()),
        tr!("{private} is not the key of {public}", private, public)
    );
    Ok(())
}

fn records<T: DeserializeOwned>(contents: &Contents, format: &Format) -> Result<Option<T>> {
    let path = format!("{}/{}.json", paths::JOIN_DIR, format.name);
    let file = contents.files.get(&path);
    file.map(|file| format.read_secret(file.expose(), || tr!("{path} is not valid", path)))
        .transpose()
}
