//! Weights that are only read: in blocks where somebody asks for that, or where the model's file has them so.

use anyhow::{Context, Result};
use kernels::{BlockFormat, BlockMatrix};

use super::model::{Checkpoint, read_tree};
use super::number_format::NumberFormat;
use crate::model::{Leaf, Spec, Weights, specs};

/// How weights are stored that are only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As numbers.
    Exactly,
    /// In the blocks that a GGUF file has; what is in others, or in none, as numbers.
    AsInFile,
    /// The matrices of blocks in this format, and the head in q8_0.
    In(BlockFormat),
}

/// The format of a head beside matrices in blocks: its errors go straight into the logits.
const HEAD: BlockFormat = BlockFormat::Q8_0;

impl Checkpoint {
    /// The weights for reading, leaf by leaf. The head of a model whose head is its embedding is a leaf of its own
    /// where it is in blocks, since an embedding's rows are read one by one.
    ///
    /// # Errors
    /// They cannot be read, or the format cannot hold one of them.
    pub fn stored_weights<T>(
        &self,
        stored: Stored,
        mut make: impl FnMut(&Spec, Leaf) -> T,
    ) -> Result<Weights<T>> {
        let ties = self.config.tied_head && self.config.n_label.is_none();
        let mut head = None;
        let mut weights = read_tree(&self.specs, |spec| {
            let values = self.read(spec)?;
            if ties && spec.name == "wte" {
                let blocks = self.blocks(spec, stored, HEAD, &values)?;
                head = blocks.map(|matrix| make(spec, Leaf::Blocks(matrix)));
            }
            let matrix = match (spec.is_block_matrix(), spec.name.as_str(), stored) {
                (true, _, Stored::In(format)) => self.blocks(spec, stored, format, &values)?,
                (true, ..) | (_, "lm_head", _) => self.blocks(spec, stored, HEAD, &values)?,
                _ => None,
            };
            Ok(make(spec, matrix.map_or(Leaf::Values(values), Leaf::Blocks)))
        })?;
        weights.lm_head = weights.lm_head.or(head);
        Ok(weights)
    }

    /// A matrix in blocks: in `format` where blocks are asked for; in those of its file if all of it has them.
    fn blocks(
        &self,
        spec: &Spec,
        stored: Stored,
        format: BlockFormat,
        values: &[f32],
    ) -> Result<Option<BlockMatrix>> {
        let quantise = |format| BlockMatrix::quantise(format, values, [spec.shape[0], spec.shape[1]]);
        match stored {
            Stored::Exactly => Ok(None),
            Stored::In(_) => {
                let cannot = || format!("{} has numbers that {format} cannot hold", spec.name);
                quantise(format).map(Some).with_context(cannot)
            }
            // The same blocks come out again, in our order of rows; where others do, those of the file are not ours.
            Stored::AsInFile => {
                let matrix = self.format_in_file(spec).and_then(quantise);
                Ok(matrix.filter(|matrix| matrix.values() == values))
            }
        }
    }

    /// The format of blocks that all tensors have which a leaf is made of.
    fn format_in_file(&self, spec: &Spec) -> Option<BlockFormat> {
        let mut formats = self.number_formats(spec).into_iter();
        let first = formats.next().filter(|_| self.adapter.is_none())?;
        let format = match first {
            NumberFormat::Q8_0 => BlockFormat::Q8_0,
            NumberFormat::Q4_0 => BlockFormat::Q4_0,
            _ => return None,
        };
        formats.all(|other| other == first).then_some(format)
    }

    fn number_formats(&self, spec: &Spec) -> Vec<NumberFormat> {
        let pieces = self.names.pieces(&self.config, spec);
        pieces.iter().filter_map(|piece| Some(self.tensors.get(&piece.name)?.format())).collect()
    }

    /// What a person should know of a file whose blocks do not all stay in blocks.
    pub fn unpacked_note(&self) -> Option<String> {
        let unpacked = |format: &NumberFormat| {
            !matches!(format, NumberFormat::Float(_) | NumberFormat::Q8_0 | NumberFormat::Q4_0)
        };
        let specs = specs(&self.config);
        let matrices = specs.leaves().into_iter().filter(|spec| spec.is_block_matrix());
        let mut names: Vec<String> = matrices
            .flat_map(|spec| self.number_formats(spec))
            .filter(unpacked)
            .map(|f| f.to_string())
            .collect();
        names.sort();
        names.dedup();
        (!names.is_empty()).then(|| {
            format!(
                "the file's {} become numbers of 32 bits in memory, only q8_0 and q4_0 stay in blocks: --weights q4_0 or q8_0 \
                 stores all of them so",
                names.join(" and ")
            )
        })
    }
}
