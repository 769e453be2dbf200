//! The evaluation at the end of the road: how well held-out code is predicted and continued, beside what an
//! untrained model and mere counting can do.

use crate::checkpoint;
use crate::complete::{Completer, Options};
use crate::corpus::{Document, Split};
use crate::data::{TokenShards, ValWindow};
use crate::eval::{Likelihood, NextLine, Ngram, Rate, first_line, likelihood, next_lines};
use crate::model::{self, Activations, Config, Sampling, Targets, Weights};
use crate::progress::{Progress, Unit};
use crate::report::{Baseline, Completion};
use crate::stage::Settings;
use crate::streams;
use anyhow::Result;
use kernels::{Backend, rng};
use std::ops::ControlFlow;
use std::path::Path;

/// Lines to be hit exactly.
const LINES: usize = 200;
/// Tokens that a line may take.
const LINE_TOKENS: usize = 48;
/// Texts that are continued at once.
const SLOTS: usize = 16;
/// Snippets to be completed side by side with the truth, and their lines.
const SNIPPETS: usize = 6;
const PROMPT_LINES: usize = 10;
const TRUTH_LINES: usize = 4;
pub(super) const NGRAM_ORDER: usize = 5;

/// What the evaluation asks for.
pub(super) struct Texts {
    pub(super) lines: Vec<NextLine>,
    pub(super) snippets: Vec<Completion>,
}

/// What came out.
pub(super) struct HeldOut {
    pub(super) baselines: Vec<Baseline>,
    pub(super) completions: Vec<Completion>,
}

/// Chooses lines and snippets from the held-out documents.
pub(super) fn read(documents: impl Iterator<Item = Result<Document>>, seed: u64) -> Result<Texts> {
    let documents: Vec<Document> = documents.collect::<Result<_>>()?;
    let lines = next_lines(documents.iter().map(|d| Ok(d.text.clone())), LINES, seed)?;
    let mut order: Vec<usize> = (0..documents.len()).collect();
    order.sort_by_key(|&i| rng::bits(seed, streams::SNIPPETS, i as u64));
    let snippets = order.into_iter().filter_map(|i| snippet(&documents[i], seed, i as u64)).take(SNIPPETS);
    Ok(Texts { lines, snippets: snippets.collect() })
}

/// A cut through a document at a line that continues a thought: something stands on it, and on the one
/// before.
fn snippet(document: &Document, seed: u64, number: u64) -> Option<Completion> {
    let lines: Vec<&str> = document.text.lines().collect();
    let solid = |i: usize| lines[i].chars().filter(|c| c.is_alphanumeric()).count() >= 4;
    let last = lines.len().checked_sub(TRUTH_LINES)?;
    let cuts: Vec<usize> = (PROMPT_LINES..last).filter(|&i| solid(i) && solid(i - 1)).collect();
    let cut = *cuts.get(rng::below(seed, streams::SNIPPET_CUTS, number, cuts.len() as u64) as usize)?;
    // Within its folder: the folder's own name says nothing to a reader.
    let source = document.source.split_once('/').map_or(document.source.as_str(), |(_, rest)| rest);
    Some(Completion {
        source: source.into(),
        prompt: lines[cut - PROMPT_LINES..cut].join("\n"),
        model: String::new(),
        truth: lines[cut..cut + TRUTH_LINES].join("\n"),
    })
}

/// Evaluates the run's model, a fresh one of its shape, and 5-grams counted on the same tokens.
pub(super) fn evaluate<B: Backend>(
    b: &mut B,
    tokens: &Path,
    run: &Path,
    settings: &Settings,
    texts: &Texts,
    seed: u64,
    progress: &dyn Progress,
) -> Result<HeldOut> {
    let shards = TokenShards::open(tokens)?;
    let windows = shards.val_windows(settings.eval_windows, settings.seq_len)?;
    progress.begin("evaluate", 2 * texts.lines.len() as u64, Unit::Count);
    let checkpoint = checkpoint::open(run, progress)?;
    let weights = checkpoint.weights(checkpoint::to_backend(b, &checkpoint.config))?;
    let c = &checkpoint.config;
    let trained = network("mynah", b, c, &weights, &shards, &windows, &texts.lines, progress)?;
    let completions = complete(b, c, &weights, &shards, &texts.snippets)?;
    let fresh = model::init(b, c, seed);
    drop(weights);
    let untrained = network("untrained", b, c, &fresh, &shards, &windows, &texts.lines, progress)?;
    progress.end();
    let counted = counting(&shards, &windows, &texts.lines, progress)?;
    Ok(HeldOut { baselines: vec![trained, untrained, counted], completions })
}

