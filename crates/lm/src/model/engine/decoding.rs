//! Weights as an engine has them: matrices packed, everything else as it is.

use super::Engine;
use crate::model::{Config, Leaf, Pair, Spec, Weights, specs, specs_of};
use kernels::Backend;

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
    /// In the order of [`Weights::leaves`].
    leaves: Vec<B::Tensor>,
    tied_head: Option<B::Tensor>,
}

/// Where the head of a model stands whose head is its embedding: it has a leaf of its own only in blocks.
fn head_spec(specs: &Weights<Spec>) -> Spec {
    Spec { name: "lm_head".into(), ..specs.wte.clone() }
}

impl<B: Backend> Making<B> {
    /// The beginning of an engine that continues `slots` sequences at once, of weights with a head of their own or
    /// without.
    pub fn new(config: &Config, slots: usize, has_head: bool) -> Making<B> {
        let (config, mut specs) = (config.clone(), specs(config));
        if has_head && specs.lm_head.is_none() {
            specs.lm_head = Some(head_spec(&specs));
        }
        Making { config, slots, specs, leaves: Vec::new(), tied_head: None }
    }

    /// Takes the next leaf in.
    ///
    /// # Panics
    /// If there is none any more, or it has another length.
    pub fn take(&mut self, b: &mut B, leaf: Leaf) {
        let spec = self.specs.leaves()[self.leaves.len()];
        let leaf = leaf.upload(b);
        assert_eq!(b.len(&leaf), spec.len(), "values of {}", spec.name);
        if spec.name == "wte" && is_head_tied(&self.config) && self.specs.lm_head.is_none() {
            self.tied_head = Some(b.packed(&leaf, self.config.d_model, self.config.vocab_size));
        }
        self.leaves.push(match packed_shape(spec) {
            Some([d_out, d_in]) => b.packed(&leaf, d_in, d_out),
            None => leaf,
        });
    }

    /// The engine.
    ///
    /// # Panics
    /// If a leaf is missing.
    pub fn finish(self, b: &mut B) -> Engine<B> {
        let Making { config, slots, specs, leaves, tied_head } = self;
        let mut leaves = leaves.into_iter();
        let mut weights = specs.map(|_| leaves.next().expect("every leaf was taken in"));
        weights.lm_head = weights.lm_head.or(tied_head);
        assert!(slots > 0, "an engine needs a slot");
        Engine::of(b, &config, weights, slots, config.seq_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, Reading, Request, init};
    use kernels::{BlockFormat, BlockMatrix, Reference};

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
        specs.lm_head = Some(head_spec(&specs));
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
        let leaves = specs.map(|_| matrices.next().unwrap());
        let mut making = Making::new(&config, 2, true);
        let mut untied = leaves.map(|leaf| match leaf {
            Leaf::Values(values) => values.clone(),
            Leaf::Blocks(matrix) => matrix.values(),
        });
        let stored = leaves.map(|leaf| match leaf {
            Leaf::Values(values) => Leaf::Values(values.clone()).upload(b),
            Leaf::Blocks(matrix) => Leaf::Blocks(matrix.clone()).upload(b),
        });
        let mut leaves = leaves;
        for leaf in leaves.leaves_mut() {
            making.take(b, std::mem::replace(leaf, Leaf::Values(Vec::new())));
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
            let mut making = Making::new(&config, 2, false);
            for leaf in weights.leaves() {
                let mut values = vec![0.0; b.len(leaf)];
                b.download(&mut values, leaf);
                making.take(b, Leaf::Values(values));
            }
            let made = said(&mut making.finish(b), reading);
            let expected = said(&mut Engine::new(b, &config, &weights, 2), reading);
            assert!(expected.len() > 1 && made == expected, "{made:?}, {expected:?}");
        }
    }
}
