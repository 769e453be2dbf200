//! Demonstrations as batches of supervised fine-tuning.
//!
//! A conversation is a sequence of its own: attention and positions stay within it, and there is no padding.
//! Predicted are the assistant's tokens and what ends its answers, nothing else. A batch is a function of the
//! seed and the step: every epoch visits all conversations, in another random order.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use kernels::NO_TARGET;

use super::held_out::draw;
use super::messages::{Demonstration, Message, Role, demonstration};
use super::rows::{Fault, LineReport, Lines, Record};
use super::{Batch, Columns, Epochs};
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::{ChatTemplate, Encoded};

/// What becomes of a conversation that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TooLong {
    /// It is left out.
    #[default]
    Drop,
    /// Its first tokens are left out.
    TruncateLeft,
    /// The file is refused.
    Error,
}

/// How a file of demonstrations becomes [`Conversations`].
pub struct ReadOptions<'a> {
    /// Makes tokens of messages.
    pub template: &'a ChatTemplate,
    /// The template's.
    pub tokenizer: &'a Tokenizer,
    /// Tokens that the model can read at once.
    pub context: usize,
    /// What becomes of longer ones.
    pub too_long: TooLong,
    /// The share of lines that may be bad.
    pub max_bad: f64,
    /// The names of its columns.
    pub columns: &'a Columns,
    /// Decides the order.
    pub seed: u64,
}

/// A conversation's tokens, and what is to be predicted after each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The ids.
    pub tokens: Vec<u32>,
    /// What follows each token: the next id where it is the assistant's, else [`NO_TARGET`].
    pub targets: Vec<u32>,
    /// Tokens at the beginning that the context had no room for.
    pub cut_tokens: usize,
}

impl Sequence {
    /// The sequence of a conversation. What stands after its last answer is no input, since nothing is
    /// predicted there.
    ///
    /// # Errors
    /// There is nothing to predict; it is longer than `context`, and `too_long` does not cut it.
    pub fn new(encoded: &Encoded, context: usize, too_long: TooLong) -> Result<Sequence, Fault> {
        let end = encoded.answers.last().map_or(0, |answer| answer.end);
        let inputs = end.saturating_sub(1);
        let mut targets = vec![NO_TARGET; inputs];
        for answer in &encoded.answers {
            for place in answer.clone().filter(|&place| place > 0) {
                targets[place - 1] = encoded.tokens[place];
            }
        }
        let cut_tokens = match (inputs.saturating_sub(context), too_long) {
            (0, _) => 0,
            (cut, TooLong::TruncateLeft) => cut,
            (_, TooLong::Drop) => {
                let detail = format!("{inputs} tokens, the context has {context}");
                return Err(Fault::left_out("longer than the context", detail));
            }
            (_, TooLong::Error) => {
                let hint = "leave such ones out with --overflow drop, or their beginnings with truncate-left";
                let detail = format!("{inputs} tokens, the context has {context}: {hint}");
                return Err(Fault::fatal("longer than the context", detail));
            }
        };
        targets.drain(..cut_tokens);
        if targets.iter().all(|&target| target == NO_TARGET) {
            return Err(Fault::left_out("no answer to learn from", ""));
        }
        Ok(Sequence { tokens: encoded.tokens[cut_tokens..inputs].to_vec(), targets, cut_tokens })
    }
}

/// Conversations to learn from, in memory: eight bytes a token.
#[derive(Clone, Debug)]
pub struct Conversations {
    tokens: Vec<u32>,
    targets: Vec<u32>,
    /// Where each conversation ends.
    ends: Vec<usize>,
    cut_conversations: u64,
    cut_tokens: u64,
    untold_tools: u64,
    seed: u64,
    /// The file that they were read from, if they were.
    source: Option<PathBuf>,
}

impl Conversations {
    /// Reads a file of demonstrations, and tells what became of its lines.
    ///
    /// # Errors
    /// Those of [`Columns::read`]. What the template refuses is a bad line.
    pub fn read(
        path: &Path,
        options: &ReadOptions<'_>,
        progress: &dyn Progress,
    ) -> Result<(Conversations, LineReport)> {
        let &ReadOptions { template, tokenizer, context, too_long, max_bad, columns, seed } = options;
        let untold_tools = AtomicU64::new(0);
        let sequence = |record: Record| {
            let Demonstration { messages, tools } = demonstration(record)?;
            if let Some(what) = template.lacks(&messages) {
                let detail = "the model would learn from a conversation without them";
                return Err(Fault::left_out(
                    format!("{what}, for which the chat template has no place"),
                    detail,
                ));
            }
            let encoded = template.encode_with(tokenizer, &messages, tools.as_ref());
            let mut encoded =
                encoded.map_err(|error| Fault::bad("not for this chat template", format!("{error:#}")))?;
            let mut said = messages.iter().filter(|message| message.role == Role::Assistant);
            encoded.answers.retain(|_| said.next().is_some_and(Message::is_learned));
            let sequence = Sequence::new(&encoded, context, too_long)?;
            let untold = tools.is_some() && !template.mentions_tools();
            untold_tools.fetch_add(u64::from(untold), Ordering::Relaxed);
            Ok(sequence)
        };
        let Lines { rows, report, .. } = columns.read(path, max_bad, progress, sequence)?;
        let (untold_tools, source) = (untold_tools.into_inner(), Some(path.to_owned()));
        Ok((Conversations { untold_tools, source, ..Conversations::new(&rows, seed) }, report))
    }

