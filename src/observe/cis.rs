//! Reads what the CIS Kubernetes Benchmark asks of a node: flags, modes, owners. Writes nothing.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};
use procfs::process::Process;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cis::facts::{Facts, FileFact, Program};
use crate::cis::{self, CommandLine, Place, Source};
use crate::clients::systemd;
use crate::language::tr;
use crate::nodespec::{Profile, Role};
use crate::paths;
use crate::records::state::State;
use crate::sys::process::Runner;
use crate::sys::root::Root;
use crate::sys::stream::sha256_of_file;

/// The flag with the file that says how secrets are encrypted.
const ENCRYPTION: &str = "--experimental-encryption-provider-config";
/// Files that may be read to compare them are not larger, in bytes.
const LARGEST: u64 = 1 << 20;
/// Only files that others may read are compared: keys are never read.
const PUBLIC: u32 = 0o004;

/// Everything that the table asks of the installed node `state`.
///
/// # Errors
/// A file that cannot be read, or a damaged record.
pub fn read(root: &Root, runner: &dyn Runner, state: &State) -> Result<Facts> {
    let damaged =
        |why: String| anyhow::anyhow!(tr!("{}: {why}; run `appliance install`", paths::STATE, why));
    let role: Role = state.role.parse().map_err(damaged)?;
    let profile: Profile = state.profile.parse().map_err(damaged)?;
    let mut facts = Facts {
        role,
        profile,
        programs: programs(root, runner, role)?,
        files: BTreeMap::new(),
        encryption: None,
    };
    let names = Names::read(root)?;
    for path in wanted(root, &facts)? {
        if let Some(file) = file(root, &names, &path)? {
            facts.files.insert(path, file);
        }
    }
    facts.encryption = match facts.flag(Program::ApiServer, ENCRYPTION) {
        Some(path) => first_provider(root, path)?,
        None => None,
    };
    Ok(facts)
}

/// The command line of each program of the role: of its process, or else of its unit.
fn programs(
    root: &Root,
    runner: &dyn Runner,
    role: Role,
) -> Result<BTreeMap<Program, CommandLine>> {
    let mut found = BTreeMap::new();
    let ours = Program::ALL.into_iter().filter(|p| p.is_on(role));
    for program in ours {
        let running = match root.is_live() {
            true => of_process(runner, program)?,
            false => None,
        };
        let line = match running {
            Some(line) => Some(line),
            None => of_unit(root, program)?,
        };
        found.extend(line.map(|line| (program, line)));
    }
    Ok(found)
}

fn of_process(runner: &dyn Runner, program: Program) -> Result<Option<CommandLine>> {
    let Some(id) = systemd::main_process(runner, program.name())? else {
        return Ok(None);
    };
    // It may have ended since.
    let process = i32::try_from(id).ok().and_then(|id| Process::new(id).ok());
    let words = process.and_then(|process| process.cmdline().ok());
    let words = words.filter(|words| !words.is_empty());
    Ok(words.map(|words| CommandLine::of(&words, Source::Process(id))))
}

/// The unit and its drop-ins, in the order in which systemd reads them.
fn of_unit(root: &Root, program: Program) -> Result<Option<CommandLine>> {
    let unit = paths::unit(&format!("{}.service", program.name()));
    let dir = format!("{unit}.d");
    let drop_ins = root.list(&dir)?;
    let drop_ins = drop_ins.iter().filter(|name| name.ends_with(".conf"));
    let files = drop_ins.map(|name| format!("{dir}/{name}"));
    let mut texts = Vec::new();
    for path in std::iter::once(unit.clone()).chain(files) {
        let bytes = root.read(&path)?;
        texts.extend(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(CommandLine::of_units(
        &unit,
        texts.iter().map(String::as_str),
    ))
}

/// The paths of all files that the table names.
fn wanted(root: &Root, facts: &Facts) -> Result<Vec<String>> {
    let mut wanted = Vec::new();
    for place in cis::items().flat_map(cis::Item::places) {
        match place {
            Place::Within(dir) => {
                let names = root.list(dir)?;
                wanted.extend(names.into_iter().map(|name| format!("{dir}/{name}")));
            }
            _ => wanted.extend(place.path(facts).filter(|path| path.starts_with('/'))),
        }
    }
    wanted.sort();
    wanted.dedup();
    Ok(wanted)
}

fn file(root: &Root, names: &Names, path: &str) -> Result<Option<FileFact>> {
    let at = root.resolve(path)?;
    let metadata = match at.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| tr!("cannot inspect {path}", path)),
    };
    let mode = metadata.mode() & 0o7777;
    let is_public = mode & PUBLIC != 0 && metadata.is_file() && metadata.len() <= LARGEST;
    let digest = match is_public {
        true => Some(sha256_of_file(&at)?.to_string()),
        false => None,
    };
    Ok(Some(FileFact {
        mode,
        owner: names.of(&metadata),
        digest,
    }))
}

