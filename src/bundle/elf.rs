//! Finds the machine code and the end of an ELF program.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::LittleEndian;
use object::elf::{EM_X86_64, FileHeader64, PF_X, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

/// The part of a file that is searched for program headers, in bytes.
const START: u64 = 64 * 1024;

type Header = FileHeader64<LittleEndian>;

/// The number of x86-64 in [`machine`].
pub const X86_64: u16 = EM_X86_64.0;

/// The number of the type of machine that the program at `path` is for; `None` if it is no ELF program.
pub fn machine(path: &Path) -> Result<Option<u16>> {
    const LENGTH: u64 = 20;
    let mut start = Vec::new();
    File::open(path)?.take(LENGTH).read_to_end(&mut start)?;
    Ok(match start[..] {
        // The order of bytes is the sixth byte: 1 is little endian.
        [0x7f, b'E', b'L', b'F', _, 1, .., low, high] if start.len() == 20 => {
            Some(u16::from_le_bytes([low, high]))
        }
        _ => None,
    })
}

/// The facts in the headers of an ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The bytes that are loaded as machine code; empty if there are none.
    pub code: Range<u64>,
    /// The end of the file that the headers describe. Appended data begins here.
    pub end: u64,
}

impl Program {
    /// Reads the headers of the file at `path`. Anything but a program for x86-64 is an error.
    pub fn read(path: &Path) -> Result<Program> {
        let mut start = Vec::new();
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let size = file.metadata()?.len();
        file.take(START).read_to_end(&mut start)?;
        parse(&start, size).context("it is not a program for x86-64 Linux (ELF)")
    }
}

fn parse(start: &[u8], size: u64) -> Result<Program> {
    let header = Header::parse(start)?;
    let endian = header.endian()?;
    ensure!(
        header.e_machine(endian) == EM_X86_64,
        "it is for another type of machine"
    );
    let segments = header.program_headers(endian, start)?;
    let code = segments
        .iter()
        .find(|segment| {
            segment.p_type(endian) == PT_LOAD && segment.p_flags(endian).0 & PF_X.0 != 0
        })
        .map_or(0..0, |segment| {
            let at = segment.p_offset(endian);
            at..at.saturating_add(segment.p_filesz(endian))
        });
    ensure!(code.end <= size, "it is cut off within its code");
    let sections = u64::from(header.e_shnum(endian)) * u64::from(header.e_shentsize(endian));
    let loaded = segments.iter().map(|segment| {
        segment
            .p_offset(endian)
            .saturating_add(segment.p_filesz(endian))
    });
    let end = loaded
        .chain([header.e_shoff(endian).saturating_add(sections)])
        .max()
        .unwrap_or(0);
    Ok(Program { code, end })
}
