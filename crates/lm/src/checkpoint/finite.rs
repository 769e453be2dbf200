//! What is not finite in a model's files: NaN and infinite numbers are refused where they are read, by the
//! tensor's name, so that nothing is computed from them. [`Checkpoint::not_finite`] only tells of them.

use anyhow::{Result, bail};

use super::model::Checkpoint;
use super::tensor_file::{Tensor, TensorFiles};

/// The first number that is not finite, and where it stands in a tensor of this shape: `NaN at [3, 17]`.
pub(super) fn first_not_finite(values: &[f32], shape: &[usize]) -> Option<String> {
    let at = values.iter().position(|value| !value.is_finite())?;
    let mut rest = at;
    let mut index: Vec<usize> = shape.iter().rev().map(|side| (rest % side, rest /= side).0).collect();
    index.reverse();
    Some(format!("{} at {index:?}", values[at]))
}

impl TensorFiles {
    /// All values of a tensor, as `f32`, in the file's order; `out` has room for just so many.
    ///
    /// # Errors
    /// A value is NaN or infinite.
    pub(super) fn read_finite(&self, name: &str, tensor: &Tensor, out: &mut [f32]) -> Result<()> {
        if self.read(tensor, out)? {
            return Ok(());
        }
        let first = first_not_finite(out, tensor.shape()).unwrap_or_default();
        bail!(
            "{}: the tensor {name} is not finite ({first}): the model cannot be used; take another checkpoint, or write this one \
             again",
            self.path_of(tensor).display()
        )
    }
}

impl Checkpoint {
    /// The model's tensors that hold NaN or infinite numbers, each with the first one; reads all of them.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn not_finite(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut values = Vec::new();
        for spec in self.specs.leaves() {
            for piece in self.names.pieces(&self.config, spec) {
                let tensor = self.tensors.expect(&piece.name, &piece.shape)?;
                values.resize(piece.values.len(), 0.0);
                if !self.tensors.read(tensor, &mut values)? {
                    let first = first_not_finite(&values, tensor.shape()).unwrap_or_default();
                    found.push(format!("{} ({first})", piece.name));
                }
            }
        }
        Ok(found)
    }
}
