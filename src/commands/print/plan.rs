//! What an installation would change, for people.

use super::{print_table, table};
use crate::commands::documents::{Planned, PlannedFile};
use crate::language::tr;
use crate::sys::out::say;

/// What is shown of files that do not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewFiles {
    /// Their names.
    Named,
    /// Their content, too.
    Shown,
}

/// Prints the settings of the node with the source of each, the change of each file, and every step. The steps are
/// last: they are short, and the changes may be long.
pub fn planned(planned: &Planned, new_files: NewFiles) {
    let mut values = table(&["SETTING", "VALUE", "FROM"]);
    for row in &planned.settings {
        values.add_row([row.name, &row.value, &row.from]);
    }
    print_table(&values);
    say!();
    if !planned.changed {
        say!("{}", tr!("nothing to change"));
        return;
    }
    let shown = |file: &&PlannedFile| !file.new || new_files == NewFiles::Shown;
    for file in planned.files.iter().filter(shown) {
        change(file);
    }
    if !planned.programs.is_empty() {
        let programs = planned.programs.iter();
        let names: Vec<String> = programs
            .map(|p| format!("{} {}", p.name, p.version))
            .collect();
        say!("{}", tr!("programs to bring: {}", names.join(", ")));
    }
    if !planned.images.is_empty() {
        say!("{}", tr!("images to bring: {}", planned.images.join(", ")));
    }
    planned.steps.iter().for_each(|step| say!("{step}"));
    say!(
        "{}",
        tr!(
            "\n{} changes would be made; nothing was changed. `appliance install` makes them",
            planned.steps.len()
        )
    );
}

/// Prints the change of a file.
pub fn change(file: &PlannedFile) {
    match (&file.diff, file.not_shown) {
        (_, Some(why)) => say!("{}: {}\n", file.path, why.words()),
        (Some(diff), None) if diff.is_empty() => {
            say!(
                "{}",
                tr!("{}: only its mode or its owner changes\n", file.path)
            );
        }
        (Some(diff), None) => say!("{diff}"),
        (None, None) => {}
    }
}
