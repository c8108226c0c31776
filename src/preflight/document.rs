//! The table as a page of documentation.

use std::fmt::Write;

use super::{Weight, table};

const HEAD: &str = "\
# Checks before an installation

What `appliance install` checks before it writes anything, and how to ask for it alone.

    appliance preflight --role worker
    appliance preflight --role worker -o json
    # the system of a mounted image
    appliance preflight --root /mnt --role worker

`appliance install` begins with the same checks. It changes nothing and ends with exit code 2 if one of them
fails. On a node that needs no change, as at most boots, it does not make them. The message has the name of each check, what was seen, and what to type. `appliance preflight` ends with
exit code 2 if `install` would refuse, and else with 0.

| result | meaning |
|---|---|
| FAIL | the machine cannot become this node: `install` refuses |
| warn | `install` continues, but look at it |
| pass | it is as needed |
| not applicable | it does not concern this role, or only a booted system has it |

Without `--role`, the role comes from the settings and the metadata, as for `install`. If they are refused, the
check `settings` fails (or warns, in a system that is not booted), and the others judge a node of the role `single`.

A system that is not booted, such as a mounted image, has no clock, no kernel and no ports: what needs them is
not applicable. `appliance image prepare` does not run these checks. It has its own, for images.

## Ignore a check

    appliance install --ignore-preflight ports --ignore-preflight clock

The failure is then a warning. This is possible for the checks that say so below. At boot, give it to the unit:

    # /etc/systemd/system/appliance-install.service.d/preflight.conf
    [Service]
    Environment=APPLIANCE_IGNORE_PREFLIGHT=ports,clock

## Output for programs

`appliance preflight -o json` prints one object: `role`, `fit` (whether `install` would continue), `summary` (how
many checks have each result), and `checks`. Each entry of `checks` has these members:

| member | content |
|---|---|
| `name` | the name of the check; names do not change |
| `level` | `fail`, `warn`, `pass` or `not-applicable` |
| `ignored` | whether the failure is ignored, and so a warning |
| `seen` | what was seen, or why the check does not apply |
| `needed` | what is needed |
| `command` | what to type, or to do; empty if there is nothing to do |
";

const DOCKER: &str = "
Docker's settings are read from `/etc/docker/daemon.json`, and from the command line in `docker.service`, its
drop-ins and its environment files. The kubelet gets the cgroup driver of docker (`native.cgroupdriver`). The room
for images is looked for where docker keeps them (`data-root`, `graph`), through links and mounts. These settings
need nothing: `live-restore`, `iptables`, `ip-masq`, `userland-proxy`, `registry-mirrors`.
";

/// The page.
pub fn document() -> String {
    let mut text = HEAD.to_owned();
    for (heading, checks) in table::GROUPS {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n## {heading}\n\n| check | needed | if not |\n|---|---|---|\n"
        );
        for check in *checks {
            let otherwise = match check.weight {
                Weight::Binding => "FAIL",
                Weight::Ignorable => "FAIL, can be ignored",
                Weight::Warning => "warn",
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {otherwise} |",
                check.name, check.needed
            );
        }
        if *heading == "Docker" {
            text.push_str(DOCKER);
        }
    }
    text
}
