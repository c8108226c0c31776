//! Compresses parts of files into streams. Similar data is in one stream: the machine code of
//! programs, where the x86 filter helps; their other data, where the filter would harm; and images.
//! The streams are written and read in parallel, and kept in the cache for the next run.
//!
//! Programs built from the same packages have most of their code and data in common, and a stream has
//! common data once. But if one file of a stream changes, all of it is compressed again.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take, Write};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use xz2::stream::{Check, Filters, LzmaOptions};
use xz2::write::XzEncoder;

use super::collect::Collected;
use super::kept::Kept;
use crate::bundle::cache::Cache;
use crate::bundle::elf::Program;
use crate::bundle::manifest::{Kind, Pack, Part};
use crate::digest::Sha256;
use crate::sys::parallel;
use crate::sys::progress::Progress;
use crate::sys::stream::{Counting, Hashing};

/// How far back a repeat may lie, in bytes; unpacking takes this much memory. 48 MiB costs 2 %,
/// 96 MiB saves 3 %, but then two streams could not be unpacked at once.
const DICTIONARY: u64 = 64 * 1024 * 1024;
const MIN_DICTIONARY: u64 = 1024 * 1024;
/// The maximum size of one stream, in bytes. Few large streams leave processors idle, and if a file
/// changes, its streams are compressed again. But a smaller stream shares less. On 666 MB of genuine
/// programs and images, compared with 256 MiB (3 streams), 128 MiB (6 streams) costs 8 % and packs in
/// three quarters of the time on two processors. 96 MiB (10 streams) costs 15 %. A stream for each
/// program costs 47 % of the programs' part.
const MAX_STREAM: u64 = 128 * 1024 * 1024;
/// A stream that is smaller takes any file of its class, in bytes.
const MIN_STREAM: u64 = 16 * 1024 * 1024;
/// The maximum number of streams that are compressed at once. Each takes up to 750 MB of memory.
const MAX_THREADS: usize = 4;
/// How much is read at once, in bytes.
const CHUNK: usize = 256 * 1024;
/// The library that compresses. Another version may give other bytes, so a kept stream of another
/// version is not used.
const ENCODER: &str = "liblzma-sys 0.4.9";
/// Why a file cannot be packed.
const CHANGED: &str = "it changed while it was read; run the command again";
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

    /// Whether the x86 filter is used. Without it, copies of a program in several images are found at
    /// once: it makes them differ, because it depends on the place in the stream.
    fn has_x86_filter(self, effort: Effort) -> bool {
        self != Class::Data && effort == Effort::Usual
    }
}

/// A section of a file.
struct Stretch<'a> {
    file: &'a Collected<'a>,
    range: Range<u64>,
    /// The paths of other files with the same content.
    copies: &'a [String],
}

impl Stretch<'_> {
    fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// How many bytes of the bundle it is, with its copies.
    fn weight(&self) -> u64 {
        self.size() * (1 + self.copies.len() as u64)
    }

    /// Its bytes, and the callback `advance` with the number of those that were read.
    fn reader<'b>(&self, advance: &'b dyn Fn(u64)) -> Result<Bytes<'b>> {
        let mut file = File::open(&self.file.path)?;
        file.seek(SeekFrom::Start(self.range.start))?;
        let bytes = BufReader::with_capacity(CHUNK, file.take(self.size()));
        Ok(Hashing::new(Counting::new(bytes, advance)))
    }

    /// What the manifest says about it.
    fn part(&self) -> Result<Part> {
        let mut reader = self.reader(&|_| ())?;
        io::copy(&mut reader, &mut io::sink())?;
        let (size, sha256) = reader.finish();
        ensure!(size == self.size(), CHANGED);
        Ok(Part {
            path: self.file.source.path.clone(),
            offset: self.range.start,
            size,
            sha256,
            copies: self.copies.to_vec(),
        })
    }
}

/// The bytes of a section.
type Bytes<'a> = Hashing<Counting<'a, BufReader<Take<File>>>>;

/// One stream and its input.
struct Stream<'a> {
    name: String,
    class: Class,
    stretches: Vec<Stretch<'a>>,
}

/// A stream whose input was read once.
struct Prepared {
    parts: Vec<Part>,
    dictionary: u32,
    /// The digest of everything that decides the bytes of the stream.
    key: Sha256,
    /// Its compressed bytes and their digest, if they were kept.
    kept: Option<(u64, Sha256)>,
}

