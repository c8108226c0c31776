//! The seal: the last bytes of a payload. It has the digests of every byte before it: of the program, of
//! the manifest, and of the payload as a whole. It is text of a fixed length, and the comment of the ZIP
//! file.
//!
//! A seal finds what was damaged or changed by mistake. It does not stop an attacker who changes the seal
//! too, or the program that reads it: a checksum from elsewhere or a signature does.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result};

use crate::digest::Sha256;
use crate::sys::stream::sha256_of;

/// Its first line. Another layout gets another number.
const TITLE: &str = "appliance seal 1";
/// The digits of the program's size.
const DIGITS: usize = 20;
/// The digits of a digest.
const HEX: usize = 64;
/// Its size in bytes.
pub const LENGTH: u64 =
    (TITLE.len() + "program  manifest payload ".len() + DIGITS + 3 * HEX + "\n\n\n\n".len()) as u64;

/// What a payload records about every byte before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The program before the payload: its bytes, 0 if there is none.
    pub program_size: u64,
    /// SHA-256 of the program.
    pub program: Sha256,
    /// SHA-256 of the manifest.
    pub manifest: Sha256,
    /// SHA-256 of the payload: from the end of the program to the seal.
    pub payload: Sha256,
}

impl Seal {
    /// The seal of a payload without a program.
    pub fn new(manifest: Sha256, payload: Sha256) -> Seal {
        Seal {
            program_size: 0,
            program: Sha256::of(b""),
            manifest,
            payload,
        }
    }

    /// The seal of the same payload behind that program.
    #[must_use]
    pub fn behind(self, program_size: u64, program: Sha256) -> Seal {
        Seal {
            program_size,
            program,
            ..self
        }
    }

    /// The seal at the end of `file`, which has `size` bytes; `None` if it ends with anything else.
    pub fn read(file: &mut File, size: u64) -> Result<Option<Seal>> {
        let Some(start) = size.checked_sub(LENGTH) else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(LENGTH).read_to_end(&mut bytes)?;
        Ok(Seal::parse(&bytes))
    }

    /// Only exactly what [`Seal::text`] writes is a seal.
    fn parse(bytes: &[u8]) -> Option<Seal> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.strip_prefix(TITLE)?.lines().skip(1);
        let mut line = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let (program_size, program) = line("program")?.split_once(' ')?;
        let seal = Seal {
            program_size: program_size.parse().ok()?,
            program: program.parse().ok()?,
            manifest: line("manifest")?.parse().ok()?,
            payload: line("payload")?.parse().ok()?,
        };
        (seal.text().as_bytes() == bytes).then_some(seal)
    }

    fn text(&self) -> String {
        let Seal {
            program_size,
            program,
            manifest,
            payload,
        } = self;
        format!(
            "{TITLE}\nprogram {program_size:0DIGITS$} {program}\nmanifest {manifest}\npayload {payload}\n"
        )
    }

    /// Writes it over the last bytes of `file`, which are reserved for it.
    pub fn write(&self, file: &mut File) -> Result<()> {
        file.seek(SeekFrom::End(-(LENGTH as i64)))?;
        file.write_all(self.text().as_bytes())?;
        Ok(())
    }
}

/// SHA-256 of the bytes of `file` from `start` up to `end`.
pub fn digest_of(file: &mut File, start: u64, end: u64) -> Result<Sha256> {
    file.seek(SeekFrom::Start(start))?;
    let length = end.checked_sub(start).context("it ends before it begins")?;
    Ok(sha256_of(file.take(length))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seal() -> Seal {
        Seal::new(Sha256::of(b"m"), Sha256::of(b"p")).behind(4096, Sha256::of(b"program"))
    }

    #[test]
    fn it_has_a_fixed_length_and_is_read_as_it_was_written() {
        for seal in [seal(), seal().behind(u64::MAX, Sha256::of(b""))] {
            let text = seal.text();
            assert_eq!(text.len() as u64, LENGTH);
            assert_eq!(Seal::parse(text.as_bytes()), Some(seal));
        }
    }

    #[test]
    fn a_flipped_bit_makes_another_seal_or_none() {
        let (seal, text) = (seal(), seal().text().into_bytes());
        for bit in 0..text.len() * 8 {
            let mut changed = text.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Seal::parse(&changed), Some(seal.clone()), "bit {bit}");
        }
    }
}
