//! Answers sampled from a model: rollouts, and what evaluations judge.

use super::episodes::Episode;
use super::talks::Turns;
use super::training_loop::Cancel;
use crate::data::Prompter;
use crate::model::{Config, Engine, Finish, Generated, Request, Sampling, Weights};
use crate::tokenizer::Tokenizer;
use anyhow::Result;
use kernels::Backend;
use ranks::Ranks;

/// Sequences that are continued at once.
pub(super) const SLOTS: usize = 64;

/// Answers to prompts and how they ended.
pub(super) struct Answers {
    pub(super) episodes: Vec<Episode>,
    /// Whether the model ended the answer itself.
    pub(super) ended: Vec<bool>,
    /// What happened on the way, where tools could be called; else there are none.
    pub(super) turns: Vec<Turns>,
}

impl Answers {
    /// The texts of their last messages, without the tokens that ended them.
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

/// The text of an answer's last message without the token that ended it.
pub(super) fn text(episode: &Episode, ended: bool, prompter: &Prompter<&Tokenizer>) -> Result<String> {
    let answer = episode.last_message();
    prompter.tokenizer().decode(&answer[..answer.len() - usize::from(ended)])
}

/// Samples an answer of at most `max_tokens` to each prompt. The answer to prompt `i` draws the numbers of
/// request `i`, whichever of `ranks` samples it: prompts are dealt to them, and each gets all answers.
///
/// # Errors
/// The model's logits are not finite; `cancel` says so.
pub(super) fn answer<B: Backend>(
    b: &mut B,
    (config, weights): (&Config, &Weights<B::Tensor>),
    prompter: &Prompter<&Tokenizer>,
    prompts: Vec<Vec<u32>>,
    max_tokens: usize,
    sampling: Sampling,
    (ranks, cancel): (&Ranks, Cancel<'_>),
) -> Result<Answers> {
    let count = prompts.len();
    let requests: Vec<Request> = ranks
        .dealt(count)
        .map(|place| Request {
            prompt: prompts[place].clone(),
            max_tokens,
            sampling,
            number: place as u64,
            stop_tokens: prompter.end_tokens().to_vec(),
            ..Request::default()
        })
        .collect();
    let longest = requests.iter().map(|request| request.prompt.len()).max().unwrap_or(1);
    let capacity = (longest + max_tokens).min(config.seq_len);
    let slots = requests.len().clamp(1, SLOTS);
    let mut engine = Engine::with_capacity(b, config, weights, slots, capacity)
        .limited_to(prompter.tokenizer().vocab_size());
    let generated = engine.generate(b, &requests, |_, _| cancel.flow())?;
    cancel.check()?;
    let ended: Vec<u8> =
        generated.iter().map(|generated| (generated.finish == Finish::Stop).into()).collect();
    let tokens: Vec<Vec<u32>> = generated
        .into_iter()
        .map(|Generated { mut tokens, end, .. }| {
            tokens.extend(end);
            tokens
        })
        .collect();
    let answers = ranks.collect_lists(&tokens, count);
    let episode = |(prompt, answer): (&Vec<u32>, &Vec<u32>)| Episode::new(prompt, answer);
    Ok(Answers {
        episodes: prompts.iter().zip(&answers).map(episode).collect(),
        ended: ranks.collect(&ended, &vec![1; count]).into_iter().map(|ended| ended == 1).collect(),
        turns: Vec::new(),
    })
}