    /// Conversations in an order that `seed` decides.
    ///
    /// # Panics
    /// When there is none.
    pub fn new(sequences: &[Sequence], seed: u64) -> Conversations {
        assert!(!sequences.is_empty(), "no conversation to learn from");
        let ends = sequences.iter().scan(0, |end, sequence| {
            *end += sequence.tokens.len();
            Some(*end)
        });
        Conversations {
            ends: ends.collect(),
            tokens: sequences.iter().flat_map(|sequence| sequence.tokens.iter().copied()).collect(),
            targets: sequences.iter().flat_map(|sequence| sequence.targets.iter().copied()).collect(),
            cut_conversations: sequences.iter().filter(|sequence| sequence.cut_tokens > 0).count() as u64,
            cut_tokens: sequences.iter().map(|sequence| sequence.cut_tokens as u64).sum(),
            untold_tools: 0,
            seed,
            source: None,
        }
    }

    /// The file that they were read from, if they were.
    pub fn source(&self) -> Option<&Path> {
        self.source.as_deref()
    }

    /// The conversations with about `fraction` of them, at least one, held out. Which, their tokens decide:
    /// equal ones stay together.
    ///
    /// # Errors
    /// There are fewer than two different ones.
    pub fn split(&self, fraction: f64) -> Result<(Conversations, Conversations)> {
        let drawn = |i: usize| {
            let tokens = self.place(i).flat_map(|at| self.tokens[at].to_le_bytes()).collect::<Vec<u8>>();
            draw(&tokens)
        };
        let draws: Vec<f64> = (0..self.ends.len()).map(drawn).collect();
        let lowest = draws.iter().copied().fold(f64::INFINITY, f64::min);
        let is_held_out = |&draw: &f64| draw == lowest || draw < fraction;
        let part = |held_out: bool| {
            let source = self.source.clone();
            let mut part =
                Conversations { tokens: Vec::new(), targets: Vec::new(), ends: Vec::new(), source, ..*self };
            for i in (0..self.ends.len()).filter(|&i| is_held_out(&draws[i]) == held_out) {
                part.tokens.extend_from_slice(&self.tokens[self.place(i)]);
                part.targets.extend_from_slice(&self.targets[self.place(i)]);
                part.ends.push(part.tokens.len());
            }
            part
        };
        let (train, val) = (part(false), part(true));
        ensure!(
            !train.ends.is_empty(),
            "a single conversation cannot be both learned from and held out: give more, or some to validate with (--val)"
        );
        Ok((train, val))
    }

    /// Where a conversation's tokens stand.
    fn place(&self, conversation: usize) -> std::ops::Range<usize> {
        let start = if conversation == 0 { 0 } else { self.ends[conversation - 1] };
        start..self.ends[conversation]
    }

    /// How many conversations there are: those of an epoch.
    pub fn per_epoch(&self) -> u64 {
        self.ends.len() as u64
    }

    /// How many tokens an epoch reads.
    pub fn tokens(&self) -> u64 {
        self.tokens.len() as u64
    }

    /// Tokens of the longest conversation.
    pub fn longest(&self) -> usize {
        (0..self.ends.len()).map(|i| self.place(i).len()).max().unwrap_or(0)
    }

    /// How many tokens an epoch predicts.
    pub fn predictions(&self) -> u64 {
        self.targets.iter().filter(|&&target| target != NO_TARGET).count() as u64
    }

    /// How many conversations lack their beginnings, and how many tokens that are.
    pub fn cut(&self) -> (u64, u64) {
        (self.cut_conversations, self.cut_tokens)
    }

    /// How many conversations describe tools of which the chat template does not tell the model.
    pub fn untold_tools(&self) -> u64 {
        self.untold_tools
    }

    /// What tells these conversations from others: BLAKE3 of their tokens, targets and lengths, in
    /// hexadecimal.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        self.ends.iter().for_each(|&end| {
            hasher.update(&(end as u64).to_le_bytes());
        });
        let numbers = self.tokens.iter().chain(&self.targets);
        numbers.for_each(|number| {
            hasher.update(&number.to_le_bytes());
        });
        hasher.finalize().to_hex().to_string()
    }

    /// The order in which they are visited.
    pub fn epochs(&self) -> Epochs {
        Epochs::new(self.per_epoch(), self.seed, streams::CONVERSATIONS)
    }

    /// The `batch_size` conversations of step `step` (steps count from 1) into `batch`, whose memory is used
    /// again.
    pub fn batch(&self, step: u64, batch_size: usize, batch: &mut Batch) {
        batch.clear();
        self.epochs().batch(step, batch_size).for_each(|conversation| self.push(conversation, batch));
    }

    /// Appends a conversation, counted in the order of its file, to `batch`.
    pub fn push(&self, conversation: u64, batch: &mut Batch) {
        let place = self.place(conversation as usize);
        batch.tokens.extend_from_slice(&self.tokens[place.clone()]);
        batch.targets.extend_from_slice(&self.targets[place.clone()]);
        batch.lens.push(place.len());
    }
}
