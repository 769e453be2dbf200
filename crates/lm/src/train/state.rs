//! Saving and resuming a trainer: weights and optimizer into a checkpoint, and out of it.

use super::Trainer;
use crate::checkpoint::{self, About, Checkpoint, Contents, Dtype};
use crate::model::{Config, Spec, Weights, is_learned};
use anyhow::{Context, Result, ensure};
use kernels::Backend;
use std::path::Path;
use text::tokenizer::Tokenizer;

impl<B: Backend> Trainer<B> {
    /// Writes the checkpoint `dir`, from which training goes on with the same bits. Of several ranks the first
    /// writes, once the [moments](Self::gather_moments) are there.
    ///
    /// # Errors
    /// See [`checkpoint::save`].
    pub fn save(
        &mut self,
        b: &mut B,
        dir: &Path,
        tokenizer: &Tokenizer,
        dtype: Dtype,
        about: About,
    ) -> Result<()> {
        let (updates, optimizer) = (self.updates(b), self.method);
        let about = About { updates, optimizer, tokenizer_digest: Some(tokenizer.digest()), ..about };
        let saved = checkpoint::save(
            dir,
            Contents {
                config: &self.config,
                weights: &self.weights,
                dtype,
                moments: Some(self.moments()),
                beside: &[],
                read: &mut checkpoint::from_backend(b),
                eot_token: tokenizer.end_of_text(),
                eos_token: tokenizer.eos(),
                end_tokens: &tokenizer.end_tokens(),
                files: &tokenizer.files(),
                about,
            },
        );
        self.forget_gathered();
        saved
    }

    /// The moments as checkpoints have them: of several ranks the first has them whole, once they are
    /// [gathered](Self::gather_moments).
    pub fn moments(&self) -> (&Weights<B::Tensor>, &Weights<B::Tensor>) {
        let own = (&self.first_moment, &self.second_moment);
        self.whole_moments.as_ref().map_or(own, |(first, second)| (first, second))
    }

    /// Forgets what was gathered, when it is saved.
    pub fn forget_gathered(&mut self) {
        self.whole_moments = None;
    }

    /// The moment of a leaf, of which a checkpoint has these values; empty where another rank has it.
    pub fn own_moment(&self, b: &mut B, spec: &Spec, values: Vec<f32>) -> B::Tensor {
        let values = if self.owns(spec) { values } else { Vec::new() };
        let mut leaf = b.zeros(values.len());
        b.upload(&mut leaf, &values);
        leaf
    }

    /// Takes the state that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// The model has another shape; the optimizer's state is missing; a file cannot be read.
    pub fn restore(&mut self, b: &mut B, checkpoint: &Checkpoint) -> Result<()> {
        // Beside an adapter it is the base's, which may have been trained with another dropout.
        let theirs = Config { dropout: self.config.dropout, ..checkpoint.config.clone() };
        ensure!(theirs == self.config, "it holds a model of another shape than this run's recipe");
        let updates = checkpoint.manifest.as_ref().map_or(0, |manifest| manifest.about.updates);
        if self.weights.adapter.is_some() {
            return self.restore_learned(b, updates, |spec| checkpoint.learned(spec));
        }
        let weights = checkpoint.exact_weights(checkpoint::to_backend(b, &self.config))?;
        let moments = match self.ranks.size() {
            1 => {
                let upload = checkpoint::moments_to_backend(b, &self.config, self.method);
                checkpoint.moments(self.method, upload)?
            }
            // No rank has room for all of them.
            _ => checkpoint.moments(self.method, |spec, values| self.own_moment(b, spec, values))?,
        };
        let moments = moments.context("it has no optimizer state")?;
        self.take_over(b, weights, moments, updates);
        Ok(())
    }

    /// Takes of what is learned beside weights that stay as they are what `read` gives: a leaf's values and its
    /// two moments.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn restore_learned(
        &mut self,
        b: &mut B,
        updates: u64,
        mut read: impl FnMut(&Spec) -> Result<[Vec<f32>; 3]>,
    ) -> Result<()> {
        let Self { weights, first_moment, second_moment, specs, .. } = self;
        let moments = first_moment.leaves_mut().into_iter().zip(second_moment.leaves_mut());
        let leaves = specs.leaves().into_iter().zip(weights.leaves_mut().into_iter().zip(moments));
        for (spec, (weight, (m, v))) in leaves.filter(|(spec, _)| is_learned(specs, spec)) {
            let values = read(spec)?;
            // Moments that another rank has are empty.
            let all = [weight, m, v].into_iter().zip(&values);
            let here = all.filter(|(leaf, values)| b.len(leaf) == values.len()).collect::<Vec<_>>();
            here.into_iter().for_each(|(leaf, values)| b.upload(leaf, values));
        }
        self.set_updates(b, updates);
        Ok(())
    }
}
