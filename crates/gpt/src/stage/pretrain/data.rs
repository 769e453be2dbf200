//! What a pretraining learns from: token shards, or a stream of files. Both give batches, held-out windows
//! and their part of the recipe.

use super::Options;
use crate::data::{Batch, Exposure, Mark, MixedWindows, Mixture, StreamOptions, TokenStream, ValWindow};
use crate::hub::Name;
use crate::progress::Progress;
use crate::stage::Settings;
use crate::tokenizer::Tokenizer;
use crate::train::run::{Input, Recipe};
use anyhow::{Context, Result};
use serde_json::Value;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the tokens of a pretraining come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Directories of token shards and their weights in a batch.
    Shards(Vec<(PathBuf, f64)>),
    /// Files that are tokenized while they are read. Its seed is the run's.
    Stream(Box<StreamOptions>),
}

/// A source, opened.
pub(super) enum Data {
    Shards { mixture: Mixture, windows: MixedWindows },
    Stream { stream: Box<TokenStream>, options: Box<StreamOptions> },
}

impl Data {
    /// Opens the source of a run. A data set of the hub is the commit that it was when the run began.
    pub(super) fn open(options: &Options, progress: &dyn Progress) -> Result<Data> {
        let seq_len = options.settings.seq_len;
        match &options.source {
            Source::Shards(parts) => {
                let mixture = Mixture::open(parts)?;
                let windows = mixture.windows(seq_len, options.seed)?;
                Ok(Data::Shards { mixture, windows })
            }
            Source::Stream(asked) => {
                let mut pinned = StreamOptions::clone(asked);
                pinned.corpus.seed = options.seed;
                let of = pinned.corpus.paths.len();
                for (number, path) in pinned.corpus.paths.iter_mut().enumerate() {
                    *path = Recipe::pinned(&options.out, &key("data", number, of), path)?;
                }
                let stream = TokenStream::open(&pinned, seq_len, progress)?;
                Ok(Data::Stream { stream: Box::new(stream), options: asked.clone() })
            }
        }
    }

    /// The tokenizer that made the tokens.
    pub(super) fn tokenizer(&self) -> &Arc<Tokenizer> {
        match self {
            Data::Shards { mixture, .. } => mixture.tokenizer(),
            Data::Stream { stream, .. } => stream.tokenizer(),
        }
    }

    /// Rows that the embedding of a model needs.
    pub(super) fn vocab_size(&self) -> usize {
        match self {
            Data::Shards { mixture, .. } => mixture.vocab_size(),
            Data::Stream { stream, .. } => stream.tokenizer().vocab_size(),
        }
    }

    /// The token after each document.
    pub(super) fn end_of_text(&self) -> u32 {
        match self {
            Data::Shards { mixture, .. } => mixture.parts()[0].shards.meta().end_of_text,
            Data::Stream { stream, .. } => stream.end_of_text(),
        }
    }

    /// What tells this data from other data.
    pub(super) fn digest(&self) -> String {
        match self {
            Data::Shards { mixture, .. } => mixture.digest(),
            Data::Stream { stream, .. } => stream.digest().to_owned(),
        }
    }

    /// The windows to validate on.
    pub(super) fn val_windows(&self, settings: &Settings, progress: &dyn Progress) -> Result<Vec<ValWindow>> {
        match self {
            Data::Shards { mixture, .. } => mixture.val_windows(settings.eval_windows, settings.seq_len),
            Data::Stream { stream, .. } => stream.val_windows(settings.eval_windows, progress),
        }
    }

    /// How many tokens of a sequence are predicted.
    pub(super) fn predictions(&self, settings: &Settings) -> usize {
        match self {
            Data::Shards { windows, .. } => windows.predictions(),
            Data::Stream { .. } => settings.seq_len,
        }
    }

    /// Rows `rows` of the `sequences` of step `step`.
    pub(super) fn batch(
        &mut self,
        step: u64,
        rows: Range<usize>,
        sequences: usize,
        batch: &mut Batch,
        progress: &dyn Progress,
    ) -> Result<()> {
        match self {
            Data::Shards { windows, .. } => windows.batch(step, rows, sequences, batch),
            Data::Stream { stream, .. } => stream.batch(step, rows, sequences, batch, progress),
        }
    }

