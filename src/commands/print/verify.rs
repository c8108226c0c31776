//! A node that is compared with what was installed, for people.

use super::{print_table, table};
use crate::language::{tr, translated};
use crate::sys::out::say;
use crate::verify::Report;

/// Prints what differs, the commands against it, and the drop-ins of others.
pub fn report(report: &Report) {
    if !report.differences.is_empty() {
        let mut rows = table(&["KIND", "NAME", "DIFFERENCE"]);
        for one in &report.differences {
            rows.add_row([&translated(one.kind.words()), &one.name, &one.problem]);
        }
        print_table(&rows);
        say!(
            "{}",
            tr!(
                "\nTo see what an installation would change: appliance plan\nTo make it as it was:"
            )
        );
        report.fixes().iter().for_each(|fix| say!("    {fix}"));
    }
    if !report.drop_ins.is_empty() {
        let mut rows = table(&["DROP-IN OF OTHERS", "CHANGES"]);
        for one in &report.drop_ins {
            rows.add_row([&one.path, &one.unit]);
        }
        print_table(&rows);
    }
    match report.as_installed {
        true => say!(
            "{}",
            tr!("\nall {} things are as they were installed", report.checked)
        ),
        false => say!(
            "{}",
            tr!(
                "\n{} of {} things differ from what was installed",
                report.differences.len(),
                report.checked
            )
        ),
    }
}
