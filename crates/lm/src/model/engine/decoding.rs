//! Weights as an engine has them: matrices packed, everything else as it is.

use super::Engine;
use crate::model::{Adapter, Config, Leaf, Pair, Spec, Weights, specs, specs_of};
use kernels::Backend;
use std::collections::BTreeMap;

/// The shape `[d_out, d_in]` of a leaf that is packed: a matrix, but for the embeddings, which are read row by
/// row.
fn packed_shape(spec: &Spec) -> Option<[usize; 2]> {
    match spec.shape[..] {
        [d_out, d_in] if !matches!(spec.name.as_str(), "wte" | "wpe") => Some([d_out, d_in]),
        _ => None,
    }
}

/// Whether the embedding is the head, too: it is packed besides. A model that scores writes nothing.
fn is_head_tied(config: &Config) -> bool {
    config.tied_head && config.n_label.is_none()
}

/// A copy of weights in the layout of decoding. An adapter stays beside them, but one with magnitudes, which is made of
/// whole matrices at every pass: it is merged.
pub(super) fn decoding_weights<B: Backend>(
    b: &mut B,
    config: &Config,
    weights: &Weights<B::Tensor>,
) -> Weights<B::Tensor> {
    let merges = weights.adapter.as_ref().filter(|adapter| adapter.lora.dora);
    let described = if merges.is_some() { specs(config) } else { specs_of(config, weights) };
    // A head in blocks, whose numbers are the embedding's.
    let of_its_own = weights.lm_head.as_ref().filter(|_| is_head_tied(config));
    let is_described = |leaf: &&B::Tensor| of_its_own.is_none_or(|head| !std::ptr::eq(*leaf, head));
    let mut leaves = weights.leaves().into_iter().filter(is_described);
    let mut decoding = described.map(|spec| {
        let leaf = leaves.next().expect("specs describe every leaf");
        let merged = merges.and_then(|adapter| adapter.beside(&spec.name)).map(|pair| merged(b, leaf, pair));
        let leaf = merged.as_ref().unwrap_or(leaf);
        if let Some([d_out, d_in]) = packed_shape(spec) {
            return b.packed(leaf, d_in, d_out);
        }
        let mut copy = b.zeros(b.len(leaf));
        b.copy(&mut copy, leaf);
        copy
    });
    if is_head_tied(config) {
        decoding.lm_head = Some(b.packed(weights.head(), config.d_model, config.vocab_size));
    }
    decoding
}

/// A matrix with what stands beside it.
fn merged<B: Backend>(b: &mut B, weight: &B::Tensor, pair: &Pair<B::Tensor>) -> B::Tensor {
    let mut host = |tensor: &B::Tensor| {
        let mut values = vec![0.0; b.len(tensor)];
        b.download(&mut values, tensor);
        values
    };
    let (mut values, magnitude) = (host(weight), pair.magnitude.as_ref().map(&mut host));
    pair.shape.merge(&mut values, &host(&pair.a), &host(&pair.b), magnitude.as_deref());
    let mut merged = b.zeros(values.len());
    b.upload(&mut merged, &values);
    merged
}

/// An engine in the making. Its weights come from host memory leaf by leaf, so that whoever has the backend
/// can do something else in between.
pub struct Making<B: Backend> {
    config: Config,
    slots: usize,
    specs: Weights<Spec>,
    /// Leaves in the layout of decoding, by their names.
    leaves: BTreeMap<String, B::Tensor>,
}

/// The name of the head of a model whose head is its embedding, where it is laid out besides.
const HEAD: &str = "lm_head";

/// The names of the leaves of a model without an adapter, which has a head of its own or not, in the order of
/// [`Weights::leaves`].
pub fn leaf_names(config: &Config, has_head: bool) -> Vec<String> {
    let mut specs = specs(config);
    specs.lm_head = has_head.then(|| Spec { name: HEAD.into(), ..specs.wte.clone() });
    specs.leaves().into_iter().map(|spec| spec.name.clone()).collect()
}

impl<B: Backend> Making<B> {
    /// The beginning of an engine that continues `slots` sequences at once, of a model with an adapter beside it or
    /// without.
    pub fn new(config: &Config, slots: usize, adapter: Option<Adapter<Spec>>) -> Making<B> {
        assert!(slots > 0, "an engine needs a slot");
        let specs = Weights { adapter, ..specs(config) };
        Making { config: config.clone(), slots, specs, leaves: BTreeMap::new() }
    }

