//! The output of `appliance doctor`.

use crate::commands::documents::Supported;
use crate::doctor::{Diagnosis, Found, Level};
use crate::sys::out::say;
use crate::sys::progress::escaped;

/// Prints what was found: causes, notices, and what could not be looked at.
pub fn report(diagnosis: &Diagnosis) {
    diagnosis.found.iter().for_each(found);
    if !diagnosis.unread.is_empty() {
        say!("Could not look at:");
        for one in &diagnosis.unread {
            say!("  {}: {}", one.what, escaped(&one.why));
        }
        say!();
    }
    let of = |level| diagnosis.found.iter().filter(move |one| one.level == level);
    let follows: usize = diagnosis.found.iter().map(|one| one.follows.len()).sum();
    let count = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    };
    say!(
        "Looked for {} known faults: {}, {follows} that follow, {}.",
        diagnosis.known,
        count(of(Level::Cause).count(), "cause"),
        count(of(Level::Notice).count(), "notice")
    );
    if diagnosis.sound {
        say!("No known cause was found. `appliance status` shows whether the node is healthy.");
    }
}

fn found(one: &Found) {
    let word = match (one.level, one.likely) {
        (Level::Notice, _) => "notice",
        (Level::Cause, true) => "LIKELY CAUSE",
        (Level::Cause, false) => "CAUSE",
    };
    say!("{word} {}", one.name);
    say!("  seen:     {}", escaped(&one.seen));
    say!("  cause:    {}", one.cause);
    say!("  do:       {}", escaped(&one.command));
    if !one.follows.is_empty() {
        say!("  follows from it:");
        for next in &one.follows {
            say!("    {}: {}", next.name, escaped(&next.seen));
        }
    }
    say!();
}

/// Prints what is in an archive for support, and what is not.
pub fn supported(document: &Supported) {
    say!("Left out:");
    for one in &document.left_out {
        say!("  {}: {}", one.what, escaped(&one.why));
    }
    say!(
        "\n{} ({} KiB, {} texts without secrets) is written. Look at it before you send it: `tar -tvzf {0}`",
        document.file,
        document.bytes.div_ceil(1024),
        document.inside.len()
    );
}
