//! The bytes of a file, unpacked as they are read, in memory that its size on disk does not decide.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, DEFAULT_MAX_WINDOW_SIZE, FrameDecoder};

use super::catch::catch_decoder_panic;
use super::form::{Form, Packing};
use super::gzip::{Gzip, skip_zeros};
use super::utf16::as_utf8;
use crate::progress::Progress;

const BUFFER_BYTES: usize = 256 << 10;

/// Opens a file whose text is wanted: unpacked, in UTF-8, without a byte order mark. The `progress` advances
/// by the bytes on disk.
pub(super) fn open<'a>(
    path: &Path,
    packing: Packing,
    progress: &'a dyn Progress,
) -> io::Result<Box<dyn BufRead + 'a>> {
    let file = BufReader::with_capacity(BUFFER_BYTES, Counted { file: File::open(path)?, progress });
    as_utf8(match packing {
        Packing::None => Box::new(file),
        Packing::Gzip => Box::new(BufReader::with_capacity(BUFFER_BYTES, Gzip::new(file))),
        Packing::Zstd => Box::new(BufReader::with_capacity(BUFFER_BYTES, Zstd::new(file))),
    })
}

/// The whole text of one file, packed by gzip or zstd or not.
///
/// # Errors
/// The file cannot be read to its end; it is neither UTF-8 nor UTF-16.
pub fn text_of(path: &Path, progress: &dyn Progress) -> Result<String> {
    let cannot = || format!("cannot read {} as text in UTF-8", path.display());
    path.metadata().with_context(cannot)?;
    let form = Form::of(path).map_err(|reason| anyhow!("{}: {reason}", cannot()))?;
    let mut text = String::new();
    open(path, form.packing, progress)
        .and_then(|mut file| file.read_to_string(&mut text))
        .with_context(cannot)?;
    Ok(text)
}

/// Tells the progress how much of the file on disk is read.
struct Counted<'a> {
    file: File,
    progress: &'a dyn Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.progress.advance(n as u64);
        Ok(n)
    }
}

/// Unpacks all frames of a Zstandard stream (RFC 8878), one after the other; checksums are compared,
/// skippable frames skipped, and so are zeros after a frame, which are padding. A frame may ask for a window
/// of at most 128 MiB, which is what `zstd --long` makes; the error for more is of the kind
/// [`ErrorKind::Unsupported`].
pub(super) struct Zstd<R> {
    source: R,
    frame: Option<FrameDecoder>,
    /// Whether a frame was read to its end.
    begun: bool,
}

impl<R: BufRead> Zstd<R> {
    pub(super) fn new(source: R) -> Zstd<R> {
        Zstd { source, frame: None, begun: false }
    }

    fn unpack(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(frame) = &mut self.frame else {
                if self.begun {
                    skip_zeros(&mut self.source)?;
                }
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.frame = self.next_frame()?;
                continue;
            };
            while frame.can_collect() == 0 && !frame.is_finished() {
                frame
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(Error::other)?;
            }
            match frame.read(buffer)? {
                0 => self.end_frame()?,
                n => return Ok(n),
            }
        }
    }

    /// The frame that begins here; `None` when it was one to skip.
    fn next_frame(&mut self) -> io::Result<Option<FrameDecoder>> {
        use FrameDecoderError::{DictNotProvided, ReadFrameHeaderError as Header, WindowSizeTooBig};
        // A fresh one for each frame: a used one would reserve the window that the next frame only claims.
        let mut frame = FrameDecoder::new();
        match frame.init(&mut self.source) {
            Ok(()) => Ok(Some(frame)),
            Err(Header(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = u64::from(length);
                match io::copy(&mut (&mut self.source).take(length), &mut io::sink())? == length {
                    true => Ok(None),
                    false => Err(ErrorKind::UnexpectedEof.into()),
                }
            }
            Err(WindowSizeTooBig { requested, .. }) => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "zstd with a window of {requested} bytes, at most {DEFAULT_MAX_WINDOW_SIZE} can be read: \
                     unpack the file with zstd -d --long=31"
                ),
            )),
            Err(DictNotProvided { .. }) => Err(Error::new(
                ErrorKind::Unsupported,
                "zstd with a dictionary of its own: unpack the file with zstd -d -D DICTIONARY",
            )),
            Err(error) => Err(Error::other(error)),
        }
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.begun = true;
        let frame = self.frame.take();
        let sums = frame.map(|f| (f.get_checksum_from_data(), f.get_calculated_checksum()));
        match sums {
            Some((Some(stored), calculated)) if calculated != Some(stored) => {
                Err(Error::other("the checksum of a frame is wrong"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        catch_decoder_panic(|| self.unpack(buffer))
    }
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Zstd::new(bytes).read_to_end(&mut out).map(|_| out)
    }

    fn frame(text: &str) -> Vec<u8> {
        compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
    }

    #[test]
    fn frames_follow_one_another_and_some_are_skipped() {
        let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let stream = [frame("one "), skippable.clone(), frame(""), frame(&"two".repeat(100_000))].concat();
        assert_eq!(unpacked(&stream).unwrap(), format!("one {}", "two".repeat(100_000)).into_bytes());
        assert_eq!(unpacked(b"").unwrap(), b"");
        assert_eq!(
            unpacked(&[frame("one"), vec![0; 512], frame("two"), vec![0; 9]].concat()).unwrap(),
            b"onetwo"
        );
        assert!(unpacked(&[frame("one"), b"x".to_vec()].concat()).is_err() && unpacked(&[0; 9]).is_err());
        for cut in 1..frame("one ").len() {
            assert!(unpacked(&stream[..cut]).is_err(), "cut at {cut}");
        }
        assert!(unpacked(&skippable[..10]).is_err());
    }

    #[test]
    fn windows_that_would_not_fit_are_refused() {
        // Descriptor without a content size, window of 2^(10 + 21) bytes.
        let error = unpacked(&[0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("2147483648"), "{error}");
    }
}
