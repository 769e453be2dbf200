//! How well a vocabulary fits a corpus.

use super::Tokenizer;
use crate::progress::{Progress, Stopped, Unit};
use anyhow::{Result, bail};
use serde::Serialize;

/// How many of the longest tokens are listed.
const N_LONGEST: usize = 10;

/// What [`Tokenizer::stats`] measures.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// Ids in the vocabulary.
    pub vocab_size: usize,
    /// Special tokens and their ids.
    pub specials: Vec<(String, u32)>,
    /// Documents encoded.
    pub documents: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// Their length in tokens.
    pub tokens: u64,
    /// Compression: the larger, the more text fits into a context. 0 without any tokens.
    pub bytes_per_token: f64,
    /// How many different tokens occurred.
    pub tokens_used: usize,
    /// The longest tokens that occurred, as text, longest first.
    pub longest: Vec<String>,
}

/// Encodes `documents` in batches, on all threads.
pub(super) fn measure(
    tokenizer: &Tokenizer,
    documents: impl Iterator<Item = Result<String>>,
    progress: &dyn Progress,
) -> Result<Stats> {
    progress.begin("encoding", 0, Unit::Bytes);
    let mut documents = documents.peekable();
    let (mut n_documents, mut bytes, mut tokens) = (0, 0, 0);
    let mut used = vec![false; tokenizer.vocab_size()];
    while documents.peek().is_some() {
        let batch = documents.by_ref().take(256).collect::<Result<Vec<String>>>()?;
        for ids in tokenizer.encode_batch(&batch) {
            tokens += ids.len() as u64;
            ids.into_iter().for_each(|id| used[id as usize] = true);
        }
        let batch_bytes = batch.iter().map(|text| text.len() as u64).sum();
        n_documents += batch.len() as u64;
        bytes += batch_bytes;
        progress.advance(batch_bytes);
        if progress.should_stop() {
            bail!(Stopped("the tokenizer was not measured to the end"));
        }
    }
    progress.end();

    let used: Vec<u32> = (0..).zip(used).filter_map(|(id, used)| used.then_some(id)).collect();
    let mut longest = used.iter().map(|&id| tokenizer.token_bytes(id)).collect::<Result<Vec<_>>>()?;
    longest.sort_by_key(|token| std::cmp::Reverse(token.len()));
    longest.truncate(N_LONGEST);
    Ok(Stats {
        vocab_size: tokenizer.vocab_size(),
        specials: tokenizer.specials().to_vec(),
        documents: n_documents,
        bytes,
        tokens,
        bytes_per_token: if tokens == 0 { 0.0 } else { bytes as f64 / tokens as f64 },
        tokens_used: used.len(),
        longest: longest.into_iter().map(|token| String::from_utf8_lossy(token).into_owned()).collect(),
    })
}
