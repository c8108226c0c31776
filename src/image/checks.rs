//! Checks what an image must contain, and what it must not: a table of small checks of a root
//! directory, of this machine or of an image. They change nothing.

use std::path::Path;

use anyhow::{Context, Result};

use super::traces::{Running, TRACES, Trace, matching};
use super::{ENABLED, UNIT_TEXT};
use crate::bundle::elf::Program;
use crate::bundle::manifest::{FILE_NAME, Kind, Manifest};
use crate::bundle::payload::Payload;
use crate::check::{Checked, Verdict};
use crate::clients::docker::Docker;
use crate::components::BOOT_UNIT;
use crate::language::{message, tr, translated};
use crate::observe::images;
use crate::observe::software::{docker_source, has_systemd, missing_tools};
use crate::paths::{self, CURRENT, PROGRAM};
use crate::preflight::DockerSource;
use crate::sys::process::Runner;
use crate::sys::root::Root;
use crate::sys::stream::sha256_of_file;

/// How many paths a message names at most.
const NAMED: usize = 4;

/// The system to check.
pub struct Subject<'a> {
    /// The system.
    pub root: &'a Root,
    /// How to run programs, if the system is the running one.
    pub runner: &'a dyn Runner,
    /// The bundle that it has, or will get.
    pub manifest: Option<&'a Manifest>,
}

