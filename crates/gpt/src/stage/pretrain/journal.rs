//! What a run tells while it goes: a line a step for people and one for programs, and samples.

use super::Pretraining;
use crate::eval::Likelihood;
use crate::model::{Engine, Request, Sampling};
use crate::progress::Progress;
use crate::train::run::Sample;
use crate::train::{Trainer, Update};
use anyhow::Result;
use kernels::Backend;
use serde::Serialize;
use std::ops::ControlFlow;

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
struct Metrics {
    step: u64,
    loss: f64,
    lr: f32,
    grad_norm: f64,
    tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    val_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    val_bpb: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    skipped: bool,
}

/// A validation for people.
pub(super) fn describe(v: &Likelihood) -> String {
    let (loss, perplexity, bits) = (v.loss(), v.perplexity(), v.bits_per_byte());
    format!("loss {loss:.4}, perplexity {perplexity:.2}, {bits:.4} bits per byte")
}

/// A line of `timings.jsonl`.
#[derive(Serialize)]
struct Timings {
    step: u64,
    step_secs: f64,
    tokens_per_sec: f64,
    mfu: f64,
}

impl<B: Backend> Pretraining<'_, B> {
    /// Tells about a step.
    pub(super) fn log(
        &mut self,
        step: u64,
        loss: f64,
        lr: f32,
        update: Update,
        seconds: f64,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (settings, validation) = (&self.options.settings, self.validation);
        let tokens_per_sec = settings.batch_tokens as f64 / seconds;
        let mfu = tokens_per_sec * self.trainer.config.training_flops_per_token() / self.machine.peak_flops;
        self.run.metrics.append(&Metrics {
            step,
            loss,
            lr,
            grad_norm: update.grad_norm,
            tokens: step * settings.batch_tokens as u64,
            val_loss: validation.map(|v| v.loss()),
            val_bpb: validation.map(|v| v.bits_per_byte()),
            skipped: !update.applied,
        })?;
        self.run.timings.append(&Timings { step, step_secs: seconds, tokens_per_sec, mfu })?;
        let width = settings.steps.to_string().len();
        progress.line(&format!(
            "step {step:>width$}/{}  loss {loss:7.4}  lr {lr:.2e}  norm {:6.3}  {tokens_per_sec:7.0} tok/s  {:3.0} % of peak",
            settings.steps,
            update.grad_norm,
            100.0 * mfu
        ));
        if let Some(v) = validation {
            progress.line(&format!("     validation: {}", describe(&v)));
        }
        Ok(())
    }

    /// Continues a few held-out beginnings with the weights as they are.
    pub(super) fn sample(&mut self, progress: &dyn Progress) -> Result<()> {
        const BEGINNING: usize = 24;
        const TOKENS: usize = 40;
        let stop = vec![self.data.parts()[0].shards.meta().end_of_text];
        let picks = [0, self.val_windows.len() / 2].map(|i| &self.val_windows[i].tokens);
        let requests: Vec<Request> = (0..)
            .zip(picks)
            .map(|(number, tokens)| Request {
                prompt: tokens[..BEGINNING.min(tokens.len() / 2).max(1)].to_vec(),
                max_tokens: TOKENS,
                sampling: Sampling { temperature: 0.8, top_k: 40, top_p: 1.0, seed: self.options.seed },
                number,
                stop_tokens: stop.clone(),
            })
            .collect();
        let Trainer { backend, config, weights, .. } = &mut self.trainer;
        let known = self.data.vocab_size();
        let mut engine = Engine::new(backend, config, weights, requests.len()).limited_to(known);
        let generated = engine.generate(backend, &requests, |_, _| ControlFlow::Continue(()));
        for (request, generated) in requests.iter().zip(generated) {
            let tokenizer = self.data.tokenizer();
            let prompt = tokenizer.decode(&request.prompt)?;
            let completion = tokenizer.decode(&generated.tokens)?;
            progress.line(&format!("     sample: {prompt:?} → {completion:?}"));
            self.run.sample(&Sample { step: self.step, prompt, completion })?;
        }
        Ok(())
    }
}
