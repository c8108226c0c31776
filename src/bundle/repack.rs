//! A new appliance from an existing program and a payload, without a compiler.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::elf::Program;
use super::payload::Payload;
use crate::sys::atomic;

/// Writes the program in the file `program`, without a payload that it may have, followed by
/// `payload`, to `output`.
pub fn repack(program: &Path, payload: &Path, output: &Path) -> Result<()> {
    // Only a program is ever replaced, never a file given by mistake.
    ensure!(
        !output.exists() || Program::read(output).is_ok(),
        "{} exists and is not a program; choose another output file",
        output.display()
    );
    let place = || program.display().to_string();
    let end = Program::read(program).with_context(place)?.end;
    let mut input = File::open(program).with_context(place)?.take(end);
    atomic::replace(output, 0o755, |file| {
        io::copy(&mut input, file)?;
        let mut payload = File::open(payload).with_context(|| payload.display().to_string())?;
        io::copy(&mut payload, file)?;
        // Check that the result can be read before it gets its name.
        Payload::open(file.path()).map(drop)
    })
}
