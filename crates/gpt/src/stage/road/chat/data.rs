//! What the road learns from: lessons, and what becomes of their text.

use super::{ChatOptions, RoadDir, Walk};
use crate::corpus::{Documents, Split};
use crate::lessons;
use crate::stage::road::{lessons_corpus, tokenize, train_tokenizer};
use anyhow::{Context, Result};
use kernels::Backend;

/// Documents that are validated on in training.
const VAL_FRACTION: f64 = 0.005;

impl<B: Backend> Walk<'_, B> {
    /// Lessons, corpus, tokenizer and tokens. Returns whether the road goes on.
    pub(super) fn data(&self, road: &mut RoadDir<'_>) -> Result<bool> {
        let size = self.plan(road)?;
        road.stage("lessons", || self.write_lessons(size).map(Some))?;
        road.stage("corpus", || self.gather().map(Some))?;
        road.stage("tokenizer", || self.train_tokenizer().map(Some))?;
        road.stage("tokens", || tokenize(&self.options.out, self.progress).map(Some))
    }

    fn write_lessons(&self, size: f64) -> Result<String> {
        let (scale, seed, dir) = (&self.scale, self.options.seed, self.at("lessons"));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let (bytes, demonstrations, prompts) =
            (scale.text_bytes(size), scale.demonstrations(size), scale.prompts(size));
        let missing = |name: &str| Some(self.lesson(name)).filter(|path| !path.exists());
        if let Some(path) = missing("text.jsonl") {
            lessons::write_text(&path, seed, bytes)?;
        }
        if let Some(path) = missing("demonstrations.jsonl") {
            lessons::write_demonstrations(&path, seed, demonstrations)?;
        }
        if let Some(path) = missing("prompts.jsonl") {
            lessons::write_prompts(&path, seed, lessons::Split::Train, prompts)?;
        }
        if let Some(path) = missing("held-out.jsonl") {
            lessons::write_prompts(&path, seed, lessons::Split::HeldOut, scale.held_out)?;
        }
        let megabytes = bytes as f64 / 1e6;
        Ok(format!("{megabytes:.1} MB of text, {demonstrations} demonstrations, {prompts} prompts"))
    }

    fn gather(&self) -> Result<String> {
        let Walk { options: ChatOptions { out, seed, threads, .. }, progress, .. } = self;
        lessons_corpus(out, VAL_FRACTION, *seed, *threads, *progress)
    }

    fn train_tokenizer(&self) -> Result<String> {
        let documents = Documents::open(&self.at("corpus"), Split::Train)?;
        let texts = documents.map(|document| Ok(document?.text));
        let tokenizer =
            train_tokenizer(&self.at("tokenizer"), texts, self.scale.vocab_size, &[], self.progress)?;
        Ok(format!("{} tokens", tokenizer.vocab_size()))
    }
}
