//! What each step of a bring-up needs before it begins: the plan as a graph. Steps that need nothing of each other may
//! run at once. The order of the plan is one order in which each step comes after all that it needs.

use std::collections::{BTreeMap, BTreeSet};

use super::services::lets_pods_in;
use super::{Plan, Step};
use crate::bundle::manifest::DIRECTORY;
use crate::desired::{Link, ProgramOf, Purpose, RunningService};
use crate::paths::{BIN_DIR, CURRENT, UNITS_DIR};

/// Something that a step needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The index of the step that makes it.
    pub step: usize,
    /// A part of what that step makes, which is there before the step ends; `None` if only all of it is enough.
    pub part: Option<String>,
}

/// What a step does most of the time. It decides how many such steps run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// It works: it computes, or writes to the disk.
    Work,
    /// Docker loads an image, which it unpacks and writes to the disk.
    Image,
    /// It waits for another program.
    Wait,
}

impl Step {
    /// What it does most of the time.
    pub fn load(&self) -> Load {
        match self {
            Step::LoadImage(_) => Load::Image,
            Step::Start { .. }
            | Step::ApplyObjects(_)
            | Step::PrepareEtcd(_)
            | Step::EndContainers(_)
            | Step::ReloadUnits => Load::Wait,
            _ => Load::Work,
        }
    }
}

impl Plan {
    /// What each step needs, by the index of the step. Unpacking yields to the files, though it does not need them: both
    /// wait for the disk, and docker can start as soon as the files are there. All else needs only steps before it.
    pub fn needs(&self) -> Vec<BTreeSet<Need>> {
        let mut before = Before::default();
        let steps = self.steps.iter().enumerate();
        let mut needs: Vec<BTreeSet<Need>> =
            steps.map(|(index, step)| before.add(index, step)).collect();
        // A step after which all others come would wait for itself.
        if let (Some(unpack), Some(files), None) = (before.unpack, before.files, before.barrier) {
            needs[unpack].insert(whole(files));
        }
        needs
    }

    /// Each step needs the one before it: nothing runs at once.
    pub fn needs_in_order(&self) -> Vec<BTreeSet<Need>> {
        let of = |index: usize| index.checked_sub(1).map(whole).into_iter().collect();
        (0..self.steps.len()).map(of).collect()
    }
}

fn whole(step: usize) -> Need {
    Need { step, part: None }
}

/// The steps before one, by what they make.
#[derive(Default)]
struct Before {
    /// A step after which all others come.
    barrier: Option<usize>,
    unpack: Option<usize>,
    /// The link to the bundle in use.
    current: Option<usize>,
    /// The program in its place.
    program: Option<usize>,
    /// The last of the directories, files, links, tokens and users, which are made in their order: keys come before
    /// their certificates, units after the files that they read. Then systemd reads the units.
    files: Option<usize>,
    /// The last module or setting of the kernel.
    kernel: Option<usize>,
    docker: Option<usize>,
    images: BTreeMap<String, usize>,
    objects: Option<usize>,
    /// The first configuration of pods' network, without which a kubelet takes no pods.
    network: Option<usize>,
    /// The last start of a service that needs no docker.
    service: Option<usize>,
    /// The last start of any service.
    start: Option<usize>,
    /// The steps that no other step needs yet.
    ends: BTreeSet<usize>,
}

impl Before {
    /// What this step needs. From then on, it is one of the steps before.
    fn add(&mut self, index: usize, step: &Step) -> BTreeSet<Need> {
        let needs = match step {
            Step::Unpack { .. } => {
                self.unpack = Some(index);
                self.all_of(&[])
            }
            Step::InstallProgram => {
                self.program = Some(index);
                self.all_of(&[])
            }
            Step::LoadModule(_) | Step::SetSysctl { .. } => {
                let needs = self.all_of(&[self.kernel]);
                self.kernel = Some(index);
                needs
            }
            Step::SetLink(link) if is_of_bundle(link) => self.link(index, link),
            step if lets_pods_in(step) && !self.images.is_empty() => {
                let images = self.images.values().copied().map(whole);
                let needs = images.chain(self.all_of(&[self.files])).collect();
                self.network = Some(index);
                needs
            }
            Step::CreateDirectory(_)
            | Step::WriteFile { .. }
            | Step::EditFile { .. }
            | Step::KeepCopy { .. }
            | Step::SetLink(_)
            | Step::AddToken(_)
            | Step::CreateUsers(_)
            | Step::ReloadUnits => {
                let needs = self.all_of(&[self.files]);
                self.files = Some(index);
                needs
            }
            Step::PrepareEtcd(_) => {
                let needs = self.all_of(&[self.files, self.kernel, self.service]);
                self.service = Some(index);
                needs
            }
            Step::LoadImage(image) => {
                let mut needs = self.all_of(&[self.files, self.docker]);
                needs.extend(self.in_bundle(&image.tarball));
                self.images.insert(image.reference.clone(), index);
                needs
            }
            Step::ApplyObjects(_) => {
                // It waits for the API server itself, with a program of the bundle.
                let mut needs = self.all_of(&[self.files, self.service]);
                needs.extend(self.in_bundle(&format!("{BIN_DIR}/kubectl")));
                self.objects = Some(index);
                needs
            }
            Step::Start { service, .. } => self.service(index, service),
            Step::EndContainers(_) => self.all_of(&[self.docker, self.start]),
            Step::Remove(_) | Step::RemoveContent(_) | Step::RemoveFile(_) => {
                let needs = self.everything();
                self.barrier = Some(index);
                needs
            }
        };
        needs.iter().for_each(|need| {
            self.ends.remove(&need.step);
        });
        self.ends.insert(index);
        needs
    }

