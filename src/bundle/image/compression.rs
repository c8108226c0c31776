//! The compressions of tarballs and layers that `docker load` knows, found by the first bytes.

use std::fmt;
use std::io::{self, Read};

use anyhow::Result;
use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use xz2::read::XzDecoder;
use xz2::stream::{CONCATENATED, Stream};

/// How many bytes tell a compression.
pub const MAGIC: usize = 6;
/// The maximum memory for a decoder of xz, in bytes. `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 256 * 1024 * 1024;
/// A frame of zstd without content begins with one of 16 numbers (RFC 8878, section 3.1.2).
const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

impl Compression {
    /// The compression of a file that starts with these bytes; `None` if it is none of these.
    pub fn of(start: &[u8]) -> Option<Compression> {
        let skippable = start.len() > 3 && start[1..].starts_with(&SKIPPABLE) && start[0] >> 4 == 5;
        if start.starts_with(&[0x1f, 0x8b]) {
            Some(Compression::Gzip)
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable {
            Some(Compression::Zstd)
        } else if start.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Some(Compression::Xz)
        } else if start.starts_with(b"BZh") {
            Some(Compression::Bzip2)
        } else {
            None
        }
    }

    /// The content of the compressed `reader`.
    ///
    /// # Errors
    /// If there is no memory for a decoder.
    pub fn unpack<'a>(self, reader: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Compression::Gzip => Box::new(MultiGzDecoder::new(io::BufReader::new(reader))),
            Compression::Zstd => Box::new(Frames::new(reader)),
            Compression::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
                Box::new(XzDecoder::new_stream(reader, stream))
            }
            Compression::Bzip2 => Box::new(MultiBzDecoder::new(reader)),
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Xz => "xz",
            Compression::Bzip2 => "bzip2",
        })
    }
}

/// All frames of a zstd file, one after the other, without those that have no content.
struct Frames<R: Read> {
    frame: Option<StreamingDecoder<Peeked<R>, FrameDecoder>>,
    /// What comes after the last frame.
    rest: Option<Peeked<R>>,
}

impl<R: Read> Frames<R> {
    fn new(inner: R) -> Frames<R> {
        let rest = Peeked {
            front: Vec::new(),
            inner,
        };
        Frames {
            frame: None,
            rest: Some(rest),
        }
    }

    /// Starts the next frame with content. Returns whether there is one.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(mut rest) = self.rest.take() else {
            return Ok(false);
        };
        loop {
            let mut start = Vec::new();
            rest.by_ref().take(4).read_to_end(&mut start)?;
            if start.is_empty() {
                return Ok(false);
            }
            if !start[1..].starts_with(&SKIPPABLE) {
                rest.front = start;
                let frame = StreamingDecoder::new(rest).map_err(io::Error::other)?;
                self.frame = Some(frame);
                return Ok(true);
            }
            let mut length = [0; 4];
            rest.read_exact(&mut length)?;
            let length = u64::from(u32::from_le_bytes(length));
            if io::copy(&mut rest.by_ref().take(length), &mut io::sink())? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                self.rest = self.frame.take().map(StreamingDecoder::into_inner);
            }
            if !self.advance()? {
                return Ok(0);
            }
        }
    }
}

/// A reader whose first bytes were read already.
struct Peeked<R> {
    front: Vec<u8>,
    inner: R,
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.front.is_empty() {
            return self.inner.read(buffer);
        }
        let count = self.front.as_slice().read(buffer)?;
        self.front.drain(..count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    #[test]
    fn every_frame_of_a_zstd_file_is_read_and_empty_ones_are_skipped() {
        let frame = |text: &[u8]| compress_to_vec(text, CompressionLevel::Fastest);
        let empty = [&[0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0], b"abc".as_slice()].concat();
        let file = [frame(b"one "), empty.clone(), frame(b"two"), empty.clone()].concat();
        for (file, expected) in [
            (file.clone(), "one two"),
            ([empty, file.clone()].concat(), "one two"),
        ] {
            let compression = Compression::of(&file).unwrap();
            assert_eq!(compression, Compression::Zstd);
            let mut text = String::new();
            let mut reader = compression.unpack(file.as_slice()).unwrap();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
        let whole = frame(b"one");
        let cut = &whole[..whole.len() - 1];
        let mut reader = Compression::Zstd.unpack(cut).unwrap();
        assert!(io::copy(&mut reader, &mut io::sink()).is_err());
    }
}
