//! cloud-init's cache on disk: `/run/cloud-init/instance-data.json` of this boot, and user-data and
//! vendor-data of this instance below `/var/lib/cloud/instance`.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;
use super::json;
use super::model::VendorFormat;
use super::openstack::{self, RawFile, RawFiles, SIZE_LIMIT};
use crate::language::tr;
use crate::sys::read::bounded;

/// The name of this source in errors.
const SOURCE: &str = "cloud-init's cache";
/// Everything cloud-init found. For datasources other than OpenStack, only `v1` has a known format.
const INSTANCE_DATA: &str = "run/cloud-init/instance-data.json";
/// The ID of the instance that `/var/lib/cloud/instance` belongs to.
const INSTANCE_ID: &str = "var/lib/cloud/data/instance-id";
const USER_DATA: &str = "var/lib/cloud/instance/user-data.txt";
/// The newer format takes precedence over the older one.
const VENDOR_DATA: [&str; 2] = [
    "var/lib/cloud/instance/vendor-data2.txt",
    "var/lib/cloud/instance/vendor-data.txt",
];
/// The maximum size of instance data, in bytes. cloud-init repeats its whole configuration there.
const INSTANCE_DATA_LIMIT: u64 = 8 * SIZE_LIMIT;

#[derive(Deserialize)]
struct InstanceData {
    v1: Standard,
    #[serde(default)]
    ds: DataSource,
}

/// The keys that every datasource has.
#[derive(Deserialize)]
struct Standard {
    instance_id: String,
    local_hostname: Option<String>,
    availability_zone: Option<String>,
}

/// What the datasource found, in its own format.
#[derive(Default, Deserialize)]
struct DataSource {
    #[serde(default)]
    meta_data: Value,
    network_json: Option<Value>,
    ec2_metadata: Option<Value>,
}

/// Reads cloud-init's cache below the directory `root`, which is `/` except in tests.
///
/// # Errors
/// If a file exists but is too big, is not JSON, or is not in cloud-init's format.
pub fn read(root: &Path) -> Result<Answer> {
    let path = root.join(INSTANCE_DATA);
    let Some(content) = bounded(&path, INSTANCE_DATA_LIMIT)? else {
        return Ok(Answer::Missing(tr!("there is no {}", path.display())));
    };
    let place = format!("{SOURCE}: {}", path.display());
    let (instance_id, mut files) = parse(&content).context(place)?;
    if is_of_this_boot(root, &instance_id)? {
        let user_data = root.join(USER_DATA);
        files.user_data = raw(&user_data)?;
        for path in VENDOR_DATA {
            let vendor_data = raw(&root.join(path))?;
            let vendor_data = vendor_data.map(|file| (VendorFormat::CloudInit, file));
            files.vendor_data.extend(vendor_data);
        }
    }
    let metadata = openstack::parse(SOURCE, &files)?;
    Ok(Answer::Found(Box::new(metadata)))
}

/// Whether `/var/lib/cloud/instance` belongs to the instance that booted. In a cloned image, it
/// belongs to the original VM until cloud-init has run.
fn is_of_this_boot(root: &Path, instance_id: &str) -> Result<bool> {
    let known = bounded(&root.join(INSTANCE_ID), SIZE_LIMIT)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&known).trim() == instance_id)
}

/// The instance's ID, and its data in OpenStack's format.
///
/// # Errors
/// If it is not in cloud-init's format. The error repeats no values: they may be passwords.
pub fn parse(content: &[u8]) -> Result<(String, RawFiles)> {
    let data: InstanceData =
        json::read(content, |data| serde_json::from_slice(data)).map_err(|e| {
            anyhow!(tr!(
                "line {} column {}: not in cloud-init's format; look at `cloud-init status --long`",
                e.line(),
                e.column()
            ))
        })?;
    let Standard {
        instance_id,
        local_hostname,
        availability_zone,
    } = data.v1;
    let is_openstack = data.ds.meta_data.get("uuid").is_some();
    let meta_data = if is_openstack {
        data.ds.meta_data
    } else {
        let hostname = local_hostname.unwrap_or_default();
        json!({
            "uuid": instance_id,
            "name": hostname,
            "hostname": hostname,
            "availability_zone": availability_zone,
        })
    };
    let file = |name: &str, value: &Value| -> Result<RawFile> {
        Ok(RawFile {
            name: tr!("instance-data.json: `ds.{name}`", name),
            content: serde_json::to_vec(value)?,
        })
    };
    let public_ipv4 = data.ds.ec2_metadata.and_then(|ec2| {
        let address = ec2.get("public-ipv4")?.as_str()?;
        Some(RawFile {
            name: tr!("instance-data.json: `ds.ec2_metadata.public-ipv4`"),
            content: address.as_bytes().to_vec(),
        })
    });
    let network_data = data.ds.network_json.filter(Value::is_object);
    let files = RawFiles {
        meta_data: file("meta_data", &meta_data)?,
        network_data: network_data
            .map(|network| file("network_json", &network))
            .transpose()?,
        user_data: None,
        vendor_data: Vec::new(),
        public_ipv4,
        passed_over: Vec::new(),
    };
    ensure!(!instance_id.is_empty(), tr!("`v1.instance_id` is empty"));
    Ok((instance_id, files))
}

