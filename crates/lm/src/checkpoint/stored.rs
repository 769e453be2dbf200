//! Weights that are only read: in blocks where somebody asks for that, or where the model's file has them so.

use anyhow::{Context, Result};
use kernels::{Band, BlockFormat, BlockMatrix};

use super::family::Piece;
use super::model::{Checkpoint, read_tree};
use super::number_format::NumberFormat;
use crate::model::{Config, Leaf, Spec, Weights, fresh, specs};

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
        make: impl FnMut(&Spec, Leaf) -> T,
    ) -> Result<Weights<T>> {
        let blocks = |spec: &Spec, values: &[f32]| match stored {
            Stored::Exactly => Ok(None),
            Stored::In(format) => quantised(spec, format_of(spec, format), values).map(Some),
            Stored::AsInFile => self.blocks_in_file(spec),
        };
        in_blocks(&self.config, &self.specs, |spec| self.read(spec), blocks, make)
    }

    /// A matrix in the blocks of its file, whose values are those that are read otherwise; none where not all of it has
    /// blocks.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn blocks_in_file(&self, spec: &Spec) -> Result<Option<BlockMatrix>> {
        let Some(pieces) = self.pieces_in_blocks(spec) else { return Ok(None) };
        let mut bands = Vec::with_capacity(pieces.len());
        for (piece, format) in pieces {
            let mut bytes = self.tensors.bytes(self.tensors.expect(&piece.name, &piece.shape)?)?;
            piece.make_rows_ours(&mut bytes);
            bands.push(Band { format, rows: piece.shape[0], bytes });
        }
        Ok(Some(BlockMatrix::of_bands(spec.shape[1], bands)))
    }

    /// Whether there are [such blocks](Self::blocks_in_file).
    pub fn is_in_blocks(&self, spec: &Spec) -> bool {
        self.pieces_in_blocks(spec).is_some()
    }

    /// The bytes that the blocks' matrices take less in the blocks of the file than as numbers.
    pub fn spared_bytes(&self) -> u64 {
        let matrices = self.specs.leaves().into_iter().filter(|spec| spec.is_block_matrix());
        let pieces = matrices.filter_map(|spec| self.pieces_in_blocks(spec)).flatten();
        pieces
            .map(|(piece, format)| {
                (size_of::<f32>() * piece.values.len() - format.bytes(piece.values.len())) as u64
            })
            .sum()
    }

    /// The pieces of a matrix in the order of its rows, and their formats; none where one is not in blocks, where rows are
    /// not those of the file, or an adapter is merged into the matrix.
    fn pieces_in_blocks(&self, spec: &Spec) -> Option<Vec<(Piece, BlockFormat)>> {
        if self.adapter.is_some() {
            return None;
        }
        let mut pieces = self.names.pieces(&self.config, spec);
        pieces.sort_by_key(|piece| piece.values.start);
        let of_piece = |piece: Piece| match self.tensors.get(&piece.name)?.format() {
            NumberFormat::Blocks(format) => piece.keeps_rows().then_some((piece, format)),
            _ => None,
        };
        pieces.into_iter().map(of_piece).collect()
    }
}

/// Fresh weights whose matrices of blocks are in this format, as [`stored_weights`](Checkpoint::stored_weights) has those
/// of a model.
///
/// # Errors
/// The format cannot hold one of them.
pub fn fresh_in_blocks<T>(
    config: &Config,
    seed: u64,
    format: BlockFormat,
    make: impl FnMut(&Spec, Leaf) -> T,
) -> Result<Weights<T>> {
    let mut leaf = 0;
    let read = |spec: &Spec| {
        leaf += 1;
        Ok(fresh(spec, seed, leaf))
    };
    let blocks = |spec: &Spec, values: &[f32]| quantised(spec, format_of(spec, format), values).map(Some);
    in_blocks(config, &specs(config), read, blocks, make)
}

/// The format of a leaf where the matrices of blocks are in `format`.
fn format_of(spec: &Spec, format: BlockFormat) -> BlockFormat {
    if spec.is_block_matrix() { format } else { HEAD }
}

/// The weights that `read` gives, of which the matrices of blocks and the head are in `blocks` where it has some.
fn in_blocks<T>(
    config: &Config,
    specs: &Weights<Spec>,
    mut read: impl FnMut(&Spec) -> Result<Vec<f32>>,
    blocks: impl Fn(&Spec, &[f32]) -> Result<Option<BlockMatrix>>,
    mut make: impl FnMut(&Spec, Leaf) -> T,
) -> Result<Weights<T>> {
    let ties = config.tied_head && config.n_label.is_none();
    let mut head = None;
    let mut weights = read_tree(specs, |spec| {
        let values = read(spec)?;
        if ties && spec.name == "wte" {
            head = blocks(spec, &values)?.map(|matrix| make(spec, Leaf::Blocks(matrix)));
        }
        let matrix = match spec.is_block_matrix() || spec.name == "lm_head" {
            true => blocks(spec, &values)?,
            false => None,
        };
        Ok(make(spec, matrix.map_or(Leaf::Values(values), Leaf::Blocks)))
    })?;
    weights.lm_head = weights.lm_head.or(head);
    Ok(weights)
}

/// A matrix in blocks of this format.
///
/// # Errors
/// The format cannot hold one of its values.
pub fn quantised(spec: &Spec, format: BlockFormat, values: &[f32]) -> Result<BlockMatrix> {
    BlockMatrix::quantise(format, values, [spec.shape[0], spec.shape[1]])
        .with_context(|| format!("{} has numbers that {format} cannot hold", spec.name))
}
