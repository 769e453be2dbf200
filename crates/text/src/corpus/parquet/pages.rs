//! The pages of one column in one row group, unpacked one after the other. The library has a reader of its
//! own, which reserves what a page's header claims, trusts a gzipped page to end, and panics without the
//! dictionary: this one looks first.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};
use std::path::Path;

use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

use super::codec::unpack;
use super::delta;
use super::thrift::{Met, walk};

/// The largest page that is unpacked (128 MiB). Writers aim at one.
pub(super) const MAX_PAGE_BYTES: usize = 128 << 20;
/// The most values of a page, and entries of a dictionary, which take 32 bytes each.
const MAX_PAGE_VALUES: usize = 1 << 24;
const MAX_DICTIONARY_VALUES: usize = 1 << 22;

/// Reads pages.
pub(super) struct Pages {
    /// What is left of the column.
    source: Take<BufReader<File>>,
    codec: Compression,
    has_dictionary: bool,
    /// Bytes of the shortest value written plainly.
    least_bytes: usize,
    has_levels: [bool; 2],
}

/// A page's header, as far as it is used.
#[derive(Default)]
struct Header {
    kind: i64,
    size: i64,
    packed: i64,
    values: i64,
    encoding: i64,
    levels: [i64; 2],
    nulls: i64,
    rows: i64,
    level_bytes: [i64; 2],
    is_plain: bool,
}

impl Pages {
    /// The pages of `column`, of the file at `path` with `file_bytes`, whose values take `least_bytes` each
    /// at least.
    pub(super) fn open(
        path: &Path,
        file_bytes: u64,
        column: &ColumnChunkMetaData,
        least_bytes: usize,
    ) -> Result<Pages> {
        if column.file_path().is_some() {
            return Err(ParquetError::NYI("its columns are in another file".into()));
        }
        let data = column.data_page_offset();
        let start = column.dictionary_page_offset().filter(|&at| at > 0 && at < data).unwrap_or(data);
        let length = column.compressed_size();
        let (Ok(start), Ok(length)) = (u64::try_from(start), u64::try_from(length)) else {
            return damaged(format!("a column of {length} bytes at {start}"));
        };
        if start.checked_add(length).is_none_or(|end| end > file_bytes) {
            return damaged(format!("a column of {length} bytes at {start}, the file has {file_bytes}"));
        }
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(Pages {
            source: BufReader::with_capacity(64 << 10, file).take(length),
            codec: column.compression(),
            has_dictionary: false,
            least_bytes,
            has_levels: [
                column.column_descr().max_rep_level() > 0,
                column.column_descr().max_def_level() > 0,
            ],
        })
    }

    fn page(&mut self) -> Result<Option<Page>> {
        loop {
            if self.source.limit() == 0 {
                return Ok(None);
            }
            let header = Header::read(&mut self.source)?;
            let size = within(header.size, MAX_PAGE_BYTES, "bytes")?;
            let packed = match usize::try_from(header.packed) {
                Ok(packed) if packed as u64 <= self.source.limit() => packed,
                _ => return damaged("a page is longer than its column".into()),
            };
            let end = self.source.limit() - packed as u64;
            let page = match header.kind {
                // The library takes a page without values for the end.
                0 | 3 if header.values == 0 => None,
                0 | 2 | 3 => Some(self.body(&header, packed, size)?),
                // An index, or what the format will have one day: not needed for the values.
                _ => None,
            };
            let rest = self.source.limit() - end;
            io::copy(&mut (&mut self.source).take(rest), &mut io::sink())?;
            if page.is_some() {
                return Ok(page);
            }
        }
    }

    fn body(&mut self, header: &Header, packed: usize, size: usize) -> Result<Page> {
        let values = within(header.values, MAX_PAGE_VALUES, "values")?;
        let encoding = encoding(header.encoding)?;
        // The levels of a second version's page stand before the packed values, as they are.
        let levels = header.level_bytes.map(usize::try_from);
        let [Ok(repetition), Ok(definition)] = levels else { return damaged("negative lengths".into()) };
        let Some(plain) = repetition.checked_add(definition).filter(|&n| n <= packed.min(size)) else {
            return damaged("the levels of a page are longer than the page".into());
        };
        let mut body = vec![0; plain];
        self.source.read_exact(&mut body)?;
        let codec = if header.is_plain { Compression::UNCOMPRESSED } else { self.codec };
        if size > plain {
            let packed = packed - plain;
            let source = (&mut self.source).take(packed as u64);
            body = match unpack(codec, source, packed, size - plain) {
                Ok(values) if plain == 0 => values,
                Ok(values) => [body, values].concat(),
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                    return Err(ParquetError::NYI(e.to_string()));
                }
                Err(e) => return Err(e.into()),
            };
        }
        self.check_values(header, encoding, values, plain, &body)?;
        let (buf, num_values) = (body.into(), values as u32);
        Ok(match header.kind {
            2 => Page::DictionaryPage { buf, num_values, encoding, is_sorted: false },
            0 => Page::DataPage {
                buf,
                num_values,
                encoding,
                rep_level_encoding: level_encoding(header.levels[0])?,
                def_level_encoding: level_encoding(header.levels[1])?,
                statistics: None,
            },
            _ => Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls: within(header.nulls, values, "nulls")? as u32,
                num_rows: within(header.rows, values, "rows")? as u32,
                def_levels_byte_len: definition as u32,
                rep_levels_byte_len: repetition as u32,
                is_compressed: false,
                statistics: None,
            },
        })
    }
}

