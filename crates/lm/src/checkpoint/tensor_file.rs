//! Reading a model's files tensor by tensor, so that a model is never in memory twice. Safetensors are opened
//! here, GGUF in a module of its own. Files may come from anywhere: every number of the header is held
//! against the length of the file before anything is allocated.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::Metadata;

use super::disk;
use super::number_format::NumberFormat;
use kernels::all_finite;
use text::system;

/// Values converted at a time: whole blocks of every number format.
const CHUNK: usize = 1 << 18;

/// Longest header that is read; the format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// One or several files (the shards of a model) as one set of tensors.
pub(super) struct TensorFiles {
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Tensor>,
}

/// Where a tensor lies and what it is.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    shape: Vec<usize>,
    format: NumberFormat,
    /// Which of the files.
    file: usize,
    /// Its first byte there.
    pub(super) start: u64,
    len: usize,
}

impl Tensor {
    /// A tensor at `start` of the file of this number.
    ///
    /// # Errors
    /// It is beyond what can be counted, or its rows are no whole blocks.
    pub(super) fn new(shape: Vec<usize>, format: NumberFormat, file: usize, start: u64) -> Result<Self> {
        let len = shape.iter().try_fold(1usize, |len, &side| len.checked_mul(side));
        // Bytes have to be counted, too.
        let len = len.filter(|&len| len <= usize::MAX / size_of::<f64>());
        let len = len.with_context(|| format!("the shape {shape:?} is beyond any file"))?;
        let (row, block) = (shape.last().copied().unwrap_or(1), format.block_len());
        ensure!(
            row.is_multiple_of(block),
            "rows of {row} numbers are no whole blocks of {format}, which have {block}"
        );
        Ok(Tensor { shape, format, file, start, len })
    }

    /// How its numbers lie in the file.
    pub(super) fn format(&self) -> NumberFormat {
        self.format
    }

    /// Its shape.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its bytes in the file; none in a format that is not read here.
    pub(super) fn byte_len(&self) -> Option<u64> {
        Some((self.len / self.format.block_len() * self.format.block_bytes()?) as u64)
    }
}

impl TensorFiles {
    /// The tensors of a file that was opened and understood elsewhere.
    pub(super) fn new(path: PathBuf, file: File, tensors: BTreeMap<String, Tensor>) -> Self {
        TensorFiles { files: vec![(path, file)], tensors }
    }

    /// Opens safetensors files and reads their headers; a tensor's name becomes `rename(name)`.
    ///
    /// # Errors
    /// A file is not safetensors, is shorter or longer than its header says, or two tensors have one name.
    pub(super) fn open(paths: &[PathBuf], rename: impl Fn(&str) -> String) -> Result<Self> {
        let mut all = TensorFiles { files: Vec::new(), tensors: BTreeMap::new() };
        for path in paths {
            let file = disk::open(path)?;
            let (header, data_start) = read_header(&file).with_context(|| path.display().to_string())?;
            for (name, info) in header.tensors() {
                let start = data_start + info.data_offsets.0 as u64;
                let tensor = Tensor::new(info.shape.clone(), info.dtype.into(), all.files.len(), start)
                    .with_context(|| format!("{}: the tensor {name}", path.display()))?;
                let name = rename(&name);
                if all.tensors.insert(name.clone(), tensor).is_some() {
                    bail!("{}: the tensor {name} is there twice", path.display());
                }
            }
            all.files.push((path.clone(), file));
        }
        Ok(all)
    }

