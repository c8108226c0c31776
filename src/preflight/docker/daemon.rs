//! The settings of dockerd that concern a node, and what was seen of docker itself.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde_json::Value;

use super::command_line::{options, strangers};
use super::json;
use super::keys::{KEYS, kind_of};
use super::values::{contradictions, misfit, misfit_of_option};
use crate::language::{message, tr, translated};
use crate::paths;

/// How docker puts containers into cgroups. The kubelet must do it in the same way, or it does not start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Docker writes to the cgroup file system: the default with cgroup v1.
    #[default]
    Cgroupfs,
    /// Docker asks systemd.
    Systemd,
}

impl fmt::Display for CgroupDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CgroupDriver::Cgroupfs => "cgroupfs",
            CgroupDriver::Systemd => "systemd",
        })
    }
}

/// What a running docker says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Its version.
    pub version: String,
    /// Its cgroup driver.
    pub cgroup_driver: String,
    /// Where it keeps its images.
    pub root: String,
}

/// Whether docker runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Running {
    /// It was not asked: the system is not the running one, or docker is starting.
    #[default]
    Unknown,
    /// It does not run.
    Stopped,
    /// Its socket accepts connections, but nothing answers.
    Hangs,
    /// It answers.
    Answers(Info),
}

/// Everything that was seen of docker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Docker {
    /// Its settings.
    pub settings: Settings,
    /// Whether the installation sets a limit for the logs of containers.
    pub limits_logs: bool,
    /// What stands in its place, or cannot be used: one sentence each, with the next step.
    pub instead: Vec<(String, String)>,
    /// The version of its package, if it is known.
    pub package: Option<String>,
    /// Whether it runs.
    pub running: Running,
}

impl Docker {
    /// Its version: of the daemon that answers, or else of its package.
    pub fn version(&self) -> Option<&str> {
        match &self.running {
            Running::Answers(info) => Some(&info.version),
            _ => self.package.as_deref(),
        }
    }
}

/// The first number of a version such as `20.10.24+dfsg1`, or `5:24.0.7-1` of a package.
pub fn major(version: &str) -> Option<u32> {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// What dockerd's settings make of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The options on its command line, by the names that they have in the file.
    flags: BTreeMap<String, Vec<String>>,
    /// The values in the file, by key.
    file: BTreeMap<String, Value>,
    /// Why dockerd does not start with them: what was seen, and what to do.
    pub problems: Vec<(String, String)>,
    /// What dockerd takes, but not as it looks: one sentence each.
    pub doubts: Vec<String>,
}

/// From this version on, dockerd may know keys that the table lacks.
const NEWEST: u32 = 24;

impl Settings {
    /// The settings in the file with these bytes, if it exists, and on the command line with these words.
    /// `version` is docker's.
    pub fn read(file: Option<&[u8]>, words: &[String], version: Option<&str>) -> Settings {
        let major = version.and_then(major);
        let mut settings = Settings {
            flags: options(words),
            ..Settings::default()
        };
        let named = |why: String| {
            (
                tr!(
                    "docker does not start with {}: {why}",
                    paths::DOCKER_SETTINGS,
                    why
                ),
                tr!(
                    "`python3 -m json.tool {}` checks it",
                    paths::DOCKER_SETTINGS
                ),
            )
        };
        match file.map(|bytes| json::read(bytes, major)) {
            Some(Ok(content)) => {
                settings.file = content.values;
                let doubled = content.doubled.iter().map(|key| {
                    let file = paths::DOCKER_SETTINGS;
                    tr!(
                        "{file} has `{}` twice; docker takes the last one",
                        shown(key),
                        file
                    )
                });
                settings.doubts.extend(doubled);
            }
            Some(Err(why)) => settings.problems.push(named(why)),
            None => {}
        }
        settings.problems.extend(settings.of_types(major));
        settings.problems.extend(settings.of_words(words, major));
        settings.problems.extend(settings.contradictions());
        settings.problems.extend(settings.conflicts());
        settings
    }

