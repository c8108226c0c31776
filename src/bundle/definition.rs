//! `bundle.toml` and `bundle.lock`: what a bundle is made of, as its author wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component as PathComponent, Path};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::manifest::{BundleInfo, Kind};

const DEFINITION: &str = "bundle.toml";
const LOCK: &str = "bundle.lock";
/// The directories a component may be unpacked to.
const PLACES: [&str; 4] = ["bin/", "cni/bin/", "docker/", "images/"];

/// A bundle: its `bundle.toml`, and its `bundle.lock` where it has one.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The `[bundle]` table.
    pub bundle: BundleInfo,
    /// The `[[component]]` tables, in their order.
    pub components: Vec<Source>,
    /// What is known of upstream files, by file name.
    pub lock: BTreeMap<String, Artifact>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DefinitionFile {
    bundle: BundleInfo,
    component: Vec<Source>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    artifact: Vec<Artifact>,
}

/// One component and where its file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    /// The name that templates, checks and people use.
    pub name: String,
    /// What the file is.
    pub kind: Kind,
    /// The component's own version.
    pub version: String,
    /// Where it is unpacked, relative to the bundle's directory.
    pub path: String,
    /// Its name in the directory of components.
    pub file: String,
    /// The upstream archive it can be taken from, where that lies in the directory of components.
    pub archive: Option<String>,
    /// Its path in that archive.
    pub member: Option<String>,
    /// For an image: the reference it is known by to docker.
    pub reference: Option<String>,
    /// For a program: arguments its unit adds.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// For a program: whether it is put on the PATH.
    #[serde(default)]
    pub on_path: bool,
    /// Where people get it: a URL, or the package that has it.
    pub source: Option<String>,
}

/// One upstream file and its checksum.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// The file's name.
    pub name: String,
    /// Where it is published.
    pub url: String,
    /// SHA-256 of it, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl Definition {
    /// Reads the bundle in the directory `dir`.
    pub fn read(dir: &Path) -> Result<Definition> {
        let path = dir.join(DEFINITION);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let lock = match fs::read_to_string(dir.join(LOCK)) {
            Ok(text) => parse_lock(&text).with_context(|| dir.join(LOCK).display().to_string())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| dir.join(LOCK).display().to_string()),
        };
        parse(&text, lock).with_context(|| path.display().to_string())
    }
}

fn parse(text: &str, lock: BTreeMap<String, Artifact>) -> Result<Definition> {
    let file: DefinitionFile = toml::from_str(text)?;
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for component in &file.component {
        check(component).with_context(|| format!("component {}", component.name))?;
        ensure!(
            names.insert(&component.name),
            "component {} is there twice",
            component.name
        );
        ensure!(
            paths.insert(&component.path),
            "two components go to {}",
            component.path
        );
    }
    Ok(Definition {
        bundle: file.bundle,
        components: file.component,
        lock,
    })
}

fn check(component: &Source) -> Result<()> {
    ensure!(
        is_file_name(&component.name),
        "its name {:?} is not a file name",
        component.name
    );
    check_path(&component.path)?;
    for file in [Some(&component.file), component.archive.as_ref()]
        .into_iter()
        .flatten()
    {
        ensure!(is_file_name(file), "{file:?} is not a file name");
    }
    ensure!(
        component.archive.is_some() == component.member.is_some(),
        "`archive` and `member` belong together"
    );
    let is_image = component.kind == Kind::Image;
    ensure!(
        !is_image || component.archive.is_none(),
        "an image is a file of its own, not a member of an archive"
    );
    ensure!(
        is_image == component.reference.is_some(),
        "images, and only they, have a `reference`"
    );
    ensure!(
        component.kind == Kind::Program || (component.arguments.is_empty() && !component.on_path),
        "only programs have `arguments` or `on-path`"
    );
    Ok(())
}

/// Refuses a path that would leave the bundle's directory or lies outside of its known parts.
pub fn check_path(path: &str) -> Result<()> {
    let normal = Path::new(path)
        .components()
        .all(|part| matches!(part, PathComponent::Normal(_)));
    let canonical = !path.ends_with('/') && !path.contains("//") && !path.contains("/./");
    ensure!(
        normal && canonical && !path.contains(char::is_control),
        "path {path:?} would escape the bundle"
    );
    let inside = |place: &str| path.strip_prefix(place).is_some_and(is_file_name);
    ensure!(
        PLACES.iter().any(|place| inside(place)),
        "path {path:?} is not a file in {}",
        PLACES.join(", ")
    );
    Ok(())
}

/// Whether the text names a file and no directory, not even the one it is in.
pub fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains('/')
        && !name.contains(char::is_control)
}

fn parse_lock(text: &str) -> Result<BTreeMap<String, Artifact>> {
    let file: LockFile = toml::from_str(text)?;
    let mut artifacts = BTreeMap::new();
    for artifact in file.artifact {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let is_digest = artifact.sha256.len() == 64 && artifact.sha256.bytes().all(hex);
        ensure!(
            is_digest,
            "{}: sha256 is not 64 lower-case hexadecimal digits",
            artifact.name
        );
        if let Some(earlier) = artifacts.insert(artifact.name.clone(), artifact) {
            bail!("{} is there twice", earlier.name);
        }
    }
    Ok(artifacts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn definition(component: &str) -> Result<Definition> {
        let bundle = "[bundle]\nname = \"t\"\nkubernetes = \"v1.9.0\"\ndescription = \"d\"\n";
        parse(&format!("{bundle}{component}"), BTreeMap::new())
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
                .contains("two components go to bin/etcd")
        );
    }

    #[test]
    fn an_image_needs_a_reference() {
        let image = program("images/x.tar").replace("program", "image");
        assert!(format!("{:#}", definition(&image).unwrap_err()).contains("`reference`"));
    }

    #[test]
    fn checksums_are_checked_for_their_form() {
        let lock =
            "[[artifact]]\nname = \"a\"\nurl = \"https://example.org/a\"\nsha256 = \"ABC\"\n";
        assert!(
            parse_lock(lock)
                .unwrap_err()
                .to_string()
                .contains("a: sha256")
        );
    }
}