    /// BLAKE3 of all files, one after another.
    pub(super) fn digest(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for (path, _) in &self.files {
            let file = disk::open(path)?;
            hasher.update_reader(file).with_context(|| format!("cannot read {}", path.display()))?;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Every name, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Every number format among them, sorted.
    pub(super) fn dtypes(&self) -> Vec<String> {
        let all: BTreeSet<String> = self.tensors.values().map(|tensor| tensor.format.to_string()).collect();
        all.into_iter().collect()
    }

    /// Whether there is a tensor of this name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor of this name, whatever it holds.
    pub(super) fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Number of tensors.
    pub(super) fn len(&self) -> usize {
        self.tensors.len()
    }

    /// The file that holds the tensor of this name.
    pub(super) fn file_of(&self, name: &str) -> Option<&Path> {
        self.tensors.get(name).map(|tensor| self.files[tensor.file].0.as_path())
    }

    /// The file that holds a tensor.
    pub(super) fn path_of(&self, tensor: &Tensor) -> &Path {
        &self.files[tensor.file].0
    }

    /// The tensor of this name, which must have this shape and numbers that can be read.
    pub(super) fn expect(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        let files =
            || self.files.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let Some(tensor) = self.tensors.get(name) else {
            let there: Vec<&str> = self.names().take(3).collect();
            bail!(
                "{}: the tensor {name} is missing; there are {}: {} …",
                files(),
                self.len(),
                there.join(", ")
            );
        };
        let path = self.files[tensor.file].0.display();
        ensure!(
            tensor.shape == shape,
            "{path}: the tensor {name} has shape {:?}, the configuration asks for {shape:?}",
            tensor.shape
        );
        ensure!(
            tensor.format.block_bytes().is_some(),
            "{path}: the tensor {name} holds {}; readable are {}",
            tensor.format,
            NumberFormat::READABLE
        );
        Ok(tensor)
    }

    /// All values of a tensor, as `f32`, in the file's order; `out` has room for just so many. Tells whether
    /// all are finite.
    pub(super) fn read(&self, tensor: &Tensor, out: &mut [f32]) -> Result<bool> {
        assert_eq!(out.len(), tensor.len, "room for another number of values");
        let (mut start, mut finite) = (0, true);
        for chunk in out.chunks_mut(CHUNK) {
            self.read_range(tensor, start, chunk)?;
            // While the values are in a near cache.
            finite &= all_finite(chunk);
            start += chunk.len();
        }
        Ok(finite)
    }

    /// The bytes of a tensor as they are in the file.
    pub(super) fn bytes(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        let (path, file) = &self.files[tensor.file];
        let Some(len) = tensor.byte_len() else { panic!("a tensor of {} was not refused", tensor.format) };
        let mut bytes = vec![0; len as usize];
        system::read_exact_at(file, &mut bytes, tensor.start)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(bytes)
    }

    /// Whether two tensors hold the same bits, as `f32`.
    pub(super) fn equal(&self, a: &Tensor, b: &Tensor) -> Result<bool> {
        if a.shape != b.shape {
            return Ok(false);
        }
        let (mut left, mut right) = (vec![0.0; CHUNK.min(a.len)], vec![0.0; CHUNK.min(a.len)]);
        for start in (0..a.len).step_by(CHUNK) {
            let len = CHUNK.min(a.len - start);
            self.read_range(a, start, &mut left[..len])?;
            self.read_range(b, start, &mut right[..len])?;
            if left[..len].iter().zip(&right[..len]).any(|(x, y)| x.to_bits() != y.to_bits()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The values `start ..` of a tensor, as many as `out` holds; both are whole blocks.
    fn read_range(&self, tensor: &Tensor, start: usize, out: &mut [f32]) -> Result<()> {
        let (path, file) = &self.files[tensor.file];
        let format = tensor.format;
        let Some(block_bytes) = format.block_bytes() else { panic!("a tensor of {format} was not refused") };
        let bytes_of = |values: usize| values / format.block_len() * block_bytes;
        let mut bytes = vec![0; bytes_of(out.len())];
        system::read_exact_at(file, &mut bytes, tensor.start + bytes_of(start) as u64)
            .with_context(|| format!("cannot read {}", path.display()))?;
        format.decode(out, &bytes);
        Ok(())
    }
}

/// The header of a safetensors file and where its data begin.
fn read_header(file: &File) -> Result<(Metadata, u64)> {
    let file_bytes = file.metadata()?.len();
    let mut length = [0; 8];
    ensure!(file_bytes >= 8, "{file_bytes} bytes are too few for a safetensors file: it was cut off");
    system::read_exact_at(file, &mut length, 0)?;
    let length = u64::from_le_bytes(length);
    ensure!(
        length <= file_bytes - 8 && length <= MAX_HEADER_BYTES,
        "not a safetensors file, or cut off: its header would have {length} bytes, the file has {file_bytes}"
    );
    let header: Range<u64> = 8..8 + length;
    let mut json = vec![0; length as usize];
    system::read_exact_at(file, &mut json, header.start)?;
    let metadata: Metadata = serde_json::from_slice(&json).context("the safetensors header is damaged")?;
    let expected = header.end + metadata.data_len() as u64;
    ensure!(
        file_bytes == expected,
        "cut off or overlong: the header describes {expected} bytes, the file has {file_bytes}"
    );
    Ok((metadata, header.end))
}
