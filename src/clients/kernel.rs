//! Kernel modules and settings of the running system.

use std::fs;
use std::path::{Path, PathBuf};

/// Whether the module is loaded, or built into the running kernel.
pub fn has_module(module: &str) -> bool {
    let plain = module.replace('-', "_");
    if Path::new("/sys/module").join(&plain).exists() {
        return true;
    }
    let release = nix::sys::utsname::uname()
        .map(|uname| uname.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let built_in = fs::read_to_string(format!("/lib/modules/{release}/modules.builtin"));
    built_in.unwrap_or_default().lines().any(|line| {
        let name = line.rsplit('/').next().unwrap_or_default();
        name.trim_end_matches(".ko").replace('-', "_") == plain
    })
}

/// Whether AppArmor is enabled in the running kernel. Docker uses the same test.
pub fn has_apparmor() -> bool {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|enabled| enabled.starts_with('Y'))
}

/// The value of a setting such as `net.ipv4.ip_forward`; `None` if the kernel has no such setting.
pub fn sysctl(key: &str) -> Option<String> {
    let value = fs::read_to_string(sysctl_path(key)).ok()?;
    Some(value.trim().to_owned())
}

/// The file of a setting.
pub fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}