#[allow(clippy::too_many_arguments)]
fn network<B: Backend>(
    name: &str,
    b: &mut B,
    c: &Config,
    weights: &Weights<B::Tensor>,
    shards: &TokenShards,
    windows: &[ValWindow],
    lines: &[NextLine],
    progress: &dyn Progress,
) -> Result<Baseline> {
    let predicted = by_network(b, c, weights, windows);
    let mut completer = Completer::new(b, c, weights, shards.tokenizer(), SLOTS)?;
    let mut hits = 0;
    for lines in lines.chunks(SLOTS) {
        let prompts: Vec<&str> = lines.iter().map(|line| line.context.as_str()).collect();
        let mut heard = vec![String::new(); lines.len()];
        let done = completer.complete(&prompts, &greedy(LINE_TOKENS), |index, text| {
            heard[index].push_str(text);
            match first_line(&heard[index], false) {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        })?;
        let hit = |(line, done): (&NextLine, &crate::complete::Completion)| {
            first_line(&done.text, true) == Some(line.truth.as_str())
        };
        hits += lines.iter().zip(&done).filter(|&pair| hit(pair)).count() as u64;
        progress.advance(lines.len() as u64);
    }
    Ok(Baseline {
        name: name.into(),
        bits_per_byte: predicted.bits_per_byte(),
        next_line: Rate::wilson(hits, lines.len() as u64),
    })
}

/// How well a model predicts the windows.
pub(super) fn by_network<B: Backend>(
    b: &mut B,
    c: &Config,
    weights: &Weights<B::Tensor>,
    windows: &[ValWindow],
) -> Likelihood {
    let (mut activations, mut said, mut logprobs) = (Activations::new(b, c), b.scalars(), Vec::new());
    likelihood(windows, |window, targets| {
        b.upload_scalars(&mut said, &[]);
        model::forward(b, c, weights, &mut activations, window);
        activations.ask(b, Targets::new(targets));
        model::logprobs(b, weights, &activations, &mut said, None);
        b.read(&mut logprobs, &[&said]);
        logprobs.iter().sum()
    })
}

/// How well n-grams of the training tokens predict the windows, and the n-grams.
pub(super) fn by_counting(shards: &TokenShards, windows: &[ValWindow]) -> Result<(Likelihood, Ngram)> {
    let mut train = Vec::new();
    shards.read(Split::Train, 0, shards.len(Split::Train) as usize, &mut train)?;
    let ngram = Ngram::count(&train, NGRAM_ORDER, shards.vocab_size());
    let predicted = likelihood(windows, |window, targets| {
        let probability = |i: usize| ngram.distribution(&window.tokens[..=i])[targets[i] as usize];
        (0..targets.len()).map(|i| probability(i).ln()).sum()
    });
    Ok((predicted, ngram))
}

pub(super) fn greedy(max_tokens: usize) -> Options {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    Options { max_tokens, sampling, stop: Vec::new(), suffix: None, task: None }
}

/// Continues the snippets by as many lines as the truth has.
fn complete<B: Backend>(
    b: &mut B,
    c: &Config,
    weights: &Weights<B::Tensor>,
    shards: &TokenShards,
    snippets: &[Completion],
) -> Result<Vec<Completion>> {
    let mut completer = Completer::new(b, c, weights, shards.tokenizer(), SNIPPETS)?;
    let prompts: Vec<&str> = snippets.iter().map(|snippet| snippet.prompt.as_str()).collect();
    let done = completer
        .complete(&prompts, &greedy(TRUTH_LINES * LINE_TOKENS / 2), |_, _| ControlFlow::Continue(()))?;
    let lines = |text: &str| {
        let text = text.strip_prefix('\n').unwrap_or(text);
        text.lines().take(TRUTH_LINES).collect::<Vec<_>>().join("\n")
    };
    Ok(snippets
        .iter()
        .zip(done)
        .map(|(s, done)| Completion { model: lines(&done.text), ..s.clone() })
        .collect())
}

/// The same figures for n-grams counted on the training tokens.
fn counting(
    shards: &TokenShards,
    windows: &[ValWindow],
    lines: &[NextLine],
    progress: &dyn Progress,
) -> Result<Baseline> {
    let tokenizer = shards.tokenizer();
    progress.begin("5-grams", lines.len() as u64, Unit::Count);
    let (predicted, ngram) = by_counting(shards, windows)?;
    let mut hits = 0;
    for line in lines {
        let mut context = tokenizer.encode(&line.context);
        let begin = context.len();
        let text = loop {
            let p = ngram.distribution(&context);
            let best =
                (0..p.len()).rev().max_by(|&i, &j| p[i].total_cmp(&p[j])).expect("a vocabulary") as u32;
            context.push(best);
            let text = tokenizer.decode(&context[begin..])?;
            let end = context.len() - begin == LINE_TOKENS || Some(best) == tokenizer.end_of_text();
            if end || first_line(&text, false).is_some() {
                break text;
            }
        };
        hits += u64::from(first_line(&text, true) == Some(line.truth.as_str()));
        progress.advance(1);
    }
    progress.end();
    Ok(Baseline {
        name: format!("{NGRAM_ORDER}-grams"),
        bits_per_byte: predicted.bits_per_byte(),
        next_line: Rate::wilson(hits, lines.len() as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_is_cut_where_something_stands_on_both_sides() {
        // From the tenth line on, and four before the end, there is one such place; elsewhere one side is
        // blank.
        let line = |i: usize| match i {
            0..9 | 13 | 14 | 16 => format!("let x{i} = {i};\n"),
            _ => "}\n".to_owned(),
        };
        let document =
            |lines: usize| Document { text: (0..lines).map(line).collect(), source: "a/b/c.rs".into() };
        for seed in 0..9 {
            let snippet = snippet(&document(20), seed, 3).unwrap();
            assert_eq!(snippet.source, "b/c.rs");
            assert!(
                snippet.prompt.starts_with("let x4 = 4;\n") && snippet.prompt.ends_with("\nlet x13 = 13;")
            );
            assert_eq!(snippet.truth, "let x14 = 14;\n}\nlet x16 = 16;\n}");
            assert!(super::snippet(&document(18), seed, 3).is_none(), "the truth has four lines");
        }
        assert!(super::snippet(&document(3), 1, 3).is_none());
    }

    #[test]
    fn texts_are_continued_greedily() {
        assert_eq!((greedy(7).max_tokens, greedy(7).sampling.temperature), (7, 0.0));
    }
}