    /// Keys that dockerd does not know, and values of another type.
    fn of_types(&self, major: Option<u32>) -> Vec<(String, String)> {
        let file = paths::DOCKER_SETTINGS;
        let mut problems = Vec::new();
        for (key, value) in &self.file {
            let shown = shown(key);
            let Some(kind) = kind_of(key) else {
                if major.is_none_or(|major| major < NEWEST) {
                    problems.push((
                        tr!(
                            "docker does not start with `{shown}` in {file}: it is no setting{}",
                            alike(key),
                            shown,
                            file
                        ),
                        tr!("correct or remove `{shown}` in {file}", shown, file),
                    ));
                }
                continue;
            };
            if let Some(form) = misfit(key, kind, value) {
                problems.push((
                    tr!(
                        "docker does not start with `{shown}` in {file}: it must be {form}",
                        shown,
                        file,
                        form = translated(form)
                    ),
                    tr!("correct `{shown}` in {file}", shown, file),
                ));
            }
        }
        problems
    }

    /// Words on the command line that dockerd does not know, and values of another type.
    fn of_words(&self, words: &[String], major: Option<u32>) -> Vec<(String, String)> {
        let edit = tr!("correct the command line: `systemctl edit --full docker`");
        let unknown = strangers(words).into_iter();
        let unknown = unknown.filter(|_| major.is_some_and(|major| major < NEWEST));
        let unknown = unknown.map(|word| {
            let word = shown(&word);
            tr!("docker does not start with `{word}` on the command line of its unit: it is no option", word)
        });
        let options = self.flags.iter();
        let misfits = options.filter_map(|(name, values)| {
            let form = misfit_of_option(name, values)?;
            Some(tr!("docker does not start with `{}` for `{name}` on the command line of its unit: it must be {form}", shown(&values.join(" ")), name, form = translated(form)))
        });
        unknown
            .chain(misfits)
            .map(|seen| (seen, edit.clone()))
            .collect()
    }

    /// Values that do not fit together.
    fn contradictions(&self) -> Vec<(String, String)> {
        let found = contradictions(&self.file, &self.flags).into_iter();
        found
            .map(|(key, why)| {
                let place = translated(self.place(key));
                (
                    tr!(
                        "docker does not start with `{key}` in {place}: {why}",
                        key,
                        place,
                        why
                    ),
                    tr!("correct `{key}` in {place}", key, place),
                )
            })
            .collect()
    }

    /// Settings that are in the file and on the command line: dockerd does not start, even if both are equal.
    fn conflicts(&self) -> Vec<(String, String)> {
        let file = paths::DOCKER_SETTINGS;
        let both = self.file.keys().filter(|key| self.flags.contains_key(*key));
        // Docker takes both together.
        let both = both.filter(|key| *key != "runtimes");
        both.map(|key| {
            let flag = self.flags[key].join(" ");
            (
                tr!("docker does not start with `{key}` both in {file} and on the command line of its unit \
                     (`{}`)", shown(&flag), key, file),
                tr!("remove `{key}` from {file}, or from the command line: `systemctl edit --full docker`", key, file),
            )
        })
        .collect()
    }

