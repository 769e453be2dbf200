//! How much memory training takes, estimated before any of it is allocated.
//!
//! It follows the buffers of `gpt.rs` and of `block/`: whoever adds one there adds it here. A test measures
//! what training really takes and holds this to it.

use super::block::norm::stats_width;

use super::{Adapter, BaseStorage, Config, Lora, MATRICES, Method, NormPlace, PairShape, Spec, maps};

/// Bytes of a number that is kept exactly.
pub const EXACT_BYTES: u64 = 4;

/// Tokens of a pass at most, where a sequence is not longer: more make products no faster.
pub const PASS_TOKENS: usize = 4096;
/// Fewest tokens of a pass: with less, reading the weights is what takes the time.
pub const LEAST_PASS_TOKENS: usize = 256;
/// What a pass may keep at most, where more than the fewest tokens would.
const PASS_BYTES: u64 = 1_500_000_000;

/// What a pass leaves in memory of every block for the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Its input and its insides.
    Blocks,
    /// Its input: the insides are computed again in the backward pass, those of one block at a time (Chen et al. 2016,
    /// "Training Deep Nets with Sublinear Memory Cost").
    Inputs,
}

impl Keep {
    /// As a recipe says it.
    pub fn of(recompute: bool) -> Self {
        if recompute { Keep::Inputs } else { Keep::Blocks }
    }

    /// Of how many blocks of a model the insides are in memory at once.
    pub(super) fn blocks(self, config: &Config) -> usize {
        match self {
            Keep::Blocks => config.n_layer,
            Keep::Inputs => config.n_layer.min(1),
        }
    }
}

/// A pass through a model, forward and backward, as memory sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Its tokens.
    pub rows: usize,
    /// Bytes of a value between operations: 4, or 2 for bfloat16.
    pub activation_bytes: u64,
    /// What it keeps.
    pub keep: Keep,
}

impl Pass {
    /// One that keeps the insides of all blocks.
    pub fn new(rows: usize, activation_bytes: u64) -> Self {
        Pass { rows, activation_bytes, keep: Keep::Blocks }
    }

    /// The same that keeps as much as is said.
    pub fn keeping(self, keep: Keep) -> Self {
        Pass { keep, ..self }
    }
}

/// Bytes that training takes, besides the backend's working memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingMemory {
    /// Weights, gradients, those of lanes that wait, and the optimizer's moments: AdamW's two, unless it is [another](Self::by).
    pub state_bytes: u64,
    /// What a micro-batch leaves for its backward pass, and the gradients between operations.
    pub pass_bytes: u64,
}

impl TrainingMemory {
    /// Both.
    pub fn bytes(&self) -> u64 {
        self.state_bytes + self.pass_bytes
    }

    /// The same with another optimizer for all of `config`: Muon has no second moment of what it learns, and works with the
    /// momentum of an array, two of its maps and two squares of their shorter side.
    pub fn by(self, method: Method, config: &Config) -> Self {
        let specs = super::specs(config);
        let matrices = || specs.leaves().into_iter().filter(|spec| method.is_muons(spec));
        let maps =
            matrices().flat_map(|spec| maps(config, spec).into_iter().map(|map| [map.len(), spec.shape[1]]));
        let (mut map, mut square) = (0, 0);
        for [rows, columns] in maps {
            map = map.max(rows * columns);
            square = square.max(rows.min(columns).pow(2));
        }
        let works_with = matrices().map(Spec::len).max().unwrap_or(0) + 2 * map + 2 * square;
        let spared: usize = matrices().map(Spec::len).sum();
        let state_bytes = self.state_bytes + EXACT_BYTES * works_with as u64 - EXACT_BYTES * spared as u64;
        TrainingMemory { state_bytes, ..self }
    }
}

impl Config {
    /// The memory of training with micro-batches of one `pass` each. Of `lanes` that are summed, log₂ at most wait
    /// for others.
    pub fn training_memory(&self, pass: Pass, lanes: usize) -> TrainingMemory {
        let tied = if self.tied_head { (self.vocab_size * self.d_model) as u64 } else { 0 };
        let waiting = u64::from(lanes.max(1).ilog2());
        TrainingMemory {
            state_bytes: EXACT_BYTES * ((4 + waiting) * self.parameters() as u64 + tied),
            pass_bytes: self.pass_bytes(pass),
        }
    }

    /// Bytes of the weights, the matrices of blocks stored in `base`.
    pub fn weight_bytes(&self, base: BaseStorage) -> u64 {
        let bytes = |spec: &Spec| match base {
            BaseStorage::In(format) if spec.is_block_matrix() => format.bytes(spec.len()) as u64,
            _ => EXACT_BYTES * spec.len() as u64,
        };
        let bytes: u64 = super::specs(self).leaves().into_iter().map(bytes).sum();
        match base {
            BaseStorage::AsItIs { spared } => bytes - spared,
            BaseStorage::In(_) => bytes,
        }
    }

