//! Whole training steps: forward, backward, clipping, AdamW, on random tokens.

use std::time::Instant;

use anyhow::Result;
use gpt::model::{self, Sequences};
use gpt::objective::{cross_entropy, cross_entropy_derivatives};
use gpt::train::{Lane, Optimizer, Trainer};
use serde_json::json;

use super::{Bench, DURATION, largest, median, peak_memory_bytes, random_tokens, smallest};
use crate::device::{Compute, Computes};
use crate::precision;
use crate::session::Purpose;
use crate::terminal::text::{bytes, count, scaled};

/// Steps that are not timed: memory is allocated in the first.
const WARM_UP: u32 = 2;
/// Different batches; after them the first comes again.
const BATCHES: u64 = 8;
const LEARNING_RATE: f32 = 3e-4;

impl Bench<'_> {
    /// Times `steps` steps of about `batch_tokens` tokens.
    pub(super) fn train(&self, steps: u32, batch_tokens: usize) -> Result<()> {
        let (config, sequences) = (&self.config, self.sequences(batch_tokens));
        let mut compute = self.session.compute(Purpose::NewTraining)?;
        let peak = compute.peak(DURATION);
        let (precision, threads) = (precision::name(compute.precision()), self.session.threads());
        let weights = model::init(&mut compute, config, self.session.seed());
        let mut trainer = Trainer::new(&mut compute, config.clone(), weights);
        let batches: Vec<_> = (0..BATCHES).map(|batch| self.batch(batch, sequences)).collect();
        let (mut times, mut losses) = (Vec::new(), Vec::new());
        for step in 0..WARM_UP + steps {
            let began = Instant::now();
            losses.push(self.step(&mut compute, &mut trainer, &batches[step as usize % batches.len()]));
            times.push(began.elapsed().as_secs_f64());
        }
        // Of a step that is not timed itself.
        compute.measure();
        self.step(&mut compute, &mut trainer, &batches[0]);
        let kernels: Vec<_> = compute
            .measured()
            .into_iter()
            .map(|(name, count, secs)| json!({ "name": name, "count": count, "secs": secs }))
            .collect();
        // A shared machine has slow seconds: one of the two moments had none.
        let peak = peak.max(compute.peak(DURATION));
        let times = &times[WARM_UP as usize..];
        let rows = sequences * config.seq_len;
        let speed = |secs: f64| rows as f64 / secs;
        let fraction = speed(median(times)) * config.training_flops_per_token() / peak;
        let json = json!({
            "bench": "train",
            "preset": self.name,
            "precision": precision,
            "device": compute.device(),
            "threads": threads,
            "parameters": config.parameters(),
            "vocab_size": config.vocab_size,
            "batch_tokens": rows,
            "seq_len": config.seq_len,
            "steps": steps,
            "step_secs_median": median(times),
            "step_secs_min": smallest(times),
            "step_secs_max": largest(times),
            "tokens_per_sec": speed(median(times)),
            "tokens_per_sec_min": speed(largest(times)),
            "tokens_per_sec_max": speed(smallest(times)),
            "peak_flops_per_sec": peak.round(),
            "fraction_of_peak": fraction,
            "peak_memory_bytes": peak_memory_bytes(),
            "loss_first": losses[0],
            "loss_last": losses[losses.len() - 1],
            "losses": losses,
            "kernels": kernels,
        });
        self.session.result(&json, || {
            format!(
                "train     {} in {precision}: {} tokens/s, {:.0} % of peak, {} parameters, {} of memory\n",
                self.name,
                count(speed(median(times)) as u64),
                100.0 * fraction,
                scaled(config.parameters() as f64),
                peak_memory_bytes().map_or("unknown".into(), bytes),
            )
        })
    }

    /// Sequences of a step: as many as are about so many tokens.
    fn sequences(&self, batch_tokens: usize) -> usize {
        (batch_tokens / self.config.seq_len).max(1)
    }

    /// Tokens of batch number `batch`, and what comes after each.
    fn batch(&self, batch: u64, sequences: usize) -> [Vec<u32>; 2] {
        let seq_len = self.config.seq_len;
        let (mut tokens, mut targets) = (Vec::new(), Vec::new());
        for i in 0..sequences as u64 {
            let stream = batch * sequences as u64 + i;
            let window = random_tokens(&self.config, self.session.seed(), stream, seq_len + 1);
            tokens.extend_from_slice(&window[..seq_len]);
            targets.extend_from_slice(&window[1..]);
        }
        [tokens, targets]
    }

    /// One step on a batch; returns its loss.
    fn step(
        &self,
        compute: &mut Compute,
        trainer: &mut Trainer<Compute>,
        [tokens, targets]: &[Vec<u32>; 2],
    ) -> f64 {
        let seq_len = self.config.seq_len;
        let lens = vec![seq_len; tokens.len() / seq_len];
        let mut derivatives = Vec::new();
        cross_entropy_derivatives(&mut derivatives, targets, targets.len());
        let sequences = Sequences { tokens, lens: &lens, noise: None };
        trainer.accumulate(compute, sequences, targets, &derivatives, Lane::Number(0));
        let optimizer = Optimizer { grad_clip: 1.0, ..self.optimizer };
        trainer.update(compute, &optimizer, LEARNING_RATE, None);
        cross_entropy(trainer.told(), targets.len())
    }
}
