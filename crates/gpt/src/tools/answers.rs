//! Answers to prompts by a model that may call tools.

use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};
use kernels::Backend;
use ranks::Ranks;
use serde_json::{Value, json};

use crate::chat::{Answer, Chat, Tools};
use crate::complete::Options;
use crate::data::{Candidates, Prompt};
use crate::dealt::{Listener, own, rounds};
use crate::progress::{Progress, Stopped, Unit};

/// Prompts that a process answers before it hears of what others have answered: each takes long.
const AT_ONCE: usize = 4;

/// Samples `k` answers to each prompt, which may ask `tools` on their way: `listener` gets the candidates of each prompt as
/// soon as they are whole, of those that are dealt to this one of `ranks`. A completion is the last message; all that was said before it, calls and what they
/// returned, stands in the further field `said`, and what the model was told of them in `tools`: whoever learns from the
/// candidates asks as they were asked. The first `done` prompts are passed over: an answer is a function of
/// the seed, of its prompt's place and of its own, as far as tools are.
///
/// # Errors
/// A prompt cannot be rendered, or leaves no room for an answer; logits are not finite; nothing can be called any
/// more; those of the listener; somebody asked to stop.
pub fn candidates_with_tools<B: Backend>(
    chat: &mut Chat<'_, B>,
    tools: &dyn Tools,
    prompts: &[Prompt],
    (k, options): (usize, &Options),
    (ranks, done): (&Ranks, usize),
    listener: &mut dyn Listener<Candidates>,
    progress: &dyn Progress,
) -> Result<()> {
    chat.check_tools()?;
    progress.begin("candidates", prompts.len() as u64, Unit::Count);
    progress.advance(done as u64);
    for round in rounds(done..prompts.len(), ranks, AT_ONCE) {
        let outcome = own(&round, ranks).try_for_each(|number| {
            let candidates = answer(chat, tools, (number, &prompts[number]), (k, options), progress)?;
            progress.advance(1);
            listener.hear(candidates)
        });
        listener.end_round(round.len(), outcome)?;
        progress.advance((round.len() - own(&round, ranks).count()) as u64);
    }
    progress.end();
    Ok(())
}

/// The candidates of the prompt of this number.
fn answer<B: Backend>(
    chat: &mut Chat<'_, B>,
    tools: &dyn Tools,
    (number, prompt): (usize, &Prompt),
    (k, options): (usize, &Options),
    progress: &dyn Progress,
) -> Result<Candidates> {
    let (mut completions, mut said) = (Vec::with_capacity(k), Vec::with_capacity(k));
    for answer in 0..k {
        let until_stopped = |_: &str| match progress.should_stop() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let draw = (number * k + answer) as u64;
        let Answer { mut messages, .. } = chat
            .answer_with(Some(tools), &prompt.messages, draw, options, until_stopped)
            .with_context(|| format!("prompt {}", number + 1))?;
        completions.extend(messages.pop().map(|last| last.content));
        said.push(json!(messages));
    }
    if progress.should_stop() {
        bail!(Stopped("not every prompt was answered"));
    }
    let mut extra = prompt.extra.clone();
    extra.insert("tools".into(), tools.descriptions().clone());
    extra.insert("said".into(), Value::Array(said));
    Ok(Candidates { messages: prompt.messages.clone(), completions, extra })
}

#[cfg(test)]
mod tests {
    use super::super::rigged::{CALL, Rigged, asked, greedy, rigged};
    use super::super::{CallLimits, Toolbox};
    use super::*;
    use crate::chat::MAX_ROUNDS;
    use crate::data::messages::Role;

    /// A model that never stops calling is answered so many times; what it says then is its answer.
    #[test]
    fn rounds_of_calls_have_an_end() {
        let Rigged { mut cpu, tokenizer, config, weights, .. } = rigged();
        let mut chat = Chat::new(&mut cpu, &config, &weights, &tokenizer).unwrap();
        for (limits, rounds) in
            [(CallLimits::default(), MAX_ROUNDS), (CallLimits { rounds: 2, ..CallLimits::default() }, 2)]
        {
            let tools = Toolbox::new(limits).with_calculator();
            let go_on = |_: &str| ControlFlow::Continue(());
            let answer = chat.answer_with(Some(&tools), &asked(), 0, &greedy(4), go_on).unwrap();
            assert_eq!(answer.messages.len(), 2 * rounds + 1);
            let (last, before) = answer.messages.split_last().unwrap();
            assert_eq!((last.content.as_str(), last.calls_tools()), (CALL, false));
            for turn in before.chunks(2) {
                assert!(turn[0].calls_tools() && turn[0].role == Role::Assistant, "{turn:?}");
                assert_eq!((turn[1].role, turn[1].content.as_str()), (Role::Tool, "2"));
            }
        }
    }
}
