//! Decoding with the cache, alone or many at once.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Result, ensure};
use gpt::checkpoint::{self, Stored};
use gpt::model::{self, Engine, Leaf, Request, Sampling, Weights};
use kernels::Backend;
use serde_json::json;

use super::{Bench, largest, median, peak_memory_bytes, random_tokens, smallest};
use crate::device::Computes;
use crate::options::WeightsArg;
use crate::precision;
use crate::session::Purpose;
use crate::terminal::text::count;

const PROMPT_TOKENS: usize = 128;
const NEW_TOKENS: usize = 128;
const REPETITIONS: usize = 5;

impl Bench<'_> {
    /// Times `batch` sequences decoded together, and their prefill apart.
    pub(super) fn decode(&self, batch: usize, temperature: f32, weights: WeightsArg) -> Result<()> {
        let config = &self.config;
        ensure!(
            config.seq_len >= PROMPT_TOKENS + NEW_TOKENS,
            "the context of {} has {} tokens, decoding is measured over {}: choose a larger --preset",
            self.name,
            config.seq_len,
            PROMPT_TOKENS + NEW_TOKENS
        );
        let stored = self
            .session
            .stored(weights, &self.model.iter().map(|model| model.path.as_path()).collect::<Vec<_>>())?;
        let mut compute = self.session.compute(Purpose::Text)?;
        let mut engine = {
            let weights = self.weights(&mut compute, stored)?;
            Engine::new(&mut compute, config, &weights, batch)
        };
        // Another owner each time: what was read before is not to be found in the cache.
        let mut owner = 0;
        let mut timed = |max_tokens| -> Result<f64> {
            owner += 1;
            let requests: Vec<Request> = (0..batch as u64)
                .map(|number| Request {
                    prompt: random_tokens(config, self.session.seed(), number, PROMPT_TOKENS),
                    max_tokens,
                    sampling: Sampling { temperature, ..Sampling::default() },
                    number,
                    owner,
                    ..Request::default()
                })
                .collect();
            let began = Instant::now();
            let generated = engine.generate(&mut compute, &requests, |_, _| ControlFlow::Continue(()))?;
            let secs = began.elapsed().as_secs_f64();
            assert!(generated.iter().all(|g| g.tokens.len() == max_tokens), "decoding ended early");
            Ok(secs)
        };
        timed(NEW_TOKENS)?;
        let (mut prefills, mut totals) = (Vec::new(), Vec::new());
        for _ in 0..REPETITIONS {
            prefills.push(timed(1)?);
            totals.push(timed(NEW_TOKENS)?);
        }
        let tokens = (batch * NEW_TOKENS) as f64;
        // The first token falls out of the prefill.
        let decode = (batch * (NEW_TOKENS - 1)) as f64 / (median(&totals) - median(&prefills));
        let json = json!({
            "bench": "decode",
            "preset": self.name,
            "precision": precision::name(compute.precision()),
            "weights": weights.name(),
            "device": compute.device(),
            "threads": self.session.threads(),
            "batch": batch,
            "temperature": temperature,
            "vocab_size": config.vocab_size,
            "prompt_tokens": PROMPT_TOKENS,
            "new_tokens": NEW_TOKENS,
            "repetitions": REPETITIONS,
            "total_secs": median(&totals),
            "prefill_secs": median(&prefills),
            "tokens_per_sec": tokens / median(&totals),
            "tokens_per_sec_min": tokens / largest(&totals),
            "tokens_per_sec_max": tokens / smallest(&totals),
            "decode_tokens_per_sec": decode,
            "peak_memory_bytes": peak_memory_bytes(),
        });
        self.session.result(&json, || {
            format!(
                "decode    {} in {}, {batch} at once: {} tokens/s, prefill {:.1} ms\n",
                self.name,
                weights.name().unwrap_or_else(|| precision::name(compute.precision())),
                count(decode as u64),
                1e3 * median(&prefills)
            )
        })
    }

    /// Those of the model; fresh ones of a preset.
    fn weights<B: Backend>(&self, b: &mut B, stored: Stored) -> Result<Weights<B::Tensor>> {
        let (config, seed) = (&self.config, self.session.seed());
        match (&self.model, stored) {
            (Some(model), _) => model.stored_weights(stored, |spec, leaf| {
                let leaf = match leaf {
                    // The context that is measured may be shorter.
                    Leaf::Values(mut values) if spec.name == "wpe" => {
                        values.truncate(config.seq_len * config.d_model);
                        Leaf::Values(values)
                    }
                    leaf => leaf,
                };
                leaf.upload(b)
            }),
            (None, Stored::In(format)) => {
                checkpoint::fresh_in_blocks(config, seed, format, |_, leaf| leaf.upload(b))
            }
            (None, _) => Ok(model::init(b, config, seed)),
        }
    }
}
