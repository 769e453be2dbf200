//! The tasks: one file each, with its questions, its answers, and the same knowledge as running text.
//!
//! A task draws an instance, asks for it in one of many wordings and knows the answer. Its prose states the
//! same kind of knowledge without asking, and leaves out what is held out.

mod arithmetic;
mod code;
mod comparing;
mod counting;
mod dates;
mod facts;
mod myself;
mod patterns;
mod reading;
mod reversing;
mod sorting;
mod translation;
mod unknown;

use super::draw::Draw;
use super::lesson::{Language, Lesson, Split, Task};

/// How often each task is drawn, in percent: less where there is less to ask.
const WEIGHTS: [u32; Task::ALL.len()] = [14, 6, 7, 7, 7, 8, 15, 12, 5, 6, 5, 4, 4];

/// A lesson of any task, of one split.
pub(crate) fn any(draw: &mut Draw, language: Language, split: Split) -> Lesson {
    loop {
        let task = Task::ALL[draw.weighted(&WEIGHTS)];
        let lesson = of_task(task, draw, language);
        if lesson.split() == split {
            return lesson;
        }
    }
}

/// The question for the value of a term such as `417 + 38`.
pub(crate) fn ask_term(draw: &mut Draw, language: Language, term: &str) -> String {
    arithmetic::ask(draw, language, term, term)
}

/// A lesson of one task.
pub(crate) fn of_task(task: Task, draw: &mut Draw, language: Language) -> Lesson {
    match task {
        Task::Arithmetic => arithmetic::lesson(draw, language),
        Task::Counting => counting::lesson(draw, language),
        Task::Reversing => reversing::lesson(draw, language),
        Task::Sorting => sorting::lesson(draw, language),
        Task::Comparing => comparing::lesson(draw, language),
        Task::Patterns => patterns::lesson(draw, language),
        Task::Reading => reading::lesson(draw, language),
        Task::Translation => translation::lesson(draw, language),
        Task::Dates => dates::lesson(draw, language),
        Task::Code => code::lesson(draw, language),
        Task::Facts => facts::lesson(draw, language),
        Task::Myself => myself::lesson(draw, language),
        Task::Unknown => unknown::lesson(draw, language),
    }
}

/// Sentences or lines of running text with the knowledge of one task.
pub(crate) type Prose = fn(&mut Draw, Language) -> String;

/// The tasks whose knowledge can be told without asking, with how often each is.
pub(crate) const PROSE: [(u32, Prose); 11] = [
    (14, arithmetic::prose),
    (12, counting::prose),
    (8, reversing::prose),
    (12, sorting::prose),
    (10, comparing::prose),
    (14, patterns::prose),
    (22, translation::prose),
    (9, dates::prose),
    (8, code::prose),
    (12, facts::prose),
    (1, myself::prose),
];

/// A question whose answer is yes or no.
fn yes_or_no(task: Task, language: Language, instance: String, question: String, truth: bool) -> Lesson {
    let answer = |truth: bool, language| match (truth, language) {
        (true, Language::English) => "Yes.",
        (false, Language::English) => "No.",
        (true, Language::Chinese) => "对。",
        (false, Language::Chinese) => "不对。",
    };
    let right = answer(truth, language);
    let word = |truth| answer(truth, language).trim_end_matches(['.', '。']).to_string();
    // 对 stands in 不对: only the opposite that does not contain the answer must be absent from it, too.
    let opposite = Some(word(!truth)).filter(|opposite| !word(truth).contains(opposite.as_str()));
    Lesson::new(task, language, instance, question, right, answer(!truth, language))
        .rejecting(opposite)
        .foreign(answer(truth, language.other()))
}

/// The first of a row of draws that may be learned from.
fn learnable<T>(
    task: Task,
    draw: &mut Draw,
    make: impl Fn(&mut Draw) -> T,
    instance: impl Fn(&T) -> String,
) -> T {
    loop {
        let made = make(draw);
        if Split::of(task, &instance(&made)) == Split::Train {
            return made;
        }
    }
}
