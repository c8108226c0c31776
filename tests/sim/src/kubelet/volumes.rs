//! A pod's volumes: directories and files of the host, empty directories, and the
//! data of secrets and config maps.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::settings::Settings;

/// Prepares every volume of a pod. Returns the path of each, by its name.
///
/// # Errors A volume of an unknown kind, or whose source is missing, in the words of the real
/// kubelet.
pub fn prepare(settings: &Settings, pod: &Value, uid: &str) -> Result<HashMap<String, PathBuf>> {
    let mut found = HashMap::new();
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        let name = volume["name"].as_str().context("a volume without a name")?;
        let path = one(settings, namespace, uid, name, volume);
        let path = path.with_context(|| format!("MountVolume.SetUp failed for volume {name:?}"))?;
        found.insert(name.to_owned(), path);
    }
    Ok(found)
}

fn one(
    settings: &Settings,
    namespace: &str,
    uid: &str,
    name: &str,
    volume: &Value,
) -> Result<PathBuf> {
    let own = |plugin: &str| {
        let volumes = settings.directory(uid).join("volumes");
        volumes.join(format!("kubernetes.io~{plugin}")).join(name)
    };
    if volume["hostPath"].is_object() {
        return host_path(&volume["hostPath"]);
    }
    let (plugin, resource, reference, member) = if volume["secret"].is_object() {
        ("secret", "secrets", &volume["secret"], "secretName")
    } else if volume["configMap"].is_object() {
        ("configmap", "configmaps", &volume["configMap"], "name")
    } else if volume["emptyDir"].is_object() {
        let path = own("empty-dir");
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o777))?;
        return Ok(path);
    } else {
        bail!("the stand-in knows only hostPath, emptyDir, secret and configMap");
    };
    let path = own(plugin);
    fs::create_dir_all(&path)?;
    let source = reference[member].as_str().unwrap_or_default();
    let at = format!("/api/v1/namespaces/{namespace}/{resource}/{source}");
    let reply = settings.api.get(&at)?;
    if reply.status == 404 && reference["optional"] == true {
        return Ok(path);
    }
    if reply.status == 404 {
        bail!("{resource} {source:?} not found");
    }
    write(&path, reference, &data(&reply.json()?)?)?;
    Ok(path)
}

/// The data of a secret or a config map.
///
/// # Errors
/// A secret that is not base64.
pub fn data(object: &Value) -> Result<HashMap<String, Vec<u8>>> {
    let is_secret = object["kind"] == "Secret";
    let members = object["data"].as_object().into_iter().flatten();
    let mut found = HashMap::new();
    for (key, value) in members {
        let text = value.as_str().unwrap_or_default();
        let bytes = if is_secret {
            STANDARD
                .decode(text)
                .with_context(|| format!("{key} is not base64"))?
        } else {
            text.as_bytes().to_vec()
        };
        found.insert(key.clone(), bytes);
    }
    Ok(found)
}

/// Writes every key, or only the listed ones, to their paths.
fn write(directory: &Path, reference: &Value, data: &HashMap<String, Vec<u8>>) -> Result<()> {
    let mode = |value: &Value| u32::try_from(value.as_u64()?).ok();
    let usual = mode(&reference["defaultMode"]).unwrap_or(0o644);
    let mut files: Vec<(&str, &str, u32)> = Vec::new();
    match reference["items"].as_array() {
        Some(items) => {
            for item in items {
                let text = |member: &str| item[member].as_str().unwrap_or_default();
                files.push((
                    text("key"),
                    text("path"),
                    mode(&item["mode"]).unwrap_or(usual),
                ));
            }
        }
        None => files.extend(data.keys().map(|key| (key.as_str(), key.as_str(), usual))),
    }
    for (key, path, mode) in files {
        let Some(bytes) = data.get(key) else {
            if reference["optional"] == true {
                continue;
            }
            bail!("references non-existent config key: {key}");
        };
        if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
            bail!("the path {path:?} is not below the volume");
        }
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let is_same = fs::read(&path).is_ok_and(|found| found == *bytes);
        if !is_same {
            fs::write(&path, bytes)?;
        }
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A path of the host, with the type that the volume requires.
fn host_path(volume: &Value) -> Result<PathBuf> {
    let path = PathBuf::from(volume["path"].as_str().unwrap_or_default());
    let found = fs::metadata(&path).ok();
    let is_directory = found.as_ref().is_some_and(fs::Metadata::is_dir);
    let kind = volume["type"].as_str().unwrap_or_default();
    let fits = match kind {
        "" => true,
        "Directory" => is_directory,
        "File" => found.as_ref().is_some_and(fs::Metadata::is_file),
        "DirectoryOrCreate" if found.is_none() => {
            fs::create_dir_all(&path)?;
            true
        }
        "DirectoryOrCreate" => is_directory,
        "FileOrCreate" if found.is_none() => {
            fs::write(&path, "")?;
            true
        }
        "FileOrCreate" => found.as_ref().is_some_and(fs::Metadata::is_file),
        "Socket" | "CharDevice" | "BlockDevice" => found.is_some(),
        other => bail!("{other:?} is not a type of hostPath"),
    };
    if !fits {
        let what = kind.trim_end_matches("OrCreate").to_lowercase();
        bail!(
            "hostPath type check failed: {} is not a {what}",
            path.display()
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_of_the_host_is_of_the_type_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let check = |path: &Path, kind: &str| host_path(&json!({"path": path, "type": kind}));
        assert!(check(&file, "File").is_ok());
        assert!(check(directory.path(), "Directory").is_ok());
        let error = check(directory.path(), "File").unwrap_err().to_string();
        assert!(error.ends_with("is not a file"), "{error}");
        let new = directory.path().join("new");
        assert!(check(&new, "Directory").is_err());
        assert!(check(&new, "DirectoryOrCreate").is_ok() && new.is_dir());
        assert!(check(&new, "Fil").is_err());
    }

    #[test]
    fn data_becomes_files() {
        let directory = tempfile::tempdir().unwrap();
        let secret = json!({"kind": "Secret", "data": {"a": "eA==", "b": "eQ=="}});
        let data = data(&secret).unwrap();
        write(directory.path(), &json!({"defaultMode": 0o400}), &data).unwrap();
        let path = directory.path().join("a");
        assert_eq!(fs::read(&path).unwrap(), b"x");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        let items = |path: &str| json!({"items": [{"key": "b", "path": path}]});
        write(directory.path(), &items("c/d"), &data).unwrap();
        assert_eq!(fs::read(directory.path().join("c/d")).unwrap(), b"y");
        assert!(write(directory.path(), &items("../d"), &data).is_err());
        let missing = json!({"items": [{"key": "x", "path": "x"}]});
        assert!(write(directory.path(), &missing, &data).is_err());
    }
}
