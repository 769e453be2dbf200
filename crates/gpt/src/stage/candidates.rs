//! Candidates to be ranked: several answers to each prompt.

use super::answers::SLOTS;
use crate::data::{Candidates, Prompt, Prompter};
use crate::dealt::{Listener, own, rounds};
use crate::model::{Config, Engine, Generated, Request, SCORES, Sampling, Weights};
use crate::progress::{Progress, Stopped, Unit};
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result, bail, ensure};
use kernels::Backend;
use ranks::Ranks;
use std::cell::Cell;
use std::ops::ControlFlow;

/// Answers that are waited for at once, many times [`SLOTS`]: at their end slots stand empty.
const REQUESTS: usize = 64 * SLOTS;
/// The same where other processes wait for them: what is lost if one is killed.
const SHARED_REQUESTS: usize = 4 * SLOTS;

/// How candidates are sampled.
#[derive(Clone, Copy, Debug)]
pub struct CandidatesOptions {
    /// Answers to each prompt.
    pub k: usize,
    /// Tokens of an answer at most.
    pub max_tokens: usize,
    /// How they are drawn.
    pub sampling: Sampling,
}

/// Samples `k` answers to each prompt. A prompt that leaves no room for an answer is left out, and `progress`
/// hears how many.
///
/// # Errors
/// The model scores texts instead of writing them; a prompt cannot be rendered; none leaves room for an
/// answer; logits are not finite; somebody asked to stop.
pub fn candidates<B: Backend>(
    b: &mut B,
    model: (&Config, &Weights<B::Tensor>),
    prompter: &Prompter<&Tokenizer>,
    prompts: &[Prompt],
    options: &CandidatesOptions,
    progress: &dyn Progress,
) -> Result<Vec<Candidates>> {
    let mut found = Vec::with_capacity(prompts.len());
    let mut keep = |candidates| {
        found.push(candidates);
        Ok(())
    };
    candidates_each(b, model, prompter, prompts, options, (&Ranks::alone(), 0), &mut keep, progress)?;
    Ok(found)
}

/// The same, prompt by prompt: `listener` gets the candidates of each as soon as they are whole, of those that are
/// dealt to this one of `ranks`. The first `done` prompts that have room are passed over: an answer is a function of
/// the seed, of its prompt's place and of its own, and of nothing else.
///
/// # Errors
/// Those of [`candidates`] and of the listener.
#[expect(clippy::too_many_arguments, reason = "a model, what it is asked, and who hears")]
pub fn candidates_each<B: Backend>(
    b: &mut B,
    (config, weights): (&Config, &Weights<B::Tensor>),
    prompter: &Prompter<&Tokenizer>,
    prompts: &[Prompt],
    options: &CandidatesOptions,
    (ranks, done): (&Ranks, usize),
    listener: &mut dyn Listener<Candidates>,
    progress: &dyn Progress,
) -> Result<()> {
    let &CandidatesOptions { k, max_tokens, .. } = options;
    ensure!(config.n_label.is_none(), SCORES);
    let context = config.seq_len;
    // An answer that is cut gets its end when it is scored.
    let with_end = max_tokens + 1;
    ensure!(
        with_end < context,
        "max_tokens {max_tokens} leaves no room for a prompt in the model's context of {context}: take fewer (--max-tokens)"
    );
    let room = context - with_end;
    let (mut asked, mut too_long, mut shortest) = (Vec::with_capacity(prompts.len()), 0, usize::MAX);
    for (number, prompt) in (0..).zip(prompts) {
        let tokens = prompter
            .prompt_with(&prompt.messages, prompt.extra.get("tools"))
            .with_context(|| format!("prompt {}", number + 1))?;
        shortest = shortest.min(tokens.len());
        if tokens.len() <= room {
            asked.push(Asked { number, prompt, tokens });
        } else {
            too_long += 1;
        }
    }
    ensure!(
        !asked.is_empty(),
        "none of the {} prompts leaves room for an answer of {max_tokens} tokens in the model's context of {context}: the shortest \
         has {shortest}; take fewer (--max-tokens), or shorter prompts",
        prompts.len()
    );
    if too_long > 0 {
        progress.line(&format!(
            "{too_long} of {} prompts have more than {room} tokens, which leaves no room for {max_tokens} more in the context of \
             {context}: left out",
            prompts.len()
        ));
    }
    let left = asked.get(done..).unwrap_or_default();
    let Some(longest) = left.iter().map(|asked| asked.tokens.len()).max() else { return Ok(()) };
    let slots = (left.len().div_ceil(ranks.size()) * k).clamp(1, SLOTS);
    let capacity = (longest + max_tokens).min(config.seq_len);
    let mut engine = Engine::with_capacity(b, config, weights, slots, capacity)
        .limited_to(prompter.tokenizer().vocab_size());
    progress.begin("candidates", asked.len() as u64, Unit::Count);
    progress.advance(done as u64);
    let requests = if ranks.size() == 1 { REQUESTS } else { SHARED_REQUESTS };
    for round in rounds(0..left.len(), ranks, requests / k) {
        let own: Vec<&Asked<'_>> = own(&round, ranks).map(|at| &left[at]).collect();
        let mut hear = |candidates| {
            progress.advance(1);
            listener.hear(candidates)
        };
        let outcome = answer_some(b, &mut engine, prompter, &own, options, &mut hear, progress);
        listener.end_round(round.len(), outcome)?;
        progress.advance((round.len() - own.len()) as u64);
    }
    progress.end();
    Ok(())
}

