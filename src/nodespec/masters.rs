//! Clusters with several masters: the names and addresses of the masters.

use std::collections::BTreeSet;

use crate::language::tr;

use super::identity::Inventory;
use super::master::Master;
use super::resolver::Resolver;
use super::value::{Origin, Sourced};
use super::{NodeSpec, Profile};

/// More members only make etcd slower (etcd's FAQ, "What is maximum cluster size?").
const MOST: usize = 7;

impl Resolver<'_> {
    /// All masters, the founder of the cluster first: the configured ones, else those of the
    /// inventory if it has several. Empty if there is only one, whose address is in `master`.
    pub(super) fn masters(
        &mut self,
        inventory: Option<&Inventory<'_>>,
    ) -> Option<Sourced<Vec<Master>>> {
        let masters = match self.said("masters", |s| &s.masters) {
            Some(said) => self.parsed(said, parse)?,
            None => match inventory.and_then(Inventory::masters) {
                Some(Ok(masters)) => masters,
                Some(Err(problem)) => {
                    self.problems.push(problem);
                    return None;
                }
                None => Sourced::new(vec![], Origin::Default),
            },
        };
        self.check_number(&masters)?;
        Some(masters)
    }

    fn check_number(&mut self, masters: &Sourced<Vec<Master>>) -> Option<()> {
        let number = masters.len();
        let why = match number {
            2 => tr!("a cluster of two masters stops when either is lost; configure one or three"),
            n if n > MOST => tr!("etcd supports at most seven members; configure three or five"),
            n if n > 2 && n % 2 == 0 => {
                self.warnings.push(tr!("{}: a cluster of {number} masters tolerates no more lost masters than one of {}", masters.origin, number - 1, number));
                return Some(());
            }
            _ => return Some(()),
        };
        self.refuse(&masters.origin, &joined(masters), &why);
        None
    }

    /// Checks a cluster of several masters, and this node's place among them.
    pub(super) fn check_masters(&mut self, spec: &NodeSpec) {
        let masters = &spec.cluster.masters;
        if spec.has_several_masters() && *spec.profile == Profile::Simple {
            self.problems.push(tr!(
                "profile simple ({}) supports only one master, but {} names {}; use one master, or \
                 the profile with-ca",
                spec.profile.origin,
                masters.origin,
                masters.len()
            ));
        }
        if masters.is_empty() || !spec.role.is_master() {
            return;
        }
        let own = masters.iter().find(|master| master.name == *spec.name);
        match own {
            None => self.problems.push(tr!("the name of this {} is {} ({}), which is not among the masters {} ({}); correct one \
                 of the two", *spec.role, *spec.name, spec.name.origin, joined(masters), masters.origin)),
            Some(own) if own.address != *spec.address => self.problems.push(tr!("the master {} has the address {} ({}), but the list of masters has {} ({}); correct \
                 one of the two", own.name, *spec.address, spec.address.origin, own.address, masters.origin)),
            Some(_) => {}
        }
    }
}

/// Masters in the form of the setting.
pub(super) fn joined(masters: &[Master]) -> String {
    let masters: Vec<String> = masters.iter().map(ToString::to_string).collect();
    masters.join(",")
}

fn parse(text: &str) -> Result<Vec<Master>, String> {
    let items = text.split(',').map(str::trim);
    let masters = items.filter(|item| !item.is_empty()).map(Master::parse);
    let masters: Vec<Master> = masters.collect::<Result<_, _>>()?;
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for master in &masters {
        if !names.insert(&master.name) || !addresses.insert(master.address) {
            return Err(tr!(
                "{master}: another master has the same name or address; give each its own",
                master
            ));
        }
    }
    Ok(masters)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn masters_are_named_with_their_addresses_and_no_two_alike() {
        let three = "server02=192.168.1.102, server04=192.168.1.104,server05=192.168.1.105";
        assert_eq!(parse(three).unwrap().len(), 3);
        assert_eq!(joined(&parse(three).unwrap()), three.replace(' ', ""));
        for bad in [
            "server02",
            "server02=server02",
            "a b=192.168.1.102",
            "a=192.168.1.102,a=192.168.1.103",
            "a=192.168.1.102,b=192.168.1.102",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
