//! The output of the commands for bundles.

use std::collections::BTreeMap;

use indicatif::HumanBytes;

use super::{print_table, short, table};
use crate::bundle::doctor::{Checksum, Diagnosis, Examined, Place};
use crate::bundle::manifest::{BundleInfo, Manifest};
use crate::bundle::verify::{Audit, Difference, Finding, Measure};
use crate::commands::documents::Definition;
use crate::language::tr;
use crate::sys::out::say;
use crate::sys::progress::escaped;

/// Prints the name of a bundle, its description and its known security problems.
fn heading(bundle: &BundleInfo) {
    say!(
        "{}",
        tr!(
            "{} (Kubernetes {})\n{}",
            escaped(&bundle.name),
            escaped(&bundle.kubernetes),
            escaped(&bundle.description)
        )
    );
    for vulnerability in &bundle.vulnerabilities {
        say!("{}", tr!("Security problem: {}", escaped(vulnerability)));
    }
}

/// Prints the manifest of a payload.
pub fn manifest(manifest: &Manifest) {
    heading(&manifest.bundle);
    let mut table = table(&[
        "COMPONENT",
        "VERSION",
        "LICENSE",
        "SIZE",
        "SHA256",
        "SOURCE",
    ]);
    for component in &manifest.components {
        let size = HumanBytes(component.size).to_string();
        table.add_row([
            &component.name,
            &component.version,
            component.license.as_deref().unwrap_or("-"),
            &size,
            short(component.sha256.as_str()),
            component
                .source
                .as_deref()
                .or(component.supplier.as_deref())
                .unwrap_or("-"),
        ]);
    }
    print_table(&table);
}

/// Prints the result of verifying a payload.
pub fn audit(audit: &Audit) {
    say!("{}", tr!("bundle {}, {}", audit.bundle, audit.digest));
    let mut table = table(&["COMPONENT", "VERSION", "VERIFIED AGAINST", "RESULT"]);
    for finding in &audit.components {
        let held_to = match finding.held_to {
            Measure::Manifest => "its manifest",
            Measure::Lock => "bundle.lock",
        };
        table.add_row([
            finding.name.as_str(),
            &finding.version,
            held_to,
            finding.problem.as_ref().map_or("ok", |_| "NOT OK"),
        ]);
    }
    print_table(&table);
    // Not in the table, which would break their checksums over lines.
    for finding in &audit.components {
        if let Some(problem) = &finding.problem {
            say!("{}: {problem}", finding.name);
        }
    }
    for Difference { name, problem } in &audit.workloads {
        say!("{}", tr!("workload {name}: {problem}", name, problem));
    }
    let damaged = |finding: &Finding| {
        finding.problem.is_some() && matches!(finding.held_to, Measure::Manifest)
    };
    let verdict = if audit.is_sound() {
        tr!("The payload is intact: all components match their checksums.")
    } else if audit.components.iter().any(damaged) {
        tr!("The payload is NOT intact: see the problems above.")
    } else {
        tr!("The payload is NOT that of the bundle it was compared with: see the problems above.")
    };
    say!("\n{verdict}");
}

/// Prints the components of a bundle that is not packed.
pub fn definition(definition: &Definition) {
    heading(&definition.bundle);
    let mut rows = table(&["COMPONENT", "VERSION", "LICENSE", "SOURCE"]);
    for component in &definition.components {
        rows.add_row([
            &component.name,
            &component.version,
            component.license.as_deref().unwrap_or("-"),
            component.source.as_deref().unwrap_or("-"),
        ]);
    }
    print_table(&rows);
}

/// Prints whether an appliance can be built, and what each artifact's sources answer.
pub fn diagnosis(diagnosis: &Diagnosis) {
    let mut rows = table(&["ARTIFACT", "CHECKSUM", "SIZE", "FROM"]);
    for artifact in &diagnosis.artifacts {
        let size = artifact.size.map(|size| HumanBytes(size).to_string());
        rows.add_row([
            artifact.artifact.as_str(),
            checksum(artifact.checksum),
            size.as_deref().unwrap_or("-"),
            &place(artifact),
        ]);
    }
    print_table(&rows);
    print_problems(diagnosis);
    match &diagnosis.problem {
        Some(problem) => say!(
            "{}",
            tr!(
                "\nAn appliance of {} CANNOT be built here: {problem}",
                diagnosis.bundle,
                problem
            )
        ),
        None => say!(
            "{}",
            tr!(
                "\nAn appliance of {} can be built here; it takes {} of downloads.",
                diagnosis.bundle,
                HumanBytes(diagnosis.download)
            )
        ),
    }
}

/// Prints what is wrong with the sources. What is wrong with a whole server is printed once.
fn print_problems(diagnosis: &Diagnosis) {
    let mut problems: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let sources = diagnosis.artifacts.iter().flat_map(|one| &one.sources);
    for source in sources {
        let address = source.address.trim_start_matches("https://");
        let server = address.split('/').next().unwrap_or(address);
        if let Some(problem) = &source.problem {
            let addresses = problems.entry((server, problem)).or_default();
            addresses.push(&source.address);
        }
    }
    for ((server, problem), addresses) in problems {
        match addresses.as_slice() {
            [address] => say!("{address}: {problem}"),
            _ => say!(
                "{}",
                tr!(
                    "{server}, for {} artifacts: {problem}",
                    addresses.len(),
                    server,
                    problem
                )
            ),
        }
    }
}

fn checksum(checksum: Checksum) -> &'static str {
    match checksum {
        Checksum::Sha256 => "sha256",
        Checksum::Sha512 => "sha512",
        Checksum::ImageId => "image ID",
        Checksum::FirstUse => "of the first download",
        Checksum::Unknown => "UNKNOWN",
    }
}

/// Where the artifact comes from: the first source that answers.
fn place(artifact: &Examined) -> String {
    match artifact.place {
        Place::Components => tr!("the directory of components"),
        Place::Cache => tr!("the cache"),
        Place::Nowhere => "NOWHERE".to_owned(),
        Place::Server => {
            let mut sources = artifact.sources.iter();
            let serving = sources.find(|source| source.problem.is_none());
            serving.map_or_else(String::new, |source| source.address.clone())
        }
    }
}
