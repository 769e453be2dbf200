//! Files on their way to the disk, digested as they are written; safetensors one array at a time.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Metadata, TensorInfo};

use super::disk::Disk;
use super::dtype::Dtype;
use super::family::Piece;
use super::finite::first_not_finite;
use super::manifest::FileRecord;
use crate::model::Spec;
use kernels::all_finite;

/// Values converted at a time.
const CHUNK: usize = 1 << 18;

/// An array on its way into a file, and the tensors there that it becomes.
pub(super) struct Array<'a, T> {
    pub(super) leaf: &'a T,
    pub(super) spec: &'a Spec,
    pub(super) pieces: Vec<Piece>,
}

/// Writes a safetensors file, one array in memory at a time, and tells of each array whether the file gives
/// back the same bits.
pub(super) fn write_arrays<T>(
    disk: &mut Disk<'_>,
    dir: &Path,
    name: &str,
    arrays: &[Array<'_, T>],
    dtype: Dtype,
    read: &mut dyn FnMut(&T, &mut [f32]),
) -> Result<(FileRecord, Vec<bool>)> {
    let mut writer = Writer::create(disk, dir, name)?;
    writer.write(&header(arrays, dtype)?)?;
    let (mut values, mut exact) = (Vec::new(), Vec::new());
    for Array { leaf, spec, pieces } in arrays {
        values.resize(spec.len(), 0.0);
        read(leaf, &mut values);
        ensure!(
            all_finite(&values),
            "the tensor {} is not finite ({})",
            spec.name,
            first_not_finite(&values, &spec.shape).unwrap_or_default()
        );
        let mut same = true;
        for piece in pieces {
            let values = piece.in_file_order(&values[piece.values.clone()]);
            same &= writer
                .write_values(&values, piece.factor, dtype)
                .with_context(|| format!("the tensor {}", piece.name))?;
        }
        exact.push(same);
    }
    Ok((writer.finish()?, exact))
}

/// The beginning of a safetensors file: the header's length and the header, padded to a multiple of eight
/// bytes.
fn header<T>(arrays: &[Array<'_, T>], dtype: Dtype) -> Result<Vec<u8>> {
    let mut end = 0;
    let infos = arrays.iter().flat_map(|array| &array.pieces).map(|piece| {
        let start = end;
        end += dtype.bytes() * piece.values.len();
        let info =
            TensorInfo { dtype: dtype.safetensors(), shape: piece.shape.clone(), data_offsets: (start, end) };
        (piece.name.clone(), info)
    });
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos.collect()).context("cannot describe the arrays")?;
    let mut json = serde_json::to_vec(&metadata)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes(), json.as_slice()].concat())
}

/// A file on its way to the disk, with its digest.
pub(super) struct Writer<'d, 'w> {
    disk: &'d mut Disk<'w>,
    file: File,
    path: PathBuf,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<'d, 'w> Writer<'d, 'w> {
    pub(super) fn create(disk: &'d mut Disk<'w>, dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        Ok(Writer { file: disk.create(&path)?, disk, path, hasher: blake3::Hasher::new(), bytes: 0 })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.disk.write(&self.file, &self.path, bytes)
    }

    /// Writes values divided by a factor in a format, and tells whether a reader gets the same bits back.
    fn write_values(&mut self, values: &[f32], factor: f32, dtype: Dtype) -> Result<bool> {
        let mut same = true;
        let mut theirs = Vec::new();
        for ours in values.chunks(CHUNK) {
            theirs.clear();
            theirs.extend(ours.iter().map(|value| value / factor));
            let bytes = dtype.encode(&theirs)?;
            self.write(&bytes)?;
            dtype.decode(&mut theirs, &bytes);
            same &= ours.iter().zip(&theirs).all(|(a, b)| a.to_bits() == (b * factor).to_bits());
        }
        Ok(same)
    }

    /// Flushes the file to the disk.
    pub(super) fn finish(self) -> Result<FileRecord> {
        self.disk.sync(&self.file, &self.path)?;
        Ok(FileRecord { bytes: self.bytes, blake3: self.hasher.finalize().to_hex().to_string() })
    }
}