    fn all_of(&self, steps: &[Option<usize>]) -> BTreeSet<Need> {
        let steps = steps.iter().chain([&self.barrier]);
        steps.flatten().copied().map(whole).collect()
    }

    /// Every step before.
    fn everything(&self) -> BTreeSet<Need> {
        self.ends.iter().copied().map(whole).collect()
    }

    /// A link to what is in the bundle.
    fn link(&mut self, index: usize, link: &Link) -> BTreeSet<Need> {
        let mut needs = self.all_of(&[self.current]);
        if link.path == CURRENT {
            needs.extend(self.unpacked(DIRECTORY));
            self.current = Some(index);
        } else {
            needs.extend(self.unpack.map(whole));
        }
        needs
    }

    /// A part of the bundle that is unpacked.
    fn unpacked(&self, part: &str) -> Option<Need> {
        self.unpack.map(|step| Need {
            step,
            part: Some(part.to_owned()),
        })
    }

    /// A file that may be in the bundle, by its path on the node.
    fn in_bundle(&self, path: &str) -> Vec<Need> {
        match path.strip_prefix(CURRENT) {
            Some(below) => {
                let part = self.unpacked(below.trim_start_matches('/'));
                self.current.map(whole).into_iter().chain(part).collect()
            }
            None => self.unpack.map(whole).into_iter().collect(),
        }
    }

    /// What a service needs that runs containers. The kubelet asks for its certificate as soon as it starts: the roles for
    /// that have to be there. It takes pods at once, so all images have to be, too: it would try to pull them. It comes
    /// after the configuration of their network: it looks for that every 5 s only, and tells the API server every 10 s.
    fn containers(&self, service: &RunningService) -> Vec<Need> {
        let takes_pods = service.program != ProgramOf::Image;
        let is_needed =
            |reference: &String| takes_pods || service.image.as_ref() == Some(reference);
        let images = self
            .images
            .iter()
            .filter(|(reference, _)| is_needed(reference));
        let images = images.map(|(_, index)| *index);
        let before_pods = [self.objects, self.network].into_iter().flatten();
        images
            .chain(self.docker)
            .chain(before_pods.filter(|_| takes_pods))
            .map(whole)
            .collect()
    }

    fn service(&mut self, index: usize, service: &RunningService) -> BTreeSet<Need> {
        let mut needs = self.all_of(&[self.files, self.kernel]);
        if is_last(service) {
            needs.extend(self.everything());
            self.service = Some(index);
            self.start = Some(index);
            return needs;
        }
        match &service.program {
            ProgramOf::Machine => {}
            ProgramOf::Appliance => needs.extend(self.program.map(whole)),
            ProgramOf::File(path) => needs.extend(self.in_bundle(&format!("{CURRENT}/{path}"))),
            ProgramOf::Bundle => {
                needs.extend([self.current, self.unpack].into_iter().flatten().map(whole));
            }
            // It is loaded: see below.
            ProgramOf::Image => {}
        }
        if service.name == DOCKER {
            self.docker = Some(index);
        } else {
            needs.extend(self.service.map(whole));
            match service.needs_images {
                true => needs.extend(self.containers(service)),
                false => self.service = Some(index),
            }
        }
        self.start = Some(index);
        needs
    }
}

/// The service that runs containers, and does not wait for others of the node.
pub const DOCKER: &str = "docker";

/// Whether the service begins when all else is done: a timer, or what gives the cluster its add-ons, whose pods need images.
fn is_last(service: &RunningService) -> bool {
    service.name.ends_with(".timer") || service.name == "appliance-addons"
}

/// Whether the link leads to the bundle. Those of units do not.
fn is_of_bundle(link: &Link) -> bool {
    let leads_there = link.path == CURRENT || link.target.starts_with(CURRENT);
    leads_there && link.purpose != Purpose::Unit && !link.path.starts_with(UNITS_DIR)
}

#[cfg(test)]
mod tests;
