//! The plan of an upgrade, and the way back.

use std::collections::BTreeMap;

use super::{Plan, Step, UnitState, part_of, without_part};
use crate::desired::{Content, Link, Purpose, RunningService};
use crate::digest::Sha256;
use crate::paths::{BUNDLES, CURRENT, UNITS_DIR};
use crate::pki::Secret;
use crate::records::images::NodeImage;
use crate::records::upgrade::{Former, UpgradeRecord, Was};
use crate::removal;

impl Plan {
    /// The same changes, in the order of an upgrade to the bundle `digest`: what only brings something comes first, so
    /// that nothing stops before all of it is there. The program is next: if the power fails after it, the boot goes on
    /// with the new bundle.
    #[must_use]
    pub fn of_upgrade(self, digest: &str) -> Plan {
        // Docker has to run before it takes images.
        let needs_docker = self.steps.iter().any(
            |step| matches!(step, Step::Start { service, restart: false } if service.name == "docker"),
        );
        let place = |step: &Step| match step {
            Step::Unpack { .. } => 0,
            Step::LoadImage(_) if !needs_docker => 1,
            Step::InstallProgram => 2,
            _ => 3,
        };
        let mut steps: Vec<Step> = self
            .steps
            .into_iter()
            .map(|step| unpacked(step, digest))
            .collect();
        steps.sort_by_key(place);
        Plan { steps }
    }
}

/// The link to the bundle in use still leads to the former one: an image comes from where the new one is unpacked.
fn unpacked(step: Step, digest: &str) -> Step {
    match step {
        Step::LoadImage(image) => Step::LoadImage(in_bundle(&image, digest)),
        other => other,
    }
}

/// The same image, from the bundle `digest` whether that is in use or not.
pub fn in_bundle(image: &NodeImage, digest: &str) -> NodeImage {
    let below = image.tarball.strip_prefix(CURRENT);
    NodeImage {
        tarball: match below {
            Some(below) => format!("{BUNDLES}/{digest}{below}"),
            None => image.tarball.clone(),
        },
        ..image.clone()
    }
}

/// A file as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its bytes.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// What the way back needs to know.
#[derive(Clone, Debug)]
pub struct Back {
    /// The upgrade.
    pub record: UpgradeRecord,
    /// The copies by their names.
    pub copies: BTreeMap<String, Vec<u8>>,
    /// The files that the upgrade changed, as they are now.
    pub files: BTreeMap<String, Present>,
    /// The links that the upgrade changed, as they are now.
    pub links: BTreeMap<String, String>,
    /// Whether the node has the former program.
    pub program_is_there: bool,
    /// The services of the former node, in starting order, with what they started with then.
    pub services: Vec<RunningService>,
    /// What each service started with now.
    pub started_with: BTreeMap<String, String>,
    /// The running system; `None` if the root is a directory.
    pub live: Option<LiveBack>,
}

/// The running system, for the way back.
#[derive(Clone, Debug, Default)]
pub struct LiveBack {
    /// The state of each service.
    pub units: BTreeMap<String, UnitState>,
    /// The images of the former node that docker does not have.
    pub missing: Vec<NodeImage>,
}

impl Back {
    /// Nothing is left to change.
    pub fn nothing(record: UpgradeRecord) -> Back {
        Back {
            record: UpgradeRecord {
                files: BTreeMap::new(),
                links: BTreeMap::new(),
                ..record
            },
            copies: BTreeMap::new(),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            program_is_there: true,
            services: Vec::new(),
            started_with: BTreeMap::new(),
            live: None,
        }
    }

    /// The files that someone changed after the upgrade. They stay.
    pub fn changed_since(&self) -> Vec<&str> {
        let files = self.record.files.iter();
        let changed = files.filter(|(path, former)| {
            !former.is_identity && self.is_changed(path, former) && !self.is_former(path, former)
        });
        changed.map(|(path, _)| path.as_str()).collect()
    }

    fn is_changed(&self, path: &str, former: &Former) -> bool {
        let Some(present) = self.files.get(path) else {
            return true;
        };
        let ours = match former.was {
            Was::Part(_) => part_of(&present.content).unwrap_or_default(),
            _ => present.content.clone(),
        };
        Sha256::of(&ours) != former.became
    }

    fn is_former(&self, path: &str, former: &Former) -> bool {
        let present = self.files.get(path);
        match (&former.was, present) {
            (Was::Nothing, present) => present.is_none(),
            (Was::File { copy, .. }, Some(present)) => {
                self.copies.get(copy) == Some(&present.content)
            }
            (Was::File { .. }, None) => false,
            (Was::Part(part), Some(present)) => {
                part_of(&present.content) == part.as_ref().map(|part| part.clone().into_bytes())
            }
            (Was::Part(_), None) => true,
        }
    }

