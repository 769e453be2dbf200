//! Lessons: data that the program makes itself, in English and Chinese, with answers that can be checked.
//!
//! From nothing but a seed come documents to pretrain on ([`text`]), demonstrations to fine-tune on
//! ([`demonstration`]), prompts for rankings, PPO and evaluations ([`prompt`]), and a judge of answers
//! ([`judge`]). It is not a benchmark of what models know: it is a small closed world from which a model of a
//! few million parameters learns to answer in minutes, so that every stage of the road can be seen to help.
//!
//! The one idea: a **lesson** is an instance of a task (`17 + 5`), asked in one of many wordings, with its
//! answer. A hash of the instance decides whether it may be learned from or is [held out](Split), and every
//! kind of data obeys, whatever its seed. So what evaluations ask was never seen, neither as a prompt nor as
//! a demonstration; comparisons, orders, spellings backwards, translations and lines of code are not stated
//! in the documents either. Where an answer has to be known by heart (sums, days, facts, names, single
//! words), the instance is the wording of the question.
//!
//! Beside lessons there are texts with what is asked of them, for task tokens ([`task_row`]).
//!
//! All is a pure function of `(seed, index)`.

mod calculator;
mod dialogue;
mod draw;
mod files;
mod flaws;
mod judge;
mod lesson;
mod phrase;
mod simulate;
mod task_rows;
mod tasks;
#[cfg(test)]
mod tests;
mod text;
mod world;

pub use calculator::{calculator_demonstration, calculator_prompt};
pub use files::{
    Amounts, write_calculator, write_calculator_prompts, write_demonstrations, write_labelled, write_lessons,
    write_plain_text, write_prompts, write_task_rows, write_text,
};
pub use flaws::{Flaw, IMPERFECT_SHARE};
pub use judge::{Judge, Verdict, WEIGHTS, judge, states};
pub use lesson::{AnswerKey, HELD_OUT_SHARE, Language, Split, Task};
pub use simulate::{Ceiling, DEFAULT_NOISE, Simulated, TIE_MARGIN, rank, simulate};
pub use task_rows::{TASK_TOKENS, TO_CHINESE, WHO, held_out_task_row, plain_text, task_row};

use ::text::data::Prompt;
use ::text::data::messages::{Message, Role};
use draw::{Draw, Stream};

/// A conversation that shows how to answer, well or not so well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demonstration {
    /// The conversation; the last turn is the assistant's.
    pub messages: Vec<Message>,
    /// What a good last turn is.
    pub key: AnswerKey,
    /// What is wrong with the last turn; one in `1 /` [`IMPERFECT_SHARE`] has a flaw.
    pub flaw: Option<Flaw>,
}

/// Document `index`: running text of some hundred bytes, in either language.
pub fn text(seed: u64, index: u64) -> String {
    text::document(&mut Draw::new(seed, Stream::Text, index))
}

/// Demonstration `index`.
pub fn demonstration(seed: u64, index: u64) -> Demonstration {
    let mut draw = Draw::new(seed, Stream::Demonstration, index);
    let language = *draw.pick(&Language::ALL);
    let lesson = tasks::any(&mut draw, language, Split::Train);
    let flaw = Flaw::draw(&mut draw);
    let answer = match flaw {
        Some(flaw) => flaw.answer(&mut draw, &lesson),
        None => lesson.key.answer.clone(),
    };
    let mut messages = dialogue::ask(&mut draw, &lesson);
    messages.push(Message::new(Role::Assistant, answer));
    Demonstration { messages, key: lesson.key, flaw }
}

/// Prompt `index` of a split; its further fields are its [`AnswerKey`].
pub fn prompt(seed: u64, split: Split, index: u64) -> Prompt {
    let stream = match split {
        Split::Train => Stream::TrainPrompt,
        Split::HeldOut => Stream::HeldOutPrompt,
    };
    let mut draw = Draw::new(seed, stream, index);
    let language = *draw.pick(&Language::ALL);
    let lesson = tasks::any(&mut draw, language, split);
    Prompt { messages: dialogue::ask(&mut draw, &lesson), extra: lesson.key.fields() }
}
