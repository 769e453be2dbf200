//! How tokens of documents become a directory of shards, wherever the documents come from.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::super::npy::{Width, Writer};
use super::super::shards::{Kept, Lost, Meta, RECORD, TokenFile, token_bytes};
use super::super::{Cut, Fim};
use super::Overflow;
use crate::corpus::Split;
use crate::output::{OutDir, completed};
use crate::progress::Progress;
use crate::tokenizer::{END_OF_TEXT, Tokenizer};

/// A directory of shards to be made.
pub(super) struct Job<'a> {
    pub(super) out: &'a Path,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) tokenizer_path: &'a Path,
    pub(super) end_of_text: u32,
    /// What decides the output.
    pub(super) identity: Value,
    pub(super) overflow: Overflow,
    pub(super) context: Option<usize>,
    pub(super) fim: Option<Fim>,
    /// Where the documents lie, and what tells them from others.
    pub(super) source: (&'a Path, &'a str),
    pub(super) shard_tokens: u64,
}

impl Job<'_> {
    /// Makes the directory, unless it is complete already. `fill` gives the [`Mapper`] all documents of a
    /// split.
    pub(super) fn run(
        self,
        progress: &dyn Progress,
        mut fill: impl FnMut(&mut Mapper<'_>, Split) -> Result<()>,
    ) -> Result<Meta> {
        if let Some(found) = completed(self.out, RECORD, &self.identity)? {
            progress.line(&format!("{} is complete already: nothing to do", self.out.display()));
            return serde_json::from_value(found)
                .context("meta.json is of another version: remove the directory");
        }
        let Job { tokenizer, end_of_text, overflow, context, .. } = self;
        let out = OutDir::open(self.out, RECORD, &[self.source.0, self.tokenizer_path])?;
        let work = out.work();
        let vocab_size = tokenizer.vocab_size();
        let mut mapper = Mapper {
            token_bytes: token_bytes(tokenizer, vocab_size),
            overflow,
            context: context.unwrap_or(0),
            end_of_text,
            kept: Kept::default(),
            lost: Lost::default(),
            cut: Cut::default(),
            shards: Shards {
                dir: &work,
                width: Width::of(vocab_size),
                limit: self.shard_tokens,
                split: Split::Train,
                open: None,
                done: Vec::new(),
            },
        };
        let mut meta = Meta {
            format: 1,
            options: self.identity,
            vocab_size,
            dtype: Width::of(vocab_size).name().into(),
            end_of_text,
            overflow,
            context,
            tokenizer_digest: tokenizer.digest(),
            corpus_digest: self.source.1.into(),
            corpus_dir: std::path::absolute(self.source.0)?,
            ..Meta::default()
        };
        for split in [Split::Train, Split::Val] {
            mapper.shards.split = split;
            fill(&mut mapper, split)?;
            let totals = (std::mem::take(&mut mapper.kept), std::mem::take(&mut mapper.lost));
            match split {
                Split::Train => (meta.train, meta.train_lost) = totals,
                Split::Val => (meta.val, meta.val_lost) = totals,
            }
            meta.shards.append(&mut mapper.shards.finish()?);
        }
        meta.fim = self.fim;
        meta.fim_cut = self.fim.map(|_| mapper.cut);
        check(&meta)?;
        meta.digest = digest(&meta);
        tokenizer.save(&work)?;
        let shards = meta.shards.iter().map(|s| s.name.as_str());
        let files = tokenizer.files().into_iter().map(|(name, _)| name);
        out.commit(&work, shards.chain(files), &meta)?;
        Ok(meta)
    }
}

/// The token that ends a document, of the tokenizer in `path`.
pub(super) fn end_of_text(tokenizer: &Tokenizer, path: &Path) -> Result<u32> {
    tokenizer.end_of_text().with_context(|| {
        format!(
            "{} has no token that ends a document: add one with `mynah tokenizer extend --special '{END_OF_TEXT}'`",
            path.display()
        )
    })
}

fn check(meta: &Meta) -> Result<()> {
    for (name, kept, lost) in
        [("training", &meta.train, &meta.train_lost), ("validation", &meta.val, &meta.val_lost)]
    {
        if kept.documents + lost.documents > 0 && kept.tokens == 0 {
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
pub(super) struct Mapper<'a> {
    token_bytes: Vec<u32>,
    overflow: Overflow,
    context: usize,
    end_of_text: u32,
    kept: Kept,
    pub(super) lost: Lost,
    pub(super) cut: Cut,
    shards: Shards<'a>,
}

impl Mapper<'_> {
    /// Bytes of text that tokens stand for.
    pub(super) fn text_bytes(&self, ids: &[u32]) -> u64 {
        ids.iter().map(|&id| u64::from(self.token_bytes[id as usize])).sum()
    }

    /// Takes the tokens of a document of `text_bytes` bytes.
    pub(super) fn document(&mut self, text_bytes: u64, mut ids: Vec<u32>) -> Result<()> {
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
                self.kept.bytes += self.text_bytes(&ids);
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
