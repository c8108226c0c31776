//! A new appliance from an existing program and a payload, without a compiler: as a file, and as the program
//! of a machine.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::elf::Program;
use super::payload::{Payload, this_program};
use super::seal;
use crate::sys::atomic;
use crate::sys::stream::{Hashing, sha256_of_file};

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

/// Writes an appliance with `payload` to `target`, where the units of a machine find it: the file of the payload,
/// if that is an appliance, else this program with the payload. The units need both. For example, the daily renewal
/// of certificates compares the machine with the payload.
pub fn install(payload: &Payload, target: &Path) -> Result<()> {
    if let Some(parent) = target.parent() {
        atomic::create_directories(parent)?;
    }
    if payload.start() > 0 {
        return atomic::copy(payload.file(), target, 0o755);
    }
    repack(&this_program()?, payload.file(), target)
}

/// Whether the file `target` is what [`install`] would write, in every byte. No byte is read if it is the file of
/// the payload itself.
pub fn is_installed(payload: &Payload, target: &Path) -> Result<bool> {
    if !target.exists() {
        return Ok(false);
    }
    if payload.start() > 0 {
        let file = payload.file();
        return Ok(file.canonicalize()? == target.canonicalize()?
            || sha256_of_file(file)? == sha256_of_file(target)?);
    }
    // What is there may be damaged, or of another version: then it is replaced.
    let Ok(Some(installed)) = Payload::of_program(target) else {
        return Ok(false);
    };
    let program = this_program()?;
    let end = Program::read(&program)?.end;
    let code = seal::digest_of(&mut File::open(&program)?, 0, end)?;
    let expected = payload.seal().clone().behind(end, code);
    Ok(*installed.seal() == expected && installed.check_whole().is_ok())
}
