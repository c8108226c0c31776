//! Values that record where they came from, and what they overrode.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use super::settings::{self, Settings};
use crate::language::{message, tr, translated};
use crate::paths::CONFIG;

/// The prefix of server properties that are only for this program.
const PREFIX: &str = "appliance.";
/// Why a property that is set later does not reach a server with a config drive only.
pub(super) const REWRITTEN: &str =
    message!("Nova writes the config drive only when it creates, rebuilds or resizes a server");

/// Where settings come from, in order of precedence: the first wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// The server's properties, as this metadata source reports them.
    Property(String),
    /// The configuration file at this path.
    Config(String),
    /// The configuration file that the user-data in this metadata source has cloud-init write.
    UserDataFile(String),
    /// The `appliance:` section of the user-data in this metadata source.
    UserData(String),
    /// The `appliance` section of the vendor-data in this file of a metadata source.
    VendorData(String),
    /// The bundle of this name.
    Bundle(String),
}

impl Place {
    fn rank(&self) -> u8 {
        match self {
            Place::Flag => 0,
            Place::Environment => 1,
            Place::Property(_) => 2,
            Place::Config(_) => 3,
            Place::UserDataFile(_) | Place::UserData(_) => 4,
            Place::VendorData(_) => 5,
            Place::Bundle(_) => 6,
        }
    }

    /// Whether an error about a missing setting names this place. Server properties are named by
    /// their source, and flags and variables one by one.
    pub fn is_read_whole(&self) -> bool {
        matches!(
            self,
            Place::Config(_) | Place::UserDataFile(_) | Place::UserData(_) | Place::VendorData(_)
        )
    }

    /// Whether both are of the same kind: then the order of the metadata sources decides.
    pub fn is_like(&self, other: &Place) -> bool {
        self.rank() == other.rank()
    }
}

/// The settings from one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The place.
    pub place: Place,
    /// Its settings.
    pub settings: Settings,
    /// The keys that are spelled there in another way than usual.
    pub spelled: BTreeMap<String, String>,
}

impl Layer {
    /// The settings from `place`, with every key spelled as usual.
    pub fn new(place: Place, settings: Settings) -> Layer {
        Layer {
            place,
            settings,
            spelled: BTreeMap::new(),
        }
    }

    /// Sorts the layers by precedence. Layers of one kind keep their order.
    pub fn sort(layers: &mut [Layer]) {
        layers.sort_by_key(|layer| layer.place.rank());
    }

    /// Where a value of `key` in this layer comes from.
    pub fn origin(&self, key: &str) -> Origin {
        let spelled = self.spelled.get(key).cloned();
        let field = spelled.unwrap_or_else(|| match &self.place {
            Place::Flag if matches!(key, "role" | "profile") => format!("--{key}"),
            Place::Flag => tr!("--set {key}", key),
            Place::Environment => settings::variable_of(key).unwrap_or(key).to_owned(),
            Place::Property(_) => format!("meta.{key}"),
            Place::Config(_) | Place::UserDataFile(_) => key.to_owned(),
            Place::UserData(_) | Place::VendorData(_) => format!("appliance.{key}"),
            Place::Bundle(_) => format!("settings.{key}"),
        });
        Origin::Setting {
            place: self.place.clone(),
            key: key.to_owned(),
            field,
        }
    }
}

/// Where a value came from, as a person would look it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A setting.
    Setting {
        /// Where it was set.
        place: Place,
        /// The setting, or the part of one: `podCIDR`, `inventory[2].address`.
        key: String,
        /// Its name there.
        field: String,
    },
    /// The value with this name in this metadata source.
    Metadata(String, &'static str),
    /// The machine itself.
    Host(String),
    /// One of several values from there, and the rule by which it was chosen.
    Chosen(Box<Origin>, String),
    /// The default, because nothing else was set.
    Default,
}

