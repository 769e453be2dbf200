//! Decoding with the cache, alone or many at once.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Result, ensure};
use gpt::model::{self, Engine, Request, Sampling};
use serde_json::json;

use super::{Bench, largest, median, peak_memory_bytes, random_tokens, smallest};
use crate::device::Computes;
use crate::precision;
use crate::session::Purpose;
use crate::terminal::text::count;

const PROMPT_TOKENS: usize = 128;
const NEW_TOKENS: usize = 128;
const REPETITIONS: usize = 5;

impl Bench<'_> {
    /// Times `batch` sequences decoded together, and their prefill apart.
    pub(super) fn decode(&self, batch: usize, temperature: f32) -> Result<()> {
        let config = &self.config;
        ensure!(
            config.seq_len >= PROMPT_TOKENS + NEW_TOKENS,
            "the context of {} has {} tokens, decoding is measured over {}: choose a larger --preset",
            self.name,
            config.seq_len,
            PROMPT_TOKENS + NEW_TOKENS
        );
        let mut compute = self.session.compute(Purpose::Text)?;
        let mut engine = {
            let weights = model::init(&mut compute, config, self.session.seed());
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
                precision::name(compute.precision()),
                count(decode as u64),
                1e3 * median(&prefills)
            )
        })
    }
}