    /// The values of a setting: those of the command line and of the file.
    pub fn all(&self, key: &str) -> Vec<String> {
        let mut all = self.flags.get(key).cloned().unwrap_or_default();
        match self.file.get(key) {
            Some(Value::Array(values)) => {
                all.extend(values.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            Some(Value::String(value)) => all.push(value.clone()),
            Some(Value::Bool(value)) => all.push(value.to_string()),
            _ => {}
        }
        all
    }

    /// The value of a setting that has one; `None` if it is not set.
    pub fn get(&self, key: &str) -> Option<String> {
        self.all(key).pop().filter(|value| !value.is_empty())
    }

    /// Whether the switch is set to this value.
    pub fn is(&self, key: &str, value: bool) -> bool {
        self.get(key)
            .is_some_and(|found| found == value.to_string())
    }

    /// An object of the file.
    pub fn object(&self, key: &str) -> Option<&Value> {
        self.file.get(key)
    }

    /// Where a setting stands.
    pub fn place(&self, key: &str) -> &'static str {
        match self.file.contains_key(key) {
            true => paths::DOCKER_SETTINGS,
            false => message!("the command line of docker.service"),
        }
    }

    /// Whether the command line says where logs go, or how large they become.
    pub fn has_log_flags(&self) -> bool {
        ["log-driver", "log-opts"]
            .iter()
            .any(|key| self.flags.contains_key(*key))
    }

    /// Whether docker keeps the logs of containers in files that grow without end.
    pub fn has_endless_logs(&self) -> bool {
        let is_file = matches!(self.get("log-driver").as_deref(), None | Some("json-file"));
        let mut flags = self.all("log-opts").into_iter();
        let in_file = self
            .object("log-opts")
            .and_then(|options| options.get("max-size"));
        is_file && in_file.is_none() && !flags.any(|flag| flag.starts_with("max-size="))
    }

    /// How docker puts containers into cgroups.
    ///
    /// # Errors
    /// The value, if docker does not know it.
    pub fn cgroup_driver(&self) -> Result<CgroupDriver, String> {
        let options = self.all("exec-opts");
        let mut drivers = options.iter().filter_map(|option| {
            let (name, value) = option.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case("native.cgroupdriver")
                .then(|| value.trim().to_owned())
        });
        // Docker takes the first one.
        match drivers.next().as_deref() {
            None | Some("" | "cgroupfs") => Ok(CgroupDriver::Cgroupfs),
            Some("systemd") => Ok(CgroupDriver::Systemd),
            Some(other) => Err(other.to_owned()),
        }
    }

    /// Where docker keeps its images.
    pub fn data_root(&self) -> String {
        let root = self.get("data-root").or_else(|| self.get("graph"));
        root.filter(|root| root.starts_with('/'))
            .unwrap_or_else(|| paths::DOCKER_DIR.to_owned())
    }

    /// The addresses at which docker listens; empty if only at its usual socket.
    pub fn hosts(&self) -> Vec<String> {
        self.all("hosts")
    }

    /// The subnet of docker's bridge, and the other ranges from which docker takes subnets.
    pub fn subnets(&self) -> (Option<Ipv4Net>, BTreeSet<Ipv4Net>) {
        if self.get("bridge").is_some() {
            // Its own bridge is not made: none, or one of the operator.
            return (
                None,
                self.pools().into_iter().map(|(pool, _)| pool).collect(),
            );
        }
        let given = self.get("bip").and_then(|bip| bip.parse::<Ipv4Net>().ok());
        let pools = self.pools();
        let first = pools.first().map(|(pool, size)| subnet(*pool, *size));
        let bridge = given.map(|net| net.trunc()).or(first);
        let usual = Ipv4Net::new(core::net::Ipv4Addr::new(172, 17, 0, 0), 16).ok();
        (
            bridge.or(usual),
            pools.into_iter().map(|(pool, _)| pool).collect(),
        )
    }

    /// The pools of addresses, each with the length of its subnets' prefix.
    fn pools(&self) -> Vec<(Ipv4Net, u8)> {
        let mut pools = Vec::new();
        if let Some(Value::Array(listed)) = self.file.get("default-address-pools") {
            for pool in listed {
                let base = pool["base"].as_str().and_then(|base| base.parse().ok());
                let size = pool["size"].as_u64().and_then(|size| size.try_into().ok());
                pools.extend(base.zip(size));
            }
        }
        for flag in self
            .flags
            .get("default-address-pools")
            .into_iter()
            .flatten()
        {
            let field = |name: &str| {
                let mut fields = flag.split(',').filter_map(|field| field.split_once('='));
                fields.find(|(key, _)| *key == name).map(|(_, value)| value)
            };
            let base = field("base").and_then(|base| base.parse().ok());
            let size = field("size").and_then(|size| size.parse().ok());
            pools.extend(base.zip(size));
        }
        pools
    }
}

/// The first subnet of a pool.
fn subnet(pool: Ipv4Net, size: u8) -> Ipv4Net {
    Ipv4Net::new(pool.network(), size).unwrap_or(pool)
}

/// Text of others, so that a terminal does not obey it.
fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}

/// The nearest key that dockerd knows.
fn alike(key: &str) -> String {
    let keys = KEYS.iter().flat_map(|(_, keys)| keys.iter());
    let distance = |known: &&&str| strsim::damerau_levenshtein(known, &key.to_lowercase());
    let nearest = keys
        .min_by_key(distance)
        .filter(|known| distance(known) <= 2);
    nearest.map_or(String::new(), |known| {
        tr!(" (did you mean `{known}`?)", known)
    })
}
