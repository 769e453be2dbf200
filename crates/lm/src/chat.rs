//! A conversation with a model: messages in, the next message out, piece by piece as it is drawn.
//!
//! The history is the caller's. What does not fit the context is left out turn by turn, oldest first, and told;
//! the system message stays. Where the model calls tools, they are asked and it goes on, from the very tokens that
//! it drew: other tokens may spell the same text.

use crate::complete::{Completer, Completion, Options};
use crate::model::{Config, Finish, Request, SCORES, Sampling, Weights};
use anyhow::{Result, ensure};
use kernels::{Backend, rng};
use serde_json::Value;
use std::ops::ControlFlow;
use text::data::Prompter;
use text::data::messages::{Message, Role};
use text::streams;
use text::tokenizer::Tokenizer;

/// Rounds of calls before an answer, at most: a model that never stops calling is told so.
pub const MAX_ROUNDS: usize = 8;
/// Calls of one message: what it calls beyond them returns an error.
const MAX_CALLS: usize = 8;

/// What a model may call while it answers.
pub trait Tools {
    /// The tools as templates are told of them: a list of functions with names, descriptions and JSON schemas of
    /// their parameters.
    fn descriptions(&self) -> &Value;

    /// After how many rounds of calls a further one is the answer, as it stands.
    fn max_rounds(&self) -> usize {
        MAX_ROUNDS
    }

    /// What the function `name` returns for `arguments`. What goes wrong is told to the model as well.
    ///
    /// # Errors
    /// Nothing can be called any more.
    fn call(&self, name: &str, arguments: &Value) -> Result<String>;
}

/// What comes back of the calls of `message`, a message for each.
///
/// # Errors
/// Nothing can be called any more.
pub fn returned(tools: &dyn Tools, message: &Message) -> Result<Vec<Message>> {
    let returned = |(at, (name, arguments)): (usize, (&str, &Value))| {
        let content = match at < MAX_CALLS {
            true => tools.call(name, arguments)?,
            false => format!("error: a message may call {MAX_CALLS} times"),
        };
        let mut result = Message::new(Role::Tool, content);
        result.more.insert("name".into(), name.into());
        Ok(result)
    };
    message.calls().enumerate().map(returned).collect()
}

/// The next message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What is said: the model's message; before it its calls of tools and what these returned.
    pub messages: Vec<Message>,
    /// The tokens drawn for the last message, without the one that ended it.
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

    /// Refuses where the model cannot be told of tools.
    ///
    /// # Errors
    /// Those of [`Prompter::check_tools`].
    pub fn check_tools(&self) -> Result<()> {
        self.prompter.check_tools()
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
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        self.answer_with(None, messages, number, options, on_text)
    }

    /// The same, where the model may ask `tools` on its way. `on_text` does not hear its calls. Where what they return
    /// leaves no room in the context, the call is the answer, cut by its length.
    ///
    /// # Errors
    /// Those of [`answer`](Self::answer), and: nothing can be called any more.
    pub fn answer_with(
        &mut self,
        tools: Option<&dyn Tools>,
        messages: &[Message],
        number: u64,
        options: &Options,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        answer(&mut self.completer, &self.prompter, tools, messages, number, options, &mut on_text)
    }
}

