//! systemd 229, of Ubuntu 16.04, is the oldest supported version. It ignores unknown settings and
//! writes a line to the journal. The check of a newer systemd does not report such settings.

use std::fs;
use std::path::Path;

/// The settings in use that systemd 229 knows (its manual pages).
const KNOWN: &[(&str, &[&str])] = &[
    (
        "Unit",
        &[
            "ConditionPathExists",
            "Description",
            "Documentation",
            "After",
            "Wants",
            "Requires",
        ],
    ),
    (
        "Service",
        &[
            "Type",
            "NotifyAccess",
            "SuccessExitStatus",
            "WorkingDirectory",
            "Environment",
            "EnvironmentFile",
            "ExecStartPre",
            "ExecStart",
            "ExecStartPost",
            "ExecReload",
            "ExecStop",
            "Restart",
            "RestartSec",
            "RuntimeMaxSec",
            "RemainAfterExit",
            "TimeoutStartSec",
            "Nice",
            "IOSchedulingClass",
            "LimitNOFILE",
            "LimitNPROC",
            "LimitCORE",
            "TasksMax",
            "Delegate",
            "KillMode",
            "StandardOutput",
            "User",
            "Group",
            "PermissionsStartOnly",
            "RuntimeDirectory",
            "RuntimeDirectoryMode",
            "NoNewPrivileges",
            "CapabilityBoundingSet",
            "ProtectHome",
            "ProtectSystem",
            "PrivateDevices",
            "PrivateTmp",
            "RestrictAddressFamilies",
            "SystemCallArchitectures",
            "SystemCallFilter",
            "UMask",
            // These protect the rest of the machine from a service, where systemd knows them.
            "LockPersonality",
            "MemoryDenyWriteExecute",
            "MemoryMax",
            "ProtectClock",
            "ProtectControlGroups",
            "ProtectHostname",
            "ProtectKernelLogs",
            "ProtectKernelModules",
            "ProtectKernelTunables",
            "ProtectProc",
            "ReadWritePaths",
            "RestrictNamespaces",
            "RestrictRealtime",
            "RestrictSUIDSGID",
        ],
    ),
    (
        "Timer",
        &[
            "OnCalendar",
            "OnBootSec",
            "OnUnitActiveSec",
            "RandomizedDelaySec",
            "Persistent",
        ],
    ),
    ("Install", &["WantedBy"]),
];

/// Checks a unit's text against the settings that systemd 229 knows.
pub fn assert_known(name: &str, unit: &str) {
    let mut known: &[&str] = &[];
    for line in unit.replace("\\\n", " ").lines() {
        if let Some(section) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            let found = KNOWN.iter().find(|(known, _)| *known == section);
            known = found
                .unwrap_or_else(|| panic!("{name}: section {section}"))
                .1;
        } else if let Some((key, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            assert!(
                known.contains(&key),
                "{name}: systemd 229 may not know {key}"
            );
        }
    }
}

/// Everything that a template can produce, also for nodes that no test makes.
#[test]
fn every_template_of_a_unit_holds_to_systemd_229() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle/templates/units");
    for entry in fs::read_dir(units).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // The template without its conditions, so that both branches count, and without the rest of
        // long commands.
        let lines = text.lines().filter(|line| !line.starts_with(['{', ' ']));
        let unit: String = lines
            .map(|line| format!("{}\n", line.trim_end_matches('\\')))
            .collect();
        assert_known(&path.display().to_string(), &unit);
    }
}