    /// How much of each part of the data a whole run sees; of a stream nobody knows before.
    pub(super) fn exposure(&self, settings: &Settings) -> Vec<Exposure> {
        match self {
            Data::Shards { mixture, .. } => {
                mixture.exposure(settings.steps * settings.sequences() as u64, settings.seq_len)
            }
            Data::Stream { .. } => Vec::new(),
        }
    }

    /// Tells what there is to learn from.
    pub(super) fn introduce(&self, settings: &Settings, progress: &dyn Progress) {
        for Exposure { path, share, epochs } in self.exposure(settings) {
            let (percent, path) = (100.0 * share, path.display());
            progress
                .line(&format!("{percent:.0} % of every batch from {path}: {epochs:.2} epochs in this run"));
        }
        if let Data::Stream { stream, options } = self {
            let found = stream.found();
            progress.line(&format!(
                "a stream of {} files, {} MB, in blocks of {} tokens{}",
                found.files,
                found.file_bytes / 1_000_000,
                options.block_tokens,
                found.reasons(|_| true)
            ));
        }
    }

    /// What a checkpoint notes, so that reading goes on there; shards need nothing.
    pub(super) fn position(&self) -> Result<Option<Value>> {
        let Data::Stream { stream, .. } = self else { return Ok(None) };
        Ok(stream.mark().map(serde_json::to_value).transpose()?)
    }

    /// Takes what [`position`](Self::position) gave.
    pub(super) fn go_on(&mut self, position: Option<&Value>) -> Result<()> {
        if let (Data::Stream { stream, .. }, Some(position)) = (self, position) {
            let mark: Mark = serde_json::from_value(position.clone())
                .context("the checkpoint's position in the data cannot be understood")?;
            stream.note(mark)?;
        }
        Ok(())
    }

    /// Writes down what decides the tokens.
    pub(super) fn record(&self, recipe: &mut Recipe) -> Result<()> {
        match self {
            Data::Shards { mixture, .. } => record_shards(mixture, recipe),
            Data::Stream { stream, options } => record_stream(stream, options, recipe),
        }
    }
}

/// One source is what most runs have; several are told apart by number.
fn key(name: &str, number: usize, of: usize) -> String {
    if of == 1 { name.into() } else { format!("{name} {}", number + 1) }
}

fn record_shards(mixture: &Mixture, recipe: &mut Recipe) -> Result<()> {
    let parts = mixture.parts();
    for (number, part) in parts.iter().enumerate() {
        let meta = part.shards.meta();
        let key = |name: &str| key(name, number, parts.len());
        recipe.inputs.insert(key("data"), Input::new(&part.path, part.shards.digest()));
        recipe.inputs.insert(key("corpus"), Input::new(&meta.corpus_dir, &*meta.corpus_digest));
    }
    if parts.len() > 1 {
        let shares: Vec<f64> = parts.iter().map(|part| part.share).collect();
        recipe.settings.insert("mix".into(), toml::Value::try_from(shares).context("shares are numbers")?);
    }
    recipe.inputs.insert("tokenizer".into(), Input::new(&parts[0].path, mixture.tokenizer().digest()));
    Ok(())
}

fn record_stream(stream: &TokenStream, asked: &StreamOptions, recipe: &mut Recipe) -> Result<()> {
    let mut pinned = stream.found().sources.iter();
    let paths = &asked.corpus.paths;
    for (number, path) in paths.iter().enumerate() {
        let key = key("data", number, paths.len());
        recipe.note_asked(&key, &path.to_string_lossy());
        let place = if Name::is(path) { pinned.next().map(PathBuf::from) } else { None };
        let place = place.unwrap_or_else(|| path.clone());
        recipe.inputs.insert(key, Input::new(&place, stream.digest()));
    }
    let mut settings = toml::Table::try_from(&asked.corpus).context("what is read is not a TOML table")?;
    // What makes a corpus only, and what the recipe says elsewhere.
    for key in ["paths", "dedup", "near_dedup", "max_bytes", "max_bad_fraction", "seed"] {
        settings.remove(key);
    }
    settings.insert("block_tokens".into(), i64::try_from(asked.block_tokens)?.into());
    recipe.settings.insert("stream".into(), settings.into());
    recipe.inputs.insert("tokenizer".into(), Input::new(&asked.tokenizer, stream.tokenizer().digest()));
    Ok(())
}
