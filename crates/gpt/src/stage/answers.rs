//! Answers sampled from a model: rollouts, candidates to be ranked, and what evaluations judge, all by the one engine.

use super::episodes::Episode;
use crate::data::{Candidates, Prompt, Prompter};
use crate::model::{Config, Engine, Finish, NotFinite, Request, SCORES, Sampling, Weights};
use crate::progress::{Progress, Stopped, Unit};
use anyhow::{Context, Result, bail, ensure};
use kernels::Backend;
use std::ops::ControlFlow;

/// Sequences that are continued at once.
const SLOTS: usize = 64;

/// Answers to prompts and how they ended.
pub(super) struct Answers {
    pub(super) episodes: Vec<Episode>,
    /// Whether the model ended the answer itself.
    pub(super) ended: Vec<bool>,
}

impl Answers {
    /// The texts, without the tokens that ended them.
    pub(super) fn texts(&self, prompter: &Prompter<'_>) -> Result<Vec<String>> {
        let text = |(episode, ended): (&Episode, &bool)| text(episode, *ended, prompter);
        self.episodes.iter().zip(&self.ended).map(text).collect()
    }
}

/// The episodes as a reward model reads them, which has met whole answers only: with an end where the policy did not come to
/// one.
pub(super) fn whole(episodes: &[Episode], ended: &[bool], prompter: &Prompter<'_>) -> Vec<Episode> {
    let end = prompter.end_tokens()[0];
    let whole = |(episode, ended): (&Episode, &bool)| {
        let mut whole = episode.clone();
        whole.tokens.extend((!ended).then_some(end));
        whole
    };
    episodes.iter().zip(ended).map(whole).collect()
}

/// The text of an answer without the token that ended it.
pub(super) fn text(episode: &Episode, ended: bool, prompter: &Prompter<'_>) -> Result<String> {
    let answer = episode.answer();
    prompter.tokenizer().decode(&answer[..answer.len() - usize::from(ended)])
}

/// Samples an answer of at most `max_tokens` to each prompt. The answer to prompt `i` draws the numbers of request `first + i`.
///
/// # Errors
/// The model's logits are not finite.
pub(super) fn answer<B: Backend>(
    b: &mut B,
    (config, weights): (&Config, &Weights<B::Tensor>),
    prompter: &Prompter<'_>,
    prompts: Vec<Vec<u32>>,
    max_tokens: usize,
    sampling: Sampling,
    first: u64,
) -> Result<Answers, NotFinite> {
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(1);
    let requests: Vec<Request> = (first..)
        .zip(prompts)
        .map(|(number, prompt)| Request {
            prompt,
            max_tokens,
            sampling,
            number,
            stop_tokens: prompter.end_tokens().to_vec(),
        })
        .collect();
    let capacity = (longest + max_tokens).min(config.seq_len);
    let slots = requests.len().clamp(1, SLOTS);
    let mut engine = Engine::with_capacity(b, config, weights, slots, capacity)
        .limited_to(prompter.tokenizer().vocab_size());
    let generated = engine.generate(b, &requests, |_, _| ControlFlow::Continue(()))?;
    let mut answers = Answers { episodes: Vec::new(), ended: Vec::new() };
    for (Request { prompt, .. }, mut generated) in requests.iter().zip(generated) {
        answers.ended.push(generated.finish == Finish::Stop);
        generated.tokens.extend(generated.end);
        answers.episodes.push(Episode::new(prompt, &generated.tokens));
    }
    Ok(answers)
}

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

/// Samples `k` answers to each prompt. A prompt that leaves no room for an answer is left out, and `progress` hears how many.
///
/// # Errors
/// The model scores texts instead of writing them; a prompt cannot be rendered; none leaves room for an answer; logits are not finite;
/// somebody asked to stop.
pub fn candidates<B: Backend>(
    b: &mut B,
    model: (&Config, &Weights<B::Tensor>),
    prompter: &Prompter<'_>,
    prompts: &[Prompt],
    options: &CandidatesOptions,
    progress: &dyn Progress,
) -> Result<Vec<Candidates>> {
    let &CandidatesOptions { k, max_tokens, sampling } = options;
    ensure!(model.0.n_label.is_none(), SCORES);
    let context = model.0.seq_len;
    ensure!(
        max_tokens < context,
        "max_tokens {max_tokens} leaves no room for a prompt in the model's context of {context}: take fewer (--max-tokens)"
    );
    let room = context - max_tokens;
    let (mut found, mut too_long, mut shortest) = (Vec::with_capacity(prompts.len()), 0, usize::MAX);
    // As many prompts at once as keep the engine busy to the end.
    let at_once = (8 * SLOTS / k.max(1)).max(1);
    progress.begin("candidates", prompts.len() as u64, Unit::Count);
    for (group, some) in (0..).zip(prompts.chunks(at_once)) {
        if progress.should_stop() {
            bail!(Stopped("no candidates were written"));
        }
        let first = group * at_once;
        let mut asked = Vec::new();
        for (number, prompt) in (first + 1..).zip(some) {
            let tokens = prompter
                .prompt_with(&prompt.messages, prompt.extra.get("tools"))
                .with_context(|| format!("prompt {number}"))?;
            shortest = shortest.min(tokens.len());
            if tokens.len() <= room {
                asked.push((number, prompt, tokens));
            } else {
                too_long += 1;
            }
        }
        let repeated = asked.iter().flat_map(|(.., tokens)| std::iter::repeat_n(tokens.clone(), k)).collect();
        let number = (first * k) as u64;
        let answers =
            answer(b, model, prompter, repeated, max_tokens, sampling, number).map_err(|fault| {
                anyhow::Error::new(fault).context(format!("prompt {}", asked[fault.sequence / k].0))
            })?;
        let texts = answers.texts(prompter)?;
        found.extend(asked.iter().zip(texts.chunks(k)).map(|((_, prompt, _), texts)| Candidates {
            messages: prompt.messages.clone(),
            completions: texts.to_vec(),
            extra: prompt.extra.clone(),
        }));
        progress.advance(some.len() as u64);
    }
    progress.end();
    ensure!(
        !found.is_empty(),
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
    Ok(found)
}
