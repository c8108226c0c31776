//! How a master backs the cluster up: for whom, where to, how often.

use std::path::PathBuf;
use std::time::Duration;

use crate::language::tr;

use super::objects::{Destination, StoreSpec};
use super::resolver::Resolver;
use super::settings::{BackupSettings, S3Settings};
use super::value::{Layer, Sourced};

/// The shortest time between two backups.
const SHORTEST: Duration = Duration::from_secs(3600);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// How a master backs the cluster up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupSpec {
    /// For whom backups are encrypted.
    pub recipients: Vec<String>,
    /// The file with the passphrase of backups.
    pub passphrase_file: Option<String>,
    /// Where they go: the path of a directory, or `s3://BUCKET/PREFIX`.
    pub to: Option<String>,
    /// How the object store is reached.
    pub s3: Option<StoreSpec>,
    /// How often one is made.
    pub every: Option<Duration>,
    /// How many are kept; all of them if this is not set.
    pub keep: Option<u32>,
}

impl Resolver<'_> {
    /// The section `backup` of the strongest layer that has one.
    pub(super) fn backup(&mut self) -> Option<Option<Sourced<BackupSpec>>> {
        let mut layers = self.layers.iter();
        let said = layers.find_map(|layer| Some((layer, layer.settings.backup.as_ref()?)));
        let Some((layer, said)) = said else {
            return Some(None);
        };
        let problems = self.problems.len();
        let recipients = said.recipients.clone().unwrap_or_default();
        for recipient in &recipients {
            if recipient.parse::<age::x25519::Recipient>().is_err() {
                let why = &tr!("expected a recipient of age, which `appliance backup key` prints");
                self.refuse(&layer.origin("backup.recipients"), recipient, why);
            }
        }
        let passphrase_file = said.passphrase_file.as_ref();
        self.of_backup(layer, "passphraseFile", passphrase_file, parse_path);
        let to = self.of_backup(layer, "to", said.to.as_ref(), str::parse);
        self.check_whole(layer, said, to.as_ref());
        let s3 = said.s3.as_ref().and_then(|said| self.store(layer, said));
        let every = self.of_backup(layer, "every", said.every.as_ref(), parse_every);
        let keep = self.of_backup(layer, "keep", said.keep.as_ref(), parse_keep);
        let spec = BackupSpec {
            recipients,
            passphrase_file: said.passphrase_file.clone(),
            to: said.to.clone(),
            s3,
            every,
            keep,
        };
        let is_good = self.problems.len() == problems;
        is_good.then(|| Some(Sourced::new(spec, layer.origin("backup"))))
    }

    /// How the object store is reached, if everything about it was said.
    fn store(&mut self, layer: &Layer, said: &S3Settings) -> Option<StoreSpec> {
        for (field, value, example) in [
            ("endpoint", &said.endpoint, "https://HOST:PORT"),
            (
                "credentials",
                &said.credentials,
                "/etc/appliance/s3-credentials",
            ),
        ] {
            if value.is_none() {
                self.problems.push(tr!(
                    "{} lacks {field}; add `{field}: {example}`",
                    layer.origin("backup.s3"),
                    field,
                    example
                ));
            }
        }
        let endpoint = self.of_backup(layer, "s3.endpoint", said.endpoint.as_ref(), str::parse);
        let region = self.of_backup(layer, "s3.region", said.region.as_ref(), str::parse);
        let credentials = said.credentials.as_ref();
        let credentials = self.of_backup(layer, "s3.credentials", credentials, parse_path);
        let ca = self.of_backup(layer, "s3.ca", said.ca.as_ref(), parse_path);
        Some(StoreSpec {
            endpoint: endpoint?,
            region: region.unwrap_or_default(),
            credentials: credentials?,
            ca,
        })
    }

    /// A backup is for someone, and has a place that can be reached.
    fn check_whole(&mut self, layer: &Layer, said: &BackupSettings, to: Option<&Destination>) {
        let origin = layer.origin("backup");
        let has_recipients = said.recipients.as_ref().is_some_and(|all| !all.is_empty());
        match (has_recipients, said.passphrase_file.is_some()) {
            (true, false) | (false, true) => {}
            (true, true) => self.problems.push(tr!("{origin} has recipients and passphraseFile; remove one of them", origin)),
            (false, false) => self.problems.push(tr!("{origin} does not say for whom backups are encrypted; add `recipients: [age1…]`, from `appliance backup \
                 key` on another machine, or `passphraseFile`", origin)),
        }
        if said.to.is_none() && (said.every.is_some() || said.keep.is_some()) {
            self.problems.push(tr!(
                "{origin} does not say where backups go; add `to: DIR` or `to: s3://BUCKET/PREFIX`",
                origin
            ));
        }
        if matches!(to, Some(Destination::Objects(_))) && said.s3.is_none() {
            self.problems.push(tr!("{origin} does not say how the object store of `to` is reached; add `s3: {{endpoint: https://HOST:PORT, \
                 credentials: FILE}}`", origin));
        }
    }

    fn of_backup<T>(
        &mut self,
        layer: &Layer,
        field: &str,
        text: Option<&String>,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let said = Sourced::new(text?.clone(), layer.origin(&format!("backup.{field}")));
        self.parsed(said, parse).map(|parsed| parsed.value)
    }
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err(tr!("expected an absolute path")),
    }
}

