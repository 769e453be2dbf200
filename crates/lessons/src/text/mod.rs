//! Documents to pretrain on: running text in both languages about the small world.
//!
//! It tells what lessons ask for (sums, spellings, translations …), it tells stories, and it tells of
//! teachers who say which answers are right, so that a model of it can speak, has met what it will be asked,
//! and can tell right from wrong. It never has the form of a chat: answering is what fine-tuning teaches.

mod plots;
mod story;

use super::draw::Draw;
use super::lesson::{Language, Split};
use super::phrase::Phrases;
use super::tasks;
use super::world::PEOPLE;

/// How often a document is a story, knowledge without questions, questions with answers, or answers that a
/// teacher judges, in percent. Questions teach the most by far; wrong answers are rare, since a model learns to
/// write whatever it reads.
const KINDS: [u32; 4] = [3, 9, 78, 10];

/// One document of two to twenty lines.
pub(super) fn document(draw: &mut Draw) -> String {
    let language = *draw.pick(&Language::ALL);
    match draw.weighted(&KINDS) {
        0 => story::story(draw, language),
        1 => {
            let weights = tasks::PROSE.map(|(weight, _)| weight);
            let prose = tasks::PROSE[draw.weighted(&weights)].1;
            let pieces: Vec<String> = (0..draw.within(1..=3)).map(|_| prose(draw, language)).collect();
            pieces.join("\n")
        }
        2 => {
            let name = draw.pick(PEOPLE).say(language);
            let asked: Vec<String> = (0..draw.within(2..=4)).map(|_| asked(draw, language, name)).collect();
            asked.join("\n")
        }
        _ => {
            let asked: Vec<String> = (0..draw.within(2..=5)).map(|_| examined(draw, language)).collect();
            asked.join("\n")
        }
    }
}

const ASKED: Phrases = Phrases {
    en: &["{question} {answer}", "{question}\n{answer}", "{name}: {question} mynah: {answer}"],
    zh: &["{question}{answer}", "{question}\n{answer}", "{name}：{question}mynah：{answer}"],
};

/// What somebody asked the assistant and may be learned, with as few words around it as can be.
fn asked(draw: &mut Draw, language: Language, name: &str) -> String {
    let lesson = tasks::any(draw, language, Split::Train);
    let slots = [("name", name), ("question", &*lesson.asked()), ("answer", &lesson.key.answer)];
    ASKED.say(draw, language, &slots)
}

const EXAMINED: Phrases = Phrases {
    en: &[
        "The teacher asked: \"{question}\" {name} said: \"{answer}\"",
        "\"{question}\" asked the teacher. {name} said: \"{answer}\"",
        "Question: {question} {name} answered: \"{answer}\"",
    ],
    zh: &[
        "老师问：“{question}”{name}说：“{answer}”",
        "“{question}”老师问。{name}说：“{answer}”",
        "问题：{question}{name}回答：“{answer}”",
    ],
};
const RIGHT: Phrases = Phrases { en: &[" Right."], zh: &["对了。"] };
const WRONG: Phrases =
    Phrases { en: &[" Wrong. It is: \"{answer}\""], zh: &["错了。应该是：“{answer}”"] };

/// How a teacher asked somebody something that may be learned, and what the teacher said about the answer.
fn examined(draw: &mut Draw, language: Language) -> String {
    let lesson = tasks::any(draw, language, Split::Train);
    let name = draw.pick(PEOPLE).say(language);
    let (answer, verdict) =
        if draw.chance(0.5) { (&lesson.key.answer, RIGHT) } else { (&lesson.wrong, WRONG) };
    let slots = [("name", name), ("question", &*lesson.asked()), ("answer", answer)];
    EXAMINED.say(draw, language, &slots) + &verdict.say(draw, language, &[("answer", &lesson.key.answer)])
}
