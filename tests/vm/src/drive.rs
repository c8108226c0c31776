//! The metadata of a server, and the disks that OpenStack attaches: a config drive, and a volume
//! with the appliance.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::container;

/// The default memory of a server, in MiB.
pub const MEMORY: u32 = 2048;
/// The default number of processors of a server.
pub const CPUS: u32 = 2;
/// The label of the volume with the appliance.
pub const LABEL: &str = "APPLIANCE";
/// Settings without an effect: the server's role is a property.
pub const DEFAULTS: &str = "clusterName: kubernetes\n";

/// The file system of a config drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ISO 9660, Nova's default.
    Iso9660,
    /// VFAT, as in older clouds, with the label in capital letters as its tools write it.
    Vfat,
}

/// How a server gets its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// From the metadata.
    Static,
    /// From the network's DHCP.
    Dhcp,
}

/// The metadata of a server, on its config drive or from the metadata service.
#[derive(Clone, Debug)]
pub struct ConfigDrive {
    /// The server's name.
    pub name: String,
    /// The server's UUID.
    pub uuid: String,
    /// Its properties.
    pub meta: BTreeMap<String, String>,
    /// The MAC address of its interface.
    pub mac: String,
    /// Its IPv4 address, in a /24 network.
    pub address: String,
    /// How it gets its address.
    pub addressing: Addressing,
    /// Its user-data.
    pub user_data: String,
    /// Its flavor's memory, in MiB.
    pub memory: u32,
    /// Its flavor's processors.
    pub cpus: u32,
    /// Its file system.
    pub format: Format,
}

/// The name of the tutorial's server with that number.
pub fn server_name(number: u8) -> String {
    format!("server{number:02}")
}

impl ConfigDrive {
    /// The tutorial's server with that number: `server01`, 192.168.1.101 and so on.
    pub fn of_tutorial(number: u8, role: &str, user_data: &str) -> ConfigDrive {
        ConfigDrive {
            name: server_name(number),
            uuid: format!("5f7a1c9e-3b0d-4a52-9c77-0e8f6d2b4a{number:02}"),
            meta: BTreeMap::from([("role".to_owned(), role.to_owned())]),
            mac: format!("fa:16:3e:00:00:{number:02}"),
            address: format!("192.168.1.{}", 100 + number),
            addressing: Addressing::Static,
            user_data: user_data.to_owned(),
            memory: MEMORY,
            cpus: CPUS,
            format: Format::Iso9660,
        }
    }

    /// The tutorial's master: server02, 192.168.1.102, role master.
    pub fn master(user_data: &str) -> ConfigDrive {
        ConfigDrive::of_tutorial(2, "master", user_data)
    }

    /// Writes the files below `dir` in the layout of a cloud from the time of Kubernetes v1.9.
    pub fn write_tree(&self, dir: &Path) -> Result<()> {
        const VERSIONS: [&str; 2] = ["latest", "2017-02-22"];
        for version in VERSIONS {
            let dir = dir.join("openstack").join(version);
            fs::create_dir_all(&dir)?;
            fs::write(dir.join("meta_data.json"), self.meta_data().to_string())?;
            let network = self.network_data().to_string();
            fs::write(dir.join("network_data.json"), network)?;
            fs::write(dir.join("user_data"), &self.user_data)?;
        }
        // The list of the metadata service.
        let list = "2012-08-10\n2013-04-04\n2013-10-17\n2015-10-15\n2016-06-30\n2016-10-06\n2017-02-22\nlatest\n";
        Ok(fs::write(dir.join("openstack/versions"), list)?)
    }

    /// Writes the drive as Nova does, with the label `config-2`.
    pub fn write(&self, image: &Path) -> Result<()> {
        let tree = tempfile::tempdir()?;
        self.write_tree(tree.path())?;
        fs::remove_file(tree.path().join("openstack/versions"))?;
        match self.format {
            Format::Iso9660 => iso(tree.path(), "config-2", image),
            Format::Vfat => vfat(tree.path(), "CONFIG-2", image),
        }
    }

    fn meta_data(&self) -> Value {
        json!({
            "uuid": self.uuid,
            "name": self.name,
            "hostname": format!("{}.novalocal", self.name),
            "launch_index": 0,
            "availability_zone": "nova",
            "project_id": "0c3f5a1e2d4b4c6f8a9b0d1e2f3a4b5c",
            "meta": self.meta,
        })
    }

    fn network_data(&self) -> Value {
        let dhcp = self.addressing == Addressing::Dhcp;
        let network = if dhcp {
            json!({
                "id": "network0",
                "type": "ipv4_dhcp",
                "link": "tap1a2b3c4d-5e",
                "network_id": "7d1c2b3a-4e5f-4a6b-9c8d-1e2f3a4b5c6d",
            })
        } else {
            json!({
                "id": "network0",
                "type": "ipv4",
                "link": "tap1a2b3c4d-5e",
                "network_id": "7d1c2b3a-4e5f-4a6b-9c8d-1e2f3a4b5c6d",
                "ip_address": self.address,
                "netmask": "255.255.255.0",
                "routes": [],
            })
        };
        json!({
            "links": [{
                "id": "tap1a2b3c4d-5e",
                "vif_id": "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d",
                "type": "bridge",
                "mtu": if dhcp { Value::Null } else { json!(1450) },
                "ethernet_mac_address": self.mac,
            }],
            "networks": [network],
            "services": [],
        })
    }
}

/// The output of `appliance user-data` for servers with these settings (YAML), which have the
/// appliance on the volume of [`write_volume`].
pub fn user_data(appliance: &Path, settings: &str) -> Result<String> {
    let mut cluster = tempfile::NamedTempFile::new()?;
    cluster.write_all(settings.as_bytes())?;
    let output = Command::new(appliance)
        .args(["user-data", "--volume", LABEL, "--cluster"])
        .arg(cluster.path())
        .output()
        .with_context(|| appliance.display().to_string())?;
    ensure!(
        output.status.success(),
        "{}: {}",
        appliance.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Writes a volume with the label `APPLIANCE`: it contains the program for a VM, and the files of
/// the directory `beside`.
pub fn write_volume(appliance: &Path, beside: Option<&Path>, image: &Path) -> Result<()> {
    let tree = tempfile::tempdir()?;
    if let Some(directory) = beside {
        let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            fs::copy(entry.path(), tree.path().join(entry.file_name()))?;
        }
    }
    fs::copy(appliance, tree.path().join("appliance"))
        .with_context(|| appliance.display().to_string())?;
    match container::are_wanted() {
        true => container::write_volume(tree.path(), LABEL, image),
        false => iso(tree.path(), LABEL, image),
    }
}

fn iso(tree: &Path, label: &str, image: &Path) -> Result<()> {
    let mut genisoimage = Command::new("genisoimage");
    genisoimage
        .args(["-quiet", "-J", "-r", "-V", label, "-o"])
        .arg(image)
        .arg(tree);
    run(&mut genisoimage, "genisoimage")
}

fn vfat(tree: &Path, label: &str, image: &Path) -> Result<()> {
    // The size that Nova uses.
    fs::File::create(image)?.set_len(64 * 1024 * 1024)?;
    run(
        Command::new("mkfs.vfat").args(["-n", label]).arg(image),
        "dosfstools",
    )?;
    let mut mcopy = Command::new("mcopy");
    mcopy
        .arg("-s")
        .arg("-i")
        .arg(image)
        .arg(tree.join("openstack"))
        .arg("::");
    run(&mut mcopy, "mtools")
}

pub(crate) fn run(command: &mut Command, package: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("{program} (Debian package {package})"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
