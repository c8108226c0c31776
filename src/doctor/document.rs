//! The table of faults as a page of documentation.

use std::fmt::Write;

use super::{Level, families};

const HEAD: &str = "\
# Known faults

The faults that `appliance doctor` knows: what it looks at, the cause, and the command that mends it.

    appliance doctor
    appliance doctor -o json | jq -r '.found[].command'
    # the system of a mounted disk
    appliance doctor --root /mnt

`appliance status` says what is wrong; `appliance doctor` says why. It reads the records, certificates, units,
journals, disks, the clock, docker, etcd and the kernel's log, and connects to the other nodes. It changes nothing,
needs neither an API server nor etcd, and works on a machine that is only half a node, or none. Each part has a limit
of time. What it could not look at is listed in the end.

Several symptoms of one cause are told once: the cause first, and below it what follows from it. If etcd does not
run, for example, the API server does not either: only etcd is told as the cause.

| exit code | meaning |
|---|---|
| 0 | no cause was found; there may be notices |
| 3 | causes were found |

A finding that says `likely` is the best explanation of what was seen, but another one is possible. A notice is
something that may work for now.

In the commands below, words in capitals stand for what `appliance doctor` sees; its own output has the real names.

## Output for programs

`appliance doctor -o json` prints one object: `node`, `role`, `sound` (whether no cause was found), `found`, `unread`
(what could not be looked at, and why) and `known` (how many faults it knows). Not every node has `jq`: see
[scripts.md](scripts.md). Each entry of `found` has these members:

| member | content |
|---|---|
| `name` | the name of the fault; names do not change |
| `level` | `cause` or `notice` |
| `likely` | whether another cause is possible |
| `seen` | what was seen |
| `cause` | the cause, in one or two sentences |
| `command` | the command that mends it |
| `follows` | what follows from it: `name` and `seen` of each |
";

/// The page.
pub fn document() -> String {
    let mut text = HEAD.to_owned();
    for (heading, faults) in families() {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n## {heading}\n\n| fault | looks at | cause | command |\n|---|---|---|---|\n"
        );
        for fault in faults {
            let notice = match fault.level {
                Level::Cause => "",
                Level::Notice => " (notice)",
            };
            let _ = writeln!(
                text,
                "| `{}`{notice} | {} | {} | `{}` |",
                fault.name,
                fault.looks_at,
                fault.cause,
                fault.command.replace('|', "\\|")
            );
        }
    }
    text
}
