//! Compresses parts of files into streams. Similar data is in one stream: the machine code of all
//! programs, where the x86 filter helps; their other data, where the filter would harm; and images.
//! The streams are written and read in parallel.
//!
//! Programs built from the same packages have most of their code and data in common. With this
//! split, common data is less than a dictionary apart, and each stream has that of all programs. One
//! solid stream needs twice the dictionary for the same size, and one processor must read it alone.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use xz2::stream::{Check, Filters, LzmaOptions};
use xz2::write::XzEncoder;

use super::collect::Collected;
use crate::bundle::elf::Program;
use crate::bundle::manifest::{Kind, Pack, Part};
use crate::sys::parallel;
use crate::sys::progress::Progress;
use crate::sys::stream::{Counting, Hashing};

/// How far back a repeat may lie, in bytes; unpacking takes this much memory. 48 MiB costs 2 %,
/// 96 MiB saves 3 %, but then two streams could not be unpacked at once.
const DICTIONARY: u64 = 64 * 1024 * 1024;
const MIN_DICTIONARY: u64 = 1024 * 1024;
/// The maximum size of one stream, in bytes. More data is split into several streams, for several
/// processors. Streams of half this size cost 10 %, because each begins without a dictionary.
const MAX_STREAM: u64 = 256 * 1024 * 1024;
/// The memory for decompression in addition to the dictionary, in bytes.
const OVERHEAD: u64 = 1024 * 1024;

/// How hard to look for repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// For a payload that is carried and stored.
    Usual,
    /// For a payload that is made and used once.
    Little,
}

impl Effort {
    /// liblzma's preset. 9e saves 1 % more than 6, in twice the time; 1 costs a tenth more, in a
    /// quarter of the time.
    fn preset(self) -> u32 {
        match self {
            Effort::Usual => 6,
            Effort::Little => 1,
        }
    }
}

/// The content of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Data,
    Code,
    Images,
}

impl Class {
    const ALL: [Class; 3] = [Class::Data, Class::Code, Class::Images];

    fn name(self) -> &'static str {
        match self {
            Class::Code => "code",
            Class::Data => "data",
            Class::Images => "images",
        }
    }
}

/// A section of a file.
struct Stretch<'a> {
    file: &'a Collected<'a>,
    range: Range<u64>,
    /// The paths of other files with the same content.
    copies: Vec<String>,
}

impl Stretch<'_> {
    fn size(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// One stream and its input.
struct Stream<'a> {
    name: String,
    class: Class,
    stretches: Vec<Stretch<'a>>,
}

