//! A machine to install on: a directory in place of `/`, a small payload, and metadata.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use appliance::bundle::definition::Definition;
use appliance::bundle::pack::{Places, pack};
use appliance::digest::Sha256;
use appliance::preflight::TOOLS;
use appliance::sys::progress::Silent;
use serde_json::Value;

/// The root directory of a machine with systemd and docker, and its OpenStack metadata.
pub struct Machine {
    dir: tempfile::TempDir,
}

/// The attributes that differ if a file was written.
pub type Snapshot = BTreeMap<PathBuf, (u64, i64, i64, u32)>;

impl Machine {
    /// The tutorial's master before the installation.
    pub fn new() -> Machine {
        let machine = Machine {
            dir: tempfile::tempdir().unwrap(),
        };
        for program in [
            "usr/lib/systemd/systemd",
            "usr/bin/docker",
            "lib/systemd/system/docker.service",
        ] {
            machine.put(program, "");
        }
        for tool in TOOLS {
            machine.put(&format!("usr/bin/{}", tool.name), "");
        }
        machine.put("etc/hosts", "127.0.0.1 localhost\n");
        machine.put("etc/hostname", "image\n");
        let fixture = "tests/fixtures/metadata/queens-static/openstack/latest/network_data.json";
        let network =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture)).unwrap();
        machine.put_metadata(r#"{"role": "master"}"#);
        fs::write(
            machine
                .metadata()
                .join("openstack/latest/network_data.json"),
            network,
        )
        .unwrap();
        machine
    }

    /// The directory in place of `/`.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The directory in place of the config drive.
    pub fn metadata(&self) -> PathBuf {
        self.dir.path().join("config-drive")
    }

    /// Writes a file below the root.
    pub fn put(&self, path: &str, content: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes the server's properties, a JSON object.
    pub fn put_metadata(&self, meta: &str) {
        self.put_meta_data_json(&format!(
            r#"{{"uuid": "5f7a1c9e-3b0d-4a52-9c77-0e8f6d2b4a02", "name": "server02",
                "hostname": "server02.novalocal", "meta": {meta}}}"#
        ));
    }

    /// Writes meta_data.json as it is.
    pub fn put_meta_data_json(&self, text: &str) {
        let latest = self.metadata().join("openstack/latest");
        fs::create_dir_all(&latest).unwrap();
        fs::write(latest.join("meta_data.json"), text).unwrap();
    }

    /// The text of a file below the root.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The permission bits of a file below the root.
    pub fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.root().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    }

    /// Runs `appliance install` on it, with more arguments.
    pub fn install(&self, arguments: &[&str]) -> Output {
        self.install_from(&payload(), arguments).output().unwrap()
    }

    /// The command of [`Machine::install`] with the payload in that file, before it runs.
    pub fn install_from(&self, payload: &Path, arguments: &[&str]) -> Command {
        self.command("install", payload, arguments)
    }

    /// A command for this machine that takes what `install` takes, before it runs.
    pub fn command(&self, name: &str, payload: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
        command
            .arg(name)
            .arg("--root")
            .arg(self.root())
            .arg("--metadata-dir")
            .arg(self.metadata())
            .arg("--payload")
            .arg(payload)
            .args(arguments);
        command
    }

    /// Like [`Machine::install`], but it must succeed. Returns its output.
    pub fn installed(&self, arguments: &[&str]) -> String {
        let output = self.install(arguments);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    /// Runs `appliance install --dry-run` on it, with more arguments: something must differ. Returns its output.
    pub fn planned(&self, arguments: &[&str]) -> String {
        let output = self.install(&[&["--dry-run"], arguments].concat());
        assert_eq!(output.status.code(), Some(7), "{}", said(&output));
        said(&output)
    }

    /// Like [`Machine::install`], but it must refuse and write nothing. Returns its output.
    pub fn refusal(&self, arguments: &[&str]) -> String {
        let before = self.snapshot();
        let output = self.install(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert_eq!(
            self.snapshot(),
            before,
            "something was written: {}",
            said(&output)
        );
        said(&output)
    }

    /// Every file below the root with its inode, times and mode.
    pub fn snapshot(&self) -> Snapshot {
        let mut all = Snapshot::new();
        collect(&self.root(), &mut all);
        all
    }
}

fn collect(path: &Path, all: &mut Snapshot) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let time = |seconds: i64, nanoseconds: i64| seconds * 1_000_000_000 + nanoseconds;
    let modified = time(metadata.mtime(), metadata.mtime_nsec());
    let changed = time(metadata.ctime(), metadata.ctime_nsec());
    all.insert(
        path.to_owned(),
        (metadata.ino(), modified, changed, metadata.mode()),
    );
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), all);
        }
    }
}