/// What [`Chat::answer_with`] does, with a completer and a way to ask of one's own.
///
/// # Errors
/// Its errors.
pub fn answer<B: Backend>(
    completer: &mut Completer<'_, B>,
    prompter: &Prompter<&Tokenizer>,
    tools: Option<&dyn Tools>,
    messages: &[Message],
    number: u64,
    options: &Options,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Answer> {
    let about = tools.map(|tools| tools.descriptions().clone());
    let rounds = tools.map_or(0, |tools| tools.max_rounds() as u64);
    let (room, context) = (completer.token_budget(options.max_tokens), completer.context());
    let rendered = |messages: &[Message]| prompter.prompt_with(messages, about.as_ref());
    let Fitting { mut prompt, mut kept, left_out } = fit(messages, room, context, rendered)?;
    let asked = kept.len();
    for round in 0.. {
        let mut heard = Heard { text: String::new(), told: 0, flow: ControlFlow::Continue(()) };
        let request = Request {
            prompt: prompt.clone(),
            max_tokens: options.max_tokens,
            sampling: of_round(options.sampling, round),
            number,
            stop_tokens: prompter.end_tokens().to_vec(),
            ..Request::default()
        };
        let content_len = |text: &str| match about {
            Some(_) => prompter.content_len(text),
            None => text.len(),
        };
        let answers = completer
            .generate(&[request], &options.stop, &mut |_, text| heard.hear(text, content_len, on_text))?;
        let Completion { tokens, mut finish, .. } = answers.into_iter().next().expect("one for each request");
        let message = prompter.said(&heard.text);
        let goes_on = finish == Finish::Stop && heard.flow.is_continue() && round < rounds;
        if let Some(tools) = tools.filter(|_| goes_on && message.calls_tools()) {
            let results = returned(tools, &message)?;
            let conversation = [&kept[..], &[message], &results].concat();
            // A call that the template does not write is an answer like one that is malformed.
            if let Ok(after) = prompter.after_answer(&conversation, about.as_ref()) {
                if prompt.len() + tokens.len() + 1 + after.len() < context {
                    kept = conversation;
                    prompt.extend(tokens);
                    prompt.push(prompter.end_tokens()[0]);
                    prompt.extend(after);
                    continue;
                }
                finish = Finish::Length;
            }
        }
        let _ = heard.hear("", str::len, on_text);
        kept.push(Message::new(Role::Assistant, heard.text));
        return Ok(Answer { messages: kept.split_off(asked), tokens, finish, left_out_messages: left_out });
    }
    unreachable!("rounds are counted")
}

/// How a message is drawn after so many rounds of calls: by numbers of its own, else each would begin as the one before.
fn of_round(sampling: Sampling, round: u64) -> Sampling {
    match round {
        0 => sampling,
        _ => Sampling { seed: rng::bits(sampling.seed, streams::ROUNDS_OF_CALLS, round), ..sampling },
    }
}

/// What was drawn of an answer.
struct Heard {
    text: String,
    /// Bytes of it that were told.
    told: usize,
    /// Whether whoever hears has enough.
    flow: ControlFlow<()>,
}

impl Heard {
    /// Tells what is new and no part of a call.
    fn hear(
        &mut self,
        text: &str,
        content_len: impl Fn(&str) -> usize,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.text.push_str(text);
        let until = content_len(&self.text);
        if until > self.told && self.flow.is_continue() {
            self.flow = on_text(&self.text[self.told..until]);
            self.told = until;
        }
        self.flow
    }
}

/// A conversation that fits.
struct Fitting {
    /// Its tokens.
    prompt: Vec<u32>,
    /// The messages that they are of.
    kept: Vec<Message>,
    /// How many were left out before them.
    left_out: usize,
}

/// As many of the last messages as `room` holds. A system message stays, and a question goes with its answer and
/// what tools returned between them. The last question stays even where it leaves less room for the answer.
fn fit(
    messages: &[Message],
    room: usize,
    context: usize,
    tokens: impl Fn(&[Message]) -> Result<Vec<u32>>,
) -> Result<Fitting> {
    let system = messages.iter().take_while(|message| message.role == Role::System).count();
    let mut left_out = 0;
    loop {
        let kept = [&messages[..system], &messages[system + left_out..]].concat();
        let prompt = tokens(&kept)?;
        let is_question = |message: &Message| message.role == Role::User;
        let next = kept.iter().skip(system + 1).position(is_question).map(|at| at + 1);
        match next {
            Some(turn) if prompt.len() > room => left_out += turn,
            _ => {
                ensure!(
                    prompt.len() <= room || prompt.len() < context,
                    "the last message makes a prompt of {} tokens, and the model's context of {context} leaves no room for \
                     an answer: say it shorter",
                    prompt.len()
                );
                return Ok(Fitting { prompt, kept, left_out });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what is called.
    #[derive(Default)]
    struct Counted(std::cell::Cell<usize>);

    impl Tools for Counted {
        fn descriptions(&self) -> &Value {
            &Value::Null
        }

        fn call(&self, name: &str, _: &Value) -> Result<String> {
            self.0.set(self.0.get() + 1);
            Ok(name.to_owned())
        }
    }

    #[test]
    fn what_a_message_calls_in_excess_is_not_run() {
        let (tools, mut message) = (Counted::default(), Message::new(Role::Assistant, ""));
        let calls =
            (0..10).map(|i| serde_json::json!({ "function": { "name": format!("f{i}"), "arguments": {} } }));
        message.more.insert("tool_calls".into(), calls.collect());
        let results = returned(&tools, &message).unwrap();
        let contents: Vec<&str> = results.iter().map(|result| result.content.as_str()).collect();
        assert_eq!((contents.len(), tools.0.get()), (10, 8), "a result for each");
        assert_eq!((contents[7], contents[8]), ("f7", "error: a message may call 8 times"));
        assert!(results.iter().all(|result| result.role == Role::Tool && result.more.contains_key("name")));
    }

    #[test]
    fn each_round_of_calls_draws_by_numbers_of_its_own() {
        let sampling = Sampling { temperature: 0.7, top_k: 5, top_p: 0.9, seed: 3 };
        let [first, second, third] = [0, 1, 2].map(|round| of_round(sampling, round));
        assert_eq!(first, sampling, "without calls nothing changes");
        assert!(first.seed != second.seed && second.seed != third.seed && first.seed != third.seed);
        assert_eq!(Sampling { seed: 3, ..second }, sampling);
    }

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
        let Fitting { prompt, left_out, .. } = fit(&messages, room, context, tokens)?;
        Ok((prompt.into_iter().filter_map(char::from_u32).collect::<String>().replace('\n', ""), left_out))
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

    #[test]
    fn what_tools_returned_goes_with_the_question() {
        let said = [
            Message::new(Role::User, "q"),
            Message::new(Role::Assistant, "c"),
            Message::new(Role::Tool, "r"),
            Message::new(Role::Assistant, "a"),
            Message::new(Role::User, "p"),
            Message::new(Role::Assistant, "d"),
            Message::new(Role::Tool, "s"),
        ];
        for (room, kept, left_out) in [(28, 7, 0), (27, 3, 4), (3, 3, 4)] {
            let fitting = fit(&said, room, 30, tokens).unwrap();
            assert_eq!((fitting.kept.len(), fitting.left_out), (kept, left_out), "{room}");
            assert_eq!(fitting.prompt, tokens(&fitting.kept).unwrap());
        }
    }
}
