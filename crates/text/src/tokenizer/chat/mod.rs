//! Conversations → tokens, by a model's own chat template: the Jinja text that `transformers` keeps in
//! `tokenizer_config.json` or `chat_template.jinja`.
//!
//! Its one idea: **only what the template itself says can become a special token**, whatever a message spells
//! and whatever the template does with it. Which characters of what the template wrote are the messages'
//! tells a second application of the template (`twin`), which tells as well which tokens a model learns from;
//! the template sees the messages as they are.
//!
//! Ids are those of `apply_chat_template`, but where a message spells a special token.

mod calls;
mod jinja;
mod layout;
mod ours;
#[cfg(test)]
mod tests;
mod tools;
mod twin;

use super::Tokenizer;
use anyhow::{Result, bail, ensure};
use jinja::{Renderer, is_space};
use layout::{Layout, Specials};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use tools::ToolUse;
use twin::Chat;

pub use calls::{CallFrame, arguments, order_results};
pub use ours::{OURS, with_ours};
pub(super) use ours::{template_of, token_names};

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What holds for the whole conversation.
    System,
    /// Who asks.
    User,
    /// Who answers: the model.
    Assistant,
    /// What a tool returned that the model had called.
    Tool,
}

impl Role {
    /// Its name in files and templates.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// What else templates may ask a message for: `tool_calls`, `tool_call_id`, `name` …
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message { role, content: content.into(), more: Map::new() }
    }

    /// Whether it calls tools.
    pub fn calls_tools(&self) -> bool {
        self.more.contains_key("tool_calls")
    }

    /// The calls of tools in it: names of functions, and their arguments.
    pub fn calls(&self) -> impl Iterator<Item = (&str, &Value)> {
        let calls = self.more.get("tool_calls").and_then(Value::as_array);
        calls.into_iter().flatten().map(|call| {
            let function = &call["function"];
            (function["name"].as_str().unwrap_or_default(), &function["arguments"])
        })
    }

    /// The ids of the calls in it; null where one has none.
    pub fn call_ids(&self) -> impl Iterator<Item = &Value> {
        let calls = self.more.get("tool_calls").and_then(Value::as_array);
        calls.into_iter().flatten().map(|call| &call["id"])
    }

    /// Whether a model learns to say it: it is the assistant's, and has no `weight` of 0 (OpenAI's
    /// fine-tuning format).
    pub fn is_learned(&self) -> bool {
        let weight = self.more.get("weight").and_then(Value::as_f64);
        self.role == Role::Assistant && weight != Some(0.0)
    }
}

/// A conversation as a model reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// All of its tokens.
    pub tokens: Vec<u32>,
    /// For each of the assistant's messages where its tokens stand: those of its content and the one that
    /// ends it, if the template has one. A token that is shared with the template's text beside it counts.
    pub answers: Vec<Range<usize>>,
}

/// A chat template, ready to be applied with its tokenizer.
pub struct ChatTemplate {
    renderer: Renderer,
    specials: Specials,
    /// What the template puts after an answer.
    end: Option<u32>,
    /// Whether an answer's white space at its beginning stays.
    keeps_space: bool,
    /// Whether it refuses conversations without a system message.
    needs_system: bool,
    /// Whether it was kept from seeing special tokens that messages spell.
    blindfolded: AtomicBool,
    /// Which of what tools need it writes.
    tools: ToolUse,
}

/// What a conversation is rendered for.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    /// What asks for the next message. Where answers stand is not looked for, which takes an application of the
    /// template for each: conversations with many calls of tools are long.
    Prompt,
    /// The same, and where the answers stand.
    PromptAfterAnswers,
    /// The conversation as it stands, and where the answers do.
    Answers,
}

/// The system message of conversations that have none, where a template insists on one.
const SYSTEM: &str = "You are a helpful assistant.";

