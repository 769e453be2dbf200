//! Learning from a teacher's distributions: a student in training beside a model that is only read, or beside what was kept
//! of one.

use super::passes::{Frozen, Passes};
use super::{Lane, Trainer};
use crate::model::{self, Sequences, Targets, Teaching, Weights};
use kernels::{Backend, Distil, LinearShape, NO_TARGET};

/// Rows whose logits exist at once where a teacher's are kept.
const ROWS: usize = 256;

/// Whom a student learns from.
pub enum Teacher<B: Backend> {
    /// A model.
    Model(Box<Frozen<B>>),
    /// What was kept of one: of each row of the next batch `k` tokens and their log-probabilities.
    Stored {
        /// How many.
        k: usize,
        /// `[rows, k]`.
        tokens: B::Ids,
        /// `[rows, k]`.
        logprobs: B::Scalars,
    },
}

impl<B: Distil> Teacher<B> {
    /// One that was kept, by so many tokens of each row.
    pub fn stored(b: &mut B, k: usize) -> Self {
        Teacher::Stored { k, tokens: b.ids(), logprobs: b.scalars() }
    }

    /// What was kept of the rows of the next batch.
    ///
    /// # Panics
    /// Where the teacher is a model.
    pub fn show(&mut self, b: &mut B, known: &[u32], their_logprobs: &[f64]) {
        let Teacher::Stored { tokens, logprobs, .. } = self else { panic!("a model is asked itself") };
        b.upload_ids(tokens, known);
        b.upload_scalars(logprobs, their_logprobs);
    }

    /// What a student learns of a batch.
    fn teach(&mut self, b: &mut B, batch: Sequences<'_>) -> Teaching<'_, B> {
        match self {
            Teacher::Model(model) => {
                let Frozen { config, weights, passes } = &mut **model;
                let batch = Sequences { noise: None, ..batch };
                model::forward(b, config, weights, &mut passes.activations, batch);
                let (hidden, head) = (&passes.activations.hidden, Weights::head(weights));
                Teaching::Model { hidden, head, d_model: config.d_model }
            }
            Teacher::Stored { k, tokens, logprobs } => Teaching::Stored { tokens, logprobs, k: *k },
        }
    }
}

impl<B: Backend> Frozen<B> {
    /// Of each row that has a target its `k` likeliest next tokens, the likeliest first, with their log-probabilities at this
    /// temperature. None where a logit is not finite.
    pub fn likeliest(
        &mut self,
        b: &mut B,
        batch: Sequences<'_>,
        targets: Targets<'_>,
        k: usize,
    ) -> Option<(Vec<u32>, Vec<f32>)> {
        let Frozen { config, weights, passes } = self;
        model::forward(b, config, weights, &mut passes.activations, batch);
        let rows: Vec<u32> = (0..)
            .zip(targets.tokens)
            .filter(|(_, target)| **target != NO_TARGET)
            .map(|(row, _)| row)
            .collect();
        let (mut ids, mut gathered, mut logits) = (b.ids(), b.activation(0), b.zeros(0));
        let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
        for rows in rows.chunks(ROWS) {
            let shape = LinearShape { rows: rows.len(), d_in: config.d_model, d_out: config.vocab_size };
            b.upload_ids(&mut ids, rows);
            b.resize(&mut gathered, shape.rows * shape.d_in);
            b.resize(&mut logits, shape.rows * shape.d_out);
            b.gather_forward(&mut gathered, &passes.activations.hidden, &ids, shape.d_in);
            b.linear_forward(&mut logits, &gathered, Weights::head(weights), None, shape);
            b.scale(&mut logits, 1.0 / targets.temperature);
            let mut asked = Vec::with_capacity(shape.rows * k);
            for row in 0..shape.rows {
                let mut best = vec![0; k];
                b.likeliest(&mut best, &logits, shape.d_out, row);
                asked.extend(best.into_iter().map(|token| (row, token)));
            }
            let mut said = vec![None; asked.len()];
            b.token_logprobs(&mut said, &logits, shape.d_out, &asked);
            tokens.extend(asked.iter().map(|(_, token)| *token));
            for said in said {
                logprobs.push(said?.logprob as f32);
            }
        }
        Some((tokens, logprobs))
    }
}

impl<B: Distil> Trainer<B> {
    /// As [`accumulate`](Self::accumulate), for a loss with derivative `derivatives` by the divergence of each row that has a
    /// target from the teacher's distribution, by its β: these divergences are [told](Self::told) after the update.
    #[allow(clippy::too_many_arguments)]
    pub fn accumulate_divergence(
        &mut self,
        b: &mut B,
        batch: Sequences<'_>,
        targets: Targets<'_>,
        (teacher, beta): (&mut Teacher<B>, f32),
        derivatives: &[f64],
        lane: Lane,
    ) {
        self.begin(b, lane);
        let teaching = teacher.teach(b, batch);
        let Self { config, weights, gradients, passes, results, .. } = self;
        let Passes { activations, derivatives: [by_divergence, _], .. } = passes;
        b.upload_scalars(by_divergence, derivatives);
        model::forward(b, config, weights, activations, batch);
        activations.ask(b, targets);
        let rows = batch.tokens.len();
        let groups = lane.groups(batch.lens, &rows);
        let teaching = (&teaching, beta);
        model::divergences_backward(
            b,
            config,
            weights,
            gradients,
            activations,
            teaching,
            by_divergence,
            results,
            groups,
        );
        model::backward(b, config, weights, gradients, activations, groups);
    }

    /// The divergence of each row that has a target from the teacher's distribution, and the log-probability of that
    /// target at a temperature of 1, without gradients.
    pub fn divergences(
        &mut self,
        b: &mut B,
        batch: Sequences<'_>,
        targets: Targets<'_>,
        (teacher, beta): (&mut Teacher<B>, f32),
    ) -> (Vec<f64>, Vec<f64>) {
        let teaching = teacher.teach(b, batch);
        let Self { config, weights, passes, .. } = self;
        let Passes { activations, said: [divergences, logprobs], outputs, .. } = passes;
        for list in [&mut *divergences, logprobs] {
            b.upload_scalars(list, &[]);
        }
        model::forward(b, config, weights, activations, batch);
        activations.ask(b, targets);
        model::divergences(b, weights, activations, (&teaching, beta), divergences);
        activations.ask(b, Targets::new(targets.tokens));
        model::logprobs(b, weights, activations, logprobs, None);
        b.read(outputs, &[divergences, logprobs]);
        let (divergences, logprobs) = outputs.split_at(targets.tokens.len());
        (divergences.to_vec(), logprobs.to_vec())
    }
}