type Check = fn(&Subject<'_>) -> Result<Verdict>;

/// The checks before an image is made.
const BASE: &[(&str, Check)] = &[
    ("operating system", operating_system),
    ("architecture", architecture),
    ("systemd", systemd),
    ("cloud-init", cloud_init),
    ("docker", docker),
    ("programs that pods need", tools),
    ("no node of a cluster", no_member),
];

/// The checks of an image that carries the appliance.
const BAKED: &[(&str, Check)] = &[
    ("bundle", bundle),
    ("container images", images),
    ("appliance", program),
    ("first boot", first_boot),
];

/// Checks whether the system can become an image.
pub fn base(subject: &Subject<'_>) -> Vec<Checked> {
    judged(BASE, subject)
}

/// Checks whether the system is an image for many VMs.
pub fn all(subject: &Subject<'_>) -> Vec<Checked> {
    let mut checked = judged(BASE, subject);
    checked.extend(judged(BAKED, subject));
    checked.extend(TRACES.iter().map(|trace| Checked {
        check: trace.name,
        verdict: of(without(trace, subject.root)),
    }));
    checked
}

/// The manifest of the unpacked bundle below the root; `None` if there is none.
pub fn manifest(root: &Root) -> Result<Option<Manifest>> {
    let path = format!("{CURRENT}/{FILE_NAME}");
    let text = root.read(&path)?;
    text.map(|text| Manifest::parse(&text).context(path))
        .transpose()
}

fn judged(checks: &[(&'static str, Check)], subject: &Subject<'_>) -> Vec<Checked> {
    let judge = |(check, judge): &(&'static str, Check)| Checked {
        check,
        verdict: of(judge(subject)),
    };
    checks.iter().map(judge).collect()
}

/// A check that cannot be carried out counts as failed. The other checks continue.
fn of(outcome: Result<Verdict>) -> Verdict {
    outcome.unwrap_or_else(|error| {
        Verdict::failed(format!("{error:#}"), tr!("see this path with `ls -l`"))
    })
}

fn operating_system(subject: &Subject<'_>) -> Result<Verdict> {
    let mut text = None;
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        text = text.or(subject.root.read(path)?);
    }
    let Some(text) = text else {
        return Ok(Verdict::failed(
            tr!(
                "/etc/os-release is missing: this is not the root file system of a Linux distribution"
            ),
            tr!("use a distribution's cloud image"),
        ));
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches(['"', '\'']).escape_debug().to_string())
    };
    let name = value("PRETTY_NAME=").or_else(|| value("ID="));
    Ok(Verdict::passed(name.unwrap_or_else(|| "Linux".to_owned())))
}

fn architecture(subject: &Subject<'_>) -> Result<Verdict> {
    const HINT: &str =
        message!("the appliance runs on x86-64: use the distribution's image for amd64");
    let candidates = [
        "/usr/lib/systemd/systemd",
        "/lib/systemd/systemd",
        "/bin/sh",
    ];
    for candidate in candidates {
        if !subject.root.exists(candidate)? {
            continue;
        }
        return Ok(match Program::read(&subject.root.resolve(candidate)?) {
            Ok(_) => Verdict::passed("x86-64"),
            Err(error) => Verdict::failed(format!("{candidate}: {error:#}"), translated(HINT)),
        });
    }
    let found = tr!("unknown: none of {} exists", candidates.join(", "));
    Ok(Verdict::failed(found, translated(HINT)))
}

fn systemd(subject: &Subject<'_>) -> Result<Verdict> {
    Ok(if has_systemd(subject.root)? {
        Verdict::passed("installed")
    } else {
        Verdict::failed(
            tr!("systemd is missing"),
            tr!(
                "the node's services are systemd units: use a distribution with systemd 229 or newer"
            ),
        )
    })
}

fn cloud_init(subject: &Subject<'_>) -> Result<Verdict> {
    const DISABLED: &str = "/etc/cloud/cloud-init.disabled";
    if !subject.root.exists("/usr/bin/cloud-init")? {
        return Ok(Verdict::failed(
            tr!("/usr/bin/cloud-init is missing"),
            tr!(
                "without cloud-init a VM gets neither its name nor SSH keys: use the distribution's \
             cloud image, or install the package cloud-init in the base"
            ),
        ));
    }
    Ok(if subject.root.exists(DISABLED)? {
        Verdict::failed(
            tr!("{DISABLED} disables cloud-init", DISABLED),
            tr!("remove this file from the base: `rm {DISABLED}`", DISABLED),
        )
    } else {
        Verdict::passed("installed")
    })
}

fn docker(subject: &Subject<'_>) -> Result<Verdict> {
    const HINT: &str = message!(
        "install docker.io or docker-ce in the base, or build the appliance with \
                        docker's static binaries"
    );
    let Some(manifest) = subject.manifest else {
        return Ok(Verdict::skipped(tr!(
            "no bundle is known that could include docker"
        )));
    };
    Ok(match docker_source(subject.root, Some(manifest))? {
        DockerSource::Machine => Verdict::passed(tr!("from the system")),
        DockerSource::Payload => Verdict::passed(tr!("from the bundle")),
        DockerSource::Nowhere => Verdict::failed(
            tr!("neither in the system nor in the bundle"),
            translated(HINT),
        ),
    })
}

fn tools(subject: &Subject<'_>) -> Result<Verdict> {
    let missing = missing_tools(subject.root)?;
    if missing.is_empty() {
        return Ok(Verdict::passed(tr!("all installed")));
    }
    let names: Vec<&str> = missing.iter().map(|tool| tool.name).collect();
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    Ok(Verdict::failed(
        tr!("missing: {}", names.join(", ")),
        tr!(
            "on Debian and Ubuntu, add their packages to the base: `apt-get install {}`",
            packages.join(" ")
        ),
    ))
}

/// Paths that only a node of a cluster has, whether the appliance installed it or not.
const MEMBERS: &[&str] = &[
    "/etc/kubernetes/ca/*",
    "/etc/kubernetes/pki/*",
    "/etc/kubernetes/*.kubeconfig",
    "/etc/kubernetes/*.conf",
    "/var/lib/etcd*/member*",
    "/var/lib/etcd/*/member",
    "/var/lib/kubelet/*",
    "/var/lib/appliance/*",
    // The last copy before a reset.
    "/var/backups/appliance-*.tar",
];

fn no_member(subject: &Subject<'_>) -> Result<Verdict> {
    let mut found = Vec::new();
    for pattern in MEMBERS {
        found.extend(matching(subject.root, pattern)?);
    }
    if found.is_empty() {
        return Ok(Verdict::passed(tr!(
            "no certificates and no data of a cluster"
        )));
    }
    Ok(Verdict::failed(
        tr!(
            "this machine is a node of a cluster already: {}",
            some(&found)
        ),
        tr!(
            "its keys and data would be in every VM: use a machine that never was a node, or run \
         `appliance reset --data --keys` and move its last copy away"
        ),
    ))
}

/// Some of the paths, and how many more there are.
fn some(paths: &[String]) -> String {
    let named = paths[..paths.len().min(NAMED)].join(", ");
    match paths.len().saturating_sub(NAMED) {
        0 => named,
        more => tr!("{named} and {more} more", named, more),
    }
}

const PREPARE: &str = message!("run `appliance image prepare`");

fn bundle(subject: &Subject<'_>) -> Result<Verdict> {
    let Some(manifest) = subject.manifest else {
        return Ok(Verdict::failed(
            tr!("{CURRENT}/{FILE_NAME} is missing", CURRENT, FILE_NAME),
            translated(PREPARE),
        ));
    };
    let damaged = damaged(subject.root, manifest, |kind| kind != Kind::Image)?;
    let count = manifest.components.len() - manifest.images().count();
    Ok(if damaged.is_empty() {
        Verdict::passed(tr!(
            "{}: {count} programs unpacked",
            manifest.bundle.name,
            count
        ))
    } else {
        Verdict::failed(
            tr!("missing or damaged: {}", some(&damaged)),
            translated(PREPARE),
        )
    })
}

fn images(subject: &Subject<'_>) -> Result<Verdict> {
    let Some(manifest) = subject.manifest else {
        return Ok(Verdict::failed(
            tr!("no bundle is unpacked"),
            translated(PREPARE),
        ));
    };
    let damaged = damaged(subject.root, manifest, |kind| kind == Kind::Image)?;
    if !damaged.is_empty() {
        let found = tr!("missing or damaged: {}", some(&damaged));
        return Ok(Verdict::failed(found, translated(PREPARE)));
    }
    let count = manifest.images().count();
    let docker = Docker::of(docker_source(subject.root, Some(manifest))?);
    if !subject.root.is_live() || !docker.is_running(subject.runner) {
        let found = tr!("{count} unpacked; the first boot loads them", count);
        return Ok(Verdict::passed(found));
    }
    let (root, runner) = (subject.root, subject.runner);
    let references = manifest.named_images().map(|(name, _)| name.to_owned());
    let present = images::ids(root, runner, &docker, references)?;
    let missing: Vec<String> = manifest
        .named_images()
        .filter(|(name, image)| present.get(*name) != image.image_id.as_ref())
        .map(|(name, _)| name.to_owned())
        .collect();
    Ok(if missing.is_empty() {
        Verdict::passed(tr!("{count} loaded into docker", count))
    } else {
        Verdict::failed(
            tr!("missing in docker: {}", some(&missing)),
            translated(PREPARE),
        )
    })
}

/// The bundle's files of this kind that are missing or damaged.
fn damaged(root: &Root, manifest: &Manifest, kind: fn(Kind) -> bool) -> Result<Vec<String>> {
    let mut damaged = Vec::new();
    for component in manifest.components.iter().filter(|c| kind(c.kind)) {
        let path = root.resolve(&format!("{CURRENT}/{}", component.path))?;
        let is_whole = path.is_file() && sha256_of_file(&path)? == component.sha256;
        if !is_whole {
            damaged.push(component.path.clone());
        }
    }
    Ok(damaged)
}

fn program(subject: &Subject<'_>) -> Result<Verdict> {
    if subject
        .root
        .mode(PROGRAM)?
        .is_none_or(|mode| mode & 0o111 == 0)
    {
        let found = tr!("{PROGRAM} is missing or not executable", PROGRAM);
        return Ok(Verdict::failed(found, translated(PREPARE)));
    }
    let open = |path: &Path| -> Result<Payload> {
        let payload = Payload::open(path)?;
        payload.check_whole()?;
        Ok(payload)
    };
    let payload = match open(&subject.root.resolve(PROGRAM)?) {
        Ok(payload) => payload,
        Err(error) => {
            return Ok(Verdict::failed(
                format!("{PROGRAM}: {error:#}"),
                translated(PREPARE),
            ));
        }
    };
    let in_use = subject.root.link(CURRENT)?;
    let same = in_use.is_some_and(|in_use| in_use.as_os_str() == payload.digest().as_str());
    Ok(if same {
        Verdict::passed(tr!("carries bundle {}", payload.manifest().bundle.name))
    } else {
        Verdict::failed(
            tr!("it carries another bundle than the unpacked one"),
            translated(PREPARE),
        )
    })
}

fn first_boot(subject: &Subject<'_>) -> Result<Verdict> {
    let path = paths::unit(BOOT_UNIT);
    let text = subject.root.read(&path)?;
    Ok(match text {
        None => Verdict::failed(tr!("{path} is missing", path), translated(PREPARE)),
        Some(text) if text != UNIT_TEXT.as_bytes() => Verdict::failed(
            tr!("{path} is of another version", path),
            translated(PREPARE),
        ),
        Some(_) if subject.root.link(ENABLED)?.is_none() => Verdict::failed(
            tr!("{BOOT_UNIT} is not enabled", BOOT_UNIT),
            translated(PREPARE),
        ),
        Some(_) => Verdict::passed(tr!("{BOOT_UNIT} is enabled", BOOT_UNIT)),
    })
}

fn without(trace: &Trace, root: &Root) -> Result<Verdict> {
    if root.is_live() && trace.running != Running::Leaves {
        return Ok(Verdict::skipped(tr!(
            "the running system still uses them; check the finished image instead"
        )));
    }
    let found: Vec<String> = trace
        .find(root)?
        .into_iter()
        .map(|found| found.path)
        .collect();
    Ok(if found.is_empty() {
        Verdict::passed("none")
    } else {
        Verdict::failed(
            some(&found),
            format!("{}; {}", trace.why, translated(PREPARE)),
        )
    })
}
