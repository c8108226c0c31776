//! What the API server refuses about pods, beyond what it always refuses.

use crate::language::tr;

use super::addons::Switch;
use super::resolver::Resolver;
use super::value::Sourced;
use super::{NodeSpec, Profile};

/// The admission plugins of the API server that an operator can switch on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionSpec {
    /// Whether it refuses pods that no PodSecurityPolicy allows.
    pub pod_security_policy: Sourced<Switch>,
    /// Whether every start of a pod asks the registry for its images.
    pub always_pull_images: Sourced<Switch>,
}

impl Resolver<'_> {
    #[rustfmt::skip]
    pub(super) fn admission(&mut self) -> Option<AdmissionSpec> {
        let pod_security_policy = self.setting("podSecurityPolicy", |s| &s.pod_security_policy, str::parse);
        let always_pull_images = self.setting("alwaysPullImages", |s| &s.always_pull_images, str::parse);
        Some(AdmissionSpec {
            pod_security_policy: pod_security_policy?,
            always_pull_images: always_pull_images?,
        })
    }

    /// The profile `simple` has no authorization, so everyone could use every policy. A policy without
    /// effect is worse than none.
    pub(super) fn check_admission(&mut self, spec: &NodeSpec) {
        let policy = &spec.admission.pod_security_policy;
        if policy.value == Switch::On && *spec.profile == Profile::Simple {
            let why = &tr!(
                "the profile simple has no authorization, so no PodSecurityPolicy has an effect; set \
                       `podSecurityPolicy: off` or `profile: with-ca`"
            );
            self.refuse(&policy.origin, "on", why);
        }
        if *spec.admission.always_pull_images == Switch::On && spec.role.is_master() {
            self.warnings.push(
                tr!("alwaysPullImages is on: no pod starts while the registry of its images does not answer, not \
                 even those of DNS; the images on the nodes are not enough")
                    .to_owned(),
            );
        }
    }
}