fn parse_every(text: &str) -> Result<Duration, String> {
    let every =
        humantime::parse_duration(text).map_err(|_| tr!("expected a time such as 6h or 1day"))?;
    match (SHORTEST..=LONGEST).contains(&every) {
        true => Ok(every),
        false => Err(tr!("expected at least 1h and at most 31days")),
    }
}

fn parse_keep(text: &str) -> Result<u32, String> {
    let keep = text.parse().ok().filter(|&keep| keep > 0);
    keep.ok_or_else(|| tr!("expected a number of backups, at least 1"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::settings::Settings;
    use super::super::validate::validate;
    use super::super::value::Place;
    use super::*;

    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    fn refused(yaml: &str) -> String {
        let settings = Settings::from_yaml("test", yaml).unwrap();
        let layer = Layer::new(Place::Config("test".to_owned()), settings);
        validate(&[layer]).map_or_else(|refused| refused.to_string(), |()| String::new())
    }

    #[test]
    fn what_no_backup_can_be_made_with_is_refused() {
        for (yaml, why) in [
            ("{recipients: [age1x], to: /srv, every: 6h, keep: 12}", ""),
            ("{recipients: [age1xxxx], to: /srv}", "expected a recipient"),
            ("{passphraseFile: /root/passphrase}", ""),
            ("{to: /srv}", "does not say for whom"),
            ("{recipients: [], to: /srv}", "does not say for whom"),
            ("{recipients: [age1x], every: 6h}", "does not say where"),
            (
                "{recipients: [age1x], passphraseFile: /a}",
                "remove one of them",
            ),
            ("{recipients: [AGE-SECRET-KEY-1X]}", "expected a recipient"),
            ("{recipients: ['age1x\n']}", "expected a recipient"),
            (
                "{recipients: [age1x], to: srv}",
                "expected the absolute path",
            ),
            (
                "{recipients: [age1x], to: 's3://abc/x', s3: {endpoint: 'http://a:1', region: r, credentials: /c, ca: /a}}",
                "",
            ),
            (
                "{recipients: [age1x], to: 's3://abc/x'}",
                "how the object store",
            ),
            ("{recipients: [age1x], to: 's3://abc/../x'}", "backup.to"),
            (
                "{recipients: [age1x], to: /srv, s3: {credentials: /c}}",
                "lacks endpoint",
            ),
            (
                "{recipients: [age1x], s3: {endpoint: 'https://a'}}",
                "lacks credentials",
            ),
            (
                "{recipients: [age1x], s3: {endpoint: a, credentials: /c}}",
                "backup.s3.endpoint",
            ),
            (
                "{recipients: [age1x], s3: {endpoint: 'https://a', credentials: c}}",
                "backup.s3.credentials",
            ),
            (
                "{recipients: [age1x], s3: {endpoint: 'https://a', credentials: /c, ca: c}}",
                "backup.s3.ca",
            ),
            (
                "{recipients: [age1x], s3: {endpoint: 'https://a', credentials: /c, region: ''}}",
                "backup.s3.region",
            ),
            ("{recipients: [age1x], to: /srv, every: 6m}", "at least 1h"),
            (
                "{recipients: [age1x], to: /srv, every: often}",
                "such as 6h",
            ),
            ("{recipients: [age1x], to: /srv, keep: 0}", "at least 1"),
        ] {
            let yaml = yaml.replace("[age1x]", &format!("[{RECIPIENT}]"));
            let told = refused(&format!("backup: {yaml}"));
            assert!(
                told.contains(why) && told.is_empty() == why.is_empty(),
                "{yaml}: {told}"
            );
        }
    }
}
