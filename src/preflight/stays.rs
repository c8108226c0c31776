//! An installed node stays what it is: changed metadata or settings do not make another node of it.

use std::fmt;
use std::str::FromStr;

use crate::language::tr;
use crate::nodespec::master::Master;
use crate::nodespec::value::{Origin, Sourced};
use crate::nodespec::{NodeSpec, Profile, Refused, Role};
use crate::records::state::Installed;

/// A fact of an installed node that others rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Its role.
    Role,
    /// The profile of the cluster.
    Profile,
    /// Its name.
    Name,
    /// Its address.
    Address,
    /// The addresses of pods.
    PodCidr,
    /// The addresses of services.
    ServiceCidr,
    /// The masters of the cluster, which get the keys of its authorities.
    Masters,
    /// The authority that etcd trusts.
    Trust,
}

/// The fields that `install --change` takes.
pub const CHANGEABLE: [Field; 4] = [Field::Name, Field::Address, Field::Masters, Field::Trust];

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Role => "role",
            Field::Profile => "profile",
            Field::Name => "name",
            Field::Address => "address",
            Field::PodCidr => "podCIDR",
            Field::ServiceCidr => "serviceCIDR",
            Field::Masters => "masters",
            Field::Trust => "trust",
        })
    }
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Field, String> {
        let found = CHANGEABLE.iter().find(|field| field.to_string() == text);
        found.copied().ok_or_else(|| {
            tr!(
                "{text} cannot be changed; what can be is {}",
                CHANGEABLE.map(|field| field.to_string()).join(", "),
                text
            )
        })
    }
}

/// A field whose value in the settings is not that of the installed node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field.
    pub field: Field,
    was: String,
    now: String,
    origin: Origin,
    /// Whether the node is a master.
    is_master: bool,
}

impl Difference {
    /// Whether `install --change` can change it: the others know a master by its name, in etcd and in their settings.
    fn may_change(&self) -> bool {
        match self.field {
            Field::Name => !self.is_master,
            field => CHANGEABLE.contains(&field),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            field,
            was,
            now,
            origin,
            ..
        } = self;
        f.write_str(&tr!(
            "this node is installed with {field} {was}, but {origin} says {now}; ",
            field,
            was,
            origin,
            now
        ))?;
        match field {
            Field::Profile if now == &Profile::WithCa.to_string() => f.write_str(
                &tr!("run `appliance convert`: it asks first, takes the old cluster down and installs this \
                 profile"),
            ),
            Field::Profile => f.write_str(
                &tr!("a node with certificates cannot go back to profile simple: change the profile there \
                 to with-ca, or make a new VM"),
            ),
            _ if self.may_change() => f.write_str(&tr!("correct it there or, if it should change, run `appliance install --change {field}`", field)),
            Field::Name => f.write_str(&tr!("a master keeps its name: correct it there, or make a new VM")),
            _ => f.write_str(&tr!("an installed node keeps its {field}: correct it there, or make a new VM", field)),
        }
    }
}

/// The differences between the installed node and the settings of now.
pub fn differences(state: &Installed, spec: &NodeSpec) -> Vec<Difference> {
    let cluster = &spec.cluster;
    // Records of older versions have no ranges.
    let (pods, services) = (state.pod_cidr.as_deref(), state.service_cidr.as_deref());
    let masters = Sourced::new(listed(&cluster.masters), cluster.masters.origin.clone());
    let fields = [
        difference(state, Field::Role, Some(&state.role), &spec.role),
        difference(state, Field::Profile, Some(&state.profile), &spec.profile),
        difference(state, Field::Name, Some(&state.node), &spec.name),
        difference(state, Field::Address, Some(&state.address), &spec.address),
        difference(state, Field::PodCidr, pods, &cluster.pod_cidr),
        difference(state, Field::ServiceCidr, services, &cluster.service_cidr),
        difference(
            state,
            Field::Masters,
            state.masters.as_deref().map(listed).as_deref(),
            &masters,
        ),
    ];
    fields.into_iter().flatten().collect()
}

fn difference<T: fmt::Display>(
    state: &Installed,
    field: Field,
    was: Option<&str>,
    now: &Sourced<T>,
) -> Option<Difference> {
    let (was, origin) = (was?.to_owned(), now.origin.clone());
    let now = now.value.to_string();
    (was != now).then(|| Difference {
        field,
        was,
        now,
        origin,
        is_master: state.role != Role::Worker.to_string(),
    })
}

fn listed(masters: &[Master]) -> String {
    let listed: Vec<String> = masters.iter().map(ToString::to_string).collect();
    match listed.is_empty() {
        true => "(one)".to_owned(),
        false => listed.join(","),
    }
}

/// Refuses to install a node as another one than it is, except in the fields `change`.
pub fn node_stays(state: &Installed, spec: &NodeSpec, change: &[Field]) -> Result<(), Refused> {
    let differences = differences(state, spec).into_iter();
    let refused = differences.filter(|one| !(one.may_change() && change.contains(&one.field)));
    let problems: Vec<String> = refused.map(|one| one.to_string()).collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Refused { problems }),
    }
}