/// Compresses the files into streams in the directory `dir`. Streams that `cache` has from an earlier
/// run are taken from there, and new ones are kept in it. `kubernetes` is the bundle's version of
/// Kubernetes.
pub fn compress(
    files: &[Collected<'_>],
    kubernetes: &str,
    dir: &Path,
    effort: Effort,
    cache: Option<&Cache>,
    progress: &dyn Progress,
) -> Result<Vec<Pack>> {
    let files = without_copies(files);
    let mut streams = Vec::new();
    for class in Class::ALL {
        streams.extend(split(class, stretches(&files, class)?, kubernetes));
    }
    let kept = cache.map(Kept::of);
    let run = Run {
        dir,
        effort,
        kept: kept.as_ref(),
        progress,
    };
    let threads = parallel::processors().min(MAX_THREADS);
    let prepared = parallel::map(&streams, threads, |stream| run.prepare(stream));
    let prepared = prepared.into_iter().collect::<Result<Vec<_>>>()?;
    let streams: Vec<_> = streams.into_iter().zip(prepared).collect();
    run.count_kept(&streams);
    // The largest first, so that all processors are busy to the end.
    let mut order: Vec<usize> = (0..streams.len()).collect();
    order.sort_by_key(|index| Reverse(streams[*index].0.size()));
    let pack = |index: &usize| Ok((*index, run.pack(&streams[*index])?));
    let packs = parallel::map(&order, threads, pack).into_iter();
    let packs = packs.collect::<Result<BTreeMap<usize, Pack>>>()?;
    Ok(packs.into_values().collect())
}

/// The sections of each file that belong to that class.
fn stretches<'a>(
    files: &'a [(&'a Collected<'a>, Vec<String>)],
    class: Class,
) -> Result<Vec<Vec<Stretch<'a>>>> {
    let mut stretches = Vec::new();
    for (file, copies) in files {
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
            copies,
        };
        stretches.push(ranges.map(stretch).collect());
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

/// Fills one stream after the other, up to the limit, with the sections of the files in their order: first
/// those that are not of the release `kubernetes`, then those that are. These change together, and have
/// most in common. A larger file has a stream of its own. A changed file does not move the others, as
/// far as its size stays about the same.
fn split<'a>(class: Class, files: Vec<Vec<Stretch<'a>>>, kubernetes: &str) -> Vec<Stream<'a>> {
    let is_of_release = |file: &[Stretch<'_>]| {
        let first = file.first();
        first.is_some_and(|stretch| stretch.file.source.version == kubernetes)
    };
    let mut files: Vec<_> = files.into_iter().filter(|file| !file.is_empty()).collect();
    files.sort_by_key(|file| is_of_release(file));
    let mut streams: Vec<Stream<'a>> = Vec::new();
    for stretches in files {
        let size: u64 = stretches.iter().map(Stretch::size).sum();
        let has_room = |stream: &Stream<'_>| {
            let alike = is_of_release(&stream.stretches) == is_of_release(&stretches);
            stream.size() + size <= MAX_STREAM && (alike || stream.size() < MIN_STREAM)
        };
        let last = streams.last_mut();
        match last.filter(|stream| has_room(stream)) {
            Some(stream) => stream.stretches.extend(stretches),
            None => streams.push(Stream {
                name: format!("{}-{}.xz", class.name(), streams.len()),
                class,
                stretches,
            }),
        }
    }
    streams
}

impl Stream<'_> {
    fn size(&self) -> u64 {
        self.stretches.iter().map(Stretch::size).sum()
    }
}

/// One run of [`compress`].
struct Run<'a> {
    dir: &'a Path,
    effort: Effort,
    kept: Option<&'a Kept>,
    progress: &'a dyn Progress,
}

