//! Units: their states, and the drop-ins of others.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{DropIn, Found, Kind, Node, Wrong};
use crate::clients::systemd::{self, Origin, Unit};
use crate::components::{self, Runs, Service, UnitKind};
use crate::language::tr;
use crate::paths;

/// Where systemd looks for units and their drop-ins (systemd.unit(5)).
const DIRECTORIES: [&str; 7] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    paths::UNITS_DIR,
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Compares the states of the units with what they should be.
pub fn compare(node: &Node<'_>, found: &mut Found) -> Result<()> {
    let services = components::services(node.shape);
    let names: Vec<&str> = services.iter().map(|service| service.name).collect();
    let units = systemd::show(node.runner, &names)?;
    let origins = systemd::origins(node.runner, &names)?;
    for service in services {
        let unit = units.get(service.name).cloned().unwrap_or_default();
        let origin = origins.get(service.name).cloned().unwrap_or_default();
        let wrong = of_state(service, &unit).or_else(|| of_origin(node, service, &origin));
        found.compared(Kind::Unit, &service.unit(), wrong);
    }
    Ok(())
}

fn of_state(service: &Service, unit: &Unit) -> Option<Wrong> {
    let is_right = match unit.active_state.as_str() {
        "active" | "reloading" => true,
        "activating" => unit.sub_state != "auto-restart",
        // It ended because it has nothing left to do; or systemd is about to start it.
        "inactive" => service.unit == UnitKind::MayEnd || unit.has_job,
        _ => false,
    };
    (!is_right).then(|| {
        Wrong::new(
            tr!("it is {} ({})", unit.active_state, unit.sub_state),
            format!("systemctl start {}", service.unit()),
        )
    })
}

/// Whether systemd uses the unit file that was written.
fn of_origin(node: &Node<'_>, service: &Service, origin: &Origin) -> Option<Wrong> {
    let path = paths::unit(&service.unit());
    let is_ours = node.record.files.contains_key(&path);
    let reload = format!(
        "systemctl daemon-reload && systemctl restart {}",
        service.unit()
    );
    if is_ours && origin.fragment != path {
        return Some(match origin.fragment.as_str() {
            "" => Wrong::new(tr!("systemd does not know its file"), reload),
            other => Wrong::new(
                tr!("systemd uses {other}, not {path}", other, path),
                format!("rm {other} && {reload}"),
            ),
        });
    }
    origin.is_stale.then(|| {
        Wrong::new(
            tr!("systemd has not read its file again since it was changed"),
            reload,
        )
    })
}

/// Finds the drop-ins of others.
pub fn drop_ins(node: &Node<'_>, found: &mut Found) -> Result<()> {
    let mut seen = BTreeSet::new();
    for service in components::services(node.shape) {
        // docker's unit is not this program's.
        if service.runs == Runs::Docker {
            continue;
        }
        for unit in service.units() {
            for directory in directories(&unit) {
                for name in node.root.list(&directory)? {
                    let path = format!("{directory}/{name}");
                    let is_new = seen.insert((unit.clone(), node.root.resolve(&path)?));
                    let is_ours = node.record.files.contains_key(&path);
                    if name.ends_with(".conf") && is_new && !is_ours {
                        found.drop_ins.push(DropIn {
                            unit: unit.clone(),
                            path,
                        });
                    }
                }
            }
        }
    }
    Ok(())
}

/// The directories of drop-ins of a unit: its own, and those of the units whose names begin like its own
/// (`kube-.service.d`).
fn directories(unit: &str) -> Vec<String> {
    let (stem, kind) = unit.rsplit_once('.').unwrap_or((unit, "service"));
    let starts = stem.match_indices('-').map(|(end, _)| &stem[..=end]);
    let names: Vec<String> = [stem]
        .into_iter()
        .chain(starts)
        .map(|start| format!("{start}.{kind}.d"))
        .collect();
    let all = DIRECTORIES.iter();
    all.flat_map(|directory| names.iter().map(move |name| format!("{directory}/{name}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::digest::Sha256;
    use crate::records::written::WrittenFile;
    use crate::sys::process::{Command, Output, Runner};
    use crate::verify::tests::{root, with_node};

    fn service(name: &str) -> &'static Service {
        use crate::nodespec::{Profile, Role, Shape};
        let shape = Shape {
            role: Role::Single,
            profile: Profile::WithCa,
            balanced: false,
        };
        let mut all = components::services(shape).into_iter();
        all.find(|service| service.name == name)
            .unwrap_or_else(|| panic!("{name}"))
    }

    fn unit(active_state: &str, sub_state: &str) -> Unit {
        Unit {
            active_state: active_state.to_owned(),
            sub_state: sub_state.to_owned(),
            ..Unit::default()
        }
    }

    #[test]
    fn a_unit_that_does_not_run_is_a_difference_and_one_that_has_ended_is_none() {
        let wrong = |name, active, sub| of_state(service(name), &unit(active, sub)).is_some();
        assert!(!wrong("etcd", "active", "running"));
        assert!(!wrong("etcd", "activating", "start"));
        assert!(wrong("etcd", "activating", "auto-restart"));
        assert!(wrong("etcd", "inactive", "dead"));
        assert!(wrong("etcd", "failed", "failed"));
        assert!(!wrong("appliance-join", "inactive", "dead"));
        assert!(wrong("appliance-join", "failed", "failed"));
    }

    #[test]
    fn a_unit_that_systemd_has_from_elsewhere_is_a_difference() {
        struct Nothing;
        impl Runner for Nothing {
            fn run(&self, command: &Command) -> Result<Output> {
                panic!("{command}")
            }
        }
        let (_dir, root) = root();
        let etcd = service("etcd");
        let path = paths::unit("etcd.service");
        let wrong = |fragment: &str, is_stale| {
            let origin = Origin {
                fragment: fragment.to_owned(),
                is_stale,
            };
            let problem = RefCell::new(None);
            with_node(&root, &Nothing, |node, _| {
                let mut record = node.record.clone();
                let file = WrittenFile::whole(0o644, Sha256::of(b""));
                record.settle(&path, file);
                let node = Node { record, ..*node };
                *problem.borrow_mut() = of_origin(&node, etcd, &origin).map(|wrong| wrong.problem);
            });
            problem.into_inner().unwrap_or_default()
        };
        assert_eq!(wrong(&path, false), "");
        assert!(wrong(&path, true).contains("has not read its file again"));
        let other = "/run/systemd/system.control/etcd.service";
        assert!(wrong(other, false).starts_with(&format!("systemd uses {other}")));
    }

    #[test]
    fn drop_ins_are_looked_for_where_systemd_looks() {
        let all = directories("kube-apiserver.service");
        for expected in [
            "/etc/systemd/system/kube-apiserver.service.d",
            "/etc/systemd/system/kube-.service.d",
            "/run/systemd/system.control/kube-apiserver.service.d",
        ] {
            assert!(all.iter().any(|found| found == expected), "{expected}");
        }
        assert!(
            directories("appliance-renew.timer")
                .iter()
                .any(|found| { found == "/etc/systemd/system/appliance-renew.timer.d" })
        );
    }
}
