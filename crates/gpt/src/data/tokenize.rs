//! The map over the data set: documents in, shards of tokens out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fim::Order;
use super::npy::{Width, Writer};
use super::shards::{Kept, Lost, Meta, RECORD, TokenFile, token_bytes};
use super::{Cut, Fim};
use crate::corpus::{Documents, OutDir, Report, Split, completed};
use crate::progress::{Progress, Stopped, Unit};
use crate::tokenizer::{END_OF_TEXT, FILES, Tokenizer};

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
    /// Each document is cut into chunks of exactly `context` tokens; what remains is dropped. This is truncation with
    /// overflowing tokens of which only the full ones are kept, as in the Hugging Face course (chapter 7.6, 2022).
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

/// Writes the tokens of a corpus as NumPy arrays, with the tokenizer and `meta.json` beside them. When `out` holds the
/// complete shards of the same corpus, tokenizer and options already, nothing is done; others are refused with the
/// difference.
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
    let end_of_text = tokenizer.end_of_text().with_context(|| {
        format!(
            "{} has no token that ends a document: add one with `mynah tokenizer extend --special '{END_OF_TEXT}'`",
            options.tokenizer.display()
        )
    })?;
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
    if let Some(found) = completed(&options.out, RECORD, &identity)? {
        progress.line(&format!("{} is complete already: nothing to do", options.out.display()));
        return serde_json::from_value(found)
            .context("meta.json is of another version: remove the directory");
    }
    let out = OutDir::open(&options.out, RECORD, is_ours)?;
    let work = out.work();
    let vocab_size = tokenizer.vocab_size();
    let mut meta = Meta {
        format: 1,
        options: identity,
        vocab_size,
        dtype: Width::of(vocab_size).name().into(),
        end_of_text,
        overflow: options.overflow,
        context,
        tokenizer_digest: tokenizer.digest(),
        corpus_digest: corpus.digest.clone(),
        corpus_dir: std::path::absolute(&options.corpus)?,
        ..Meta::default()
    };
    let mut mapper = Mapper {
        token_bytes: token_bytes(&tokenizer, vocab_size),
        overflow: options.overflow,
        context: context.unwrap_or(0),
        end_of_text,
        kept: Kept::default(),
        lost: Lost::default(),
        cut: Cut::default(),
        shards: Shards {
            dir: &work,
            width: Width::of(vocab_size),
            limit: shard_tokens,
            split: Split::Train,
            open: None,
            done: Vec::new(),
        },
    };
    progress.begin("tokenizing", corpus.kept.bytes, Unit::Bytes);
    for split in [Split::Train, Split::Val] {
        mapper.shards.split = split;
        let infill = infill.filter(|_| split == Split::Train);
        let encode = |text: &str, document: u64| match &infill {
            Some((fim, tokens)) => fim.encode(&tokenizer, tokens, text, document),
            None => (tokenizer.encode(text), None),
        };
        map(Documents::open(&options.corpus, split)?, encode, &tokenizer, &mut mapper, progress)?;
        let totals = (std::mem::take(&mut mapper.kept), std::mem::take(&mut mapper.lost));
        match split {
            Split::Train => (meta.train, meta.train_lost) = totals,
            Split::Val => (meta.val, meta.val_lost) = totals,
        }
        meta.shards.append(&mut mapper.shards.finish()?);
    }
    progress.end();
    meta.fim = options.fim;
    meta.fim_cut = options.fim.map(|_| mapper.cut);
    check(&meta, &corpus)?;
    meta.digest = digest(&meta);
    tokenizer.save(&work)?;
    let shards = meta.shards.iter().map(|s| s.name.as_str());
    let files = tokenizer.files().into_iter().map(|(name, _)| name);
    out.commit(&work, shards.chain(files), &meta)?;
    Ok(meta)
}

fn is_ours(name: &str) -> bool {
    let is_shard = name.ends_with(".npy") && (name.starts_with("train-") || name.starts_with("val-"));
    is_shard || FILES.contains(&name)
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

fn check(meta: &Meta, corpus: &Report) -> Result<()> {
    for (name, kept, documents) in
        [("training", &meta.train, corpus.train.documents), ("validation", &meta.val, corpus.val.documents)]
    {
        if documents > 0 && kept.tokens == 0 {
            let why = match meta.overflow {
                Overflow::Pack => "its documents are empty",
                Overflow::Chunk => "every document is shorter than --context",
                Overflow::Drop => "every document is longer than --context",
            };
            bail!(
                "the {name} split would have no tokens: {why}; choose another --context, or --overflow pack"
            );
        }
    }
    Ok(())
}

fn digest(meta: &Meta) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(
        format!("{}\n{} {:?} {}\n", meta.options, meta.dtype, meta.context, meta.end_of_text).as_bytes(),
    );
    for shard in &meta.shards {
        hasher.update(format!("{} {} {}\n", shard.name, shard.tokens, shard.blake3).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Turns one document's ids into what is written.
struct Mapper<'a> {
    token_bytes: Vec<u32>,
    overflow: Overflow,
    context: usize,
    end_of_text: u32,
    kept: Kept,
    lost: Lost,
    cut: Cut,
    shards: Shards<'a>,
}

impl Mapper<'_> {
    fn document(&mut self, text_bytes: u64, mut ids: Vec<u32>) -> Result<()> {
        match self.overflow {
            Overflow::Drop if ids.len() > self.context => {
                self.lost.documents += 1;
                self.lost.tokens += ids.len() as u64;
                return Ok(());
            }
            Overflow::Pack | Overflow::Drop => {
                ids.push(self.end_of_text);
                self.kept.bytes += text_bytes;
            }
            Overflow::Chunk => {
                let rest = ids.len() % self.context;
                self.lost.chunks += u64::from(rest > 0);
                self.lost.tokens += rest as u64;
                ids.truncate(ids.len() - rest);
                if ids.is_empty() {
                    self.lost.documents += 1;
                    return Ok(());
                }
                self.kept.bytes +=
                    ids.iter().map(|&id| u64::from(self.token_bytes[id as usize])).sum::<u64>();
            }
        }
        self.kept.documents += 1;
        self.kept.tokens += ids.len() as u64;
        self.shards.write(&ids)
    }
}

/// Writes one split; a document is never cut by the end of a shard.
struct Shards<'a> {
    dir: &'a Path,
    width: Width,
    limit: u64,
    split: Split,
    open: Option<(String, Writer)>,
    done: Vec<TokenFile>,
}

impl Shards<'_> {
    fn write(&mut self, ids: &[u32]) -> Result<()> {
        let (_, writer) = match &mut self.open {
            Some(open) => open,
            None => {
                let name = format!("{}-{:05}.npy", self.split.name(), self.done.len());
                let writer = Writer::create(&self.dir.join(&name), self.width)?;
                self.open.insert((name, writer))
            }
        };
        writer.write(ids)?;
        if writer.len() >= self.limit { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        if let Some((name, writer)) = self.open.take() {
            let (tokens, blake3) = writer.finish()?;
            self.done.push(TokenFile { name, tokens, blake3 });
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<TokenFile>> {
        self.close()?;
        Ok(std::mem::take(&mut self.done))
    }
}