/// A prompt that has room for an answer.
struct Asked<'p> {
    /// Its place among all prompts.
    number: usize,
    prompt: &'p Prompt,
    tokens: Vec<u32>,
}

/// Answers some prompts; `hear` gets the candidates of each, in the order of the prompts.
fn answer_some<B: Backend>(
    b: &mut B,
    engine: &mut Engine<B>,
    prompter: &Prompter<&Tokenizer>,
    some: &[&Asked<'_>],
    &CandidatesOptions { k, max_tokens, sampling }: &CandidatesOptions,
    hear: &mut dyn FnMut(Candidates) -> Result<()>,
    progress: &dyn Progress,
) -> Result<()> {
    let request = |asked: &Asked<'_>, answer: usize| Request {
        prompt: asked.tokens.clone(),
        max_tokens,
        sampling,
        number: (asked.number * k + answer) as u64,
        stop_tokens: prompter.end_tokens().to_vec(),
        ..Request::default()
    };
    let requests: Vec<Request> =
        some.iter().flat_map(|asked| (0..k).map(|answer| request(asked, answer))).collect();
    let mut texts: Vec<Option<String>> = vec![None; requests.len()];
    let mut next = 0;
    // Whoever is whole and next in line is heard.
    let mut take = |index: usize, generated: Generated| -> Result<()> {
        texts[index] = Some(prompter.tokenizer().decode(&generated.tokens)?);
        while let Some(asked) = some.get(next) {
            let these = &mut texts[next * k..(next + 1) * k];
            if these.iter().any(Option::is_none) {
                break;
            }
            let completions = these.iter_mut().filter_map(Option::take).collect();
            let Prompt { messages, extra, .. } = asked.prompt;
            hear(Candidates { messages: messages.clone(), completions, extra: extra.clone() })?;
            next += 1;
        }
        Ok(())
    };
    let (stopped, mut failure) = (Cell::new(false), None);
    let done = engine.generate_each(
        b,
        &requests,
        |_, _| {
            stopped.set(progress.should_stop());
            if stopped.get() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        |index, generated| match stopped.get() {
            true => ControlFlow::Break(()),
            false => match take(index, generated) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            },
        },
    );
    if let Some(error) = failure {
        return Err(error);
    }
    done.map_err(|fault| {
        anyhow::Error::new(fault).context(format!("prompt {}", some[fault.sequence / k].number + 1))
    })?;
    if stopped.get() {
        bail!(Stopped("not every prompt was answered"));
    }
    Ok(())
}