/// The whole output of a program.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A new directory: in memory, if there is room.
pub fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// A new directory like [`directory`] that may belong to something static, which nobody drops: it is removed when the
/// tests have ended.
pub fn lasting_directory() -> tempfile::TempDir {
    static ALL: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (all, _) = ALL.get_or_init(|| {
        let all = directory().keep();
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", r#"cat; rm -rf "$0""#])
            .arg(&all)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        (all, keeper.spawn().unwrap())
    });
    tempfile::tempdir_in(all).unwrap()
}

/// The version of Kubernetes in [`payload`].
const USUAL: &str = "v1.9.0";

/// The programs of a payload.
pub const PROGRAMS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];

/// A payload with everything a master needs, packed once.
pub fn payload() -> PathBuf {
    static PAYLOAD: OnceLock<tempfile::TempDir> = OnceLock::new();
    PAYLOAD
        .get_or_init(|| make_payload(USUAL, None).unwrap())
        .path()
        .join("payload")
}

/// A payload like [`payload`] with another version of Kubernetes: every program and every image is another one. It is in
/// the directory, which must be kept as long as it is used.
pub fn payload_of(kubernetes: &str) -> tempfile::TempDir {
    make_payload(kubernetes, None).unwrap()
}

/// A payload like [`payload`] with the etcd and etcdctl of this machine, packed once.
pub fn payload_with_etcd() -> PathBuf {
    static PAYLOAD: OnceLock<tempfile::TempDir> = OnceLock::new();
    PAYLOAD
        .get_or_init(|| make_payload(USUAL, Some(&etcd_programs())).unwrap())
        .path()
        .join("payload")
}

/// The directory of etcd and etcdctl on this machine.
pub fn etcd_programs() -> PathBuf {
    let mut found = Command::new("sh");
    let found = found.args(["-c", "command -v etcdctl"]).output().unwrap();
    let found = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    found.parent().unwrap().to_owned()
}

fn make_payload(kubernetes: &str, etcd: Option<&Path>) -> anyhow::Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    let components = dir.path().join("components");
    fs::create_dir(&components)?;
    let mut definition = format!(
        "[bundle]\nname = \"tiny\"\nkubernetes = \"{kubernetes}\"\n\
         description = \"Files that only look like programs.\"\n"
    );
    let mark = match kubernetes {
        USUAL => "",
        other => other,
    };
    for name in PROGRAMS.into_iter().chain(etcd.map(|_| "etcdctl")) {
        let content = match etcd.filter(|_| name.starts_with("etcd")) {
            Some(programs) => fs::read(programs.join(name))?,
            None => program(&format!("{name}{mark}"), 4096),
        };
        fs::write(components.join(name), content)?;
        definition += &format!(
            "[[component]]\nname = \"{name}\"\nkind = \"program\"\nversion = \"1{mark}\"\npath = \"bin/{name}\"\n\
             file = \"{name}\"\non-path = {}\narguments = {}\n",
            name == "kubectl",
            match etcd.is_some() && name == "etcd" {
                true => r#"["--enable-v2=true"]"#,
                false => "[]",
            }
        );
    }
    for (name, reference) in [
        ("calico-node", "example.org/calico/node:v2.6.2"),
        (
            "calico-kube-controllers",
            "example.org/calico/kube-controllers:v1.0.0",
        ),
        ("kube-dns", "example.org/kube-dns:1.14.5"),
        ("dnsmasq-nanny", "example.org/dnsmasq-nanny:1.14.5"),
        ("dns-sidecar", "example.org/dns-sidecar:1.14.5"),
        ("dashboard", "example.org/dashboard:v1.8.1"),
        ("pause", "example.org/pause:3.0"),
    ] {
        let reference = format!("{reference}{mark}");
        let reference = reference.as_str();
        fs::write(components.join(format!("{name}.tar")), image(reference))?;
        definition += &format!(
            "[[component]]\nname = \"{name}\"\nkind = \"image\"\nversion = \"1\"\n\
             path = \"images/{name}.tar\"\nfile = \"{name}.tar\"\nreference = \"{reference}\"\nnodes = \"{}\"\n",
            if name == "calico-node" {
                "all"
            } else {
                "workers"
            }
        );
    }
    fs::write(dir.path().join("bundle.toml"), definition)?;
    let places = Places {
        components: Some(&components),
        cache: None,
    };
    pack(
        &Definition::read(dir.path())?,
        places,
        None,
        &dir.path().join("payload"),
        |_| Box::new(Silent),
    )?;
    Ok(dir)
}