impl Pages {
    /// What the library would take for granted.
    fn check_values(
        &mut self,
        header: &Header,
        encoding: Encoding,
        values: usize,
        levels: usize,
        body: &[u8],
    ) -> Result<()> {
        use Encoding::{DELTA_BINARY_PACKED, DELTA_BYTE_ARRAY, DELTA_LENGTH_BYTE_ARRAY};
        if header.kind == 2 {
            let entries = within(header.values, MAX_DICTIONARY_VALUES, "dictionary entries")?;
            if self.has_dictionary || entries.saturating_mul(self.least_bytes) > body.len() {
                return damaged(format!("a dictionary of {entries} values in {} bytes", body.len()));
            }
            self.has_dictionary = true;
            return Ok(());
        }
        let streams = match encoding {
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY if !self.has_dictionary => {
                return damaged("a page without its dictionary".into());
            }
            DELTA_BINARY_PACKED | DELTA_LENGTH_BYTE_ARRAY => 1,
            DELTA_BYTE_ARRAY => 2,
            _ => return Ok(()),
        };
        let mut at = if header.kind == 3 { Some(levels) } else { self.end_of_levels(body) };
        for _ in 0..streams {
            at = at.and_then(|at| Some(at + delta::end(body.get(at..)?, values)?));
        }
        if at.is_some() { Ok(()) } else { damaged("lengths that go beyond their page".into()) }
    }

    /// Where the values of a page of the first version begin: each kind of levels has its length before it.
    fn end_of_levels(&self, body: &[u8]) -> Option<usize> {
        let mut at = 0;
        for _ in self.has_levels.iter().filter(|has| **has) {
            let length: [u8; 4] = body.get(at..at + 4)?.try_into().ok()?;
            at = (at + 4).checked_add(u32::from_le_bytes(length) as usize)?;
        }
        Some(at)
    }
}

impl Header {
    fn read(source: &mut dyn Read) -> Result<Header> {
        let mut header = Header::default();
        // A page of the second version is packed unless it says otherwise.
        walk(source, &mut |met| {
            if let Met::Int(path, value) = met {
                let field = match path {
                    [1] => &mut header.kind,
                    [2] => &mut header.size,
                    [3] => &mut header.packed,
                    [5 | 7 | 8, 1] => &mut header.values,
                    [5 | 7, 2] | [8, 4] => &mut header.encoding,
                    [5, 3] => &mut header.levels[1],
                    [5, 4] => &mut header.levels[0],
                    [8, 2] => &mut header.nulls,
                    [8, 3] => &mut header.rows,
                    [8, 5] => &mut header.level_bytes[1],
                    [8, 6] => &mut header.level_bytes[0],
                    [8, 7] => {
                        header.is_plain = value == 0;
                        return Ok(());
                    }
                    _ => return Ok(()),
                };
                *field = value;
            }
            Ok(())
        })?;
        Ok(header)
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.page()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        Err(ParquetError::NYI("pages are not skipped".into()))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        Err(ParquetError::NYI("pages are not skipped".into()))
    }

    /// A list may go on in the next page; the reader finds out there.
    fn at_record_boundary(&mut self) -> Result<bool> {
        Ok(self.source.limit() == 0)
    }
}

fn encoding(code: i64) -> Result<Encoding> {
    Ok(match code {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return Err(ParquetError::NYI(format!("its values have encoding {code}"))),
    })
}

/// The deprecated bit-packed levels are of before 2014.
fn level_encoding(code: i64) -> Result<Encoding> {
    match code {
        3 => Ok(Encoding::RLE),
        _ => Err(ParquetError::NYI(format!("its levels have encoding {code}"))),
    }
}

fn within(claim: i64, most: usize, what: &str) -> Result<usize> {
    match usize::try_from(claim) {
        Ok(n) if n <= most => Ok(n),
        Ok(n) => Err(ParquetError::NYI(format!("a page of {n} {what}, at most {most} are read at once"))),
        Err(_) => damaged(format!("a page of {claim} {what}")),
    }
}

fn damaged<T>(what: String) -> Result<T> {
    Err(ParquetError::General(what))
}
