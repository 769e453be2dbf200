//! The beginning of a GGUF file: what is said about the model, and which tensors follow where.
//!
//! ```text
//! "GGUF"  version u32  tensors u64  entries u64
//! entries:  key string, type u32, value           a string is its length u64 and UTF-8
//! tensors:  name string, dimensions u32, dimension u64 …, format u32, offset u64
//! padding to general.alignment, then the tensors' blocks
//! ```
//!
//! A file may come from anywhere: every number is held against the length of the file before it is believed,
//! and memory grows only with bytes that were read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use kernels::BlockFormat;

use super::super::dtype::Dtype;
use super::super::number_format::NumberFormat;
use super::super::tensor_file::Tensor;
use super::metadata::{Kind, Metadata, Value};
use text::system;

/// What every file begins with.
pub(in super::super) const MAGIC: &[u8; 4] = b"GGUF";

/// The versions that are read: the third added files for big-endian machines, which are not.
pub(super) const VERSIONS: RangeInclusive<u32> = 2..=3;

/// Where `general.alignment` does not say otherwise.
pub(super) const ALIGNMENT: u64 = 32;

/// Bytes read at a time.
const READ_AHEAD: u64 = 1 << 20;

/// A tensor has at most so many dimensions.
const MAX_DIMENSIONS: u32 = 4;

/// What a file says before its numbers.
pub(super) struct Header {
    pub(super) metadata: Metadata,
    /// Each with its place in the file.
    pub(super) tensors: BTreeMap<String, Tensor>,
}

/// Reads the header and checks that all it describes lies within the file.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn read(file: &File) -> Result<Header> {
    let mut reader = Reader { file, file_bytes: file.metadata()?.len(), head: Vec::new(), at: 0 };
    ensure!(
        reader.bytes(4, "the first four bytes")? == MAGIC,
        "not a GGUF file: it does not begin with \"GGUF\""
    );
    let version = reader.u32("the version")?;
    ensure!(
        !VERSIONS.contains(&version.swap_bytes()),
        "written for a big-endian machine, which is not supported"
    );
    ensure!(VERSIONS.contains(&version), "GGUF version {version} is not supported; known are 2 and 3");
    let (n_tensors, n_entries) = (reader.u64("the number of tensors")?, reader.u64("the number of entries")?);

    let mut values = BTreeMap::new();
    for _ in 0..n_entries {
        let key = reader.text("a key")?;
        let value = reader.value(&key).with_context(|| format!("the entry {key}"))?;
        ensure!(values.insert(key.clone(), value).is_none(), "the entry {key} is there twice");
    }
    let mut tensors = BTreeMap::new();
    for _ in 0..n_tensors {
        let name = reader.text("the name of a tensor")?;
        let tensor = reader.tensor().with_context(|| format!("the tensor {name}"))?;
        ensure!(tensors.insert(name.clone(), tensor).is_none(), "the tensor {name} is there twice");
    }

    let Reader { file_bytes, head, at, .. } = reader;
    let metadata = Metadata::new(head, values);
    let alignment = metadata.unsigned("general.alignment")?.unwrap_or(ALIGNMENT);
    ensure!(alignment.is_power_of_two(), "general.alignment is {alignment}, which is no power of two");
    let data =
        (at as u64).checked_next_multiple_of(alignment).context("general.alignment is beyond any file")?;
    place(&mut tensors, data, alignment, file_bytes)?;
    Ok(Header { metadata, tensors })
}

/// Turns the tensors' offsets into places in the file, where they must lie side by side.
fn place(tensors: &mut BTreeMap<String, Tensor>, data: u64, alignment: u64, file_bytes: u64) -> Result<()> {
    let mut taken: Vec<(Range<u64>, &str)> = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let offset = tensor.start;
        ensure!(offset % alignment == 0, "the tensor {name} begins at {offset}, no multiple of {alignment}");
        let ends = || {
            let start = data.checked_add(offset)?;
            // One whose format is not known has no known length; whoever asks for it is refused.
            Some(start..start.checked_add(tensor.byte_len().unwrap_or(0))?)
        };
        let Some(range) = ends().filter(|range| range.end <= file_bytes) else {
            bail!("cut off: the tensor {name} lies beyond the file's end, at {file_bytes}");
        };
        tensor.start = range.start;
        taken.push((range, name));
    }
    taken.sort_by_key(|(range, _)| range.start);
    for pair in taken.windows(2) {
        ensure!(pair[0].0.end <= pair[1].0.start, "the tensors {} and {} overlap", pair[0].1, pair[1].1);
    }
    Ok(())
}

/// The head of the file, as far as it was read, and where we are in it.
struct Reader<'f> {
    file: &'f File,
    file_bytes: u64,
    head: Vec<u8>,
    at: usize,
}

