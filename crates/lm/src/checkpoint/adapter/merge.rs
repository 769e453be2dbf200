//! A model with its adapter merged into it, as a directory of its own.

use std::path::Path;

use anyhow::{Result, ensure};

use super::super::dtype::Dtype;
use super::super::manifest::About;
use super::super::model::Checkpoint;
use super::super::save::{Contents, save};
use crate::model::Spec;

/// What was written.
#[derive(Clone, Debug)]
pub struct Merged {
    /// Bytes of its arrays.
    pub bytes: u64,
    /// Their number format, as `transformers` calls it.
    pub dtype: &'static str,
}

impl Checkpoint {
    /// Writes the model with its adapter merged into it as the model directory `dir`, one array in memory at a time.
    /// Its number format is `dtype`, else the base's.
    ///
    /// # Errors
    /// There is no adapter, an array cannot be read, or the directory cannot be written.
    pub fn merge(&self, dir: &Path, dtype: Option<Dtype>) -> Result<Merged> {
        ensure!(
            self.adapter.is_some(),
            "there is no adapter: name one with --adapter, or a run that trained one"
        );
        let dtype = dtype.or(Dtype::named(&self.dtype())).unwrap_or_default();
        let mut failed = None;
        let tokenizer = self.tokenizer()?;
        let told = self.manifest.as_ref().map(|manifest| manifest.about.clone()).unwrap_or_default();
        let about = About { stage: "merge".into(), base: None, ended: None, selected: None, ..told };
        let contents = Contents {
            config: &self.config,
            weights: &self.specs,
            dtype,
            moments: None,
            beside: &[],
            // What cannot be read is told at the end; until then it is nothing that could be written.
            read: &mut |spec: &Spec, out: &mut [f32]| match self.read(spec) {
                Ok(values) => out.copy_from_slice(&values),
                Err(error) => {
                    failed.get_or_insert(error);
                    out.fill(f32::NAN);
                }
            },
            eot_token: tokenizer.as_ref().and_then(|tokenizer| tokenizer.end_of_text()),
            eos_token: tokenizer.as_ref().and_then(|tokenizer| tokenizer.eos()),
            end_tokens: &self.generation.end_tokens,
            files: &tokenizer.as_ref().map(|tokenizer| tokenizer.files()).unwrap_or_default(),
            about,
        };
        let saved = save(dir, contents);
        match failed {
            Some(error) => return Err(error),
            None => saved?,
        }
        let bytes = dtype.bytes() * self.config.parameters();
        Ok(Merged { bytes: bytes as u64, dtype: dtype.torch_name() })
    }
}
