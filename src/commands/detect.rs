//! `appliance detect`: shows what this VM would become, and why.

use anyhow::Result;

use super::documents::{Detected, Instance, Source};
use super::failure::Problem;
use super::log::told;
use super::{Outcome, inputs, print};
use crate::bundle::payload::Payload;
use crate::cli::{Detect, Output};
use crate::language::{message, tr, translated};
use crate::metadata::Asked;
use crate::metadata::model::Metadata;
use crate::nodespec::explain::Row;
use crate::nodespec::{NodeSpec, Refused};
use crate::observe::inputs::{Collected, collect};
use crate::observe::records;
use crate::preflight::stays::differences;
use crate::sys::out::say;
use crate::sys::root::Root;

/// Runs the command.
pub fn run(arguments: &Detect, output: Output) -> Result<Outcome> {
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    let payload = Payload::of_this_program()?;
    let manifest = payload.as_ref().map(Payload::manifest);
    let collected = collect(&inputs::typed(&arguments.inputs), &root, manifest)?;
    let spec = NodeSpec::resolve(&collected.inputs);
    let state = records::state(&root)?;
    let differences = match (&state, &spec) {
        (Some(state), Ok(spec)) => differences(&state.into(), spec),
        _ => Vec::new(),
    };
    let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
    if output == Output::Json {
        let refused = spec.as_ref().err().cloned().map(anyhow::Error::from);
        let document = document(
            &collected,
            spec.as_ref().ok(),
            differences,
            refused.as_ref(),
        );
        print::result(output, &document, |_| ())?;
        return Ok(match refused {
            Some(refused) => {
                told(&refused);
                Outcome::Refused
            }
            None => Outcome::Done,
        });
    }
    if arguments.explain {
        sources(&collected.asked);
        facts(collected.inputs.metadata.as_slice());
    }
    if let Ok(spec) = &spec {
        settings(&spec.explain(), arguments.explain);
        for warning in spec.warnings.iter().chain(&differences) {
            say!("{}", tr!("\nWarning: {warning}", warning));
        }
    }
    spec?;
    Ok(Outcome::Done)
}

fn document(
    collected: &Collected,
    spec: Option<&NodeSpec>,
    differences: Vec<String>,
    refused: Option<&anyhow::Error>,
) -> Detected {
    let source = |asked: &Asked| Source {
        source: asked.source.clone(),
        passed_over: asked.passed_over.clone(),
        milliseconds: u64::try_from(asked.took.as_millis()).unwrap_or(u64::MAX),
    };
    Detected {
        sources: collected.asked.iter().map(source).collect(),
        instance: collected.inputs.metadata.first().map(instance),
        settings: spec.map(NodeSpec::explain),
        warnings: spec.map(|spec| spec.warnings.clone()),
        differences,
        error: refused.map(Problem::of),
    }
}

fn instance(metadata: &Metadata) -> Instance {
    Instance {
        uuid: said(&metadata.uuid).cloned(),
        name: said(&metadata.name).cloned(),
        hostname: said(&metadata.hostname).cloned(),
        availability_zone: metadata.availability_zone.clone(),
        project_id: metadata.project_id.clone(),
        launch_index: metadata.launch_index,
    }
}

/// The text, if there is any.
fn said(text: &String) -> Option<&String> {
    Some(text).filter(|text| !text.is_empty())
}

fn sources(asked: &[Asked]) {
    let mut table = print::table(&["SOURCE", "TOOK", "RESULT"]);
    for asked in asked {
        let took = format!("{:.1} s", asked.took.as_secs_f32());
        let result = asked.passed_over.clone().unwrap_or_else(|| tr!("found"));
        table.add_row([asked.source.as_str(), &took, &result]);
    }
    print::print_table(&table);
}

/// The VM's identity in OpenStack, from the first metadata source.
fn facts(metadata: &[Metadata]) {
    let Some(metadata) = metadata.first() else {
        return;
    };
    let index = metadata.launch_index.map(|index| index.to_string());
    let mut table = print::table(&["INSTANCE", ""]);
    for (name, value) in [
        ("uuid", said(&metadata.uuid)),
        (message!("name"), said(&metadata.name)),
        (message!("hostname"), said(&metadata.hostname)),
        (
            message!("availability zone"),
            metadata.availability_zone.as_ref(),
        ),
        (message!("project"), metadata.project_id.as_ref()),
        (message!("launch index"), index.as_ref()),
    ] {
        let value = value.map_or("-".to_owned(), |value| value.escape_debug().to_string());
        table.add_row([&translated(name), &value]);
    }
    print::print_table(&table);
}

fn settings(rows: &[Row], explain: bool) {
    let mut table = match explain {
        true => print::table(&["SETTING", "VALUE", "FROM", "OVERRIDES"]),
        false => print::table(&["SETTING", "VALUE"]),
    };
    for row in rows {
        let overrode = row
            .overrode
            .iter()
            .map(|other| format!("{} ({})", other.value.escape_debug(), other.from));
        let overrode: Vec<String> = overrode.collect();
        match explain {
            true => table.add_row([row.name, &row.value, &row.from, &overrode.join("; ")]),
            false => table.add_row([row.name, &row.value]),
        };
    }
    print::print_table(&table);
}
