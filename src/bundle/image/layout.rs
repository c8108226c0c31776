//! Images in an OCI layout ("image-layout.md" of the OCI image specification), as skopeo, podman, buildah,
//! crane and newer dockers write it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use oci_client::manifest::{ImageIndexEntry, OciImageIndex, OciImageManifest, OciManifest};

use super::layered::ArchiveManifest;
use super::registry::{blob_of, for_this_platform, parse_manifest};
use crate::digest::Sha256;

/// The table of contents of a layout.
pub(super) const INDEX: &str = "index.json";
/// What tells the name of an image: the whole name (containerd, docker), or what the program was told
/// (podman, skopeo), which may be a tag only.
const NAMES: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// The images for this platform, in the form of `docker save`. `document` reads a file of the layout.
pub(super) fn images(
    index: &[u8],
    document: &dyn Fn(&str) -> Result<Vec<u8>>,
) -> Result<Vec<ArchiveManifest>> {
    let index: OciImageIndex = serde_json::from_slice(index).context(INDEX)?;
    let mut names: BTreeMap<Sha256, Vec<String>> = BTreeMap::new();
    for entry in index.manifests.iter().filter(|entry| is_for_us(entry)) {
        let digest = Sha256::from_prefixed(&entry.digest)?;
        names.entry(digest).or_default().extend(name(entry));
    }
    ensure!(
        !names.is_empty(),
        "its {INDEX} names no image for linux/amd64; save that one, with `skopeo copy --override-os \
         linux --override-arch amd64 SOURCE docker-archive:FILE:NAME:TAG`"
    );
    let mut images = Vec::new();
    for (digest, names) in names {
        let manifest = manifest(&digest, document)?;
        let (config, _) = blob_of(&manifest.config)?;
        let layers = manifest.layers.iter().map(blob_of);
        let layers: Vec<(Sha256, u64)> = layers.collect::<Result<_>>()?;
        images.push(ArchiveManifest {
            config: blob(&config),
            repo_tags: Some(names),
            layers: layers.iter().map(|(digest, _)| blob(digest)).collect(),
        });
    }
    Ok(images)
}

/// The manifest of that digest, or the one for this platform in the list of that digest.
fn manifest(
    digest: &Sha256,
    document: &dyn Fn(&str) -> Result<Vec<u8>>,
) -> Result<OciImageManifest> {
    let read = |digest: &Sha256| -> Result<OciManifest> {
        let text = document(&blob(digest))?;
        let found = Sha256::of(&text);
        ensure!(
            found == *digest,
            "its {} has the sha256 {found}, so it is damaged; save the image again",
            blob(digest)
        );
        parse_manifest(&text)
    };
    let mut manifest = read(digest)?;
    if let Some(digest) = for_this_platform(&manifest)? {
        manifest = read(&digest)?;
    }
    match manifest {
        OciManifest::Image(manifest) => Ok(manifest),
        OciManifest::ImageIndex(_) => {
            bail!("its list of manifests contains another list, which is not supported")
        }
    }
}

fn is_for_us(entry: &ImageIndexEntry) -> bool {
    let platform = entry.platform.as_ref();
    platform.is_none_or(|platform| {
        platform.os.to_string() == "linux" && platform.architecture.to_string() == "amd64"
    })
}

fn name(entry: &ImageIndexEntry) -> Option<String> {
    let annotations = entry.annotations.as_ref()?;
    NAMES.iter().find_map(|key| annotations.get(*key)).cloned()
}

fn blob(digest: &Sha256) -> String {
    format!("blobs/sha256/{digest}")
}
