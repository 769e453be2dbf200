//! Whom a student learns from, and whether the two fit together.

use super::{DistilSettings, Store};
use crate::data::BatchPart;
use crate::stage::Init;
use crate::tokenizer::Tokenizer;
use crate::train::Teacher;
use anyhow::{Result, bail, ensure};
use kernels::Distil;

/// Where a teacher's distributions come from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A model.
    Model(&'a Init),
    /// What was kept of one.
    Store(&'a Store),
}

impl Source<'_> {
    pub(super) fn name(&self) -> &str {
        match self {
            Source::Model(teacher) => teacher.name(),
            Source::Store(store) => store.name(),
        }
    }
}

impl DistilSettings {
    /// What a store knows nothing of.
    pub(super) fn check_store(&self, store: &Store) -> Result<()> {
        ensure!(
            self.lmbda == 0.0,
            "lmbda is {}: what was kept of a teacher says nothing of answers that the student samples; --set lmbda=0, or give the \
             model itself with --teacher",
            self.lmbda
        );
        ensure!(
            self.temperature as f32 == store.temperature(),
            "temperature is {}, and what was kept of {} is at {}: both have one",
            self.temperature,
            store.name(),
            store.temperature()
        );
        Ok(())
    }
}

/// Refuses a teacher that speaks of other tokens than the student.
pub(super) fn check_pair(teacher: &Source<'_>, student: &Init) -> Result<()> {
    let (theirs, rows) = match teacher {
        Source::Model(teacher) => (teacher.needed_tokenizer()?, teacher.config(0.0).vocab_size),
        Source::Store(store) => (&store.tokenizer, store.vocab_size()),
    };
    let ours = student.needed_tokenizer()?;
    if !theirs.same_tokens(ours) {
        let said = |tokenizer: &Tokenizer, id: u32| match tokenizer.token_bytes(id) {
            Ok(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            Err(_) => "none".into(),
        };
        let ids = 0..theirs.vocab_size().max(ours.vocab_size()) as u32;
        let differing = ids.map(|id| (id, said(theirs, id), said(ours, id))).find(|(_, a, b)| a != b);
        let difference = match differing {
            Some((id, theirs, ours)) => {
                format!("token {id} is {theirs} to the teacher and {ours} to the student")
            }
            None => format!(
                "their special tokens are {:?} and {:?}",
                names(theirs.specials()),
                names(ours.specials())
            ),
        };
        bail!(
            "{} and {} have different tokenizers, so that their distributions cannot be compared: {difference}; take a teacher \
             and a student that were trained with one tokenizer",
            teacher.name(),
            student.name()
        );
    }
    let ours = student.config(0.0).vocab_size;
    ensure!(
        rows == ours,
        "{} has rows for {rows} tokens and {} for {ours}: their distributions cannot be compared",
        teacher.name(),
        student.name()
    );
    Ok(())
}

fn names(specials: &[(String, u32)]) -> Vec<&str> {
    specials.iter().map(|(name, _)| name.as_str()).collect()
}

/// Looks up what was kept of the rows that come next.
pub(super) fn show<B: Distil>(
    teacher: &mut Teacher<B>,
    b: &mut B,
    source: &Source<'_>,
    part: BatchPart<'_>,
) -> Result<()> {
    if let Source::Store(store) = source {
        let (tokens, logprobs) = store.rows(part)?;
        teacher.show(b, &tokens, &logprobs);
    }
    Ok(())
}
