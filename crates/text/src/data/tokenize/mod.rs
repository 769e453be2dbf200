//! The map over the data set: documents in, shards of tokens out. Documents are those of a corpus
//! ([`tokenize`]) or rows that say what is asked of a text ([`tokenize_tasks`]).

mod tasks;
mod write;

pub use tasks::{TokenizeTasksOptions, tokenize_tasks};

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::write::{Job, Mapper, end_of_text};
use super::fim::Order;
use super::{Fim, Meta};
use crate::corpus::{Documents, Report, Split};
use crate::progress::{Progress, Stopped, Unit};
use crate::tokenizer::Tokenizer;

/// Documents are encoded in batches of about this much text (4 MiB), on all threads.
const BATCH_BYTES: usize = 4 << 20;
/// A shard is closed when it has this many tokens (64 MiB as uint16).
const SHARD_TOKENS: u64 = 1 << 25;

/// What becomes of documents that do not fit the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// Documents are concatenated, each followed by end-of-text; windows are cut anywhere, nothing is lost.
    #[default]
    Pack,
    /// Each document is cut into chunks of exactly `context` tokens; what remains is dropped. This is
    /// truncation with overflowing tokens of which only the full ones are kept, as in the Hugging Face course
    /// (chapter 7.6, 2022).
    Chunk,
    /// Documents longer than `context` tokens are dropped, the others packed.
    Drop,
}

/// What to tokenize, and how.
#[derive(Clone, Debug, Default)]
pub struct TokenizeOptions {
    /// A corpus made by [`corpus::build`](crate::corpus::build).
    pub corpus: PathBuf,
    /// `tokenizer.json`, or a directory that has one.
    pub tokenizer: PathBuf,
    /// Where the shards go.
    pub out: PathBuf,
    /// Tokens of a context; only `Chunk` and `Drop` need one.
    pub context: Option<usize>,
    /// What becomes of documents that do not fit the context.
    pub overflow: Overflow,
    /// Cuts training documents for fill-in-the-middle; validation documents stay whole.
    pub fim: Option<Fim>,
}

/// Writes the tokens of a corpus as NumPy arrays, with the tokenizer and `meta.json` beside them. When `out`
/// holds the complete shards of the same corpus, tokenizer and options already, nothing is done; others are
/// refused with the difference.
pub fn tokenize(options: &TokenizeOptions, progress: &dyn Progress) -> Result<Meta> {
    tokenize_with(options, progress, SHARD_TOKENS)
}

/// [`tokenize`] with shards of another size.
pub(super) fn tokenize_with(
    options: &TokenizeOptions,
    progress: &dyn Progress,
    shard_tokens: u64,
) -> Result<Meta> {
    // Packing does not depend on the context, so that it may be given or not.
    let context = if options.overflow == Overflow::Pack { None } else { options.context };
    if options.overflow != Overflow::Pack {
        ensure!(
            context.is_some_and(|n| n > 1),
            "--overflow chunk and drop need --context, of at least 2 tokens"
        );
    }
    let corpus = Report::load(&options.corpus)?;
    let tokenizer = Tokenizer::from_file(&options.tokenizer)?;
    let end_of_text = end_of_text(&tokenizer, &options.tokenizer)?;
    tokenizer.warnings().iter().for_each(|warning| progress.line(&format!("note: {warning}")));
    let mut identity = json!({
        "corpus": corpus.digest,
        "tokenizer": tokenizer.digest(),
        "context": context,
        "overflow": options.overflow,
    });
    let mut infill = None;
    if let Some(fim) = options.fim {
        fim.check()?;
        identity["fim"] = json!(fim);
        infill = Some((fim, tokenizer.fim()?));
    }
    let job = Job {
        out: &options.out,
        tokenizer: &tokenizer,
        tokenizer_path: &options.tokenizer,
        end_of_text,
        identity,
        overflow: options.overflow,
        context,
        fim: options.fim,
        source: (&options.corpus, &corpus.digest),
        shard_tokens,
    };
    progress.begin("tokenizing", corpus.kept.bytes, Unit::Bytes);
    let meta = job.run(progress, |mapper, split| {
        let infill = infill.filter(|_| split == Split::Train);
        let encode = |text: &str, document: u64| match &infill {
            Some((fim, tokens)) => fim.encode(&tokenizer, tokens, text, document),
            None => (tokenizer.encode_from_start(text), None),
        };
        map(Documents::open(&options.corpus, split)?, encode, &tokenizer, mapper, progress)
    })?;
    progress.end();
    Ok(meta)
}

/// Encodes documents batch by batch, on all threads; `encode` hears the document's number.
fn map(
    mut documents: Documents,
    encode: impl Fn(&str, u64) -> (Vec<u32>, Option<Order>) + Sync,
    tokenizer: &Tokenizer,
    mapper: &mut Mapper,
    progress: &dyn Progress,
) -> Result<()> {
    let mut first = 0;
    loop {
        let (mut texts, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && let Some(document) = documents.next().transpose()?
        {
            bytes += document.text.len();
            texts.push(document.text);
        }
        if texts.is_empty() {
            return Ok(());
        }
        let numbered = texts.par_iter().enumerate();
        let encoded: Vec<_> = numbered.map(|(i, text)| encode(text, first + i as u64)).collect();
        first += texts.len() as u64;
        for (text, (ids, order)) in texts.iter().zip(encoded) {
            mapper.lost.bytes += tokenizer.missing_bytes(text);
            mapper.cut.count(order);
            mapper.document(text.len() as u64, ids)?;
        }
        progress.advance(bytes as u64);
        if progress.should_stop() {
            bail!(Stopped("the same command tokenizes from the beginning"));
        }
    }
}
