//! Blocks are filled: documents are read, encoded and packed, and people hear what was left out.

use anyhow::{Result, bail, ensure};

use super::TokenStream;
use super::block::{Begin, Block};
use crate::corpus::{self, Reading, Report, Split, Streamed};
use crate::data::windows::Ring;
use crate::progress::Progress;

/// A block of which more than this share of the records is bad ends the training: the text is in another
/// column.
const MOSTLY_BAD: f64 = 0.5;

/// What a document became.
pub(super) struct Encoded {
    pub(super) ids: Vec<u32>,
    /// Bytes of it that the vocabulary has no token for.
    lost_bytes: u64,
}

impl TokenStream {
    /// Reads the block that begins at `begin`; an epoch's end without a whole window is passed over.
    pub(super) fn fill(
        &mut self,
        mut begin: Begin,
        mut tokens: Vec<u32>,
        progress: &dyn Progress,
    ) -> Result<Block> {
        loop {
            let (mut report, mut lost_bytes) = (Report::default(), 0);
            tokens.clear();
            let next = self.pack(&begin, &mut tokens, &mut report, &mut lost_bytes, progress)?;
            self.report_block(&begin, tokens.len(), &report, lost_bytes, progress)?;
            let ring = Ring::new(tokens.len() as u64, self.seq_len, self.seed);
            if ring.windows() > 0 {
                return Ok(Block::new(begin, tokens, ring, next));
            }
            ensure!(
                begin.place != self.sources.beginning(begin.epoch),
                "all files together have {} tokens to train on, too few for a window of seq_len {}: give more text{}",
                tokens.len(),
                self.seq_len,
                report.reasons(|_| true)
            );
            (begin.epoch, begin.place) = next;
        }
    }

    /// Appends documents until a block is full or the epoch ends, and returns where the next block begins.
    fn pack(
        &mut self,
        begin: &Begin,
        tokens: &mut Vec<u32>,
        report: &mut Report,
        lost_bytes: &mut u64,
        progress: &dyn Progress,
    ) -> Result<(u64, corpus::StreamPosition)> {
        let Begin { epoch, place, .. } = *begin;
        let mut next = place;
        let mut reading = match self.reading.take() {
            Some((of, reading)) if of == epoch && reading.next_place() == place => reading,
            _ => self.read(self.sources.rest(epoch, place), place.record),
        };
        while tokens.len() < self.block_tokens {
            let Some(Streamed { split, content, next: after }) = reading.next(report, progress)? else {
                return Ok((epoch + 1, self.sources.beginning(epoch + 1)));
            };
            next = after;
            if split == Split::Train {
                tokens.extend(content.ids);
                tokens.push(self.end_of_text);
                *lost_bytes += content.lost_bytes;
            }
        }
        self.reading = Some((epoch, reading));
        Ok((epoch, next))
    }

    /// Reads files one after the other, the first of them from record `skip` on.
    pub(super) fn read(&self, files: Vec<usize>, skip: u64) -> Reading<Encoded> {
        let tokenizer = self.tokenizer.clone();
        self.sources.read(files, skip, move |text| Encoded {
            ids: tokenizer.encode_from_start(text),
            lost_bytes: tokenizer.missing_bytes(text),
        })
    }

    /// Says what a block is made of and what was left out of it.
    fn report_block(
        &self,
        begin: &Begin,
        tokens: usize,
        report: &Report,
        lost_bytes: u64,
        progress: &dyn Progress,
    ) -> Result<()> {
        let Begin { block, epoch, place, .. } = *begin;
        let (name, record, documents) =
            (self.sources.name(place.file), place.record + 1, report.kept.documents);
        progress.line(&format!(
            "block {block}: {tokens} tokens of {documents} documents, epoch {epoch}, from record {record} of {name} on{}",
            report.reasons(|_| true)
        ));
        if lost_bytes > 0 {
            progress.line(&format!("note: the vocabulary has no token for {lost_bytes} bytes of them"));
        }
        let (bad, records) = (report.bad_records, report.records);
        if bad as f64 > MOSTLY_BAD * records as f64 {
            bail!(
                "{bad} of {records} records are bad:{}\nmend them, or name the text's column with --text-field",
                report.reasons(corpus::Reason::is_bad_record)
            );
        }
        Ok(())
    }
}
