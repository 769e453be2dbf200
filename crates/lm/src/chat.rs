//! A conversation with a model: messages in, the next message out, piece by piece as it is drawn.
//!
//! The history is the caller's. The one idea: what does not fit the context is left out turn by turn, oldest
//! first, and told; the system message stays.

use crate::complete::{Completer, Completion, Options};
use crate::model::{Config, Finish, Request, SCORES, Weights};
use anyhow::{Result, ensure};
use kernels::Backend;
use std::ops::ControlFlow;
use text::data::Prompter;
use text::data::messages::{Message, Role};
use text::tokenizer::Tokenizer;

/// The next message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What the model says.
    pub text: String,
    /// The tokens drawn, without the one that ended the answer.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Messages at the beginning of the conversation that did not fit the context and were left out.
    pub left_out_messages: usize,
}

/// A model that answers.
pub struct Chat<'a, B: Backend> {
    completer: Completer<'a, B>,
    prompter: Prompter<&'a Tokenizer>,
}

impl<'a, B: Backend> Chat<'a, B> {
    /// Prepares `weights` for answering.
    ///
    /// # Errors
    /// The tokenizer has no chat template, or none that can be used; it has more tokens than the model.
    pub fn new(
        backend: &'a mut B,
        config: &Config,
        weights: &Weights<B::Tensor>,
        tokenizer: &'a Tokenizer,
    ) -> Result<Self> {
        ensure!(config.n_label.is_none(), SCORES);
        let prompter = Prompter::new(tokenizer)?;
        ensure!(
            prompter.is_chat(),
            "the model has no chat template: it continues texts, with `mynah complete`; to make it answer, train it on \
             conversations with `mynah sft`"
        );
        let mut completer = Completer::new(backend, config, weights, tokenizer, 1)?;
        completer.hold_contexts();
        Ok(Chat { completer, prompter })
    }

    /// What a person should know of how conversations became tokens so far.
    pub fn notes(&self) -> Vec<String> {
        self.prompter.notes()
    }

    /// Answers the last of `messages`; `on_text` hears each piece as soon as it is certain, and may end the
    /// answer. Another `number` draws another answer. Options for a suffix do not matter.
    ///
    /// # Errors
    /// The template refuses the conversation; its last message leaves no room for an answer.
    pub fn answer(
        &mut self,
        messages: &[Message],
        number: u64,
        options: &Options,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let room = self.completer.token_budget(options.max_tokens);
        let (prompt, left_out_messages) =
            fit(messages, room, self.completer.context(), |messages| self.prompter.prompt(messages))?;
        let request = Request {
            prompt,
            max_tokens: options.max_tokens,
            sampling: options.sampling,
            number,
            stop_tokens: self.prompter.end_tokens().to_vec(),
            ..Request::default()
        };
        let answers = self.completer.generate(&[request], &options.stop, &mut |_, text| on_text(text))?;
        let Completion { text, tokens, finish, .. } =
            answers.into_iter().next().expect("one for each request");
        Ok(Answer { text, tokens, finish, left_out_messages })
    }
}

/// The tokens of as many of the last messages as `room` holds, and how many messages are left out before
/// them. A system message stays, and a question goes with its answer. The last question stays even where it
/// leaves less room for the answer.
fn fit(
    messages: &[Message],
    room: usize,
    context: usize,
    tokens: impl Fn(&[Message]) -> Result<Vec<u32>>,
) -> Result<(Vec<u32>, usize)> {
    let system = messages.iter().take_while(|message| message.role == Role::System).count();
    let mut left_out = 0;
    loop {
        let kept = [&messages[..system], &messages[system + left_out..]].concat();
        let tokens = tokens(&kept)?;
        if tokens.len() <= room {
            return Ok((tokens, left_out));
        }
        if system + left_out + 2 >= messages.len() {
            ensure!(
                tokens.len() < context,
                "the last message makes a prompt of {} tokens, and the model's context of {context} leaves no room for \
                 an answer: say it shorter",
                tokens.len()
            );
            return Ok((tokens, left_out));
        }
        left_out += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many tokens as letters, and three a message.
    fn tokens(messages: &[Message]) -> Result<Vec<u32>> {
        let text: String = messages.iter().map(|message| format!("<{}>\n", message.content)).collect();
        Ok(text.chars().map(u32::from).collect())
    }

    fn fitted(system: bool, contents: &[&str], room: usize, context: usize) -> Result<(String, usize)> {
        let turns = contents.iter().zip([Role::User, Role::Assistant].into_iter().cycle());
        let mut messages: Vec<_> = turns.map(|(&text, role)| Message::new(role, text)).collect();
        if system {
            messages.insert(0, Message::new(Role::System, "s"));
        }
        let (tokens, left_out) = fit(&messages, room, context, tokens)?;
        Ok((tokens.into_iter().filter_map(char::from_u32).collect::<String>().replace('\n', ""), left_out))
    }

    #[test]
    fn the_oldest_turns_are_left_out_and_the_system_message_stays() {
        let turns = ["aa", "bb", "cc", "dd", "ee"];
        for (system, room, expected, left_out) in [
            (false, 25, "<aa><bb><cc><dd><ee>", 0),
            (false, 24, "<cc><dd><ee>", 2),
            (false, 15, "<cc><dd><ee>", 2),
            (false, 14, "<ee>", 4),
            (true, 29, "<s><aa><bb><cc><dd><ee>", 0),
            (true, 28, "<s><cc><dd><ee>", 2),
            (true, 9, "<s><ee>", 4),
            (true, 5, "<s><ee>", 4),
        ] {
            let got = fitted(system, &turns, room, 30).unwrap();
            assert_eq!(got, (expected.to_string(), left_out), "{system} {room}");
        }
        let error = fitted(true, &turns, 5, 9).unwrap_err().to_string();
        assert!(error.contains("9 tokens"), "{error}");
    }
}
