//! The golden directories with other tensors and another configuration.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::super::*;
use super::{golden_dir, open};

/// A tensor of a file that a test changes.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

pub(super) type Tensors = BTreeMap<String, Raw>;

pub(super) fn parse(bytes: &[u8]) -> Tensors {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let raw = |view: &TensorView<'_>| Raw {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    file.tensors().iter().map(|(name, view)| (name.clone(), raw(view))).collect()
}

pub(super) fn write(path: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, raw)| (name, TensorView::new(raw.dtype, raw.shape.clone(), &raw.bytes).unwrap()));
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

pub(super) fn floats(raw: &Raw) -> Vec<f32> {
    raw.bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// The golden directory of a family with other tensors and another configuration.
pub(super) fn variant(
    family: &str,
    tensors: impl FnOnce(&mut Tensors),
    config: impl FnOnce(&mut Value),
) -> TempDir {
    let dir = tempdir().unwrap();
    let mut all = parse(&fs::read(golden_dir(family).join(MODEL)).unwrap());
    tensors(&mut all);
    write(&dir.path().join(MODEL), &all);
    let mut json = serde_json::from_slice(&fs::read(golden_dir(family).join(CONFIG)).unwrap()).unwrap();
    config(&mut json);
    fs::write(dir.path().join(CONFIG), json.to_string()).unwrap();
    dir
}

/// What is said about it.
pub(super) fn refusal(
    family: &str,
    tensors: impl FnOnce(&mut Tensors),
    config: impl FnOnce(&mut Value),
) -> String {
    let dir = variant(family, tensors, config);
    format!("{:#}", open(dir.path()).err().expect("the directory is refused"))
}

pub(super) fn keep<T>(_: &mut T) {}
