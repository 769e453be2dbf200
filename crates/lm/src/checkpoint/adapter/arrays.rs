//! The factors of a file in our arrays, and ours as tensors of a file.

use std::collections::HashMap;

use anyhow::{Context, Result};
use safetensors::tensor::{Dtype, TensorView};

use super::super::tensor_file::TensorFiles;
use super::Layout;
use crate::model::PairShape;

/// What the two factors are called after their matrix.
pub(super) const FACTORS: [&str; 2] = ["lora_A.weight", "lora_B.weight"];

/// What DoRA's magnitudes are called.
pub(super) const MAGNITUDE: &str = "lora_magnitude_vector";

/// A tensor of the model in a file of PEFT's.
pub(super) fn full_name(name: &str) -> String {
    format!("base_model.model.{name}")
}

/// Our `A` and `B` beside a matrix of a block.
pub(super) fn read_pair(
    layout: &Layout,
    tensors: &TensorFiles,
    block: usize,
    matrix: usize,
    shape: &PairShape,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let (rank, d_in) = (shape.rank(), shape.d_in);
    let (mut a, mut b) = (vec![0.0; rank * d_in], vec![0.0; shape.d_out * rank]);
    for module in layout.of(block, matrix) {
        let names = FACTORS.map(|factor| full_name(&format!("{}.{factor}", module.name)));
        let of_a = &mut a[module.columns.start * d_in..module.columns.end * d_in];
        tensors.read_finite(&names[0], tensors.expect(&names[0], &[module.rank, d_in])?, of_a)?;
        let mut theirs = vec![0.0; module.rows.len() * module.rank];
        let tensor = tensors.expect(&names[1], &[module.rows.len(), module.rank])?;
        tensors.read_finite(&names[1], tensor, &mut theirs)?;
        for (row, theirs) in module.rows.clone().zip(theirs.chunks_exact(module.rank)) {
            let ours = &mut b[row * rank..][module.columns.clone()];
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours = theirs * module.ratio);
        }
    }
    Ok((a, b))
}

/// Our magnitudes beside a matrix of a block: those of the file, and of rows that are not adapted the norms of the
/// base's, which are `1` here until who has it says so.
pub(super) fn read_magnitude(
    layout: &Layout,
    tensors: &TensorFiles,
    block: usize,
    matrix: usize,
    d_out: usize,
) -> Result<Vec<f32>> {
    let mut ours = vec![1.0; d_out];
    for module in layout.of(block, matrix) {
        let name = full_name(&format!("{}.{MAGNITUDE}", module.name));
        let of_module = &mut ours[module.rows.clone()];
        tensors.read_finite(&name, tensors.expect(&name, &[module.rows.len()])?, of_module)?;
        of_module.iter_mut().for_each(|value| *value *= module.factor);
    }
    Ok(ours)
}

/// The tensors of a file that our magnitudes are, and whether a reader gets the same bits back.
pub(super) fn pieces_of_magnitude(
    layout: &Layout,
    (block, matrix): (usize, usize),
    magnitude: &[f32],
) -> (Vec<Piece>, bool) {
    let (mut pieces, mut exact) = (Vec::new(), true);
    for module in layout.of(block, matrix) {
        let ours = &magnitude[module.rows.clone()];
        let theirs: Vec<f32> = ours.iter().map(|value| value / module.factor).collect();
        exact &= ours.iter().zip(&theirs).all(|(a, b)| a.to_bits() == (b * module.factor).to_bits());
        pieces.push((full_name(&format!("{}.{MAGNITUDE}", module.name)), vec![ours.len()], theirs));
    }
    // Rows that are not adapted are in no file.
    (pieces, exact && layout.covers(block, matrix, magnitude.len()))
}

/// A tensor of a file: its name, shape and values.
pub(super) type Piece = (String, Vec<usize>, Vec<f32>);

/// Our `A` and `B` beside a matrix of a block as the tensors of a file, and whether a reader gets the same bits
/// of `B` back.
pub(super) fn pieces_of(
    layout: &Layout,
    (block, matrix): (usize, usize),
    shape: &PairShape,
    a: &[f32],
    b: &[f32],
) -> (Vec<Piece>, bool) {
    let (rank, d_in, mut exact) = (shape.rank(), shape.d_in, true);
    let mut pieces = Vec::new();
    for module in layout.of(block, matrix) {
        let names = FACTORS.map(|factor| full_name(&format!("{}.{factor}", module.name)));
        let of_a = a[module.columns.start * d_in..module.columns.end * d_in].to_vec();
        let ours = module.rows.clone().flat_map(|row| &b[row * rank..][module.columns.clone()]);
        let theirs: Vec<f32> = ours.clone().map(|ours| ours / module.ratio).collect();
        exact &= ours.zip(&theirs).all(|(a, b)| a.to_bits() == (b * module.ratio).to_bits());
        let [name_a, name_b] = names;
        pieces.push((name_a, vec![module.rank, d_in], of_a));
        pieces.push((name_b, vec![module.rows.len(), module.rank], theirs));
    }
    (pieces, exact)
}

/// A safetensors file of `f32`.
pub(super) fn to_bytes(pieces: &[Piece]) -> Result<Vec<u8>> {
    let mut views = Vec::new();
    for (name, shape, values) in pieces {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
        views.push((name, view.context("cannot describe the arrays")?));
    }
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(format)).context("cannot write the arrays")
}
