//! Objects in files: YAML with several documents, including lists.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::kinds::Kind;

use super::command::Command;

/// An object, and its place.
pub struct Manifest {
    /// The object's kind.
    pub kind: &'static Kind,
    /// The object's namespace, if its kind has one.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// The object.
    pub object: Value,
}

impl Manifest {
    /// The object's path.
    pub fn path(&self) -> String {
        self.kind.path(self.namespace.as_deref(), Some(&self.name))
    }

    /// The path of the objects of its kind and namespace.
    pub fn directory(&self) -> String {
        self.kind.path(self.namespace.as_deref(), None)
    }
}

/// The objects in the files of `-f`.
///
/// # Errors
/// A file that cannot be read, or an object without a known kind or a name.
pub fn read(command: &Command) -> Result<Vec<Manifest>> {
    let mut found = Vec::new();
    for file in expanded(&command.files)? {
        for object in objects(&text(&file)?).with_context(|| format!("error parsing {file}"))? {
            found.push(manifest(command, object).with_context(|| file.clone())?);
        }
    }
    Ok(found)
}

/// The files; for a directory, those with the names of manifests.
fn expanded(files: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        if !Path::new(file).is_dir() {
            all.push(file.clone());
            continue;
        }
        let mut inside: Vec<String> = fs::read_dir(file)
            .with_context(|| file.clone())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let end = path.extension().and_then(|end| end.to_str());
                matches!(end, Some("yaml" | "yml" | "json"))
            })
            .map(|path| path.display().to_string())
            .collect();
        inside.sort();
        all.extend(inside);
    }
    Ok(all)
}

fn text(file: &str) -> Result<String> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    if !Path::new(file).exists() {
        bail!("error: the path {file:?} does not exist");
    }
    fs::read_to_string(file).with_context(|| file.to_owned())
}

/// Every object in a text. Empty documents are skipped, and a list counts as its items.
fn objects(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let mut objects = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Object(_) => {
                let listed = document["kind"]
                    .as_str()
                    .is_some_and(|kind| kind.ends_with("List"));
                match document["items"].as_array() {
                    Some(items) if listed => objects.extend(items.iter().cloned()),
                    _ => objects.push(document),
                }
            }
            _ => bail!("a document that is not an object"),
        }
    }
    Ok(objects)
}

fn manifest(command: &Command, mut object: Value) -> Result<Manifest> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    if kind.is_empty() || version.is_empty() {
        bail!("error validating data: kind or apiVersion not set");
    }
    let kind = Kind::of(&version, &kind)
        .with_context(|| format!("no matches for {version}, Kind={kind} (in the stand-in)"))?;
    let name = text(&object["metadata"]["name"]);
    if name.is_empty() {
        bail!("{}: metadata.name is not set", kind.kind);
    }
    let stated = text(&object["metadata"]["namespace"]);
    if let Some(wanted) = &command.namespace
        && kind.namespaced
        && !stated.is_empty()
        && *wanted != stated
    {
        bail!(
            "error: the namespace from the provided object {stated:?} does not match the \
             namespace {wanted:?}. You must pass '--namespace={stated}' to perform this operation."
        );
    }
    let namespace = kind.namespaced.then(|| {
        let stated = Some(stated).filter(|stated| !stated.is_empty());
        stated.unwrap_or_else(|| command.namespace().to_owned())
    });
    if let Some(namespace) = &namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    Ok(Manifest {
        kind,
        namespace,
        name,
        object,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_documents_and_what_is_in_lists() {
        let text = "---\n# nothing\n---\nkind: A\n---\nkind: List\nitems:\n- kind: B\n- kind: C\n";
        let kinds: Vec<_> = objects(text)
            .unwrap()
            .iter()
            .map(|object| object["kind"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        assert!(objects("just words").is_err());
    }

    #[test]
    fn an_object_is_in_the_namespace_it_names_or_the_one_asked_for() {
        let object = |namespace: Value| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "a", "namespace": namespace},
            })
        };
        let mut command = Command::default();
        let path = |command: &Command, namespace: Value| {
            manifest(command, object(namespace)).map(|found| found.path())
        };
        let of = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps/a");
        assert_eq!(path(&command, json!(null)).unwrap(), of("default"));
        assert_eq!(path(&command, json!("n")).unwrap(), of("n"));
        command.namespace = Some("m".to_owned());
        assert_eq!(path(&command, json!(null)).unwrap(), of("m"));
        assert!(path(&command, json!("n")).is_err());
    }

    #[test]
    fn what_the_server_cannot_know_is_refused() {
        let refused = |object: Value| {
            let error = manifest(&Command::default(), object).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(refused(json!({"kind": "Pod"})).contains("apiVersion not set"));
        let object = json!({"apiVersion": "apps/v1", "kind": "Job"});
        assert!(refused(object).contains("no matches for apps/v1, Kind=Job"));
        let object = json!({"apiVersion": "v1", "kind": "Pod"});
        assert!(refused(object).contains("metadata.name"));
    }
}
