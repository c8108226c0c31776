//! Reproducible archives: without times and owners.

use std::io::{Read, Write};

use anyhow::Result;
use tar::{Builder, EntryType, Header};

/// Appends a file of `size` bytes.
pub fn append_file<W: Write>(
    archive: &mut Builder<W>,
    path: &str,
    size: u64,
    content: impl Read,
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    archive.append_data(&mut header, path, content)?;
    Ok(())
}