/// A file that begins like a program for x86-64, with half of its `length` bytes as code. The rest
/// depends on `seed`, and compresses about as well as a real program.
pub fn program(seed: &str, length: usize) -> Vec<u8> {
    const HEADERS: u64 = 120;
    let code = length as u64 / 2;
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    // No entry point; one program header after this one; no sections.
    for field in [0, 64, 0] {
        bytes.extend(u64::to_le_bytes(field));
    }
    bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // Loaded, readable and executable.
    bytes.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for field in [HEADERS, 0, 0, code, code, 4096] {
        bytes.extend(u64::to_le_bytes(field));
    }
    let mut state = seed.bytes().fold(1_u32, |state, byte| {
        state.wrapping_mul(31) + u32::from(byte)
    });
    bytes.resize_with(length, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 27) as u8
    });
    bytes
}

/// A program of 2 KB, which ends where its headers say.
pub fn tiny_program() -> Vec<u8> {
    let mut bytes = program("tiny", 4000);
    bytes.truncate(120 + 2000);
    bytes
}

/// A tarball as `docker save` writes it, of an image with one layer.
pub fn image(reference: &str) -> Vec<u8> {
    let layer = tarball(&[("hello", reference.as_bytes())]);
    let config = config("amd64", &[&layer]);
    let name = format!("{}.json", Sha256::of(&config));
    let manifest =
        format!(r#"[{{"Config":"{name}","RepoTags":["{reference}"],"Layers":["a/layer.tar"]}}]"#);
    tarball(&[
        ("a/layer.tar", &layer),
        (&name, &config),
        ("manifest.json", manifest.as_bytes()),
    ])
}

/// Images in one tarball as `docker save` writes it, each with its name and its layers.
pub fn saved(images: &[(&str, &[&[u8]])]) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut manifests = Vec::new();
    for (name, layers) in images {
        let config = config("amd64", layers);
        let path = format!("{}.json", Sha256::of(&config));
        let mut paths = Vec::new();
        for layer in *layers {
            let path = format!("{}/layer.tar", Sha256::of(layer));
            if !files.iter().any(|(other, _)| *other == path) {
                files.push((path.clone(), layer.to_vec()));
            }
            paths.push(path);
        }
        manifests.push(serde_json::json!({"Config": path, "RepoTags": [name], "Layers": paths}));
        files.push((path, config));
    }
    files.push((
        "manifest.json".to_owned(),
        Value::from(manifests).to_string().into_bytes(),
    ));
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, content)| (path.as_str(), content.as_slice()))
        .collect();
    tarball(&files)
}

/// An image's configuration.
pub fn config(architecture: &str, layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("\"sha256:{}\"", Sha256::of(layer)))
        .collect();
    format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    )
    .into_bytes()
}

/// A tar archive of these files.
pub fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A separate file system that is too small.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of `size`, such as `128k`, on the directory `path`. This needs root.
    pub fn at(path: PathBuf, size: &str) -> SmallDisk {
        let options = format!("size={size}");
        let none = nix::mount::MsFlags::empty();
        nix::mount::mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            none,
            Some(options.as_str()),
        )
        .expect("mounting a tmpfs needs root");
        SmallDisk(path)
    }

    /// Gives it enough room.
    pub fn grow(&self) {
        let options = Some("size=1g");
        let again = nix::mount::MsFlags::MS_REMOUNT;
        nix::mount::mount(Some("tmpfs"), &self.0, Some("tmpfs"), again, options).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        nix::mount::umount(&self.0).unwrap();
    }
}

/// Runs `appliance detect` for a machine that is being prepared elsewhere and has nothing yet.
pub fn detected(arguments: &[&str]) -> Output {
    let root = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_appliance"))
        .arg("detect")
        .arg("--root")
        .arg(root.path())
        .args(arguments)
        .output()
        .unwrap()
}

/// The JSON document that it printed.
pub fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

/// Value and origin of a setting.
pub fn setting(document: &Value, name: &str) -> (String, String) {
    let rows = document["settings"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == name).unwrap();
    let text = |key: &str| row[key].as_str().unwrap().to_owned();
    (text("value"), text("from"))
}