impl Reader<'_> {
    /// Goes `n` bytes further, which must be in the file.
    fn take(&mut self, n: u64, what: &str) -> Result<Range<usize>> {
        let start = self.at as u64;
        let end = start.checked_add(n).filter(|&end| end <= self.file_bytes);
        let end = end.with_context(|| {
            format!(
                "cut off or damaged: {what}, {n} bytes at {start}, is beyond the file's end at {}",
                self.file_bytes
            )
        })?;
        let have = self.head.len() as u64;
        if end > have {
            let want = end.max(have + READ_AHEAD).min(self.file_bytes);
            self.head.resize(usize::try_from(want)?, 0);
            system::read_exact_at(self.file, &mut self.head[have as usize..], have)?;
        }
        let range = self.at..end as usize;
        self.at = range.end;
        Ok(range)
    }

    fn bytes(&mut self, n: u64, what: &str) -> Result<&[u8]> {
        let range = self.take(n, what)?;
        Ok(&self.head[range])
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        let range = self.take(4, what)?;
        Ok(bytemuck::pod_read_unaligned(&self.head[range]))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        let range = self.take(8, what)?;
        Ok(bytemuck::pod_read_unaligned(&self.head[range]))
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let range = self.string(what)?;
        let at = range.start;
        let text = std::str::from_utf8(&self.head[range]);
        Ok(text.with_context(|| format!("damaged: {what}, at {at}, is not UTF-8"))?.to_owned())
    }

    /// The bytes of a string.
    fn string(&mut self, what: &str) -> Result<Range<usize>> {
        let bytes = self.u64(what)?;
        self.take(bytes, what)
    }

    fn kind(&mut self) -> Result<Kind> {
        let number = self.u32("a type")?;
        Kind::of(number).with_context(|| format!("damaged: {number} is no type of a value"))
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let kind = self.kind()?;
        if kind != Kind::Array {
            return Ok(Value { kind, count: None, bytes: self.element(kind, key)? });
        }
        let (of, count) = (self.kind()?, self.u64("the length of an array")?);
        let start = self.at;
        match of.byte_len() {
            Some(each) => {
                let bytes = count.checked_mul(each).context("damaged: an array beyond any file")?;
                self.take(bytes, "an array")?;
            }
            None if of == Kind::Array => bail!("an array of arrays, which no known model has"),
            None => {
                for _ in 0..count {
                    self.string("a string of an array")?;
                }
            }
        }
        Ok(Value { kind: of, count: Some(count), bytes: start..self.at })
    }

    fn element(&mut self, kind: Kind, what: &str) -> Result<Range<usize>> {
        match kind.byte_len() {
            Some(bytes) => self.take(bytes, what),
            None => self.string(what),
        }
    }

    /// A tensor whose `start` is its offset within the data.
    fn tensor(&mut self) -> Result<Tensor> {
        let dimensions = self.u32("the number of dimensions")?;
        ensure!(
            (1..=MAX_DIMENSIONS).contains(&dimensions),
            "damaged: it has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}"
        );
        let mut shape = Vec::with_capacity(dimensions as usize);
        for _ in 0..dimensions {
            shape.push(usize::try_from(self.u64("a dimension")?)?);
        }
        // The innermost dimension comes first in the file.
        shape.reverse();
        let format = format_of(self.u32("the number format")?);
        let start = self.u64("the offset")?;
        Tensor::new(shape, format, 0, start)
    }
}

/// The number formats as the file numbers them.
const FORMATS: &[(u32, NumberFormat)] = {
    use BlockFormat::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    use NumberFormat::{Blocks, Float, Other};
    &[
        (0, Float(Dtype::F32)),
        (1, Float(Dtype::F16)),
        (2, Blocks(Q4_0)),
        (3, Blocks(Q4_1)),
        (6, Blocks(Q5_0)),
        (7, Blocks(Q5_1)),
        (8, Blocks(Q8_0)),
        (9, Other("Q8_1")),
        (10, Other("Q2_K")),
        (11, Other("Q3_K")),
        (12, Blocks(Q4K)),
        (13, Blocks(Q5K)),
        (14, Blocks(Q6K)),
        (15, Other("Q8_K")),
        (16, Other("IQ2_XXS")),
        (17, Other("IQ2_XS")),
        (18, Other("IQ3_XXS")),
        (19, Other("IQ1_S")),
        (20, Other("IQ4_NL")),
        (21, Other("IQ3_S")),
        (22, Other("IQ2_S")),
        (23, Other("IQ4_XS")),
        (24, Other("I8")),
        (25, Other("I16")),
        (26, Other("I32")),
        (27, Other("I64")),
        (28, Other("F64")),
        (29, Other("IQ1_M")),
        (30, Float(Dtype::Bf16)),
        (34, Other("TQ1_0")),
        (35, Other("TQ2_0")),
        (39, Other("MXFP4")),
        (40, Other("NVFP4")),
    ]
};

fn format_of(number: u32) -> NumberFormat {
    let known = FORMATS.iter().find(|(theirs, _)| *theirs == number);
    known.map_or(NumberFormat::Other("a format without a name"), |(_, format)| *format)
}

/// The number of a format that is written.
pub(super) fn number_of(format: NumberFormat) -> u32 {
    let known = FORMATS.iter().find(|(_, ours)| *ours == format);
    known.map(|(number, _)| *number).expect("formats that are written have a number")
}

/// Whether a file is GGUF, by its first bytes or, where it has none, by its name.
pub(in super::super) fn is_gguf(path: &Path) -> bool {
    let mut first = [0; MAGIC.len()];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first));
    (read.is_ok() && &first == MAGIC) || path.extension().is_some_and(|extension| extension == "gguf")
}
