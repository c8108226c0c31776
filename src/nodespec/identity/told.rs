//! What the operator is told about this VM and the inventory.

use super::{Inventory, InventoryNode};
use crate::language::tr;
use crate::nodespec::resolver::Resolver;

impl Resolver<'_> {
    /// Warns that the entry with the address of this VM has another name.
    pub(super) fn warn_of_other_name(
        &mut self,
        inventory: &Inventory<'_>,
        node: Option<&InventoryNode>,
    ) {
        let Some((node, name)) = node.and_then(|node| Some((node, node.name.as_ref()?))) else {
            return;
        };
        self.warnings.push(tr!("{} is {name}, but this VM, which has the address of this entry, is called {}; the entry \
             counts (if it is of another VM, correct its address)", inventory.origin(node, "name"), self.own_names().join(", "), name = format_args!("{name:?}")));
    }

    /// Warns that this VM is not in the inventory, with the name that is almost its own. Rules for the
    /// role are made for VMs without an entry.
    pub(super) fn warn_of_no_entry(&mut self, inventory: &Inventory<'_>, names: &[String]) {
        if self
            .layers
            .iter()
            .any(|layer| layer.settings.role_rules.is_some())
        {
            return;
        }
        let listed = inventory.nodes.iter().filter_map(|node| node.name.as_ref());
        let pairs = listed.flat_map(|listed| names.iter().map(move |own| (listed, own)));
        let distance = |(listed, own): &(&String, &String)| {
            strsim::damerau_levenshtein(&listed.to_lowercase(), &own.to_lowercase())
        };
        // The names of servers often differ by a digit, so only one edit counts as a slip.
        let alike = pairs
            .min_by_key(distance)
            .filter(|pair| distance(pair) == 1);
        let hint = alike.map_or(String::new(), |(listed, _)| {
            tr!(" (is `{listed}` meant?)", listed)
        });
        self.warnings.push(tr!(
            "{}: no entry matches this VM: {}{hint}",
            inventory.layer.origin("inventory"),
            names.join(", "),
            hint
        ));
    }
}
