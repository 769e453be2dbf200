//! Answers on whose way the model calls tools: it draws, what it called returns, and it goes on from the very tokens
//! that it drew.
//!
//! Not a chat: many talks go on at once, in rounds, and what is kept of them are tokens to learn from.

use super::answers::{Answers, SLOTS};
use super::episodes::Episode;
use super::prompts::TokenizedPrompt;
use crate::chat::{Tools, returned};
use crate::data::Prompter;
use crate::data::messages::{Message, Role};
use crate::model::{Config, Engine, Generated, Request, Sampling, Weights};
use crate::stage::training_loop::Cancel;
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result};
use kernels::Backend;
use ranks::Ranks;
use serde::{Deserialize, Serialize};

/// What happened on the way to an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Turns {
    /// Calls of the model and what they returned, before its last message.
    pub(super) said: Vec<Message>,
    /// Why the chat template did not write what was called, so that the call is the answer.
    pub(super) refused: Option<String>,
}

impl Turns {
    /// How many calls returned something, and how many of them an error.
    pub(super) fn calls(&self) -> (usize, usize) {
        let returned = self.said.iter().filter(|message| message.role == Role::Tool);
        (returned.clone().count(), returned.filter(|message| message.content.starts_with("error: ")).count())
    }
}

/// Samples an answer to each prompt, which may call `tools` on its way; what these return counts among `max_tokens`.
/// Where it leaves no room for an answer, the answer is cut at the end of the call. What else [`super::answers::answer`]
/// says holds here: who samples an answer does not matter, as far as tools are functions.
///
/// # Errors
/// The model's logits are not finite; nothing can be called any more; `cancel` says so.
#[expect(clippy::too_many_arguments, reason = "a model, what it is asked and may call, and who asks")]
pub(super) fn answer_with<B: Backend>(
    b: &mut B,
    (config, weights): (&Config, &Weights<B::Tensor>),
    prompter: &Prompter<&Tokenizer>,
    tools: &dyn Tools,
    asked: &[&TokenizedPrompt<'_>],
    max_tokens: usize,
    sampling: Sampling,
    (ranks, cancel): (&Ranks, Cancel<'_>),
) -> Result<Answers> {
    let count = asked.len();
    let mut talks: Vec<Talk<'_>> = ranks.dealt(count).map(|place| Talk::new(place, asked[place])).collect();
    let longest = talks.iter().map(|talk| talk.episode.tokens.len()).max().unwrap_or(1);
    let capacity = (longest + max_tokens).min(config.seq_len);
    let slots = talks.len().clamp(1, SLOTS);
    let mut engine = Engine::with_capacity(b, config, weights, slots, capacity)
        .limited_to(prompter.tokenizer().vocab_size());
    for round in 0.. {
        let mut open: Vec<&mut Talk<'_>> = talks.iter_mut().filter(|talk| talk.is_open).collect();
        if open.is_empty() {
            break;
        }
        let request = |talk: &&mut Talk<'_>| Request {
            prompt: talk.episode.tokens.clone(),
            max_tokens: max_tokens - talk.episode.after_prompt(),
            sampling,
            number: (round * count + talk.place) as u64,
            stop_tokens: prompter.end_tokens().to_vec(),
            ..Request::default()
        };
        let requests: Vec<Request> = open.iter().map(request).collect();
        let generated = engine.generate(b, &requests, |_, _| cancel.flow())?;
        cancel.check()?;
        let may_call = round < tools.max_rounds();
        for (talk, generated) in open.iter_mut().zip(generated) {
            talk.hear(generated, prompter, may_call.then_some(tools), max_tokens)?;
        }
    }
    collected(talks, asked, ranks)
}

/// An answer in the making.
struct Talk<'a> {
    place: usize,
    asked: &'a TokenizedPrompt<'a>,
    episode: Episode,
    ended: bool,
    turns: Turns,
    is_open: bool,
}

impl<'a> Talk<'a> {
    fn new(place: usize, asked: &'a TokenizedPrompt<'a>) -> Self {
        let episode = Episode::new(&asked.tokens, &[]);
        Talk { place, asked, episode, ended: false, turns: Turns::default(), is_open: true }
    }

    /// Takes in what was drawn, and what came of it where it calls `tools`.
    fn hear(
        &mut self,
        generated: Generated,
        prompter: &Prompter<&Tokenizer>,
        tools: Option<&dyn Tools>,
        max_tokens: usize,
    ) -> Result<()> {
        self.is_open = false;
        let Generated { tokens, end, .. } = generated;
        self.episode.tokens.extend(&tokens);
        let Some(end) = end else { return Ok(()) };
        let message = prompter.said(&prompter.tokenizer().decode(&tokens)?);
        let Some(tools) = tools.filter(|_| message.calls_tools()) else {
            self.end(end);
            return Ok(());
        };
        let results = returned(tools, &message)?;
        let mut said = self.turns.said.clone();
        said.push(message);
        said.extend(results);
        let conversation = [&self.asked.prompt.messages[..], &said].concat();
        match prompter.after_answer(&conversation, Some(tools.descriptions())) {
            // Cut before the end of the call: it came to no answer.
            Ok(told) if self.episode.after_prompt() + 1 + told.len() >= max_tokens => {}
            Ok(told) => {
                self.episode.tokens.push(end);
                self.episode.tell(&told);
                self.turns.said = said;
                self.is_open = true;
            }
            Err(why) => {
                self.turns.refused = Some(format!("{why:#}"));
                self.end(end);
            }
        }
        Ok(())
    }