    /// The same of training `adapter` beside a model that stays as it is.
    pub fn training_memory_beside(
        &self,
        adapter: &Adapter<Spec>,
        pass: Pass,
        lanes: usize,
    ) -> TrainingMemory {
        let Pass { rows, activation_bytes, keep } = pass;
        let waiting = lanes.max(1).ilog2() as usize;
        let learned: usize = adapter.leaves().into_iter().map(Spec::len).sum();
        // Norms and biases have gradients that nobody reads.
        let specs = super::specs(self);
        let vectors =
            specs.leaves().into_iter().filter(|spec| spec.shape.len() == 1).map(Spec::len).sum::<usize>();
        let state = 3 * learned + (1 + waiting) * (learned + vectors);
        // What a pair keeps of a row, and of what one after another needs, in both directions, the widest.
        let Lora { dora, dropout, .. } = adapter.lora;
        let shapes = || adapter.pairs().map(|(.., pair)| &pair.shape);
        let widest = |f: fn(&PairShape) -> usize| shapes().map(f).max().unwrap_or(0);
        let [d_in, d_out, rank] = [widest(|s| s.d_in), widest(|s| s.d_out), widest(PairShape::rank)];
        let of_matrix = |matrix: usize, width: fn(&PairShape) -> usize| {
            let widths =
                adapter.blocks.iter().flat_map(|block| &block[matrix]).map(|pair| width(&pair.shape));
            match keep {
                Keep::Blocks => widths.sum(),
                Keep::Inputs => widths.max().unwrap_or(0),
            }
        };
        let kept_of = |width| (0..MATRICES.len()).map(|matrix| of_matrix(matrix, width)).sum::<usize>();
        let mut row: usize = kept_of(PairShape::rank) + d_in + d_out + rank;
        row += if dropout > 0.0 { d_in } else { 0 };
        let (mut exact, mut activations) = (0, 0);
        if dora {
            let outputs = kept_of(|shape| shape.d_out);
            row += outputs + 2 * d_out;
            let matrix = widest(|shape| shape.d_in * shape.d_out);
            (exact, activations) = (2 * outputs + matrix + rows + d_in, matrix);
        }
        TrainingMemory {
            state_bytes: self.weight_bytes(adapter.base) + EXACT_BYTES * state as u64,
            pass_bytes: self.pass_bytes(pass)
                + EXACT_BYTES * exact as u64
                + activation_bytes * (rows * row + activations) as u64,
        }
    }

    /// Tokens that go through the model at once: 4,096, halved until a pass in f32 keeps at most 1.5 GB. The
    /// model alone decides, so that a run that continues elsewhere computes the same bits.
    pub fn pass_tokens(&self) -> usize {
        let mut tokens = PASS_TOKENS;
        while tokens > LEAST_PASS_TOKENS
            && self.training_memory(Pass::new(tokens, EXACT_BYTES), 1).pass_bytes > PASS_BYTES
        {
            tokens /= 2;
        }
        tokens
    }

    /// What a pass keeps: the residual stream between all blocks, and the insides of all or one of them.
    fn pass_bytes(&self, Pass { rows, activation_bytes, keep }: Pass) -> u64 {
        let width = |n: usize| n as u64;
        let kept = width(keep.blocks(self));
        let (d, q) = (width(self.d_model), width(self.q_width()));
        let qkv = q + 2 * width(self.kv_width());
        let heads = width(self.n_head) + if self.qk_norm { width(self.n_head + self.n_kv_head) } else { 0 };
        let raw_and_qkv = if self.qk_norm { 2 * qkv } else { qkv };
        let mlp = width(self.up_width() + self.d_ff);
        let stats = width(stats_width(self));
        let is_post = self.norm_place == NormPlace::Post;

        // What a block keeps of a row, exactly and between operations; norms' outputs of a post-norm block
        // are exact.
        let norms = if is_post { [2 * d, 0] } else { [0, 2 * d] };
        let block_exact = norms[0] + d + heads + 2 * stats;
        let block_activations = norms[1] + d + raw_and_qkv + q + mlp;
        // Gradients of one block serve all; the trunk has its residual stream and its hidden state.
        let layers = width(self.n_layer);
        let exact = kept * block_exact + (layers + 1) * d + stats + d + if is_post { d } else { 0 };
        let activations = kept * block_activations + d + (2 * d + raw_and_qkv + q + mlp) + d;

        rows as u64 * (EXACT_BYTES * exact + activation_bytes * activations)
    }
}
