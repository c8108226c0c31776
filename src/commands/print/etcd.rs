//! The output of `appliance etcd`.

use super::{print_table, table};
use crate::maintenance::etcd::EtcdReport;
use crate::maintenance::mebibytes;

/// Prints the members and their databases.
pub fn report(report: &EtcdReport) {
    let mut rows = table(&["MEMBER", "VERSION", "DATABASE", "IN USE", "QUOTA", "STATE"]);
    for member in &report.members {
        let mut states: Vec<&str> = member.alarms.iter().map(String::as_str).collect();
        states.extend(member.problem.as_deref());
        if member.leads {
            states.push("leader");
        }
        let in_use = member.in_use.map_or_else(|| "-".to_owned(), mebibytes);
        rows.add_row([
            member.name.as_str(),
            member.version.as_deref().unwrap_or("-"),
            &mebibytes(member.bytes),
            &in_use,
            &mebibytes(report.quota),
            &states.join(", "),
        ]);
    }
    print_table(&rows);
}
