//! Answers sampled from a model: rollouts, candidates to be ranked, and what evaluations judge, all by the
//! one engine.

use super::episodes::Episode;
use crate::data::{Candidates, Prompt, Prompter};
use crate::model::{Config, Engine, Finish, Generated, NotFinite, Request, SCORES, Sampling, Weights};
use crate::progress::{Progress, Stopped, Unit};
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result, bail, ensure};
use kernels::Backend;
use std::cell::Cell;
use std::ops::ControlFlow;

/// Sequences that are continued at once.
const SLOTS: usize = 64;

/// Answers that are waited for at once where they are heard one by one, many times [`SLOTS`]: at their end
/// slots stand empty.
const REQUESTS: usize = 64 * SLOTS;

/// Answers to prompts and how they ended.
pub(super) struct Answers {
    pub(super) episodes: Vec<Episode>,
    /// Whether the model ended the answer itself.
    pub(super) ended: Vec<bool>,
}

impl Answers {
    /// The texts, without the tokens that ended them.
    pub(super) fn texts(&self, prompter: &Prompter<&Tokenizer>) -> Result<Vec<String>> {
        let text = |(episode, ended): (&Episode, &bool)| text(episode, *ended, prompter);
        self.episodes.iter().zip(&self.ended).map(text).collect()
    }
}

/// The episodes as a reward model reads them, which has met whole answers only: with an end where the policy
/// did not come to one.
pub(super) fn whole(episodes: &[Episode], ended: &[bool], prompter: &Prompter<&Tokenizer>) -> Vec<Episode> {
    let end = prompter.end_tokens()[0];
    let whole = |(episode, ended): (&Episode, &bool)| {
        let mut whole = episode.clone();
        whole.tokens.extend((!ended).then_some(end));
        whole
    };
    episodes.iter().zip(ended).map(whole).collect()
}

/// The text of an answer without the token that ended it.
pub(super) fn text(episode: &Episode, ended: bool, prompter: &Prompter<&Tokenizer>) -> Result<String> {
    let answer = episode.answer();
    prompter.tokenizer().decode(&answer[..answer.len() - usize::from(ended)])
}

/// Samples an answer of at most `max_tokens` to each prompt. The answer to prompt `i` draws the numbers of
/// request `first + i`.
///
/// # Errors
/// The model's logits are not finite.
pub(super) fn answer<B: Backend>(
    b: &mut B,
    (config, weights): (&Config, &Weights<B::Tensor>),
    prompter: &Prompter<&Tokenizer>,
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
            ..Request::default()
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
    candidates_each(b, model, prompter, prompts, options, 0, &mut keep, progress)?;
    Ok(found)
}

/// The same, prompt by prompt in their order: `hear` gets the candidates of each as soon as they are whole.
/// The first `done` that it would hear are passed over: an answer is a function of the seed, of its prompt's
/// place and of its own, and of nothing else.
///
/// # Errors
/// Those of [`candidates`] and of `hear`.
#[expect(clippy::too_many_arguments, reason = "a model, what it is asked, and who hears")]
pub fn candidates_each<B: Backend>(
    b: &mut B,
    (config, weights): (&Config, &Weights<B::Tensor>),
    prompter: &Prompter<&Tokenizer>,
    prompts: &[Prompt],
    options: &CandidatesOptions,
    done: usize,
    hear: &mut dyn FnMut(Candidates) -> Result<()>,
    progress: &dyn Progress,
) -> Result<()> {
    let &CandidatesOptions { k, max_tokens, sampling } = options;
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
            asked.push((number, prompt, tokens));
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
    let Some(longest) = left.iter().map(|(.., tokens)| tokens.len()).max() else { return Ok(()) };
    let slots = (left.len() * k).clamp(1, SLOTS);
    let capacity = (longest + max_tokens).min(config.seq_len);
    let mut engine = Engine::with_capacity(b, config, weights, slots, capacity)
        .limited_to(prompter.tokenizer().vocab_size());
    progress.begin("candidates", asked.len() as u64, Unit::Count);
    progress.advance(done as u64);
    for some in left.chunks((REQUESTS / k).max(1)) {
        let request = |(number, _, tokens): &(usize, &Prompt, Vec<u32>), answer: usize| Request {
            prompt: tokens.clone(),
            max_tokens,
            sampling,
            number: (number * k + answer) as u64,
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
            while let Some((_, prompt, _)) = some.get(next) {
                let these = &mut texts[next * k..(next + 1) * k];
                if these.iter().any(Option::is_none) {
                    break;
                }
                let completions = these.iter_mut().filter_map(Option::take).collect();
                let Prompt { messages, extra, .. } = prompt;
                hear(Candidates { messages: messages.clone(), completions, extra: extra.clone() })?;
                progress.advance(1);
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
            anyhow::Error::new(fault).context(format!("prompt {}", some[fault.sequence / k].0 + 1))
        })?;
        if stopped.get() {
            bail!(Stopped("not every prompt was answered"));
        }
    }
    progress.end();
    Ok(())
}
