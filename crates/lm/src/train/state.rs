//! Saving and resuming a trainer: weights and optimizer into a checkpoint, and out of it.

use super::Trainer;
use crate::checkpoint::{self, About, Checkpoint, Contents, Dtype};
use anyhow::{Context, Result, ensure};
use kernels::Backend;
use std::path::Path;
use text::tokenizer::Tokenizer;

impl<B: Backend> Trainer<B> {
    /// Writes the checkpoint `dir`, from which training goes on with the same bits.
    ///
    /// # Errors
    /// See [`checkpoint::save`].
    pub fn save(
        &self,
        b: &mut B,
        dir: &Path,
        tokenizer: &Tokenizer,
        dtype: Dtype,
        about: About,
    ) -> Result<()> {
        let about = About { updates: self.updates(b), tokenizer_digest: Some(tokenizer.digest()), ..about };
        checkpoint::save(
            dir,
            Contents {
                config: &self.config,
                weights: &self.weights,
                dtype,
                moments: Some((&self.first_moment, &self.second_moment)),
                beside: &[],
                read: &mut checkpoint::from_backend(b),
                eot_token: tokenizer.end_of_text(),
                eos_token: tokenizer.eos(),
                end_tokens: &tokenizer.end_tokens(),
                files: &tokenizer.files(),
                about,
            },
        )
    }

    /// Takes the state that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// The model has another shape; the optimizer's state is missing; a file cannot be read.
    pub fn restore(&mut self, b: &mut B, checkpoint: &Checkpoint) -> Result<()> {
        ensure!(checkpoint.config == self.config, "it holds a model of another shape than this run's recipe");
        let weights = checkpoint.exact_weights(checkpoint::to_backend(b, &self.config))?;
        let moments = checkpoint
            .moments(checkpoint::to_backend(b, &self.config))?
            .context("it has no optimizer state")?;
        let updates = checkpoint.manifest.as_ref().map_or(0, |manifest| manifest.about.updates);
        self.take_over(b, weights, moments, updates);
        Ok(())
    }
}
