//! The steps that start services, and what comes before them.

use super::{Current, Live, OBJECTS, Step, UnitState, has_content, kubelet};
use crate::components;
use crate::desired::{Desired, RunningService};
use crate::paths;
use crate::records::images::NodeImage;

fn objects(desired: &Desired, current: &Current, live: &Live) -> Option<Step> {
    let objects = desired.objects.as_ref()?;
    let given = current.started_with.get(OBJECTS) == Some(&objects.digest);
    (!given || live.lacks_objects).then(|| Step::ApplyObjects(objects.clone()))
}

/// Whether the step writes the first configuration of pods' network. Without one, a kubelet takes no pods.
pub(super) fn lets_pods_in(step: &Step) -> bool {
    matches!(step, Step::WriteFile { path, new: true, .. } if path == paths::CNI_CONFIG)
}

/// Services in their order. The cluster's objects, then the images come before the first service
/// that needs images. While images load, kubelets already ask for their certificates. If the roles
/// for that were still missing, the approver of v1.9 would try again only minutes later. The `network` of pods comes
/// after the images, which they could not pull.
pub(super) fn services(
    desired: &Desired,
    current: &Current,
    live: &Live,
    any_token: bool,
    network: Vec<Step>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut before_images: Vec<Step> = objects(desired, current, live).into_iter().collect();
    before_images.extend(images(desired, live));
    before_images.extend(network);
    for service in &desired.services {
        if service.needs_images {
            steps.append(&mut before_images);
        }
        let running = live.units.get(service.name) == Some(&UnitState::Running);
        // Do not start it: it has nothing to do. If a boot has just started it, it ends itself.
        if service.may_end && !any_token {
            continue;
        }
        let is_pointed =
            service.name == kubelet::KUBELET && kubelet::pointed(desired, current).is_some();
        let as_desired = current.started_with.get(service.name) == Some(&service.inputs)
            && !is_pointed
            && !was_changed(service, desired, current);
        if !(running && as_desired) {
            steps.push(Step::Start {
                service: service.clone(),
                restart: running,
            });
            if running {
                let beside = components::containers_beside(service.name).iter();
                steps.extend(beside.copied().map(Step::EndContainers));
            }
        }
    }
    steps.append(&mut before_images);
    steps
}

/// Whether someone changed a file of the service, which may have been started with it since.
fn was_changed(service: &RunningService, desired: &Desired, current: &Current) -> bool {
    let files = desired.files.iter();
    let mut files = files.filter(|file| service.files.contains(&file.path));
    files.any(|file| {
        let before = current.files.get(&file.path);
        before.is_some_and(|before| !has_content(before, file))
    })
}

/// The images that docker does not have; first those that services wait for.
fn images(desired: &Desired, live: &Live) -> Vec<Step> {
    let present = |image: &NodeImage| {
        live.images
            .as_ref()
            .and_then(|images| images.get(&image.reference))
            == Some(&image.id)
    };
    let is_of_service = |image: &NodeImage| {
        let mut services = desired.services.iter();
        services.any(|service| service.image.as_ref() == Some(&image.reference))
    };
    let missing = desired.images.iter().filter(|image| !present(image));
    let mut missing: Vec<NodeImage> = missing.cloned().collect();
    missing.sort_by_key(|image| !is_of_service(image));
    missing.into_iter().map(Step::LoadImage).collect()
}