    fn end(&mut self, end: u32) {
        self.episode.tokens.push(end);
        self.ended = true;
    }
}

/// The answers of all ranks.
fn collected(talks: Vec<Talk<'_>>, asked: &[&TokenizedPrompt<'_>], ranks: &Ranks) -> Result<Answers> {
    let count = asked.len();
    let tokens: Vec<Vec<u32>> = talks.iter().map(|talk| talk.episode.answer().to_vec()).collect();
    let told: Vec<Vec<u64>> = talks.iter().map(|talk| talk.episode.told_flat()).collect();
    let ended: Vec<u8> = talks.iter().map(|talk| talk.ended.into()).collect();
    let turns = talks.iter().map(|talk| serde_json::to_vec(&talk.turns));
    let turns = turns.collect::<Result<Vec<_>, _>>().context("what was said is JSON")?;
    let (tokens, told) = (ranks.collect_lists(&tokens, count), ranks.collect_lists(&told, count));
    let turns = ranks.collect_lists(&turns, count);
    let turns = turns.iter().map(|turns| serde_json::from_slice(turns));
    let episodes = asked.iter().zip(&tokens).zip(&told);
    Ok(Answers {
        episodes: episodes
            .map(|((asked, answer), told)| Episode::new(&asked.tokens, answer).with_told(told))
            .collect(),
        ended: ranks.collect(&ended, &vec![1; count]).into_iter().map(|ended| ended == 1).collect(),
        turns: turns.collect::<Result<_, _>>().context("what was said is JSON")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Prompt;
    use crate::tools::rigged::{CALL, Rigged, asked, rigged};
    use crate::tools::{CallLimits, Toolbox};
    use serde_json::Map;

    fn answers(max_tokens: usize, prompts: usize, ranks: &Ranks) -> (Rigged, Answers) {
        let mut rigged = rigged();
        let Rigged { cpu, tokenizer, config, weights, .. } = &mut rigged;
        let tools = Toolbox::new(CallLimits { rounds: 3, ..CallLimits::default() }).with_calculator();
        let prompter = Prompter::new(&*tokenizer).unwrap();
        let prompt = Prompt { messages: asked(), extra: Map::new() };
        let tokens = prompter.prompt_with(&prompt.messages, Some(tools.descriptions())).unwrap();
        let asked = TokenizedPrompt { prompt: &prompt, tokens };
        let (asked, sampling) = (vec![&asked; prompts], Sampling::default());
        let model = (&*config, &*weights);
        let answers = answer_with(
            cpu,
            model,
            &prompter,
            &tools,
            &asked,
            max_tokens,
            sampling,
            (ranks, Cancel::never()),
        )
        .unwrap();
        (rigged, answers)
    }

    /// The tokens of an answer are those that were drawn, and between them those of the template.
    #[test]
    fn a_talk_goes_on_from_what_was_drawn() {
        let (Rigged { tokenizer, call, .. }, answers) = answers(200, 1, &Ranks::alone());
        let prompter = Prompter::new(&tokenizer).unwrap();
        let (episode, turns) = (&answers.episodes[0], &answers.turns[0]);
        let end = prompter.end_tokens()[0];
        let tools = Toolbox::new(CallLimits::default()).with_calculator();
        let conversation = [&asked()[..], &turns.said[..2]].concat();
        let told = prompter.after_answer(&conversation, Some(tools.descriptions())).unwrap();
        let drawn = [call, end];
        let mut expected = [&drawn[..], &told].concat().repeat(3);
        expected.extend(drawn);
        assert_eq!(episode.answer(), expected);
        assert_eq!((episode.answer_len(), turns.calls(), answers.ended[0]), (8, (3, 0), true));
        assert_eq!(answers.texts(&prompter).unwrap(), [CALL], "the last message, without its end");
    }

    /// What tools return counts: where it leaves no room the answer is cut, and what was drawn of it stays.
    #[test]
    fn what_leaves_no_room_cuts_the_answer() {
        let (Rigged { tokenizer, .. }, whole) = answers(200, 1, &Ranks::alone());
        let prompter = Prompter::new(&tokenizer).unwrap();
        let turn = (whole.episodes[0].after_prompt() - 2) / 3;
        let all = whole.episodes[0].answer();
        for (max_tokens, kept, calls) in [(turn, 1, 0), (turn + 1, turn + 1, 1), (2 * turn, turn + 1, 1)] {
            let (_, answers) = answers(max_tokens, 1, &Ranks::alone());
            let episode = &answers.episodes[0];
            assert_eq!((episode.answer(), answers.ended[0]), (&all[..kept], false), "{max_tokens}");
            assert_eq!(answers.turns[0].calls(), (calls, 0), "{max_tokens}");
            assert_eq!(answers.texts(&prompter).unwrap(), [CALL], "{max_tokens}");
        }
    }

    #[test]
    fn ranks_get_what_one_process_gets() {
        let told = |(_, Answers { episodes, ended, turns }): (Rigged, Answers)| (episodes, ended, turns);
        let alone = told(answers(60, 3, &Ranks::alone()));
        assert_eq!(alone.0.len(), 3);
        for of_rank in ranks::threads(2, |ranks| told(answers(60, 3, &ranks))) {
            assert_eq!(of_rank, alone);
        }
    }
}
