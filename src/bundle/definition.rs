//! `bundle.toml`: the components of a bundle, as its author wrote them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cyclonedx_bom::external_models::spdx::SpdxExpression;
use rust_embed::RustEmbed;
use serde::Deserialize;

use super::lock::{self, Artifact, Lock};
use super::manifest::{BundleInfo, Kind, Nodes};
use super::names::{check_path, is_file_name};
use super::upstream::{Sources, Upstream};
use super::workload::{MAX_MANIFEST, Workload};
use crate::nodespec::network::dns_name;
use crate::sys::atomic;
use crate::sys::read::bounded;

/// The file's name.
pub const FILE_NAME: &str = "bundle.toml";

/// The bundles of this source tree, which are built into the program.
#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/bundle"]
#[include = "*/bundle.*"]
struct BuiltIn;

/// A bundle: its `bundle.toml`, and its `bundle.lock` if it has one.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The `[bundle]` table.
    pub bundle: BundleInfo,
    /// The `[[component]]` tables, in their order.
    pub components: Vec<Source>,
    /// The `[[workload]]` tables, in their order, each with its manifest.
    pub workloads: Vec<Workload>,
    /// The known checksums of upstream artifacts.
    pub lock: Lock,
    /// The text of `bundle.toml`.
    pub text: String,
    /// Its directory or name, as the user gave it.
    pub given: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DefinitionFile {
    bundle: BundleInfo,
    component: Vec<Source>,
    #[serde(default)]
    workload: Vec<WorkloadSource>,
}

/// One component and where its file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    /// The name that templates, checks and people use.
    pub name: String,
    /// The kind of file.
    pub kind: Kind,
    /// The component's own version.
    pub version: String,
    /// Where it is unpacked, relative to the bundle's directory.
    pub path: String,
    /// Its name in a directory of components.
    pub file: String,
    /// Where it is published: a file, an archive that contains it, or an image. Several sources are
    /// tried in this order.
    #[serde(rename = "source")]
    pub sources: Option<Sources>,
    /// Its path in the archive `source`, or that of the image which contains it.
    pub member: Option<String>,
    /// Its path in the file system of the image: of `member`, or of `source`.
    pub image_file: Option<String>,
    /// For an image: its reference in docker.
    pub reference: Option<String>,
    /// For an image: the nodes it is loaded on.
    #[serde(default)]
    pub nodes: Nodes,
    /// For a program: arguments its unit adds.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// For a program: whether it is put on the PATH.
    #[serde(default)]
    pub on_path: bool,
    /// Its licence, as an SPDX expression.
    pub license: Option<String>,
    /// Its supplier.
    pub supplier: Option<String>,
}

impl Definition {
    /// The bundle `text`: the directory of that path, or else the built-in bundle of that name.
    pub fn find(text: &str) -> Result<Definition> {
        let dir = Path::new(text);
        if dir.join(FILE_NAME).exists() || !is_file_name(text) {
            return Definition::read(dir);
        }
        let file = |name: &str| BuiltIn::get(&format!("{text}/{name}")).map(|file| file.data);
        let definition = file(FILE_NAME).with_context(|| {
            let known: BTreeSet<String> = BuiltIn::iter()
                .filter_map(|path| Some(path.split_once('/')?.0.to_owned()))
                .collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            format!(
                "{text} is neither a directory with a {FILE_NAME} nor a built-in bundle; the \
                 built-in bundles are {known}"
            )
        })?;
        let lock = file(lock::FILE_NAME)
            .map(|text| Lock::parse(str::from_utf8(text.as_ref())?))
            .transpose()
            .context(lock::FILE_NAME)?;
        let definition = str::from_utf8(definition.as_ref())?;
        let parsed = parse(definition, lock.unwrap_or_default(), None);
        let mut parsed = parsed.with_context(|| format!("bundle {text}"))?;
        text.clone_into(&mut parsed.given);
        Ok(parsed)
    }

    /// The argument of `bundle lock` that a bundle inside this program needs, with a space before it.
    pub fn output_for_lock(&self) -> String {
        match Path::new(&self.given).is_dir() {
            true => String::new(),
            false => format!(" --output my-{}", self.bundle.name),
        }
    }

    /// Reads the bundle in the directory `dir`.
    pub fn read(dir: &Path) -> Result<Definition> {
        let path = dir.join(FILE_NAME);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let at = dir.join(lock::FILE_NAME);
        let lock = match fs::read_to_string(&at) {
            Ok(text) => Lock::parse(&text).with_context(|| at.display().to_string())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Lock::default(),
            Err(error) => return Err(error).with_context(|| at.display().to_string()),
        };
        let parsed = parse(&text, lock, Some(dir));
        let mut parsed = parsed.with_context(|| path.display().to_string())?;
        parsed.given = dir.display().to_string();
        Ok(parsed)
    }

    /// Every upstream artifact once, by its first source, in the order of the components.
    pub fn upstreams(&self) -> Vec<&Upstream> {
        let mut seen = BTreeSet::new();
        let all = self.components.iter().filter_map(Source::upstream);
        all.filter(|upstream| seen.insert(*upstream)).collect()
    }

