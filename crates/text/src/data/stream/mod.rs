//! Training batches from files that no token shards are made of, because neither would fit on the disk.
//!
//! Documents come from their files in an order drawn for each epoch (`corpus::stream`), are packed as
//! [`tokenize`](super::tokenize()) packs them, and fill one *block* after the other; a block is a ring in
//! memory, whose windows are cut and ordered by seed as those of an epoch of [`Windows`](super::Windows) are.
//! A block ends with the document that fills it, or with the epoch; up to `seq_len - 1` tokens of it are not
//! predicted, other ones in every epoch.
//!
//! The one idea: a block is a function of the seed and of the place where it begins. A run notes its [`Mark`]
//! and goes on by reading that block again; nothing else of the stream is state.

mod block;
mod fill;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use self::block::{Begin, Block};
use self::fill::Encoded;
use super::shards::token_bytes;
use super::{Batch, ValWindow, val};
use crate::corpus::{self, Reading, Report, Sources, Split};
use crate::progress::Progress;
use crate::tokenizer::{END_OF_TEXT, Tokenizer};

pub use block::Mark;

/// Tokens of a block where nothing else is asked for (64 MiB of memory).
pub const BLOCK_TOKENS: usize = 1 << 24;
/// What to stream, and how.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Which files and which of their records, the share that is held out, and the seed of everything random.
    /// What makes a corpus only (where it goes, duplicates, samples of it) does not matter.
    pub corpus: corpus::Options,
    /// `tokenizer.json`, or a directory that has one.
    pub tokenizer: PathBuf,
    /// A block is full when it has this many tokens: the more, the better the shuffling.
    pub block_tokens: usize,
}

/// Training batches of a stream: a function of the seed, the files and the step.
pub struct TokenStream {
    sources: Sources,
    tokenizer: Arc<Tokenizer>,
    end_of_text: u32,
    seq_len: usize,
    seed: u64,
    block_tokens: usize,
    /// An epoch that is being read, and its number.
    reading: Option<(u64, Reading<Encoded>)>,
    block: Option<Block>,
    /// A block that was noted before the run was resumed.
    noted: Option<Mark>,
}