    /// Has the weights of an engine, all that are the model's as well: their memory is both engines'. An adapter that
    /// stands beside them there is not taken.
    pub fn sharing(mut self, b: &mut B, other: &mut Engine<B>) -> Making<B> {
        let adapter = other.weights.adapter.take();
        let names = leaf_names(&other.config, other.weights.lm_head.is_some());
        let shared = other.weights.leaves_mut().into_iter().map(|leaf| b.share(leaf));
        self.leaves.extend(names.into_iter().zip(shared));
        other.weights.adapter = adapter;
        self
    }

    /// Takes a leaf in. A head that is the embedding's may come by itself, in blocks.
    ///
    /// # Panics
    /// If the model has none of this name, or it has another length.
    pub fn take(&mut self, b: &mut B, name: &str, leaf: Leaf) {
        let of = if name == HEAD && self.specs.lm_head.is_none() { "wte" } else { name };
        let leaves = self.specs.leaves();
        let spec = leaves.into_iter().find(|spec| spec.name == of).expect("a leaf of the model");
        let leaf = leaf.upload(b);
        assert_eq!(b.len(&leaf), spec.len(), "values of {name}");
        if name == "wte" && is_head_tied(&self.config) && !self.leaves.contains_key(HEAD) {
            let head = b.packed(&leaf, self.config.d_model, self.config.vocab_size);
            self.leaves.insert(HEAD.into(), head);
        }
        let leaf = match packed_shape(&Spec { name: name.into(), ..spec.clone() }) {
            Some([d_out, d_in]) => b.packed(&leaf, d_in, d_out),
            None => leaf,
        };
        self.leaves.insert(name.into(), leaf);
    }

