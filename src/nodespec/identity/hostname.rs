//! The host name of this VM.

use crate::language::tr;
use crate::nodespec::network::as_node_name;
use crate::nodespec::resolver::Resolver;
use crate::nodespec::user_data;
use crate::nodespec::value::{Origin, Place, Sourced};

impl Resolver<'_> {
    /// The host name of the first source that has one, else that of this machine, else the one that
    /// user-data has cloud-init give it.
    pub(super) fn hostname(&self) -> Sourced<String> {
        let metadata = &self.inputs.metadata;
        // Nova derives the host name from the display name. Others may write only the latter.
        let names = metadata.iter().map(|m| (m, "hostname", &m.hostname));
        let mut names = names.chain(metadata.iter().map(|m| (m, "name", &m.name)));
        match names.find(|(_, _, name)| !name.is_empty()) {
            Some((metadata, field, name)) => Sourced::new(
                name.clone(),
                Origin::Metadata(metadata.source.clone(), field),
            ),
            None => self.machine_name(),
        }
    }

    fn machine_name(&self) -> Sourced<String> {
        let own = self.inputs.host.hostname.clone();
        let own = Sourced::new(own, Origin::Host(tr!("host name")));
        if !matches!(as_node_name(&own).as_str(), "" | "localhost") {
            return own;
        }
        let mut metadata = self.inputs.metadata.iter();
        let said = metadata.find_map(|metadata| {
            let name = user_data::host_name(metadata.user_data.as_deref()?)?;
            let origin = Origin::Setting {
                place: Place::UserData(metadata.source.clone()),
                key: "nodeName".to_owned(),
                field: "hostname".to_owned(),
            };
            Some(Sourced::new(name, origin))
        });
        said.unwrap_or(own)
    }
}
