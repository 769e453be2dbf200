//! Low-rank adapters: one more tree of arrays beside weights that stay as they are (LoRA, Hu et al. 2021).
//!
//! A pair stands beside a matrix: `y = x Wᵀ + scale · (x Aᵀ) Bᵀ`. A matrix of ours may be several of a file's
//! (queries, keys and values in one product), and each of these *pieces* has low-rank factors of its own. Those
//! are rows of one `A`, and blocks of one `B` that is zero outside of them, so that a pair is two products
//! however many pieces it has; gradients outside of the blocks are [masked](Pair::mask).

use super::{Init, Lora, Spec, Weights};
use kernels::{Backend, BlockFormat};
use std::ops::Range;

/// Of the four matrices of a block, in the order of [`Config::products`](super::Config::products).
pub type OfMatrices<X> = [Option<X>; 4];

/// Their names in the tree of weights.
pub const MATRICES: [&str; 4] = ["qkv", "attn_out", "mlp_up", "mlp_down"];

/// The adapters of a model. `T` is a tensor, a gradient, a moment, a [`Spec`] …
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter<T> {
    /// What it was asked to be.
    pub lora: Lora,
    /// How the matrices of blocks are stored that it is trained beside (QLoRA, Dettmers et al. 2023).
    pub base: BaseStorage,
    /// Its pairs, block by block.
    pub blocks: Vec<OfMatrices<Pair<T>>>,
}

/// How the matrices of blocks are stored beside which an adapter is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseStorage {
    /// With the values of the model's file: as numbers, or in the blocks that it has, which take so many bytes less.
    AsItIs {
        /// Those bytes.
        spared: u64,
    },
    /// In blocks of this format.
    In(BlockFormat),
}

impl BaseStorage {
    /// As numbers.
    pub const NUMBERS: BaseStorage = BaseStorage::AsItIs { spared: 0 };

    /// Whether some of it is in blocks.
    pub fn is_in_blocks(self) -> bool {
        self != Self::NUMBERS
    }
}

/// What stands beside a matrix. Its rank is the sum of its pieces'.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair<T> {
    /// Its shape.
    pub shape: PairShape,
    /// `A`, `[rank, d_in]`: the pieces' one after another.
    pub a: T,
    /// `B`, `[d_out, rank]`: a piece's rows and columns hold its own, all else is zero.
    pub b: T,
    /// With DoRA, the magnitudes `[d_out]` of the rows of the merged matrix; those of no piece stay what they are.
    pub magnitude: Option<T>,
}

/// The shape of a pair.
#[derive(Clone, Debug, PartialEq)]
pub struct PairShape {
    /// Columns of the matrix.
    pub d_in: usize,
    /// Rows of the matrix.
    pub d_out: usize,
    /// What the product of `A` and `B` is multiplied by.
    pub scale: f32,
    /// Its pieces, first to last.
    pub pieces: Vec<LowRank>,
}

/// A piece of a matrix that is adapted.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Its rows of the matrix.
    pub rows: Range<usize>,
    /// Its rank.
    pub rank: usize,
}

impl PairShape {
    /// The sum of the pieces' ranks.
    pub fn rank(&self) -> usize {
        self.pieces.iter().map(|piece| piece.rank).sum()
    }

    /// Where in `B` a piece's values are: its rows and its columns.
    pub fn blocks(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        self.pieces.iter().scan(0, |first, piece| {
            let columns = *first..*first + piece.rank;
            *first = columns.end;
            Some((piece.rows.clone(), columns))
        })
    }

    /// The values of `B` that are learned, as numbers of stretches of the returned width; none where that is all
    /// of it.
    pub fn mask(&self) -> Option<(Vec<u32>, usize)> {
        let rank = self.rank();
        if self.blocks().map(|(rows, columns)| rows.len() * columns.len()).sum::<usize>() == self.d_out * rank
        {
            return None;
        }
        let width = self.pieces.iter().fold(0, |width, piece| gcd(width, piece.rank));
        let stretches = self.blocks().flat_map(|(rows, columns)| {
            rows.flat_map(move |row| {
                columns.clone().step_by(width).map(move |column| ((row * rank + column) / width) as u32)
            })
        });
        Some((stretches.collect(), width))
    }

    /// The rows of the matrix that are adapted; none where all are.
    pub fn row_mask(&self) -> Option<Vec<u32>> {
        let rows = || self.pieces.iter().flat_map(|piece| piece.rows.clone()).map(|row| row as u32);
        (rows().count() < self.d_out).then(|| rows().collect())
    }