    /// The steps that give the node what it had before the upgrade. Images come first: nothing stops before they are
    /// there. The program is next, as in an upgrade.
    pub fn plan(&self) -> Plan {
        let mut steps: Vec<Step> = Vec::new();
        if let Some(live) = &self.live {
            let digest = &self.record.from.digest;
            let images = live.missing.iter().map(|image| in_bundle(image, digest));
            steps.extend(images.map(Step::LoadImage));
        }
        if !self.program_is_there {
            steps.push(Step::InstallProgram);
        }
        let changes = self.changes();
        let touches_units = changes.iter().any(is_of_units);
        if self.live.is_some() {
            steps.extend(
                changes
                    .iter()
                    .filter_map(new_unit)
                    .map(|unit| Step::Remove(removal::Step::Stop(unit.to_owned()))),
            );
        }
        steps.extend(changes);
        if let Some(live) = &self.live {
            if touches_units {
                steps.push(Step::ReloadUnits);
            }
            steps.extend(self.services(live));
        }
        Plan { steps }
    }

    /// The files and links that differ from the former ones.
    fn changes(&self) -> Vec<Step> {
        let files = self.record.files.iter();
        let files = files.filter(|(path, former)| {
            !former.is_identity && !self.is_former(path, former) && !self.is_changed(path, former)
        });
        let mut steps: Vec<Step> = files
            .filter_map(|(path, former)| self.restored(path, former))
            .collect();
        for (path, former) in &self.record.links {
            let now = self.links.get(path);
            match former {
                Some(target) if now != Some(target) => steps.push(Step::SetLink(Link {
                    path: path.clone(),
                    target: target.clone(),
                    yields: false,
                    purpose: match path.starts_with(UNITS_DIR) {
                        true => Purpose::Unit,
                        false => Purpose::Other,
                    },
                })),
                None if now.is_some() => steps.push(removed(path)),
                _ => {}
            }
        }
        steps
    }

    fn restored(&self, path: &str, former: &Former) -> Option<Step> {
        let present = self.files.get(path);
        match &former.was {
            Was::Nothing => Some(removed(path)),
            Was::File { copy, mode } => {
                let content = self.copies.get(copy)?.clone();
                let is_secret = mode & 0o077 == 0;
                Some(Step::WriteFile {
                    path: path.to_owned(),
                    mode: *mode,
                    replaces: present
                        .filter(|_| !is_secret)
                        .map(|present| present.content.clone()),
                    content: match is_secret {
                        true => Content::Secret(Secret::new(content)),
                        false => Content::Whole(content),
                    },
                    new: present.is_none(),
                    purpose: match path.starts_with(UNITS_DIR) {
                        true => Purpose::Unit,
                        false => Purpose::Other,
                    },
                })
            }
            Was::Part(Some(lines)) => Some(Step::EditFile {
                path: path.to_owned(),
                lines: lines.clone(),
                replaces: present?.content.clone(),
            }),
            // It had no part of this program.
            Was::Part(None) => {
                let rest = without_part(&present?.content);
                rest.map(|_| Step::Remove(removal::Step::RemovePart(path.to_owned())))
            }
        }
    }

    /// The former services that do not run with what they had.
    fn services(&self, live: &LiveBack) -> Vec<Step> {
        let starts = self.services.iter().filter_map(|service| {
            let running = live.units.get(service.name) == Some(&UnitState::Running);
            let as_former = self.started_with.get(service.name) == Some(&service.inputs);
            let is_right = as_former && (running || service.may_end);
            (!is_right).then(|| Step::Start {
                service: service.clone(),
                restart: running,
            })
        });
        starts.collect()
    }
}

fn removed(path: &str) -> Step {
    Step::Remove(removal::Step::RemoveFile(path.to_owned()))
}

fn is_of_units(step: &Step) -> bool {
    match step {
        Step::WriteFile { path, .. } => path.starts_with(UNITS_DIR),
        Step::SetLink(link) => link.path.starts_with(UNITS_DIR),
        Step::Remove(removal::Step::RemoveFile(path)) => path.starts_with(UNITS_DIR),
        _ => false,
    }
}