    /// The engine.
    ///
    /// # Panics
    /// If a leaf is missing.
    pub fn finish(self, b: &mut B) -> Engine<B> {
        let Making { config, slots, specs, mut leaves } = self;
        let mut weights = specs.map(|spec| leaves.remove(&spec.name).expect("every leaf was taken in"));
        if is_head_tied(&config) {
            weights.lm_head = leaves.remove(HEAD);
        }
        Engine::of(b, &config, weights, slots, config.seq_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BaseStorage, Event, Init, Lora, LowRank, PairShape, Reading, Request, init};
    use kernels::{BlockFormat, BlockMatrix, F64Tensor, Reference};

    /// All that an engine says of a request.
    fn said(engine: &mut Engine<Reference>, reading: Reading) -> Vec<Event> {
        let b = &mut Reference;
        let max_tokens = if reading == Reading::Scores { 0 } else { 5 };
        let prompt = vec![3, 1, 4, 1, 5];
        engine.submit(Request { prompt, max_tokens, reading, logprobs: Some(3), ..Request::default() }, None);
        std::iter::from_fn(|| (!engine.is_idle()).then(|| engine.step(b))).flatten().collect()
    }

    /// With a head of its own in blocks, too, it says what one of the numbers in the blocks says.
    #[test]
    fn an_engine_of_blocks_is_one_of_their_values() {
        let config = Config { d_ff: 16, ..Config::gpt2(29, 12, 2, 2, 8) };
        let b = &mut Reference;
        let exact = init(b, &config, 1);
        let mut specs = specs(&config);
        specs.lm_head = Some(Spec { name: HEAD.into(), ..specs.wte.clone() });
        let in_blocks = |spec: &Spec| spec.is_block_matrix() || spec.name == "lm_head";
        let mut matrices = specs.leaves().into_iter().map(|spec| {
            let leaf =
                exact.leaves().into_iter().zip(specs_of(&config, &exact).leaves()).find_map(|(leaf, of)| {
                    (of.name == spec.name || spec.name == "lm_head" && of.name == "wte")
                        .then(|| leaf.0.clone())
                });
            let values: Vec<f32> = leaf.unwrap().into_iter().map(|x| x as f32).collect();
            match in_blocks(spec) {
                true => Leaf::Blocks(
                    BlockMatrix::quantise(BlockFormat::Q4_0, &values, [spec.shape[0], spec.shape[1]])
                        .unwrap(),
                ),
                false => Leaf::Values(values),
            }
        });
        let mut leaves = specs.map(|_| matrices.next().unwrap());
        let mut making = Making::new(&config, 2, None);
        let mut untied = leaves.map(|leaf| match leaf {
            Leaf::Values(values) => values.clone(),
            Leaf::Blocks(matrix) => matrix.values(),
        });
        let stored = leaves.map(|leaf| match leaf {
            Leaf::Values(values) => Leaf::Values(values.clone()).upload(b),
            Leaf::Blocks(matrix) => Leaf::Blocks(matrix.clone()).upload(b),
        });
        for (name, leaf) in leaf_names(&config, true).iter().zip(leaves.leaves_mut()) {
            making.take(b, name, std::mem::replace(leaf, Leaf::Values(Vec::new())));
        }
        let reading = Reading::Logprobs(2);
        let made = said(&mut making.finish(b), reading);
        assert_eq!(said(&mut Engine::new(b, &config, &stored, 2), reading), made);
        let values = untied.leaves_mut().into_iter().map(std::mem::take).collect::<Vec<_>>();
        let config = Config { tied_head: false, ..config };
        let mut values = values.into_iter();
        let plain = super::specs(&config).map(|_| Leaf::Values(values.next().unwrap()).upload(b));
        assert_eq!(said(&mut Engine::new(b, &config, &plain, 2), reading), made);
    }

    /// An adapter stands beside shared weights, and goes with its engine.
    #[test]
    fn engines_that_share_weights_say_what_each_says_alone() {
        let tied = Config { d_ff: 16, ..Config::gpt2(29, 12, 2, 2, 8) };
        for config in [tied.clone(), Config { tied_head: false, ..tied }] {
            let b = &mut Reference;
            let (mut weights, reading) = (init(b, &config, 1), Reading::Logprobs(2));
            let alone = said(&mut Engine::new(b, &config, &weights, 2), reading);
            let mut first = made(b, &config, &weights);
            let pair = |matrix: &str, d_in, d_out| Pair {
                shape: PairShape {
                    d_in,
                    d_out,
                    scale: 2.0,
                    pieces: vec![LowRank { rows: 0..d_out, rank: 2 }],
                },
                a: spec(format!("{matrix}.a"), vec![2, d_in]),
                b: spec(format!("{matrix}.b"), vec![d_out, 2]),
                magnitude: None,
            };
            let block = |i| [None, Some(pair(&format!("{i}.attn_out"), 8, 8)), None, None];
            let blocks = (0..2).map(block).collect();
            let adapter = Adapter { lora: Lora::default(), base: BaseStorage::NUMBERS, blocks };
            let mut other = Making::new(&config, 2, Some(adapter.clone())).sharing(b, &mut first);
            weights.adapter = Some(adapter.map(|spec| {
                let values: Vec<f32> = (0..spec.len()).map(|i| (i as f32).sin()).collect();
                other.take(b, &spec.name, Leaf::Values(values.clone()));
                Leaf::Values(values).upload(b)
            }));
            let expected = said(&mut Engine::new(b, &config, &weights, 2), reading);
            let mut other = other.finish(b);
            let mut third = Making::new(&config, 2, None).sharing(b, &mut other).finish(b);
            assert_ne!(expected, alone);
            assert_eq!(said(&mut other, reading), expected);
            assert_eq!(said(&mut first, reading), alone);
            drop(first);
            assert_eq!(said(&mut third, reading), alone);
        }
    }

    fn spec(name: String, shape: Vec<usize>) -> Spec {
        Spec { name, shape, init: Init::Constant(0.0), decay: false }
    }

    /// An engine of these weights, made leaf by leaf.
    fn made(b: &mut Reference, config: &Config, weights: &Weights<F64Tensor>) -> Engine<Reference> {
        let mut making = Making::new(config, 2, None);
        for (name, leaf) in leaf_names(config, weights.lm_head.is_some()).iter().zip(weights.leaves()) {
            let mut values = vec![0.0; b.len(leaf)];
            b.download(&mut values, leaf);
            making.take(b, name, Leaf::Values(values));
        }
        making.finish(b)
    }

    #[test]
    fn an_engine_made_leaf_by_leaf_is_the_same() {
        let tied = Config { d_ff: 16, ..Config::gpt2(29, 12, 2, 2, 8) };
        for (config, reading) in [
            (tied.clone(), Reading::Logprobs(2)),
            (Config { tied_head: false, ..tied.clone() }, Reading::Logprobs(2)),
            (Config { n_label: Some(1), ..tied }, Reading::Scores),
        ] {
            let b = &mut Reference;
            let weights = init(b, &config, 1);
            let made = said(&mut made(b, &config, &weights), reading);
            let expected = said(&mut Engine::new(b, &config, &weights, 2), reading);
            assert!(expected.len() > 1 && made == expected, "{made:?}, {expected:?}");
        }
    }
}