    /// The components that come from that artifact.
    pub fn components_of(&self, upstream: &Upstream) -> Vec<&Source> {
        let all = self.components.iter();
        all.filter(|component| component.upstream() == Some(upstream))
            .collect()
    }

    /// All sources of that artifact, in the order in which they are tried: those that any of its
    /// components names.
    pub fn sources_of<'a>(&'a self, upstream: &'a Upstream) -> Vec<&'a Upstream> {
        let mut sources = vec![upstream];
        for component in self.components_of(upstream) {
            let named = component.sources.iter().flat_map(Sources::all);
            for source in named {
                if !sources.contains(&source) {
                    sources.push(source);
                }
            }
        }
        sources
    }
}

impl Source {
    /// The first source of its artifact, which is the artifact's name in the lock.
    pub fn upstream(&self) -> Option<&Upstream> {
        self.sources.as_ref()?.all().first()
    }

    /// The entry of its artifact in the lock.
    pub fn locked<'a>(&self, lock: &'a Lock) -> Option<&'a Artifact> {
        lock.get(self.upstream()?)
    }

    /// The name of the component's content among `members` in the lock; `None` if the component is the
    /// whole artifact. A file in an image in an archive is `MEMBER:FILE`.
    pub fn part(&self) -> Option<String> {
        match (&self.member, &self.image_file) {
            (None, None) => None,
            (Some(part), None) | (None, Some(part)) => Some(part.clone()),
            (Some(member), Some(file)) => Some(format!("{member}:{file}")),
        }
    }
}

fn parse(text: &str, lock: Lock, dir: Option<&Path>) -> Result<Definition> {
    let file: DefinitionFile = toml::from_str(text)?;
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for component in &file.component {
        check(component).with_context(|| format!("component {}", component.name))?;
        ensure!(
            names.insert(&component.name),
            "component {} is defined twice",
            component.name
        );
        ensure!(
            paths.insert(&component.path),
            "two components have the path {}",
            component.path
        );
    }
    Ok(Definition {
        bundle: file.bundle,
        components: file.component,
        workloads: workloads(&file.workload, dir)?,
        lock,
        text: text.to_owned(),
        given: String::new(),
    })
}

fn check(component: &Source) -> Result<()> {
    ensure!(
        is_file_name(&component.name),
        "its name {:?} is not a file name",
        component.name
    );
    check_path(&component.path)?;
    ensure!(
        is_file_name(&component.file),
        "{:?} is not a file name",
        component.file
    );
    let is_image = component.kind == Kind::Image;
    check_source(component)?;
    ensure!(
        is_image == component.reference.is_some(),
        "an image must have a `reference`, and other components must not"
    );
    if let Some(license) = &component.license {
        SpdxExpression::try_from(license.clone())
            .with_context(|| format!("license {license:?} is not an SPDX expression"))?;
    }
    ensure!(
        component.kind == Kind::Program || (component.arguments.is_empty() && !component.on_path),
        "only programs may have `arguments` or `on-path`"
    );
    ensure!(
        is_image || component.nodes == Nodes::All,
        "only images may have `nodes`"
    );
    Ok(())
}

/// Refuses a component whose content cannot be in its source.
fn check_source(component: &Source) -> Result<()> {
    let is_image = component.kind == Kind::Image;
    let (member, file) = (&component.member, &component.image_file);
    ensure!(
        !is_image || file.is_none(),
        "an image must not have an `image-file`"
    );
    match component.upstream() {
        Some(Upstream::File(_)) if is_image => ensure!(
            member.is_some(),
            "the `source` of an image must begin with docker://, or be an archive with the image as \
             `member`"
        ),
        Some(Upstream::File(_)) => ensure!(
            member.is_some() || file.is_none(),
            "`image-file` needs an image: a `member` of the archive, or a `source` that begins with \
             docker://"
        ),
        Some(Upstream::Image(_)) => ensure!(
            member.is_none() && (is_image || file.is_some()),
            "a `source` that begins with docker:// is an image: it has no `member`, and a program in it \
             needs `image-file`"
        ),
        None => ensure!(
            member.is_none() && file.is_none(),
            "`member` and `image-file` need a `source`"
        ),
    }
    if let Some(file) = file {
        ensure!(
            file.starts_with('/') && !file.contains("/../") && !file.contains(char::is_control),
            "`image-file` {file:?} is not an absolute path, such as /opt/cni/bin/calico"
        );
    }
    Ok(())
}

/// A `[[workload]]` table of `bundle.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WorkloadSource {
    /// What people call it.
    name: String,
    /// The file with its manifest, beside `bundle.toml`.
    file: String,
    /// The workloads that have to be available before this one is applied.
    #[serde(default)]
    after: Vec<String>,
}

/// The workloads of the bundle in the directory `dir`.
fn workloads(sources: &[WorkloadSource], dir: Option<&Path>) -> Result<Vec<Workload>> {
    let mut names = BTreeSet::new();
    let mut workloads = Vec::new();
    for source in sources {
        let name = &source.name;
        dns_name(name)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("workload {name:?}"))?;
        ensure!(names.insert(name), "workload {name} is defined twice");
        let place = || format!("workload {name}");
        let manifest = manifest(&source.file, dir).with_context(place)?;
        workloads.push(Workload {
            name: name.clone(),
            file: source.file.clone(),
            manifest,
            after: source.after.clone(),
        });
    }
    Ok(workloads)
}

