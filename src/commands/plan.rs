//! `appliance plan`: what an installation would change.

use anyhow::Result;

use super::documents::{Planned, PlannedFile, PlannedProgram, PlannedUnit};
use super::inputs::request;
use super::print::plan::NewFiles;
use super::{Outcome, print};
use crate::bundle::manifest::{Component, Kind};
use crate::cli::{GraphForm, Output, Plan as Arguments, Wanted};
use crate::enroll::Joining;
use crate::install::{self, Machine, prepare};
use crate::language::tr;
use crate::paths::PROGRAM;
use crate::plan::{Form, Plan, Step};

/// Shows what `install` would change.
pub fn run(arguments: &Arguments, required_key: Option<&str>, output: Output) -> Result<Outcome> {
    if let Some(form) = arguments.graph {
        return graph(&arguments.wanted, required_key, output, form);
    }
    let new_files = match arguments.new_files {
        true => NewFiles::Shown,
        false => NewFiles::Named,
    };
    show(&arguments.wanted, required_key, output, new_files)
}

/// Shows what `install` would change on the machine that is `wanted`. Changes nothing.
pub fn show(
    wanted: &Wanted,
    required_key: Option<&str>,
    output: Output,
    new_files: NewFiles,
) -> Result<Outcome> {
    let (machine, planned) = planned(wanted, required_key)?;
    let document = document(&machine, &planned)?;
    print::result(output, &document, |document| {
        print::plan::planned(document, new_files);
    })?;
    Ok(match document.changed {
        true => Outcome::Differs,
        false => Outcome::Done,
    })
}

/// Prints which steps of the plan need which others.
fn graph(
    wanted: &Wanted,
    required_key: Option<&str>,
    output: Output,
    form: GraphForm,
) -> Result<Outcome> {
    let (_, planned) = planned(wanted, required_key)?;
    let form = match form {
        GraphForm::Dot => Form::Dot,
        GraphForm::Mermaid => Form::Mermaid,
    };
    print::text(&planned.plan.graph(form), output)?;
    Ok(match planned.plan.is_empty() {
        true => Outcome::Done,
        false => Outcome::Differs,
    })
}

/// The machine that is `wanted`, and what would change on it.
fn planned(wanted: &Wanted, required_key: Option<&str>) -> Result<(Machine, install::Planned)> {
    let machine = prepare(&request(wanted, required_key))?;
    machine.warn_about_settings();
    let ignored = &wanted.ignore.checks;
    if !machine.is_node()? {
        machine.preflight(ignored)?;
    }
    machine.check_installed(&wanted.change)?;
    let planned = machine.fit_plan(&machine.identity(Joining::Pretended)?, ignored)?;
    Ok((machine, planned))
}

/// The document of what is planned.
pub fn document(machine: &Machine, planned: &install::Planned) -> Result<Planned> {
    let plan = &planned.plan;
    let steps = || plan.steps.iter();
    let (programs, mut images) = unpacked(machine, plan)?;
    let lacks_records = machine.lacks_records(planned)?;
    let records = lacks_records.then(|| tr!("write the records of the installation"));
    let loaded = plan.images().map(|image| image.reference.clone());
    images.extend(loaded);
    images.sort();
    images.dedup();
    Ok(Planned {
        changed: !plan.is_empty() || lacks_records,
        settings: machine.spec.explain(),
        warnings: machine.spec.warnings.clone(),
        steps: plan.words().into_iter().chain(records).collect(),
        files: steps().filter_map(|step| file(step, plan)).collect(),
        units: steps().filter_map(unit).collect(),
        programs,
        images,
        modules: steps()
            .filter_map(|step| match step {
                Step::LoadModule(module) => Some(module.clone()),
                _ => None,
            })
            .collect(),
        sysctls: steps()
            .filter_map(|step| match step {
                Step::SetSysctl { key, value } => Some((key.clone(), value.clone())),
                _ => None,
            })
            .collect(),
    })
}

fn file(step: &Step, plan: &Plan) -> Option<PlannedFile> {
    let (path, mode, new) = match step {
        Step::WriteFile {
            path, mode, new, ..
        } => (path, Some(format!("{mode:04o}")), *new),
        Step::EditFile { path, .. } => (path, None, false),
        _ => return None,
    };
    let not_shown = step.not_shown();
    let kept_as = plan.steps.iter().find_map(|step| match step {
        Step::KeepCopy {
            path: of, to: copy, ..
        } if of == path => Some(copy.clone()),
        _ => None,
    });
    Some(PlannedFile {
        path: path.clone(),
        new,
        mode,
        diff: not_shown.is_none().then(|| step.diff()),
        not_shown,
        kept_as,
    })
}

fn unit(step: &Step) -> Option<PlannedUnit> {
    match step {
        Step::Start { service, restart } => Some(PlannedUnit {
            name: service.name.to_owned(),
            restart: *restart,
        }),
        _ => None,
    }
}

/// The programs that the plan brings, and the references of the images. Of a bundle that replaces another one, only
/// what is not the same in both.
fn unpacked(machine: &Machine, plan: &Plan) -> Result<(Vec<PlannedProgram>, Vec<String>)> {
    let (mut programs, mut images) = (Vec::new(), Vec::new());
    if plan.steps.contains(&Step::InstallProgram) {
        programs.push(PlannedProgram {
            name: PROGRAM.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
    }
    for component in machine.brought(plan)? {
        let Component { name, version, .. } = component;
        match component.kind {
            Kind::Image => images.extend(component.reference.clone()),
            Kind::Program | Kind::CniPlugin => programs.push(PlannedProgram {
                name: name.clone(),
                version: version.clone(),
            }),
        }
    }
    Ok((programs, images))
}
