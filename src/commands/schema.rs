//! `appliance schema`: the JSON Schema of the result of each command.

use anyhow::{Result, bail};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::documents::backup::{BackedUp, BackupKey, Backups, Restoration, VerifiedBackup};
use super::documents::{
    Applied, Benchmark, Built, Certificates, Checks, Converted, Created, Definition, Detected,
    Done, Files, Fitness, Guarded, Installed, Nodes, Outputs, Planned, Pruned, Removed, Renewed,
    RoleChanged, RolledBack, Supported, Text, Tokens, Upgraded, Version, Written,
};
use super::failure::Failure;
use super::{Outcome, print};
use crate::bundle::doctor::Diagnosis;
use crate::bundle::manifest::Manifest;
use crate::bundle::verify::Audit;
use crate::cli::Output;
use crate::doctor;
use crate::language::tr;
use crate::maintenance::etcd::EtcdReport;
use crate::nodespec::Refused;
use crate::rotate::{accounts, authority, secrets};
use crate::status::Report;
use crate::sys::out::say;
use crate::timeline::Chart;
use crate::verify;

/// The result of a command.
struct Known {
    /// The words of the command, and the option that changes the result, with `-` between them.
    name: &'static str,
    schema: fn() -> Schema,
}

const fn known<T: JsonSchema>(name: &'static str) -> Known {
    Known {
        name,
        schema: schema_of::<T>,
    }
}

/// Every result. `config schema`, `bundle sbom` and `schema COMMAND` have none: they print JSON of other standards,
/// in both formats.
const KNOWN: &[Known] = &[
    known::<Failure>("error"),
    known::<Installed>("install"),
    known::<Planned>("install-dry-run"),
    known::<Planned>("plan"),
    known::<Text>("plan-graph"),
    known::<Upgraded>("upgrade"),
    known::<Applied>("apply"),
    known::<RolledBack>("rollback"),
    known::<Pruned>("prune"),
    known::<Converted>("convert"),
    known::<Removed>("reset"),
    known::<Detected>("detect"),
    known::<Fitness>("preflight"),
    known::<Done>("config-validate"),
    known::<Text>("config-example"),
    known::<Text>("user-data"),
    known::<Written>("user-data-file"),
    known::<Report>("status"),
    known::<doctor::Diagnosis>("doctor"),
    known::<Supported>("support-bundle"),
    known::<Chart>("timeline"),
    known::<verify::Report>("verify"),
    known::<Checks>("check"),
    known::<Benchmark>("check-cis"),
    known::<Created>("token-create"),
    known::<Tokens>("token-list"),
    known::<Done>("token-revoke"),
    known::<Nodes>("node-list"),
    known::<Done>("node-release"),
    known::<RoleChanged>("node-promote"),
    known::<RoleChanged>("node-demote"),
    known::<Guarded>("node-guard"),
    known::<Done>("certs-init"),
    known::<Done>("certs-issue"),
    known::<Certificates>("certs-show"),
    known::<Renewed>("certs-renew"),
    known::<authority::Report>("certs-rotate-ca"),
    known::<accounts::Report>("certs-rotate-service-accounts"),
    known::<secrets::Report>("secrets-rotate"),
    known::<secrets::Overview>("secrets-show"),
    known::<BackedUp>("backup"),
    known::<VerifiedBackup>("backup-verify"),
    known::<Backups>("backup-list"),
    known::<BackupKey>("backup-key"),
    known::<EtcdReport>("etcd-status"),
    known::<EtcdReport>("etcd-maintain"),
    known::<Restoration>("restore"),
    known::<Text>("kubeconfig"),
    known::<Written>("kubeconfig-file"),
    known::<Done>("addons-apply"),
    known::<Done>("images-ensure"),
    known::<Built>("image-build"),
    known::<Done>("image-prepare"),
    known::<Checks>("image-check"),
    known::<Done>("bundle-fetch"),
    known::<Done>("bundle-lock"),
    known::<Written>("bundle-export"),
    known::<Done>("bundle-import"),
    known::<Diagnosis>("bundle-doctor"),
    known::<Written>("bundle-pack"),
    known::<Audit>("bundle-verify"),
    known::<Manifest>("bundle-list"),
    known::<Definition>("bundle-list-bundle"),
    known::<Written>("repack"),
    known::<Version>("version"),
    known::<Text>("completion"),
    known::<Text>("help"),
    known::<Files>("man"),
    known::<Outputs>("schema"),
];

/// Prints the schema of the command with these words, or the names of all.
pub fn run(names: &[String], output: Output) -> Result<Outcome> {
    if names.is_empty() {
        let outputs = KNOWN.iter().map(|known| known.name.to_owned()).collect();
        print::result(output, &Outputs { outputs }, |document| {
            document.outputs.iter().for_each(|name| say!("{name}"));
        })?;
        return Ok(Outcome::Done);
    }
    let wanted = names.join("-");
    let Some(known) = KNOWN.iter().find(|known| known.name == wanted) else {
        bail!(Refused::new(tr!(
            "there is no output `{}`; run `appliance schema` to list all",
            names.join(" ")
        )));
    };
    say!("{}", serde_json::to_string_pretty(&(known.schema)())?);
    Ok(Outcome::Done)
}

/// The schema of what is written, not of what could be read.
fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
}