fn manifest(file: &str, dir: Option<&Path>) -> Result<String> {
    ensure!(
        is_file_name(file),
        "{file:?} is not the name of a file beside bundle.toml"
    );
    let dir = dir.context("only a bundle in a directory can have workloads")?;
    let path = dir.join(file);
    let text = bounded(&path, MAX_MANIFEST)?
        .with_context(|| format!("{}: there is no such file", path.display()))?;
    String::from_utf8(text).with_context(|| path.display().to_string())
}

impl Definition {
    /// The names and the texts of the bundle's own files, with that lock.
    pub fn files(&self, lock: &Lock) -> Result<Vec<(&str, String)>> {
        let mut files = vec![
            (FILE_NAME, self.text.clone()),
            (lock::FILE_NAME, lock.to_text()?),
        ];
        for workload in &self.workloads {
            files.push((&workload.file, workload.manifest.clone()));
        }
        Ok(files)
    }

    /// Writes the bundle with that lock into the directory `dir`. Files that are the same already stay.
    pub fn write(&self, dir: &Path, lock: &Lock) -> Result<()> {
        atomic::create_directories(dir).with_context(|| dir.display().to_string())?;
        for (name, text) in self.files(lock)? {
            let path = dir.join(name);
            if fs::read(&path).is_ok_and(|present| present == text.as_bytes()) {
                continue;
            }
            atomic::replace(&path, 0o644, |file| Ok(file.write_all(text.as_bytes())?))?;
            log::info!("wrote {}", path.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn definition(component: &str) -> Result<Definition> {
        let bundle = "[bundle]\nname = \"t\"\nkubernetes = \"v1.9.0\"\ndescription = \"d\"\n";
        parse(&format!("{bundle}{component}"), Lock::default(), None)
    }

    fn program(path: &str) -> String {
        format!(
            "[[component]]\nname = \"etcd\"\nkind = \"program\"\nversion = \"3\"\npath = {path:?}\nfile = \"etcd\"\n"
        )
    }

    #[test]
    fn paths_that_leave_the_bundle_are_refused() {
        for path in [
            "../etc/passwd",
            "/bin/sh",
            "bin/../../x",
            "bin/",
            "bin//x",
            "bin/./x",
            "etc/x",
            "bin/a/b",
            "",
        ] {
            let error = format!("{:#}", definition(&program(path)).unwrap_err());
            assert!(error.contains("component etcd: path"), "{error}");
        }
        assert_eq!(
            definition(&program("bin/etcd")).unwrap().components.len(),
            1
        );
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let error = definition(&(program("bin/etcd") + "on-paht = true\n")).unwrap_err();
        assert!(error.to_string().contains("on-paht"), "{error}");
    }

    #[test]
    fn two_components_in_one_place_are_refused() {
        let two =
            program("bin/etcd") + &program("bin/etcd").replace("\"etcd\"\nkind", "\"other\"\nkind");
        assert!(
            definition(&two)
                .unwrap_err()
                .to_string()
                .contains("two components have the path bin/etcd")
        );
    }

    #[test]
    fn two_components_of_one_name_are_refused() {
        let two = program("bin/etcd") + &program("bin/other");
        let error = definition(&two).unwrap_err().to_string();
        assert!(error.contains("component etcd is defined twice"), "{error}");
    }

    #[test]
    fn sources_are_encrypted_and_images_named_in_full() {
        for (source, expected) in [
            (
                "http://example.org/etcd.tar.gz",
                "expected https:// or docker://",
            ),
            ("https://example.org/", "names no file"),
            ("docker://pause", "write the image with registry"),
            (
                "docker://gcr.io/google_containers/pause-amd64",
                "write the image with registry",
            ),
        ] {
            let component = program("bin/etcd") + &format!("source = {source:?}\n");
            let error = format!("{:#}", definition(&component).unwrap_err());
            assert!(error.contains(expected), "{source}: {error}");
        }
        let component = program("bin/etcd") + "source = \"docker://quay.io/calico/node:v1\"\n";
        let error = format!("{:#}", definition(&component).unwrap_err());
        assert!(error.contains("needs `image-file`"), "{error}");
    }

    #[test]
    fn a_licence_is_an_spdx_expression() {
        let component = |license: &str| program("bin/etcd") + &format!("license = {license:?}\n");
        definition(&component("Apache-2.0 AND (GPL-2.0-only OR MIT)")).unwrap();
        let error = format!(
            "{:#}",
            definition(&component("do what you want")).unwrap_err()
        );
        assert!(error.contains("is not an SPDX expression"), "{error}");
    }

    #[test]
    fn an_image_needs_a_reference() {
        let image = program("images/x.tar").replace("program", "image");
        assert!(format!("{:#}", definition(&image).unwrap_err()).contains("`reference`"));
    }
}