    /// `W + scale · B A`, in place, or with magnitudes its rows scaled to them: sums in `f64`, rounded once.
    pub fn merge(&self, weight: &mut [f32], a: &[f32], b: &[f32], magnitude: Option<&[f32]>) {
        let (rank, d_in, scale) = (self.rank(), self.d_in, f64::from(self.scale));
        let mut sum = vec![0.0f64; d_in];
        for (rows, columns) in self.blocks() {
            for row in rows {
                sum.fill(0.0);
                for column in columns.clone() {
                    let factor = f64::from(b[row * rank + column]);
                    let a = &a[column * d_in..][..d_in];
                    sum.iter_mut().zip(a).for_each(|(sum, &a)| *sum += factor * f64::from(a));
                }
                let weights = &mut weight[row * d_in..][..d_in];
                sum.iter_mut().zip(&*weights).for_each(|(sum, w)| *sum = f64::from(*w) + scale * *sum);
                let norm = || sum.iter().map(|x| x * x).sum::<f64>().sqrt();
                let gain = magnitude.map_or(1.0, |magnitude| f64::from(magnitude[row]) / norm());
                weights.iter_mut().zip(&sum).for_each(|(w, sum)| *w = (gain * sum) as f32);
            }
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl<T> Pair<T> {
    fn collect<'a>(&'a self, leaves: &mut Vec<&'a T>) {
        let Pair { shape: _, a, b, magnitude } = self;
        leaves.extend([a, b]);
        leaves.extend(magnitude);
    }

    fn collect_mut<'a>(&'a mut self, leaves: &mut Vec<&'a mut T>) {
        let Pair { shape: _, a, b, magnitude } = self;
        leaves.extend([a, b]);
        leaves.extend(magnitude);
    }

    fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> Pair<U> {
        let Pair { shape, a, b, magnitude } = self;
        Pair { shape: shape.clone(), a: f(a), b: f(b), magnitude: magnitude.as_ref().map(f) }
    }
}

impl<T> Adapter<T> {
    /// Its pairs with the number of the block and of the matrix that each stands beside.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, &Pair<T>)> {
        self.blocks.iter().enumerate().flat_map(|(block, pairs)| {
            pairs.iter().enumerate().filter_map(move |(matrix, pair)| Some((block, matrix, pair.as_ref()?)))
        })
    }

    /// Numbers that are learned.
    pub fn learned(&self) -> usize {
        let of_piece = |shape: &PairShape, piece: &LowRank| {
            let magnitudes = if self.lora.dora { piece.rows.len() } else { 0 };
            piece.rank * (shape.d_in + piece.rows.len()) + magnitudes
        };
        let of_pair =
            |shape: &PairShape| shape.pieces.iter().map(|piece| of_piece(shape, piece)).sum::<usize>();
        self.pairs().map(|(.., pair)| of_pair(&pair.shape)).sum()
    }

    /// What stands beside the matrix `name` of the tree of weights, such as `blocks.0.qkv.weight`.
    pub fn beside(&self, name: &str) -> Option<&Pair<T>> {
        self.pairs().find(|(block, matrix, _)| name == weight_name(*block, *matrix)).map(|(_, _, pair)| pair)
    }

    pub(super) fn collect<'a>(&'a self, leaves: &mut Vec<&'a T>) {
        self.blocks.iter().flatten().flatten().for_each(|pair| pair.collect(leaves));
    }

    pub(super) fn collect_mut<'a>(&'a mut self, leaves: &mut Vec<&'a mut T>) {
        self.blocks.iter_mut().flatten().flatten().for_each(|pair| pair.collect_mut(leaves));
    }

    /// All leaves, in the order in which they are among those of the weights.
    pub fn leaves(&self) -> Vec<&T> {
        let mut leaves = Vec::new();
        self.collect(&mut leaves);
        leaves
    }

    /// The same tree with other leaves.
    pub fn map<U>(&self, mut f: impl FnMut(&T) -> U) -> Adapter<U> {
        let block =
            |pairs: &OfMatrices<Pair<T>>| pairs.each_ref().map(|pair| Some(pair.as_ref()?.map(&mut f)));
        Adapter { lora: self.lora.clone(), base: self.base, blocks: self.blocks.iter().map(block).collect() }
    }
}

impl<T, E> Adapter<Result<T, E>> {
    /// The tree, or the first error in it.
    ///
    /// # Errors
    /// That one.
    pub fn transposed(self) -> Result<Adapter<T>, E> {
        let pair = |Pair { shape, a, b, magnitude }: Pair<Result<T, E>>| {
            Ok(Pair { shape, a: a?, b: b?, magnitude: magnitude.transpose()? })
        };
        let block = |pairs: OfMatrices<Pair<Result<T, E>>>| -> Result<OfMatrices<Pair<T>>, E> {
            let [qkv, attn_out, mlp_up, mlp_down] = pairs.map(|of| of.map(pair).transpose());
            Ok([qkv?, attn_out?, mlp_up?, mlp_down?])
        };
        let blocks = self.blocks.into_iter().map(block).collect::<Result<_, E>>()?;
        Ok(Adapter { lora: self.lora, base: self.base, blocks })
    }
}

/// The name of a matrix in the tree of weights.
pub fn weight_name(block: usize, matrix: usize) -> String {
    format!("blocks.{block}.{}.weight", MATRICES[matrix])
}

/// Of an adapter's leaf, what it is called after its matrix.
const LORA: &str = "lora_";

