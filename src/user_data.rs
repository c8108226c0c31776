//! Makes user-data for cloud-init, with which a server becomes a node: the settings, and a script
//! that gets the appliance if the image does not include it. Pure.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use url::Url;

use crate::components::BOOT_UNIT;
use crate::language::tr;
use crate::nodespec::settings::Settings;
use crate::nodespec::user_data;
use crate::nodespec::written::Written;
use crate::paths;
use crate::render::render;

/// The size limit of user-data in Nova, in bytes. Nova accepts 65,535 bytes of base64
/// (`nova/api/openstack/compute/schemas/servers.py`), which encode this many bytes.
pub const SIZE_LIMIT: usize = 49_149;
/// The longest label of a CD (ISO 9660), in bytes. The limits of other file systems are smaller.
const MAX_LABEL: usize = 32;

/// The label of a volume or CD. Its characters are valid in every file system and need no quoting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label(String);

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Label, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let fits = (1..=MAX_LABEL).contains(&text.len()) && text.chars().all(is_plain);
        if !fits || text.starts_with('-') {
            return Err(tr!(
                "expected a label such as APPLIANCE: at most {MAX_LABEL} letters, digits, `-`, `_` \
                 and `.`, not beginning with `-`",
                MAX_LABEL
            ));
        }
        Ok(Label(text.to_owned()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URL from which a server downloads the appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download(Url);

impl Download {
    /// The URL without its query, which may be shown: the query of a Swift TempURL is a secret.
    fn place(&self) -> String {
        let mut shown = self.0.clone();
        shown.set_query(None);
        shown.into()
    }

    /// Whether the URL gives access to everyone who has it.
    fn is_secret(&self) -> bool {
        self.0.query().is_some()
    }
}

impl FromStr for Download {
    type Err = String;

    fn from_str(text: &str) -> Result<Download, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(tr!("expected a URL that begins with https:// or http://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(tr!(
                "a name and password in the URL are not supported; use a URL that needs no login, \
                 such as a Swift TempURL"
            ));
        }
        if url.fragment().is_some() {
            return Err(tr!("a URL for downloads has no part after `#`; remove it"));
        }
        Ok(Download(url))
    }
}

/// How a server gets the appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the image.
    Baked,
    /// The server downloads it, and verifies it against the digest.
    Download {
        /// The URL.
        from: Download,
        /// The SHA-256 digest, in hexadecimal.
        sha256: String,
    },
    /// It is on a volume or CD that is attached to the server.
    Volume {
        /// The volume's label.
        label: Label,
        /// The SHA-256 digest, in hexadecimal, if the server should verify it.
        sha256: Option<String>,
    },
}

/// When a server gets the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Once, at the end of its first boot.
    CloudConfig,
    /// Early in every boot, until it has the appliance: a MIME message with a boothook.
    Boothook,
}

/// The user-data of servers with these settings.
///
/// # Errors
/// If it is larger than Nova accepts.
pub fn compose(settings: &Written, delivery: &Delivery, form: Form) -> Result<String> {
    let script = script(delivery)?;
    let boothook = script.as_ref().filter(|_| form == Form::Boothook);
    let config = render(
        "cloud-init/user-data.cfg.tera",
        &json!({
            "settings": yaml(settings.expose())?,
            "config": paths::CONFIG,
            "deliver": paths::DELIVER,
            "script": if boothook.is_some() { None } else { script.as_ref() },
        }),
    )?;
    let text = match boothook {
        None => config,
        Some(script) => render(
            "cloud-init/user-data.mime.tera",
            &json!({ "script": script, "config": config }),
        )?,
    };
    let read = user_data::settings(text.as_bytes())
        .context(tr!("the generated user-data cannot be read back"))?;
    ensure!(
        read == Some(settings.settings()?),
        tr!(
            "the generated user-data differs from the settings; this is a bug in this program, please \
         report it with the settings"
        )
    );
    ensure!(
        text.len() <= SIZE_LIMIT,
        tr!(
            "the user-data has {} bytes, but Nova accepts at most {SIZE_LIMIT} (65,535 as base64); \
         move manifests out of it: pack workloads into the bundle, or refer to files with `file:`",
            text.len(),
            SIZE_LIMIT
        )
    );
    Ok(text)
}

/// The value as a YAML document.
fn yaml(value: &Value) -> Result<String> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    Ok(serde_saphyr::to_string_with_options(value, options)?)
}

/// The script that gets the appliance and starts it; none if the image includes it.
fn script(delivery: &Delivery) -> Result<Option<String>> {
    let (url, place, label, sha256) = match delivery {
        Delivery::Baked => return Ok(None),
        Delivery::Download { from, sha256 } => (
            Some(from.0.as_str()),
            Some(from.place()),
            None,
            Some(sha256),
        ),
        Delivery::Volume { label, sha256 } => (None, None, Some(&label.0), sha256.as_ref()),
    };
    let values = json!({
        "program": paths::PROGRAM,
        "unit": paths::unit(BOOT_UNIT),
        "url": url,
        "place": place,
        "label": label,
        "sha256": sha256.map_or("", String::as_str),
    });
    render("cloud-init/deliver.sh.tera", &values).map(Some)
}

