//! Unpacks a page, whose sizes in the file are claims: never more memory than the packed bytes can fill.

use std::io::{BufRead, Error, ErrorKind, Read, Result};

use parquet::basic::Compression;

use crate::corpus::catch::catch_decoder_panic;
use crate::corpus::gzip::Gzip;
use crate::corpus::unpack::Zstd;

/// The most that a byte of Snappy or LZ4 stands for: a copy of 64 bytes takes three; a length grows by 255 a
/// byte.
const SNAPPY_RATIO: usize = 22;
const LZ4_RATIO: usize = 255;
/// Reserved for a page of the other codecs, in multiples of its packed size; what is packed better grows as
/// it comes.
const USUAL_RATIO: usize = 16;

/// Reads the `packed` bytes that are left in `source` and unpacks them to exactly `size`.
pub(super) fn unpack(
    codec: Compression,
    mut source: impl BufRead,
    packed: usize,
    size: usize,
) -> Result<Vec<u8>> {
    let whole = |source: &mut dyn Read| {
        let mut bytes = vec![0; packed];
        source.read_exact(&mut bytes).map(|()| bytes)
    };
    let page = match codec {
        Compression::UNCOMPRESSED => whole(&mut source)?,
        Compression::SNAPPY => {
            let bytes = whole(&mut source)?;
            let mut page = room(size, packed, SNAPPY_RATIO)?;
            let n = catch_decoder_panic(|| {
                snap::raw::Decoder::new().decompress(&bytes, &mut page).map_err(Error::from)
            })?;
            page.truncate(n);
            page
        }
        Compression::LZ4_RAW => {
            let bytes = whole(&mut source)?;
            let mut page = room(size, packed, LZ4_RATIO)?;
            let n = catch_decoder_panic(|| {
                lz4_flex::block::decompress_into(&bytes, &mut page).map_err(Error::other)
            })?;
            page.truncate(n);
            page
        }
        Compression::GZIP(_) => stream(&mut Gzip::new(source), packed, size)?,
        Compression::ZSTD(_) => stream(&mut Zstd::new(source), packed, size)?,
        Compression::BROTLI(_) => {
            stream(&mut brotli_decompressor::Decompressor::new(source, 4096), packed, size)?
        }
        other => {
            return Err(Error::new(ErrorKind::Unsupported, format!("its pages are packed with {other}")));
        }
    };
    if page.len() == size { Ok(page) } else { Err(damaged("a page is not as large as it says")) }
}

fn room(size: usize, packed: usize, ratio: usize) -> Result<Vec<u8>> {
    if size > packed.saturating_mul(ratio) + 64 {
        return Err(damaged("a page says that it is larger than it can be"));
    }
    Ok(vec![0; size])
}

fn stream(decoder: &mut dyn Read, packed: usize, size: usize) -> Result<Vec<u8>> {
    let mut page = Vec::with_capacity(size.min(packed.saturating_mul(USUAL_RATIO) + 64));
    catch_decoder_panic(|| decoder.take(size as u64 + 1).read_to_end(&mut page))?;
    Ok(page)
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    #[test]
    fn sizes_are_claims() {
        let text = b"the same words, ".repeat(1000);
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let packed = [
            (Compression::UNCOMPRESSED, text.clone()),
            (Compression::SNAPPY, snap::raw::Encoder::new().compress_vec(&text).unwrap()),
            (Compression::LZ4_RAW, lz4_flex::block::compress(&text)),
            (Compression::GZIP(Default::default()), gzip.finish().unwrap()),
            (Compression::ZSTD(Default::default()), compress_to_vec(&text[..], CompressionLevel::Fastest)),
        ];
        for (codec, packed) in packed {
            let of_size = |size| unpack(codec, &packed[..], packed.len(), size);
            assert_eq!(of_size(text.len()).unwrap(), text, "{codec}");
            for lie in [0, 1, text.len() - 1, text.len() + 1, 100 << 20] {
                assert!(of_size(lie).is_err(), "{codec} as {lie} bytes");
            }
            let half = packed.len() / 2;
            assert!(unpack(codec, &packed[..half], half, text.len()).is_err(), "half of {codec}");
            assert!(unpack(codec, &packed[..half], packed.len(), text.len()).is_err(), "{codec}, too short");
        }
        let error = unpack(Compression::LZO, &[][..], 0, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
