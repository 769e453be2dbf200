//! Sums that are too large to be known by heart, and how to ask a calculator for them.

use serde_json::{Value, json};

use super::draw::{Draw, Stream};
use super::lesson::{Language, Lesson, Split, Task};
use super::{dialogue, tasks};
use ::text::data::Prompt;
use ::text::data::messages::{Message, Role};

/// The share of demonstrations that need no calculator: who has a tool need not use it.
const PLAIN_SHARE: f64 = 0.2;

/// A sum that is asked, and how it is typed.
struct Sum {
    term: String,
    result: i64,
}

impl Sum {
    fn draw(draw: &mut Draw) -> Sum {
        let number = |draw: &mut Draw| match draw.below(2) {
            0 => draw.within(100..=999),
            _ => draw.within(1000..=9999),
        };
        let (a, b) = (i64::from(number(draw)), i64::from(number(draw)));
        match draw.below(3) {
            0 => Sum { term: format!("{a} + {b}"), result: a + b },
            1 => Sum { term: format!("{} - {}", a.max(b), a.min(b)), result: (a - b).abs() },
            _ => Sum { term: format!("{a} * {}", b % 90 + 10), result: a * (b % 90 + 10) },
        }
    }
}

/// A sum as a lesson.
fn lesson(draw: &mut Draw, language: Language, split: Split) -> (Lesson, Sum) {
    loop {
        let sum = Sum::draw(draw);
        let question = tasks::ask_term(draw, language, &sum.term);
        let answer = format!("{} = {}", sum.term, sum.result);
        let wrong = format!("{} = {}", sum.term, sum.result + 1);
        // Which sums are held out does not depend on how they are asked.
        let lesson = Lesson::new(Task::Arithmetic, language, &*sum.term, question, answer, wrong)
            .accepting(sum.result.to_string());
        if lesson.split() == split {
            return (lesson, sum);
        }
    }
}

/// Demonstration `index`: a question, the call of `calculator` where it is one of large numbers, what that returned,
/// and the answer.
pub fn calculator_demonstration(seed: u64, index: u64) -> Vec<Message> {
    let mut draw = Draw::new(seed, Stream::Calculator, index);
    let language = *draw.pick(&Language::ALL);
    if draw.chance(PLAIN_SHARE) {
        let lesson = tasks::any(&mut draw, language, Split::Train);
        let mut messages = dialogue::ask(&mut draw, &lesson);
        messages.push(Message::new(Role::Assistant, lesson.key.answer));
        return messages;
    }
    let (lesson, sum) = lesson(&mut draw, language, Split::Train);
    let mut messages = dialogue::ask(&mut draw, &lesson);
    let mut call = Message::new(Role::Assistant, "");
    let function = json!({ "name": "calculator", "arguments": { "expression": sum.term } });
    call.more.insert("tool_calls".into(), json!([{ "type": "function", "function": function }]));
    let mut result = Message::new(Role::Tool, sum.result.to_string());
    result.more.insert("name".into(), "calculator".into());
    messages.extend([call, result, Message::new(Role::Assistant, lesson.key.answer)]);
    messages
}

/// Prompt `index`: a sum that no demonstration has, with its key and the `tools` that may be called.
pub fn calculator_prompt(seed: u64, index: u64, tools: &Value) -> Prompt {
    let mut draw = Draw::new(seed, Stream::CalculatorPrompt, index);
    let language = *draw.pick(&Language::ALL);
    let (lesson, _) = lesson(&mut draw, language, Split::HeldOut);
    let mut extra = lesson.key.fields();
    extra.insert("tools".into(), tools.clone());
    Prompt { messages: dialogue::ask(&mut draw, &lesson), extra }
}