fn raw(path: &Path) -> Result<Option<RawFile>> {
    let content = bounded(path, SIZE_LIMIT)?;
    Ok(content
        .filter(|content| !content.is_empty())
        .map(|content| RawFile {
            name: path.display().to_string(),
            content,
        }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::metadata::model::Metadata;
    use std::fs;

    const OPENSTACK: &str = r#"{
        "v1": {"instance_id": "u-1", "local_hostname": "server02", "availability_zone": "nova"},
        "ds": {
            "meta_data": {"uuid": "u-1", "name": "Server 02", "hostname": "server02.novalocal",
                "meta": {"role": "master"}, "admin_pass": "Sup3rSecret"},
            "network_json": {"links": [{"id": "tap0", "ethernet_mac_address": "fa:16:3e:00:00:02"}]},
            "ec2_metadata": {"public-ipv4": "203.0.113.7"}
        }
    }"#;

    /// A root directory with these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn found(files: &[(&str, &str)]) -> Metadata {
        match read(machine(files).path()).unwrap() {
            Answer::Found(metadata) => *metadata,
            Answer::Missing(why) => panic!("{why}"),
        }
    }

    #[test]
    fn what_the_openstack_datasource_found_is_understood_as_from_openstack() {
        let metadata = found(&[
            (INSTANCE_DATA, OPENSTACK),
            (INSTANCE_ID, "u-1\n"),
            (USER_DATA, "#cloud-config\n"),
            (VENDOR_DATA[1], "#cloud-config\n"),
        ]);
        assert_eq!(metadata.name, "Server 02");
        assert_eq!(metadata.meta["role"], "master");
        assert_eq!(metadata.interfaces[0].mac, "fa:16:3e:00:00:02");
        assert_eq!(metadata.public_ipv4, Some([203, 0, 113, 7].into()));
        assert_eq!(metadata.user_data.as_deref(), Some(&b"#cloud-config\n"[..]));
        assert_eq!(metadata.vendor_data.len(), 1);
    }

    #[test]
    fn of_another_datasource_the_standard_keys_are_used() {
        let data = r#"{"v1": {"instance_id": "i-9", "local_hostname": "vm9"}, "ds": {"meta_data": {"dsmode": "net"}}}"#;
        let metadata = found(&[(INSTANCE_DATA, data)]);
        assert_eq!(metadata.uuid, "i-9");
        assert_eq!(metadata.hostname, "vm9");
    }

    #[test]
    fn the_user_data_of_the_image_a_clone_was_made_from_is_not_its_own() {
        let metadata = found(&[
            (INSTANCE_DATA, OPENSTACK),
            (INSTANCE_ID, "another\n"),
            (USER_DATA, "#cloud-config\nappliance: {role: master}\n"),
        ]);
        assert_eq!(metadata.user_data, None);
    }

    #[test]
    fn a_machine_without_cloud_init_has_no_such_source() {
        let answer = read(machine(&[]).path()).unwrap();
        assert!(matches!(answer, Answer::Missing(why) if why.ends_with("instance-data.json")));
    }

    #[test]
    fn broken_instance_data_is_located_and_not_repeated() {
        let machine = machine(&[(INSTANCE_DATA, "{\"v1\": {\"instance_id\": \"Sup3r\", }")]);
        let error = format!("{:#}", read(machine.path()).unwrap_err());
        assert!(error.contains("line 1 column 33"), "{error}");
        assert!(!error.contains("Sup3r"), "{error}");
    }
}
