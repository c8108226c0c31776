//! The output of `appliance doctor`.

use textwrap::core::display_width;

use super::say_wrapped;
use crate::commands::documents::Supported;
use crate::doctor::{Diagnosis, Found, Level};
use crate::language::{tr, translated};
use crate::sys::out::say;
use crate::sys::progress::escaped;

/// Prints what was found: causes, notices, and what could not be looked at.
pub fn report(diagnosis: &Diagnosis) {
    diagnosis.found.iter().for_each(found);
    if !diagnosis.unread.is_empty() {
        say!("{}", tr!("Could not look at:"));
        for one in &diagnosis.unread {
            let text = format!("{}: {}", translated(&one.what), one.why);
            say_wrapped(&text, "  ", 4);
        }
        say!();
    }
    let of = |level| diagnosis.found.iter().filter(move |one| one.level == level);
    let follows: usize = diagnosis.found.iter().map(|one| one.follows.len()).sum();
    let causes = tr!("1 cause" | "{n} causes" % of(Level::Cause).count());
    let notices = tr!("1 notice" | "{n} notices" % of(Level::Notice).count());
    say!(
        "{}",
        tr!(
            "Looked for {} known faults: {}, {follows} that follow, {}.",
            diagnosis.known,
            causes,
            notices,
            follows
        )
    );
    if diagnosis.sound {
        say!(
            "{}",
            tr!("No known cause was found. `appliance status` shows whether the node is healthy.")
        );
    }
}

/// A part of what was found: its name, and its text in lines that fit.
fn part(name: &str, text: &str) {
    let first = format!("  {name} ");
    let indent = display_width(&first);
    say_wrapped(text, &first, indent);
}

fn found(one: &Found) {
    let word = match (one.level, one.likely) {
        (Level::Notice, _) => tr!("notice"),
        (Level::Cause, true) => tr!("LIKELY CAUSE"),
        (Level::Cause, false) => tr!("CAUSE"),
    };
    say!("{word} {}", one.name);
    part(&tr!("seen:    "), &one.seen);
    part(&tr!("cause:   "), &translated(one.cause));
    say!("  {} {}", tr!("do:      "), escaped(&one.command));
    if !one.follows.is_empty() {
        say!("{}", tr!("  follows from it:"));
        for next in &one.follows {
            say_wrapped(&format!("{}: {}", next.name, next.seen), "    ", 6);
        }
    }
    say!();
}

/// Prints what is in an archive for support, and what is not.
pub fn supported(document: &Supported) {
    say!("{}", tr!("Left out:"));
    for one in &document.left_out {
        say!(
            "  {}: {}",
            translated(&one.what),
            escaped(&translated(&one.why))
        );
    }
    say!(
        "{}",
        tr!(
            "\n{} ({} KiB, {} texts without secrets) is written. Look at it before you send it: `tar -tvzf {0}`",
            document.file,
            document.bytes.div_ceil(1024),
            document.inside.len()
        )
    );
}