impl Spec {
    /// Whether the leaf is an adapter's.
    pub fn is_adapter(&self) -> bool {
        self.name.rsplit('.').next().is_some_and(|last| last.starts_with(LORA))
    }
}

/// Describes every array of an adapter. `A` begins as PEFT's, U(−1/√d_in, 1/√d_in), and `B` at zero, so that the
/// model begins as it is.
pub fn adapter_specs<T>(adapter: &Adapter<T>) -> Adapter<Spec> {
    let pair = |block: usize, matrix: usize, pair: &Pair<T>| {
        let shape = &pair.shape;
        let leaf = |name: &str, rows, columns, init| Spec {
            name: format!("blocks.{block}.{}.{LORA}{name}", MATRICES[matrix]),
            shape: vec![rows, columns],
            init,
            decay: true,
        };
        let bound = 1.0 / (shape.d_in as f32).sqrt();
        let magnitude = Spec {
            name: format!("blocks.{block}.{}.{LORA}magnitude", MATRICES[matrix]),
            shape: vec![shape.d_out],
            // Those of the matrix as it is, which only who has it knows.
            init: Init::Constant(1.0),
            decay: false,
        };
        Pair {
            a: leaf("a", shape.rank(), shape.d_in, Init::Uniform(bound)),
            b: leaf("b", shape.d_out, shape.rank(), Init::Constant(0.0)),
            magnitude: pair.magnitude.as_ref().map(|_| magnitude),
            shape: shape.clone(),
        }
    };
    let blocks = adapter.blocks.iter().enumerate();
    Adapter {
        lora: adapter.lora.clone(),
        base: adapter.base,
        blocks: blocks
            .map(|(block, pairs)| {
                std::array::from_fn(|matrix| Some(pair(block, matrix, pairs[matrix].as_ref()?)))
            })
            .collect(),
    }
}

/// Makes magnitudes those of the matrices as they are: of all rows of a fresh adapter, else of those that are not
/// adapted.
pub fn set_magnitudes<B: Backend>(b: &mut B, weights: &mut Weights<B::Tensor>, fresh: bool) {
    let Weights { blocks, adapter: Some(adapter), .. } = weights else { return };
    for (block, pairs) in blocks.iter().zip(&mut adapter.blocks) {
        let matrices = [&block.qkv, &block.attn_out, &block.mlp_up, &block.mlp_down];
        for (matrix, pair) in matrices.into_iter().zip(pairs) {
            let Some(Pair { shape, magnitude: Some(magnitude), .. }) = pair else { continue };
            let mut values = vec![0.0; shape.d_out];
            b.download(&mut values, magnitude);
            let mut matrix_values = vec![0.0; shape.d_out * shape.d_in];
            b.download(&mut matrix_values, &matrix.weight);
            let is_adapted = |row: &usize| shape.pieces.iter().any(|piece| piece.rows.contains(row));
            for row in (0..shape.d_out).filter(|row| fresh || !is_adapted(row)) {
                let row_values = &matrix_values[row * shape.d_in..][..shape.d_in];
                values[row] = row_values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() as f32;
            }
            b.upload(magnitude, &values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> PairShape {
        let pieces = vec![LowRank { rows: 0..2, rank: 4 }, LowRank { rows: 3..4, rank: 2 }];
        PairShape { d_in: 3, d_out: 4, scale: 2.0, pieces }
    }

    #[test]
    fn the_mask_is_what_pieces_have() {
        let (stretches, width) = shape().mask().unwrap();
        assert_eq!((stretches, width), (vec![0, 1, 3, 4, 11], 2), "rows of three stretches of two");
        let whole = PairShape { pieces: vec![LowRank { rows: 0..4, rank: 3 }], ..shape() };
        assert_eq!(whole.mask(), None);
    }

    /// PEFT's merge of W, A and B with alpha 4 and rank 2; the third row is nobody's.
    #[test]
    fn merged_are_the_matrices_of_peft() {
        let pieces = vec![LowRank { rows: 0..2, rank: 2 }];
        let shape = PairShape { d_in: 3, d_out: 3, scale: 2.0, pieces };
        let weight = [1.0, 2.0, -1.0, 0.5, 0.0, 1.0, 7.0, 8.0, 9.0];
        let (a, b) = ([0.1, -0.2, 0.3, 0.4, 0.0, -0.1], [1.0, 0.5, -0.5, 2.0, 5.0, 5.0]);
        let magnitude = [6f32.sqrt(), 1.25f32.sqrt(), 100.0];
        let lora = [1.6, 1.6, -0.5, 2.0, 0.2, 0.3, 7.0, 8.0, 9.0];
        let dora = [1.6912526, 1.6912526, -0.5285164, 1.1002971, 0.1100297, 0.1650445, 7.0, 8.0, 9.0];
        for (magnitude, expected) in [(None, lora), (Some(&magnitude[..]), dora)] {
            let mut merged = weight;
            shape.merge(&mut merged, &a, &b, magnitude);
            for (merged, expected) in merged.iter().zip(expected) {
                assert!((merged - expected).abs() < 1e-6, "{merged} {expected}");
            }
        }
    }
}