/// The secrets in this user-data, each as part of a sentence. Everyone who may see the server in
/// OpenStack can read user-data, and so can every process on the server.
pub fn secrets(settings: &Settings, delivery: &Delivery) -> Vec<String> {
    let mut found = Vec::new();
    if settings
        .join
        .as_ref()
        .is_some_and(|join| join.token.is_some())
    {
        found.push(tr!(
            "the join token (`join.token`); limit it with `ttl` and `uses`"
        ));
    }
    for workload in settings.workloads.iter().flatten() {
        if workload.manifest.as_deref().is_some_and(holds_secret) {
            let name = workload.name.escape_debug();
            found.push(tr!(
                "an object of kind Secret in the manifest of workload {name}; put the manifest \
                 into a file on the master, and name it with `file:`",
                name
            ));
        }
    }
    if let Delivery::Download { from, .. } = delivery
        && from.is_secret()
    {
        found.push(
            tr!("the URL of the appliance, whose query gives access to it; let it expire soon")
                .to_owned(),
        );
    }
    found
}

/// Whether one of the manifest's objects is a Secret. Invalid YAML counts as no: the installation
/// refuses it.
fn holds_secret(manifest: &str) -> bool {
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifest).unwrap_or_default();
    let is_secret = |object: &Value| object["kind"] == "Secret";
    objects.iter().any(|object| {
        let items = object["items"].as_array();
        is_secret(object) || items.into_iter().flatten().any(is_secret)
    })
}

/// Settings that the nodes will need but that are missing here, each with the next step. This is no
/// error: server properties or the image may have them.
pub fn advice(settings: &Settings) -> Vec<String> {
    let mut advice = Vec::new();
    let is_cluster = settings.inventory.is_some() || settings.master.is_some();
    let has_workers = match settings.role.as_deref() {
        Some("worker") => true,
        Some(_) => false,
        None => is_cluster || settings.masters.is_some(),
    };
    if has_workers && !is_cluster && settings.masters.is_none() {
        advice.push(
            tr!(
                "no master is named, so workers cannot find it; set `master`, `masters` or \
             `inventory`, unless server properties or the image do"
            )
            .to_owned(),
        );
    }
    let has_token = settings
        .join
        .as_ref()
        .is_some_and(|join| join.token.is_some());
    if has_workers && !has_token && settings.profile.as_deref() != Some("simple") {
        advice.push(
            tr!("there is no join token, so no worker can join; make one with `appliance token create \
             --offline`, and set it as `join: {token: TOKEN}`")
                .to_owned(),
        );
    }
    advice
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(yaml: &str) -> Written {
        Written::of(&[&Settings::from_yaml("test", yaml).unwrap()]).unwrap()
    }

    fn download(url: &str) -> Delivery {
        Delivery::Download {
            from: url.parse().unwrap(),
            sha256: "0".repeat(64),
        }
    }

    #[test]
    fn labels_that_a_shell_or_mount_could_misread_are_refused() {
        for good in ["APPLIANCE", "config-2", "a.b_c", &"L".repeat(32)] {
            assert!(good.parse::<Label>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "-o",
            "a b",
            "a/b",
            "$(id)",
            "a\nb",
            "é",
            "'",
            &"L".repeat(33),
        ] {
            assert!(bad.parse::<Label>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_addresses_that_a_server_can_fetch_are_taken() {
        for good in [
            "https://a.example/appliance",
            "http://192.0.2.1:8080/a?temp_url_sig=1&x=2",
        ] {
            assert!(good.parse::<Download>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "ftp://a/b",
            "file:///etc/passwd",
            "https://u:p@a/b",
            "https://a/b#c",
        ] {
            assert!(bad.parse::<Download>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_is_a_word_of_the_script_and_its_query_only_there() {
        let text = script(&download("https://a.example/x';id?temp_url_sig=5ec2e7"))
            .unwrap()
            .unwrap();
        assert!(
            text.contains(r"url='https://a.example/x'\'';id?temp_url_sig=5ec2e7' python3"),
            "{text}"
        );
        assert_eq!(text.matches("5ec2e7").count(), 1, "{text}");
    }

    #[test]
    fn more_than_nova_takes_is_refused_with_the_limit() {
        let manifest = "x".repeat(SIZE_LIMIT);
        let large = written(&format!("workloads:\n- name: w\n  manifest: {manifest}\n"));
        let error = compose(&large, &Delivery::Baked, Form::CloudConfig).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("49149") && text.contains("Nova"), "{text}");
    }

    #[test]
    fn secrets_are_named_and_not_shown() {
        let settings = Settings::from_yaml(
            "test",
            "join: {token: hidden}\nworkloads:\n- name: a\n  manifest: |\n    kind: List\n    items: [{kind: Secret}]\n\
             - name: b\n  manifest: 'kind: ConfigMap'\n",
        )
        .unwrap();
        let found = secrets(&settings, &download("https://a/b?temp_url_sig=hidden")).join("\n");
        for part in ["join.token", "workload a", "the URL"] {
            assert!(found.contains(part), "{part}: {found}");
        }
        assert!(
            !found.contains("hidden") && !found.contains("workload b"),
            "{found}"
        );
        assert!(secrets(&Settings::default(), &Delivery::Baked).is_empty());
    }
}
