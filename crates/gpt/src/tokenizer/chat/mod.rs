//! Conversations → tokens, by a model's own chat template: the Jinja text that `transformers` keeps in
//! `tokenizer_config.json` or `chat_template.jinja`.
//!
//! Its one idea: **only what the template itself says can become a special token.** Before the template sees a message,
//! marks are set into it, characters that occur nowhere else: at both ends, and within every name of a special token that
//! it spells. Whatever the template does with the message, special tokens are recognised in what it wrote only where no
//! mark stands within. The marks around answers tell as well which tokens a model learns from.
//!
//! Ids are those of `apply_chat_template`, but where a message spells a special token. A template may look into a message
//! (`'</think>' in content`) and take it apart; what it sees at the very ends of one (`content.startswith(…)`) are marks.

mod layout;
mod marks;
mod ours;
mod render;
#[cfg(test)]
mod tests;
mod tools;

use super::Tokenizer;
use anyhow::{Context, Result, bail, ensure};
use layout::{Layout, Specials};
use marks::Marks;
use render::Renderer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::ops::Range;
use tools::ToolUse;

pub(super) use ours::token_names;
pub use ours::{OURS, with_ours};

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

    /// Whether a model learns to say it: it is the assistant's, and has no `weight` of 0 (OpenAI's fine-tuning format).
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
    /// For each of the assistant's messages where its tokens stand: those of its content and the one that ends it, if the
    /// template has one. A token that is shared with the template's text beside it counts.
    pub answers: Vec<Range<usize>>,
}

/// A chat template, ready to be applied with its tokenizer.
pub struct ChatTemplate {
    renderer: Renderer,
    specials: Specials,
    /// What the template puts after an answer.
    end: Option<u32>,
    end_tokens: Vec<u32>,
    /// Whether an answer's white space at its beginning stays.
    keeps_space: bool,
    /// Which of what tools need it writes.
    tools: ToolUse,
}

impl ChatTemplate {
    /// The template of `tokenizer`, or none. What asks for the time (`strftime_now`) hears that of this call, ever after.
    ///
    /// # Errors
    /// It is not Jinja, or fails on one question with its answer.
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
        let Some(source) = tokenizer.chat_template() else { return Ok(None) };
        ChatTemplate::new(tokenizer, &source, chrono::Local::now().naive_local()).map(Some)
    }

    fn new(tokenizer: &Tokenizer, source: &str, now: chrono::NaiveDateTime) -> Result<ChatTemplate> {
        let names = token_names(tokenizer)?;
        let mut template = ChatTemplate {
            renderer: Renderer::new(source, &names, now)?,
            specials: Specials::of(tokenizer)?,
            end: None,
            end_tokens: Vec::new(),
            keeps_space: false,
            tools: ToolUse::default(),
        };
        let probe = [Message::new(Role::User, " a"), Message::new(Role::Assistant, " b")];
        let layout = template.layout(&probe, None, false).context("the chat template cannot be used")?;
        template.end = layout.after_last_answer();
        template.keeps_space = layout.before_last_answer().is_some_and(|text| text.ends_with(' '));

        for token in [template.end, tokenizer.eos(), tokenizer.end_of_text()].into_iter().flatten() {
            if !template.end_tokens.contains(&token) {
                template.end_tokens.push(token);
            }
        }
        template.tools = ToolUse::of(&template.renderer)?;
        Ok(template)
    }

    /// The tokens that end an answer when a model draws one of them: what the template puts there, the `eos_token`, and
    /// end of text.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// What these messages have that the template would leave out without a word.
    pub fn lacks(&self, messages: &[Message]) -> Option<&'static str> {
        self.tools.lacks(messages)
    }

    /// Whether the template tells the model of the tools that it may call.
    pub fn tells_of_tools(&self) -> bool {
        self.tools.descriptions
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
        Ok(self.layout(messages, tools, true)?.encode(tokenizer, self.end).tokens)
    }

    /// The tokens of a conversation as it stands, and which of them are the assistant's.
    ///
    /// # Errors
    /// Those of [`prompt`](Self::prompt), and: the template leaves an answer out or takes it apart, as some do with what a
    /// model thinks in between.
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
        let layout = self.layout(messages, tools, false)?;
        let answers = messages.iter().filter(|message| message.role == Role::Assistant).count();
        ensure!(
            layout.is_whole(answers),
            "the chat template leaves an answer out or takes it apart: which tokens to learn from is not known"
        );
        Ok(layout.encode(tokenizer, self.end))
    }

    /// What the template makes of the messages, cut at its special tokens.
    fn layout(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<Layout> {
        ensure!(!messages.is_empty(), "a conversation without a message");
        if let Some(what) = self.lacks(messages) {
            bail!("the chat template has no place for {what}");
        }
        let marks = Marks::unused_in(messages, self.renderer.source())?;
        let marked = messages.iter().map(|message| {
            let content = marks.set(message, |rest| self.specials.at(rest).next().is_some());
            self.tools.fields(&Message { content, ..message.clone() })
        });
        let marked: Vec<Value> = marked.collect::<Result<_>>()?;
        let rendered = marks.read(&self.renderer.render(&marked, tools, add_generation_prompt)?);
        let answers = messages.iter().filter(|message| message.role == Role::Assistant);
        let spaces = answers.map(|answer| &answer.content[..marks::core(&answer.content).start]);
        let spaces: Vec<&str> = spaces.map(|space| if self.keeps_space { space } else { "" }).collect();
        Ok(Layout::new(rendered, &spaces, &self.specials))
    }
}
