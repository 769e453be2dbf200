//! How a model is asked and how it ends an answer: by its chat template, or without one by plain text.
//!
//! The one place that decides it for sampling, rewards and learning from rankings, so that what is scored has
//! the very tokens that are sampled.

use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::{CallFrame, ChatTemplate, Message, Role};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::ops::Deref;

/// Turns conversations into the tokens that ask for an answer, and answers into tokens. `T` is how the
/// tokenizer is had: borrowed or shared.
pub struct Prompter<T> {
    tokenizer: T,
    template: Option<ChatTemplate>,
    end_tokens: Vec<u32>,
    /// The last token of what asks for an answer.
    asked: Option<u32>,
}

impl<T: Deref<Target = Tokenizer> + Clone> Prompter<T> {
    /// The way of this tokenizer.
    ///
    /// # Errors
    /// Its chat template cannot be used; it has no token that could end an answer.
    pub fn new(tokenizer: T) -> Result<Self> {
        let template = ChatTemplate::of(&tokenizer)?;
        let learned = match &template {
            Some(template) => template.end().or(tokenizer.eos()),
            None => tokenizer.end_of_text(),
        };
        let mut end_tokens: Vec<u32> = learned.into_iter().collect();
        end_tokens.extend(tokenizer.end_tokens().into_iter().filter(|&end| Some(end) != learned));
        if end_tokens.is_empty() {
            bail!(
                "the tokenizer has no token that ends an answer: neither a chat template's nor end of text"
            );
        }
        let mut prompter = Prompter { tokenizer, template, end_tokens, asked: None };
        let probe = prompter.prompt(&[Message::new(Role::User, "a")]);
        prompter.asked = probe.ok().and_then(|tokens| tokens.last().copied());
        Ok(prompter)
    }

    /// Whether there is a chat template.
    pub fn is_chat(&self) -> bool {
        self.template.is_some()
    }

    /// What a person should know of how conversations became tokens so far.
    pub fn notes(&self) -> Vec<String> {
        self.template.as_ref().map(ChatTemplate::notes).unwrap_or_default()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> T {
        self.tokenizer.clone()
    }

    /// The tokens that end an answer when one of them is drawn: what the template puts there, which is what
    /// learning ends answers with and comes first; the `eos_token`; end of text; and all that the model's own
    /// files name.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// The tokens that ask for the next message of a conversation. Without a template that is the text of its
    /// only message; an end of text where that has no tokens.
    ///
    /// # Errors
    /// The template refuses the conversation; without a template it is more than one text.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.prompt_with(messages, None)
    }

    /// The same where the next message may call `tools`.
    ///
    /// # Errors
    /// Those of [`prompt`](Self::prompt).
    pub fn prompt_with(&self, messages: &[Message], tools: Option<&Value>) -> Result<Vec<u32>> {
        if let Some(template) = &self.template {
            return template.prompt_with(&self.tokenizer, messages, tools);
        }
        let text = match messages {
            [] => "",
            [Message { role: Role::User, content, .. }] => content,
            _ => bail!(
                "a conversation of {} messages, but the model has no chat template: give plain prompts, or train it \
                 with `mynah sft`, which gives it one",
                messages.len()
            ),
        };
        let tokens = self.tokenizer.encode_from_start(text);
        match (tokens.is_empty(), self.tokenizer.end_of_text()) {
            (false, _) => Ok(tokens),
            (true, end) => Ok(vec![end.context("an empty prompt, and no end-of-text token to begin with")?]),
        }
    }

    /// Refuses where conversations cannot have tools.
    ///
    /// # Errors
    /// There is no chat template, or it leaves out tools, calls of them, or what they return.
    pub fn check_tools(&self) -> Result<()> {
        let knows = self.template.as_ref().is_some_and(ChatTemplate::knows_tools);
        ensure!(
            knows,
            "the model's chat template has no place for tools, calls of tools or what they return: take a model whose \
             template has them (Qwen2.5, Qwen3, Llama 3.1), or train one with `mynah sft` on conversations with \
             tool_calls"
        );
        Ok(())
    }

    /// The message that the assistant gave by writing `text`, as [`ChatTemplate::said`] reads it.
    pub fn said(&self, text: &str) -> Message {
        match &self.template {
            Some(template) => template.said(text),
            None => Message::new(Role::Assistant, text),
        }
    }

    /// What a call of a tool looks like; none without a chat template.
    pub fn call_frame(&self) -> Option<CallFrame> {
        self.template.as_ref().map(ChatTemplate::call_frame)
    }

    /// How many bytes of an answer that is being written are content, and not the beginning of a call.
    pub fn content_len(&self, text: &str) -> usize {
        self.template.as_ref().map_or(text.len(), |template| template.content_len(text))
    }

    /// The tokens between an answer and the next one, as [`ChatTemplate::after_answer`] has them.
    ///
    /// # Errors
    /// There is no chat template, or its refusals.
    pub fn after_answer(&self, messages: &[Message], tools: Option<&Value>) -> Result<Vec<u32>> {
        let template = self.template.as_ref().context("the model has no chat template")?;
        template.after_answer(&self.tokenizer, messages, tools)
    }

    /// The tokens that ask to go on with an answer that has begun with `text`.
    ///
    /// # Errors
    /// Those of [`prompt`](Self::prompt).
    pub fn prompt_to_continue(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        text: &str,
    ) -> Result<Vec<u32>> {
        let mut tokens = self.prompt_with(messages, tools)?;
        tokens.extend(self.beginning(text));
        Ok(tokens)
    }

    /// The tokens of a whole answer, its end included.
    pub fn answer(&self, text: &str) -> Vec<u32> {
        let mut tokens = self.beginning(text);
        tokens.push(self.end_tokens[0]);
        tokens
    }

    /// The tokens of an answer's text.
    fn beginning(&self, text: &str) -> Vec<u32> {
        match self.asked {
            Some(asked) => self.tokenizer.encode_after(asked, text),
            None => self.tokenizer.encode(text),
        }
    }
}
