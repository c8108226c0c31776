//! A machine whose programs run with its root directory as `/`, and whose kernel takes no settings: there, a step of an
//! installation fails after files were replaced.

use std::process::{Command, Output};

use appliance::desired::modules;
use appliance::nodespec::Ipip;
use nix::sys::utsname::uname;

use crate::harness::Machine;

/// Makes the machine look as if systemd ran, with the modules that a node needs.
pub fn has_booted(machine: &Machine) {
    machine.put("run/systemd/system/here", "");
    let release = uname().unwrap().release().to_string_lossy().into_owned();
    let modules = modules(Ipip::Always)
        .into_iter()
        .map(|module| format!("kernel/{module}.ko\n"));
    let built_in = format!("lib/modules/{release}/modules.builtin");
    machine.put(&built_in, &modules.collect::<String>());
}

/// Runs a program of the machine there.
pub fn inside(machine: &Machine, program: &str, arguments: &[&str]) -> Output {
    let script = r#"mount --bind /proc "$0/proc" && mount -o remount,bind,ro "$0/proc" && exec chroot "$0" "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]);
    command.arg(machine.root()).arg(program);
    command.args(arguments).output().unwrap()
}