impl ChatTemplate {
    /// The template of `tokenizer`, or none. What asks for the time (`strftime_now`) hears that of this call,
    /// ever after.
    ///
    /// # Errors
    /// It is not Jinja, or fails on one question with its answer.
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
        let Some(source) = tokenizer.chat_template()? else { return Ok(None) };
        ChatTemplate::new(tokenizer, &source, chrono::Local::now().naive_local()).map(Some)
    }

    fn new(tokenizer: &Tokenizer, source: &str, now: chrono::NaiveDateTime) -> Result<ChatTemplate> {
        let names = token_names(tokenizer)?;
        let mut template = ChatTemplate {
            renderer: Renderer::new(source, &names, now)?,
            specials: Specials::of(tokenizer)?,
            end: None,
            keeps_space: false,
            needs_system: false,
            blindfolded: AtomicBool::new(false),
            tools: ToolUse::default(),
        };
        let probe = [Message::new(Role::User, " a"), Message::new(Role::Assistant, " b")];
        let layout = template.layout(&probe, None, Wanted::Answers).or_else(|error| {
            // What came to no end comes to none with a system message either.
            template.needs_system = error.is::<minijinja::Error>();
            let again = if template.needs_system {
                template.layout(&probe, None, Wanted::Answers).ok()
            } else {
                None
            };
            again.ok_or_else(|| error.context("the chat template cannot be used"))
        })?;
        template.end = layout.after_last_answer();
        template.keeps_space = layout.before_last_answer().is_some_and(|text| text.ends_with(' '));
        template.tools = ToolUse::of(&template.renderer)?;
        Ok(template)
    }

    /// The token that the template puts after an answer, if it puts one there.
    pub fn end(&self) -> Option<u32> {
        self.end
    }

    /// What a person should know of how conversations became tokens so far.
    pub fn notes(&self) -> Vec<String> {
        let system = format!(
            "the chat template insists on a system message: conversations without one get {SYSTEM:?}"
        );
        let blind = "the chat template looks in messages for special tokens, and a message spelled one: to the template, and to the \
                     model, that was text";
        let notes =
            [(self.needs_system, system), (self.blindfolded.load(Ordering::Relaxed), blind.to_owned())];
        notes.into_iter().filter(|(is_so, _)| *is_so).map(|(_, note)| note).collect()
    }

    /// What these messages have that the template would leave out without a word.
    pub fn lacks(&self, messages: &[Message]) -> Option<&'static str> {
        self.tools.lacks(messages)
    }

    /// Whether the template tells the model of the tools that it may call.
    pub fn mentions_tools(&self) -> bool {
        self.tools.descriptions
    }

    /// Whether conversations can have tools: the template tells the model of them, and writes calls and what they
    /// returned.
    pub fn knows_tools(&self) -> bool {
        self.tools.is_whole()
    }

    /// The message that the assistant gave by writing `text`: its content, and the calls of tools in it.
    pub fn said(&self, text: &str) -> Message {
        self.tools.form.read(text)
    }

    /// What a call of a tool looks like.
    pub fn call_frame(&self) -> CallFrame {
        self.tools.form.frame()
    }

    /// How many bytes of an answer that is being written are content, and not the beginning of a call.
    pub fn content_len(&self, text: &str) -> usize {
        self.tools.form.content_len(text)
    }

    /// The tokens that follow those of an answer, its end included, where messages after it ask for the next: what
    /// tools returned. The answer is the last of the assistant's in `messages`; what a model drew is kept as it drew
    /// it, since other tokens may spell the same text, and templates write some of it otherwise later on.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub fn after_answer(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        tools: Option<&Value>,
    ) -> Result<Vec<u32>> {
        let last = |role| messages.iter().rposition(|message| message.role == role);
        let (Some(asked), Some(answered)) = (last(Role::User), last(Role::Assistant)) else {
            bail!("there is no answer that something could follow")
        };
        // What was said before does not matter, nor what the answer says beside its calls.
        let answer = Message { content: String::new(), ..messages[answered].clone() };
        let turn = [&messages[asked..=asked], &[answer], &messages[answered + 1..]].concat();
        let layout = self.layout(&turn, tools, Wanted::PromptAfterAnswers)?;
        ensure!(layout.is_whole(1), "the chat template leaves calls of tools out or takes them apart");
        let Encoded { mut tokens, answers } = layout.encode(tokenizer, self.end);
        Ok(tokens.split_off(answers[0].end))
    }

    /// The tokens that ask the model for the next answer of a conversation.
    ///
    /// # Errors
    /// The template refuses the conversation, has no place for something in it, or takes too long for it.
    pub fn prompt(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>> {
        self.prompt_with(tokenizer, messages, None)
    }

    /// The same where the next message may call `tools`.
    ///
    /// # Errors
    /// Those of [`prompt`](Self::prompt).
    pub fn prompt_with(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        tools: Option<&Value>,
    ) -> Result<Vec<u32>> {
        Ok(self.layout(messages, tools, Wanted::Prompt)?.encode(tokenizer, self.end).tokens)
    }

    /// The tokens of a conversation as it stands, and which of them are the assistant's.
    ///
    /// # Errors
    /// Those of [`prompt`](Self::prompt), and: the template leaves an answer out or takes it apart, as some
    /// do with what a model thinks in between.
    pub fn encode(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Encoded> {
        self.encode_with(tokenizer, messages, None)
    }

    /// The same where the assistant may call `tools`.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub fn encode_with(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        tools: Option<&Value>,
    ) -> Result<Encoded> {
        let layout = self.layout(messages, tools, Wanted::Answers)?;
        let answers = messages.iter().filter(|message| message.role == Role::Assistant).count();
        ensure!(
            layout.is_whole(answers),
            "the chat template leaves an answer out or takes it apart: which tokens to learn from is not known"
        );
        Ok(layout.encode(tokenizer, self.end))
    }

    /// What the template makes of the messages, cut at its special tokens.
    fn layout(&self, messages: &[Message], tools: Option<&Value>, wanted: Wanted) -> Result<Layout> {
        ensure!(!messages.is_empty(), "a conversation without a message");
        if let Some(what) = self.lacks(messages) {
            bail!("the chat template has no place for {what}");
        }
        let fields = |message| self.tools.fields(message);
        let mut messages = messages.iter().map(fields).collect::<Result<Vec<Value>>>()?;
        if self.needs_system && messages[0]["role"] != Role::System.name() {
            messages.insert(0, fields(&Message::new(Role::System, SYSTEM))?);
        }
        let chat = Chat { messages, tools: tools.cloned() };
        let mut rendered = twin::render(&self.renderer, &self.specials, &chat, wanted != Wanted::Answers)?;
        if wanted != Wanted::Prompt {
            rendered.find_answers(&self.renderer, &chat);
        }
        self.blindfolded.fetch_or(rendered.blindfolded, Ordering::Relaxed);
        Ok(Layout::new(rendered, &self.specials, self.keeps_space, self.end))
    }
}