/// Compresses the files into streams in the directory `dir`.
pub fn compress(
    files: &[Collected<'_>],
    dir: &Path,
    effort: Effort,
    progress: &dyn Progress,
) -> Result<Vec<Pack>> {
    let mut streams = Vec::new();
    for class in Class::ALL {
        streams.extend(split(class, stretches(files, class)?));
    }
    let write = |stream: &Stream<'_>| stream.write(dir, effort, progress);
    parallel::map(&streams, parallel::processors(), write)
        .into_iter()
        .collect()
}

/// The sections of the files that belong to that class, in the order of their paths.
fn stretches<'a>(files: &'a [Collected<'a>], class: Class) -> Result<Vec<Stretch<'a>>> {
    let mut stretches = Vec::new();
    for (file, copies) in without_copies(files) {
        let ranges = match (file.source.kind, class) {
            (Kind::Image, Class::Images) => [0..file.size, 0..0],
            (Kind::Program | Kind::CniPlugin, Class::Code) => {
                [Program::read(&file.path)?.code, 0..0]
            }

            (Kind::Program | Kind::CniPlugin, Class::Data) => {
                let code = Program::read(&file.path)?.code;
                [0..code.start, code.end..file.size]
            }
            _ => continue,
        };
        let ranges = ranges.into_iter().filter(|range| !range.is_empty());
        let stretch = |range| Stretch {
            file,
            range,
            copies: copies.clone(),
        };
        stretches.extend(ranges.map(stretch));
    }
    Ok(stretches)
}

/// The files in the order of their paths, each with the paths of those of its kind that are the same.
fn without_copies<'a>(files: &'a [Collected<'a>]) -> Vec<(&'a Collected<'a>, Vec<String>)> {
    let mut sorted: Vec<&Collected<'_>> = files.iter().collect();
    sorted.sort_by_key(|file| &file.source.path);
    let is_image = |file: &Collected<'_>| file.source.kind == Kind::Image;
    let mut unique: Vec<(&Collected<'_>, Vec<String>)> = Vec::new();
    for file in sorted {
        let same = unique
            .iter_mut()
            .find(|(other, _)| other.sha256 == file.sha256 && is_image(other) == is_image(file));
        match same {
            Some((_, copies)) => copies.push(file.source.path.clone()),
            None => unique.push((file, Vec::new())),
        }
    }
    unique
}

/// Splits into as few streams as the limit allows, all of about the same size.
fn split(class: Class, stretches: Vec<Stretch<'_>>) -> Vec<Stream<'_>> {
    let total: u64 = stretches.iter().map(Stretch::size).sum();
    let count = total.div_ceil(MAX_STREAM).max(1);
    let mut streams: Vec<Stream<'_>> = Vec::new();
    let mut before = 0;
    for stretch in stretches {
        // The middle of a section decides which stream it is in.
        let index = (before + stretch.size() / 2) * count / total.max(1);
        before += stretch.size();
        let name = format!("{}-{index}.xz", class.name());
        match streams.last_mut().filter(|stream| stream.name == name) {
            Some(stream) => stream.stretches.push(stretch),
            None => streams.push(Stream {
                name,
                class,
                stretches: vec![stretch],
            }),
        }
    }
    streams
}

impl Stream<'_> {
    fn write(&self, dir: &Path, effort: Effort, progress: &dyn Progress) -> Result<Pack> {
        let total: u64 = self.stretches.iter().map(Stretch::size).sum();
        let dictionary = total.next_power_of_two().clamp(MIN_DICTIONARY, DICTIONARY);
        let path = dir.join(&self.name);
        let mut encoder = encoder(
            self.class,
            effort,
            dictionary as u32,
            File::create_new(&path)?,
        )?;
        let mut parts = Vec::new();
        for stretch in &self.stretches {
            let part = append(stretch, &mut encoder, progress);
            parts.push(part.with_context(|| stretch.file.source.path.clone())?);
        }
        encoder.finish()?.flush()?;
        let mut reader = Hashing::new(BufReader::new(File::open(&path)?));
        io::copy(&mut reader, &mut io::sink())?;
        let (size, sha256) = reader.finish();
        Ok(Pack {
            name: self.name.clone(),
            size,
            sha256,
            memory: dictionary + OVERHEAD,
            parts,
        })
    }
}

fn append(
    stretch: &Stretch<'_>,
    encoder: &mut impl Write,
    progress: &dyn Progress,
) -> Result<Part> {
    let (offset, size) = (stretch.range.start, stretch.size());
    let mut file = File::open(&stretch.file.path)?;
    file.seek(SeekFrom::Start(offset))?;
    let times = 1 + stretch.copies.len() as u64;
    let advance = |bytes| progress.advance(bytes * times);
    let mut reader = Hashing::new(Counting::new(BufReader::new(file.take(size)), &advance));
    io::copy(&mut reader, encoder)?;
    let (read, sha256) = reader.finish();
    ensure!(read == size, "it changed while it was read");
    Ok(Part {
        path: stretch.file.source.path.clone(),
        offset,
        size,
        sha256,
        copies: stretch.copies.clone(),
    })
}

fn encoder(class: Class, effort: Effort, dictionary: u32, output: File) -> Result<XzEncoder<File>> {
    let mut options = LzmaOptions::new_preset(effort.preset())?;
    options.dict_size(dictionary);
    let mut filters = Filters::new();
    // Without the filter, copies of a program in several images are found at once: it makes them differ,
    // because it depends on the place in the stream.
    if class != Class::Data && effort == Effort::Usual {
        filters.x86();
    }
    filters.lzma2(&options);
    let stream = xz2::stream::Stream::new_stream_encoder(&filters, Check::Crc64)?;
    Ok(XzEncoder::new_stream(output, stream))
}
