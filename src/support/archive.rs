//! The archive of what was collected.

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

use super::Collected;

/// The bytes of the archive (tar, gzip). Everything in it is in the directory `name`, with the time `seconds` since 1970.
///
/// # Errors
/// If a name is too long for the format.
pub fn archive(collected: &Collected, name: &str, seconds: u64) -> Result<Vec<u8>> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for entry in &collected.entries {
        let mut header = Header::new_gnu();
        header.set_mode(0o600);
        header.set_mtime(seconds);
        header.set_size(entry.text.len() as u64);
        let path = format!("{name}/{}", entry.name);
        builder
            .append_data(&mut header, &path, entry.text.as_bytes())
            .with_context(|| path.clone())?;
    }
    let encoder = builder.into_inner().context("the archive")?;
    encoder.finish().context("the archive")
}
