//! Answers to prompts by a model that may call tools.

use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};
use kernels::Backend;
use serde_json::{Value, json};

use crate::chat::{Answer, Chat, Tools};
use crate::complete::Options;
use crate::data::{Candidates, Prompt};
use crate::progress::{Progress, Stopped, Unit};

/// Samples `k` answers to each prompt, which may ask `tools` on their way: `hear` gets the candidates of each prompt as
/// soon as they are whole. A completion is the last message; all that was said before it, calls and what they
/// returned, stands in the further field `said`. The first `done` prompts are passed over: an answer is a function of
/// the seed, of its prompt's place and of its own, as far as tools are.
///
/// # Errors
/// A prompt cannot be rendered, or leaves no room for an answer; logits are not finite; nothing can be called any
/// more; those of `hear`; somebody asked to stop.
pub fn candidates_with_tools<B: Backend>(
    chat: &mut Chat<'_, B>,
    tools: &mut dyn Tools,
    prompts: &[Prompt],
    (k, options): (usize, &Options),
    done: usize,
    hear: &mut dyn FnMut(Candidates) -> Result<()>,
    progress: &dyn Progress,
) -> Result<()> {
    chat.check_tools()?;
    progress.begin("candidates", prompts.len() as u64, Unit::Count);
    progress.advance(done as u64);
    for (number, prompt) in prompts.iter().enumerate().skip(done) {
        let (mut completions, mut said) = (Vec::with_capacity(k), Vec::with_capacity(k));
        for answer in 0..k {
            let until_stopped = |_: &str| match progress.should_stop() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            let draw = (number * k + answer) as u64;
            let Answer { mut messages, .. } = chat
                .answer_with(Some(&mut *tools), &prompt.messages, draw, options, until_stopped)
                .with_context(|| format!("prompt {}", number + 1))?;
            completions.extend(messages.pop().map(|last| last.content));
            said.push(json!(messages));
        }
        if progress.should_stop() {
            bail!(Stopped("not every prompt was answered"));
        }
        let mut extra = prompt.extra.clone();
        extra.insert("said".into(), Value::Array(said));
        hear(Candidates { messages: prompt.messages.clone(), completions, extra })?;
        progress.advance(1);
    }
    progress.end();
    Ok(())
}
