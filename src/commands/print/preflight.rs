//! The output of `appliance preflight`.

use textwrap::core::display_width;

use super::{print_table, table};
use crate::commands::documents::Fitness;
use crate::language::{tr, translated};
use crate::preflight::{Judged, Level, count};
use crate::sys::out::say;
use crate::sys::progress::escaped;

/// How wide the column of what was seen may be; the rest is below the table.
const WIDTH: usize = 44;

/// Prints the results: a table, and below it what to type.
pub fn report(document: &Fitness) {
    let (role, judged) = (document.role, &document.checks);
    let mut rows = table(&["CHECK", "RESULT", "SEEN"]);
    for one in judged
        .iter()
        .filter(|one| one.level != Level::NotApplicable)
    {
        rows.add_row([
            one.name,
            &translated(one.level.words()),
            &shortened(&one.seen),
        ]);
    }
    print_table(&rows);
    for level in [Level::Fail, Level::Warn] {
        judged
            .iter()
            .filter(|one| one.level == level)
            .for_each(advice);
    }
    let counts: Vec<String> = Level::ALL
        .into_iter()
        .map(|level| format!("{} {}", count(judged, level), translated(level.words())))
        .collect();
    say!(
        "{}",
        tr!("\n{} checks: {}", judged.len(), counts.join(", "))
    );
    say!(
        "{}",
        match document.fit {
            true => tr!("This machine can become a {role}.", role),
            false => tr!("This machine CANNOT become a {role}: see FAIL above.", role),
        }
    );
}

fn shortened(text: &str) -> String {
    if display_width(text) <= WIDTH {
        return text.to_owned();
    }
    let mut short = String::new();
    for one in text.chars() {
        let longer = format!("{short}{one}");
        if display_width(&longer) >= WIDTH {
            break;
        }
        short = longer;
    }
    short + "…"
}

fn advice(one: &Judged) {
    let ignored = if one.ignored {
        tr!(" (ignored)")
    } else {
        String::new()
    };
    say!("\n{} {}{ignored}", translated(one.level.words()), one.name);
    say!("  {} {}", tr!("seen:   "), escaped(&one.seen));
    say!("  {} {}", tr!("needed: "), translated(one.needed));
    say!("  {} {}", tr!("do:     "), escaped(&one.command));
}
