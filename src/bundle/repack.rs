//! A new appliance from an existing program and a payload, without a compiler.

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::elf::Program;
use super::payload::Payload;

/// Writes the program in the file `program`, without the payload it may have, and `payload`
/// behind it, to `output`, in one step.
pub fn repack(program: &Path, payload: &Path, output: &Path) -> Result<()> {
    let place = || program.display().to_string();
    let end = Program::read(program).with_context(place)?.end;
    let mut input = File::open(program).with_context(place)?.take(end);
    let parent = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".appliance-")
        .tempfile_in(parent.unwrap_or(Path::new(".")))
        .with_context(|| output.display().to_string())?;
    let mut write = |file: &mut File| -> Result<()> {
        io::copy(&mut input, file)?;
        io::copy(&mut File::open(payload)?, file)?;
        file.set_permissions(Permissions::from_mode(0o755))?;
        Ok(file.sync_all()?)
    };
    write(file.as_file_mut()).with_context(|| output.display().to_string())?;
    // Nothing gets the name that would not start.
    Payload::open(file.path())?;
    file.persist(output)
        .with_context(|| output.display().to_string())?;
    Ok(File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?)
}
