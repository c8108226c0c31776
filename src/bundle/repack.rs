//! A new appliance from an existing program and a payload, without a compiler.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::elf::Program;
use super::payload::Payload;
use super::seal;
use crate::sys::atomic;
use crate::sys::stream::Hashing;

/// Writes the program in the file `program`, without a payload that it may have, followed by the payload
/// in the file `payload`, to `output`. A program or a payload that is not as it was packed is an error.
pub fn repack(program: &Path, payload: &Path, output: &Path) -> Result<()> {
    // Only a program is ever replaced, never a file given by mistake.
    ensure!(
        !output.exists() || Program::read(output).is_ok(),
        "{} exists and is not a program; choose another output file",
        output.display()
    );
    let place = || program.display().to_string();
    let end = Program::read(program).with_context(place)?.end;
    if let Some(appliance) = Payload::of_program(program)? {
        appliance.check_whole()?;
    }
    let payload = Payload::open(payload)?;
    payload.check_whole()?;
    atomic::replace(output, 0o755, |file| {
        let mut input = Hashing::new(File::open(program).with_context(place)?.take(end));
        io::copy(&mut input, file)?;
        let (size, sha256) = input.finish();
        payload.copy_to(file)?;
        file.write_all(&[b' '; seal::LENGTH as usize])?;
        payload
            .seal()
            .clone()
            .behind(size, sha256)
            .write(file.as_file_mut())?;
        // Check that the result can be read before it gets its name.
        Payload::open(file.path()).map(drop)
    })
}