/// The names of the users and groups of the system, by ID.
struct Names {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Names {
    fn read(root: &Root) -> Result<Names> {
        let read = |path: &str| {
            let bytes = root.read(path)?.unwrap_or_default();
            Ok::<_, anyhow::Error>(by_id(&String::from_utf8_lossy(&bytes)))
        };
        Ok(Names {
            users: read("/etc/passwd")?,
            groups: read("/etc/group")?,
        })
    }

    fn of(&self, file: &Metadata) -> String {
        let name = |names: &BTreeMap<u32, String>, id: u32| match names.get(&id) {
            // Under whatever name, ID 0 is root.
            _ if id == 0 => "root".to_owned(),
            Some(name) => name.clone(),
            None => id.to_string(),
        };
        let user = name(&self.users, file.uid());
        format!("{user}:{}", name(&self.groups, file.gid()))
    }
}

/// The names of a file like passwd(5) or group(5).
fn by_id(text: &str) -> BTreeMap<u32, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        Some((id.parse().ok()?, name.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

/// The name of the first provider that encrypts secrets; `None` if the file says none.
fn first_provider(root: &Root, path: &str) -> Result<Option<String>> {
    if !path.starts_with('/') {
        return Ok(None);
    }
    let bytes = Zeroizing::new(root.read(path)?.unwrap_or_default());
    let options = serde_saphyr::options! { with_snippet: false };
    let text = str::from_utf8(&bytes).unwrap_or_default();
    let Ok(config) = serde_saphyr::from_str_with_options::<Value>(text, options) else {
        return Ok(None);
    };
    let mut resources = config["resources"].as_array().into_iter().flatten();
    let of_secrets = resources.find(|resource| {
        let mut names = resource["resources"].as_array().into_iter().flatten();
        names.any(|name| name == "secrets")
    });
    let first = of_secrets.and_then(|resource| resource["providers"].get(0)?.as_object());
    Ok(first.and_then(|provider| provider.keys().next().cloned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn the_first_provider_of_secrets_counts() {
        let (dir, root) = root();
        let cases = [
            (
                "resources: [{resources: [secrets], providers: [{aescbc: {}}, {identity: {}}]}]",
                Some("aescbc"),
            ),
            (
                "resources: [{resources: [secrets], providers: [{identity: {}}, {aescbc: {}}]}]",
                Some("identity"),
            ),
            (
                "resources: [{resources: [configmaps], providers: [{aescbc: {}}]}]",
                None,
            ),
            ("resources: [", None),
            ("", None),
        ];
        for (text, expected) in cases {
            fs::write(dir.path().join("config"), text).unwrap();
            assert_eq!(
                first_provider(&root, "/config").unwrap().as_deref(),
                expected,
                "{text}"
            );
        }
        assert_eq!(first_provider(&root, "/missing").unwrap(), None);
        assert_eq!(first_provider(&root, "relative").unwrap(), None);
    }

    #[test]
    fn owners_have_names_where_the_system_knows_them() {
        let names = by_id("root:x:0:0::/root:/bin/sh\netcd:x:998:998::/:/bin/false\nbroken\n");
        assert_eq!(names[&998], "etcd");
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn a_drop_in_changes_what_the_unit_says() {
        let (dir, root) = root();
        let units = dir.path().join("etc/systemd/system");
        fs::create_dir_all(units.join("kubelet.service.d")).unwrap();
        let unit = "[Service]\nExecStart=/bin/kubelet --read-only-port=0\n";
        fs::write(units.join("kubelet.service"), unit).unwrap();
        let port = || {
            let line = of_unit(&root, Program::Kubelet).unwrap().unwrap();
            line.get("--read-only-port").map(str::to_owned)
        };
        assert_eq!(port().as_deref(), Some("0"));
        let drop_in = "[Service]\nExecStart=\nExecStart=/bin/kubelet --read-only-port=10255\n";
        fs::write(units.join("kubelet.service.d/10-more.conf"), drop_in).unwrap();
        assert_eq!(port().as_deref(), Some("10255"));
        assert_eq!(of_unit(&root, Program::Etcd).unwrap(), None);
    }
}