/// The unit whose file goes.
fn new_unit(step: &Step) -> Option<&str> {
    let Step::Remove(removal::Step::RemoveFile(path)) = step else {
        return None;
    };
    let name = path.strip_prefix(UNITS_DIR)?.strip_prefix('/')?;
    (!name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use time::OffsetDateTime;

    use super::*;
    use crate::desired::ProgramOf;
    use crate::records::state::State;
    use crate::records::upgrade::Stage;

    fn state(digest: &str) -> State {
        serde_json::from_value(serde_json::json!({
            "appliance": "1", "bundle": "b", "kubernetes": "v1.9.0", "digest": digest, "demonstration": true,
            "role": "worker", "profile": "simple", "node": "n", "address": "192.168.1.103"
        }))
        .unwrap()
    }

    fn former(was: Was, became: &[u8], is_identity: bool) -> Former {
        Former {
            was,
            became: Sha256::of(became),
            is_identity,
        }
    }

    fn file(copy: &str) -> Was {
        Was::File {
            copy: copy.to_owned(),
            mode: 0o644,
        }
    }

    fn back() -> Back {
        let unit = |name: &str| format!("{UNITS_DIR}/{name}");
        let files = [
            (unit("etcd.service"), former(file("0"), b"new", false)),
            (unit("more.service"), former(Was::Nothing, b"more", false)),
            ("/etc/edited".to_owned(), former(file("1"), b"new", false)),
            (
                "/etc/key.pem".to_owned(),
                former(file("2"), b"new key", true),
            ),
            (
                "/etc/hosts".to_owned(),
                former(Was::Part(Some("1 a\n".to_owned())), b"2 b\n", false),
            ),
        ];
        let present = |content: &str| Present {
            content: content.as_bytes().to_vec(),
            mode: 0o644,
        };
        let hosts = super::super::with_part(b"127.0.0.1 localhost\n", "2 b\n");
        Back {
            record: UpgradeRecord {
                from: state("old"),
                to: state("new"),
                settings: None,
                stage: Stage::Done,
                begun: OffsetDateTime::UNIX_EPOCH,
                copies: "a".to_owned(),
                has_program: true,
                files: files.into(),
                links: [
                    (CURRENT.to_owned(), Some("old".to_owned())),
                    (unit("more.wants/more.service"), None),
                ]
                .into(),
            },
            copies: ["0", "1", "2"]
                .map(|name| (name.to_owned(), b"old".to_vec()))
                .into(),
            files: [
                (unit("etcd.service"), present("new")),
                (unit("more.service"), present("more")),
                ("/etc/edited".to_owned(), present("by hand")),
                ("/etc/key.pem".to_owned(), present("newer key")),
                (
                    "/etc/hosts".to_owned(),
                    Present {
                        content: hosts,
                        mode: 0o644,
                    },
                ),
            ]
            .into(),
            links: [
                (CURRENT.to_owned(), "new".to_owned()),
                (unit("more.wants/more.service"), unit("more.service")),
            ]
            .into(),
            program_is_there: false,
            services: ["etcd", "kubelet"]
                .map(|name| RunningService {
                    name,
                    program: ProgramOf::Machine,
                    needs_images: false,
                    image: None,
                    may_end: false,
                    files: vec![],
                    inputs: "old".to_owned(),
                })
                .into(),
            started_with: [("etcd", "new"), ("kubelet", "old")]
                .map(|(name, inputs)| (name.to_owned(), inputs.to_owned()))
                .into(),
            live: Some(LiveBack {
                units: ["etcd", "kubelet"]
                    .map(|name| (name.to_owned(), UnitState::Running))
                    .into(),
                missing: vec![NodeImage {
                    reference: "pause".to_owned(),
                    id: "1".to_owned(),
                    tarball: format!("{CURRENT}/images/pause.tar"),
                }],
            }),
        }
    }

    #[test]
    fn the_way_back_restores_what_the_upgrade_changed_and_restarts_only_what_ran_with_it() {
        let back = back();
        assert_eq!(back.changed_since(), ["/etc/edited"]);
        assert_eq!(
            back.plan().words(),
            [
                "load image pause",
                "install /usr/local/bin/appliance",
                "stop more.service",
                "change this program's part of /etc/hosts",
                "change /etc/systemd/system/etcd.service (0644)",
                "remove /etc/systemd/system/more.service",
                "remove /etc/systemd/system/more.wants/more.service",
                "link /opt/appliance/current -> old",
                "reload systemd's units",
                "restart etcd",
            ]
        );
        let Some(Step::LoadImage(image)) = back.plan().steps.into_iter().next() else {
            panic!("no image");
        };
        assert_eq!(image.tarball, "/opt/appliance/old/images/pause.tar");
    }

    #[test]
    fn in_an_upgrade_images_and_the_program_come_before_anything_stops() {
        let image = NodeImage {
            reference: "pause".to_owned(),
            id: "1".to_owned(),
            tarball: format!("{CURRENT}/images/pause.tar"),
        };
        let start = |name, restart| Step::Start {
            service: RunningService {
                name,
                program: ProgramOf::Machine,
                needs_images: false,
                image: None,
                may_end: false,
                files: vec![],
                inputs: String::new(),
            },
            restart,
        };
        let unpack = Step::Unpack {
            digest: "new".to_owned(),
        };
        let plan = |docker| Plan {
            steps: vec![
                unpack.clone(),
                Step::InstallProgram,
                start("docker", docker),
                Step::LoadImage(image.clone()),
            ],
        };
        let upgrade = plan(true).of_upgrade("new");
        assert_eq!(
            upgrade.words(),
            [
                "unpack bundle new",
                "load image pause",
                "install /usr/local/bin/appliance",
                "restart docker"
            ]
        );
        let Step::LoadImage(image) = &upgrade.steps[1] else {
            panic!("no image");
        };
        assert_eq!(image.tarball, "/opt/appliance/new/images/pause.tar");
        let docker_first = plan(false).of_upgrade("new").words();
        assert_eq!(docker_first[3], "load image pause");
    }
}