impl Origin {
    /// How to change the value there, as the end of a sentence; `None` if that is obvious. A property
    /// that is set later reaches this server only if `is_live`: see
    /// [`Metadata::is_live`](crate::metadata::model::Metadata::is_live).
    pub fn remedy(&self, is_live: bool) -> Option<String> {
        let set = |key: &str, prefix: &str| {
            let example = settings::example_of(key).unwrap_or("VALUE");
            format!("`openstack server set --property {prefix}{key}={example} SERVER`")
        };
        let write = |key: &str| match settings::example_of(key).filter(|_| !is_live) {
            Some(example) => tr!(
                "with the line `{key}: {example}` in {CONFIG}",
                key,
                example,
                CONFIG
            ),
            None if is_live && settings::is_plain(key) => tr!("with {}", set(key, PREFIX)),
            None => tr!("in {CONFIG}", CONFIG),
        };
        match self {
            Origin::Setting { place, key, field } => match place {
                Place::Flag | Place::Environment => None,
                Place::Property(_) => {
                    let prefix = field.strip_prefix("meta.")?.strip_suffix(key.as_str())?;
                    let command = set(key, prefix);
                    Some(match is_live {
                        true => tr!("set it with {command}", command),
                        false => tr!(
                            "override it with `--set {key}=VALUE`; or set it with {command} and \
                             rebuild the server, because {REWRITTEN}",
                            key,
                            command,
                            REWRITTEN = translated(REWRITTEN)
                        ),
                    })
                }
                Place::Config(path) => Some(tr!(
                    "edit {path}, then check it with `appliance config validate {path}`",
                    path
                )),
                Place::UserDataFile(_) | Place::UserData(_) | Place::VendorData(_) => Some(tr!(
                    "correct it before the server is made; on a running server, override it {}",
                    write(key)
                )),
                Place::Bundle(_) => {
                    Some(tr!("correct it in bundle.toml and pack the bundle again"))
                }
            },
            Origin::Metadata(_, field) => {
                let key = match *field {
                    "hostname" | "name" => "nodeName",
                    "network_data.links.mtu" => "mtu",
                    _ => "address",
                };
                Some(tr!("override it {}", write(key)))
            }
            Origin::Chosen(origin, _) => origin.remedy(is_live),
            Origin::Host(_) | Origin::Default => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Setting { place, field, .. } => match place {
                Place::Flag => f.write_str(&tr!("flag {field}", field)),
                Place::Environment => f.write_str(&tr!("environment {field}", field)),
                Place::Property(source) => write!(f, "{source}: `{field}`"),
                Place::Config(path) => {
                    f.write_str(&tr!("configuration {path}: `{field}`", path, field))
                }
                Place::UserDataFile(source) => f.write_str(&tr!(
                    "{source}: user-data: {CONFIG}: `{field}`",
                    source,
                    CONFIG,
                    field
                )),
                Place::UserData(source) => {
                    f.write_str(&tr!("{source}: user-data: `{field}`", source, field))
                }
                Place::VendorData(source) => write!(f, "{source}: `{field}`"),
                Place::Bundle(name) => f.write_str(&tr!("bundle {name}: `{field}`", name, field)),
            },
            Origin::Metadata(source, field) => write!(f, "{source}: `{field}`"),
            Origin::Host(what) => f.write_str(&tr!("this machine's {what}", what)),
            Origin::Chosen(origin, rule) => write!(f, "{origin}, {rule}"),
            Origin::Default => f.write_str(&tr!("default")),
        }
    }
}

/// A value that a stronger place overrode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overridden {
    /// The value as it was set.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// A value, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The checked value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
    /// What it overrode, the strongest first.
    pub overrode: Vec<Overridden>,
}

impl<T> Sourced<T> {
    /// A value that overrode nothing.
    pub fn new(value: T, origin: Origin) -> Sourced<T> {
        Sourced {
            value,
            origin,
            overrode: Vec::new(),
        }
    }

    /// Converts the value with `make`. The origin stays.
    pub fn try_map<U, E>(self, make: impl FnOnce(T) -> Result<U, E>) -> Result<Sourced<U>, E> {
        Ok(Sourced {
            value: make(self.value)?,
            origin: self.origin,
            overrode: self.overrode,
        })
    }
}

impl<T: fmt::Display> Sourced<T> {
    /// The record of this value if a stronger place overrides it.
    pub fn overridden(&self) -> Overridden {
        Overridden {
            value: self.value.to_string(),
            origin: self.origin.clone(),
        }
    }
}

impl<T> Deref for Sourced<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