impl Run<'_> {
    /// Reads the input of a stream, and takes the stream from the cache if it is there.
    fn prepare(&self, stream: &Stream<'_>) -> Result<Prepared> {
        let part = |stretch: &Stretch<'_>| {
            let part = stretch.part();
            part.with_context(|| stretch.file.source.path.clone())
        };
        let parts = stream.stretches.iter().map(part);
        let parts = parts.collect::<Result<Vec<Part>>>()?;
        let dictionary = stream.size().next_power_of_two();
        let dictionary = dictionary.clamp(MIN_DICTIONARY, DICTIONARY) as u32;
        let mut recipe = self.recipe(stream.class, dictionary);
        for part in &parts {
            writeln!(recipe, "{} {}", part.size, part.sha256)?;
        }
        let key = Sha256::of(&recipe);
        let take = |kept: &Kept| kept.take(&key, &self.dir.join(&stream.name));
        Ok(Prepared {
            parts,
            dictionary,
            kept: self.kept.and_then(take),
            key,
        })
    }

    /// How the sections of a stream are compressed. Two streams with the same recipe and the same
    /// sections have the same bytes.
    fn recipe(&self, class: Class, dictionary: u32) -> Vec<u8> {
        let preset = self.effort.preset();
        let x86 = class.has_x86_filter(self.effort);
        format!("{ENCODER}, xz with crc64, preset {preset}, dictionary {dictionary}, x86 {x86}\n")
            .into_bytes()
    }

    /// Counts the kept streams as done, before the first byte is compressed: the rate and the time
    /// left are those of the rest.
    fn count_kept(&self, streams: &[(Stream<'_>, Prepared)]) {
        let kept = streams
            .iter()
            .filter(|(_, prepared)| prepared.kept.is_some());
        let stretches = kept.clone().flat_map(|(stream, _)| &stream.stretches);
        let bytes: u64 = stretches.map(Stretch::weight).sum();
        if bytes > 0 {
            self.progress.set(bytes, None);
            log::info!(
                "{} of {} compressed streams are in the cache",
                kept.count(),
                streams.len()
            );
        }
    }

    fn pack(&self, (stream, prepared): &(Stream<'_>, Prepared)) -> Result<Pack> {
        let (size, sha256) = match &prepared.kept {
            Some(kept) => kept.clone(),
            None => self.write(stream, prepared)?,
        };
        Ok(Pack {
            name: stream.name.clone(),
            size,
            sha256,
            memory: u64::from(prepared.dictionary) + OVERHEAD,
            parts: prepared.parts.clone(),
        })
    }

    /// Compresses a stream, and keeps it in the cache.
    fn write(&self, stream: &Stream<'_>, prepared: &Prepared) -> Result<(u64, Sha256)> {
        let path = self.dir.join(&stream.name);
        let file = File::create_new(&path)?;
        let mut encoder = encoder(stream.class, self.effort, prepared.dictionary, file)?;
        for (stretch, part) in stream.stretches.iter().zip(&prepared.parts) {
            let appended = self.append(stretch, part, &mut encoder);
            appended.with_context(|| stretch.file.source.path.clone())?;
        }
        encoder.finish()?.flush()?;
        let mut reader = Hashing::new(BufReader::with_capacity(CHUNK, File::open(&path)?));
        io::copy(&mut reader, &mut io::sink())?;
        let (size, sha256) = reader.finish();
        if let Some(kept) = self.kept {
            kept.keep(&prepared.key, &path, &sha256);
        }
        Ok((size, sha256))
    }

    fn append(&self, stretch: &Stretch<'_>, part: &Part, encoder: &mut impl Write) -> Result<()> {
        let times = 1 + stretch.copies.len() as u64;
        let advance = |bytes| self.progress.advance(bytes * times);
        let mut reader = stretch.reader(&advance)?;
        io::copy(&mut reader, encoder)?;
        let (_, sha256) = reader.finish();
        ensure!(sha256 == part.sha256, CHANGED);
        Ok(())
    }
}

fn encoder(class: Class, effort: Effort, dictionary: u32, output: File) -> Result<XzEncoder<File>> {
    let mut options = LzmaOptions::new_preset(effort.preset())?;
    options.dict_size(dictionary);
    let mut filters = Filters::new();
    if class.has_x86_filter(effort) {
        filters.x86();
    }
    filters.lzma2(&options);
    let stream = xz2::stream::Stream::new_stream_encoder(&filters, Check::Crc64)?;
    Ok(XzEncoder::new_stream(output, stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoder_is_named_with_its_version() {
        let (name, version) = ENCODER.split_once(' ').unwrap_or_default();
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        let lock = include_str!("../../../Cargo.lock");
        assert!(
            lock.contains(&entry),
            "Cargo.lock has another version than {ENCODER}: change ENCODER, so that streams that the \
             former version compressed are not used"
        );
    }
}
