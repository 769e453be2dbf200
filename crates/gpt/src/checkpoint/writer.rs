//! Files on their way to the disk, digested as they are written; safetensors one array at a time.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::disk::Disk;
use super::load::file_shape;
use super::manifest::FileRecord;
use super::tensor_file::transpose;
use crate::model::Spec;

/// An array on its way into a file.
pub(super) struct Array<'a, T> {
    pub(super) name: String,
    pub(super) leaf: &'a T,
    pub(super) spec: &'a Spec,
    pub(super) transposed: bool,
}

/// Writes a safetensors file, one array in memory at a time.
pub(super) fn write_arrays<T>(
    disk: &mut Disk<'_>,
    dir: &Path,
    name: &str,
    arrays: Vec<Array<'_, T>>,
    read: &mut dyn FnMut(&T, &mut [f32]),
) -> Result<FileRecord> {
    let mut writer = Writer::create(disk, dir, name)?;
    writer.write(&header(&arrays)?)?;
    let mut values = Vec::new();
    for Array { leaf, spec, transposed, .. } in arrays {
        values.resize(spec.len(), 0.0);
        read(leaf, &mut values);
        if transposed {
            writer.write_values(&transpose(&values, spec.shape[0], spec.shape[1]))?;
        } else {
            writer.write_values(&values)?;
        }
    }
    writer.finish()
}

/// The beginning of a safetensors file: the header's length and the header, padded to a multiple of eight bytes.
fn header<T>(arrays: &[Array<'_, T>]) -> Result<Vec<u8>> {
    let mut end = 0;
    let infos = arrays.iter().map(|array| {
        let start = end;
        end += 4 * array.spec.len();
        let shape = file_shape(array.spec, array.transposed);
        (array.name.clone(), TensorInfo { dtype: Dtype::F32, shape, data_offsets: (start, end) })
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

    fn write_values(&mut self, values: &[f32]) -> Result<()> {
        self.write(bytemuck::cast_slice(values))
    }

    /// Flushes the file to the disk.
    pub(super) fn finish(self) -> Result<FileRecord> {
        self.disk.sync(&self.file, &self.path)?;
        Ok(FileRecord { bytes: self.bytes, blake3: self.hasher.finalize().to_hex().to_string() })
    }
}