impl TokenStream {
    /// Lists the files; windows will have `seq_len` inputs.
    ///
    /// # Errors
    /// Nothing is held out; a path cannot be read; there are no files; the tokenizer cannot be loaded or has
    /// no token that ends a document.
    pub fn open(options: &StreamOptions, seq_len: usize, progress: &dyn Progress) -> Result<TokenStream> {
        ensure!(
            options.block_tokens > seq_len,
            "a block of {} tokens has no window of seq_len {seq_len}: give it more",
            options.block_tokens
        );
        ensure!(
            options.corpus.val_fraction > 0.0,
            "no document would be held out, and training is measured on those that are: hold out more (--val-fraction)"
        );
        let tokenizer = Tokenizer::from_file(&options.tokenizer)?;
        let end_of_text = tokenizer.end_of_text().with_context(|| {
            format!(
                "{} has no token that ends a document: add one with `mynah tokenizer extend --special '{END_OF_TEXT}'`",
                options.tokenizer.display()
            )
        })?;
        tokenizer.warnings().iter().for_each(|warning| progress.line(&format!("note: {warning}")));
        let sources = Sources::find(&options.corpus, progress)?;
        Ok(TokenStream {
            sources,
            tokenizer: Arc::new(tokenizer),
            end_of_text,
            seq_len,
            seed: options.corpus.seed,
            block_tokens: options.block_tokens,
            reading: None,
            block: None,
            noted: None,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The token after each document.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// What tells these files from others: their names and sizes; of the hub's also the commit.
    pub fn digest(&self) -> &str {
        self.sources.digest()
    }

    /// What was found: files and their bytes, data sets with their commits, and what is not read.
    pub fn found(&self) -> &Report {
        self.sources.found()
    }

    /// At most `count` windows of documents that are held out, always the same: from the beginnings of as
    /// many files of the first epoch, as far as they have them; of the hub, where a file costs a download,
    /// from the first files.
    ///
    /// # Errors
    /// All documents that are held out are too short for one window.
    pub fn val_windows(&self, count: usize, progress: &dyn Progress) -> Result<Vec<ValWindow>> {
        let (seq_len, enough) = (self.seq_len, count * self.seq_len + 2);
        let files = self.sources.order(0);
        let spread = if self.sources.are_remote() { 0 } else { count.min(files.len()) };
        let mut tokens = Vec::new();
        for (number, &file) in files[..spread].iter().enumerate() {
            let share = enough.saturating_sub(tokens.len()).div_ceil(spread - number);
            self.hold_out(vec![file], share, &mut tokens, progress)?;
        }
        if tokens.len() < enough {
            // Their shares were not there: whatever there is, in order.
            tokens.clear();
            self.hold_out(files, enough, &mut tokens, progress)?;
        }
        let last = val::last_start(tokens.len() as u64, seq_len)?;
        let token_bytes = token_bytes(&self.tokenizer, self.tokenizer.vocab_size());
        let text_bytes =
            |targets: &[u32]| targets.iter().map(|&id| u64::from(token_bytes[id as usize])).sum();
        let window = |start: u64| Ok(tokens[start as usize..][..=seq_len].to_vec());
        val::windows(last, count, window, text_bytes)
    }

    /// Appends about `wanted` tokens of documents that are held out, as far as `files` have them.
    fn hold_out(
        &self,
        files: Vec<usize>,
        wanted: usize,
        tokens: &mut Vec<u32>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let end = tokens.len() + wanted;
        let (mut reading, mut report) = (self.read(files, 0), Report::default());
        while tokens.len() < end
            && let Some(document) = reading.next(&mut report, progress)?
        {
            if document.split == Split::Val {
                tokens.extend(document.content.ids);
                tokens.push(self.end_of_text);
            }
        }
        Ok(())
    }

    /// The block that the newest batch ended in.
    pub fn mark(&self) -> Option<&Mark> {
        self.block.as_ref().map(|block| &block.mark)
    }

    /// Says where the run stopped, so that reading resumes there.
    ///
    /// # Errors
    /// There is no such place in these files.
    pub fn note(&mut self, mark: Mark) -> Result<()> {
        ensure!(
            mark.place.file < self.found().files as usize,
            "the stream has no file number {}: what was noted of it is damaged",
            mark.place.file
        );
        self.noted = Some(mark);
        Ok(())
    }

    /// Rows `rows` of the `sequences` of step `step` (steps count from 1) into `batch`, whose memory is used
    /// again. Cutting a step into several calls gives the same rows.
    ///
    /// # Errors
    /// The files have nothing to train on, or mostly bad records, or are not what they were before the run
    /// was resumed; somebody asked to stop while a block was read.
    pub fn batch(
        &mut self,
        step: u64,
        rows: Range<usize>,
        sequences: usize,
        batch: &mut Batch,
        progress: &dyn Progress,
    ) -> Result<()> {
        let seq_len = self.seq_len;
        batch.fill(step, rows, sequences, |row, batch| {
            self.seek(row, progress)?.push(row, seq_len, batch);
            Ok(())
        })
    }

    /// The block that has row `row`.
    fn seek(&mut self, row: u64, progress: &dyn Progress) -> Result<&Block> {
        let mut block = match self.block.take() {
            Some(block) if block.mark.row <= row => block,
            _ => self.first_block(row, progress)?,
        };
        while !block.has(row) {
            let (begin, memory) = (block.end(), block.into_tokens());
            block = self.fill(begin, memory, progress)?;
        }
        Ok(self.block.insert(block))
    }

    /// The block that reading resumes with.
    fn first_block(&mut self, row: u64, progress: &dyn Progress) -> Result<Block> {
        let Some(mark) = self.noted.take_if(|mark| mark.row <= row) else {
            let begin = Begin { block: 0, row: 0, epoch: 0, place: self.sources.beginning(0) };
            return self.fill(begin, Vec::new(), progress);
        };
        let Mark { block, row, epoch, place, .. } = mark;
        let block = self.fill(Begin { block, row, epoch, place }, Vec::new(), progress)?;
        ensure!(
            block.mark == mark,
            "the data is not what it was: {} has other tokens from record {} on; put the files back, or begin another run",
            self.sources.name(place.file),
            place.record
        );
        Ok(block)
    }
}
