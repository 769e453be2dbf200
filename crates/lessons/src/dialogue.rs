//! How a lesson is asked: manners around the question, a system message, something that was said before.

use super::draw::Draw;
use super::lesson::{Language, Lesson, Split, Task};
use super::phrase::{Phrases, either};
use super::tasks;
use ::text::data::messages::{Message, Role};

const SYSTEM: Phrases = Phrases {
    en: &[
        "You are mynah, a helpful assistant.",
        "You are mynah. Answer briefly.",
        "You are a small assistant called mynah. Say so when you do not know something.",
    ],
    zh: &[
        "你是 mynah，一个乐于助人的助手。",
        "你是 mynah。请简短地回答。",
        "你是一个叫 mynah 的小助手。不知道的就说不知道。",
    ],
};

const POLITE: Phrases = Phrases {
    en: &[
        "Hello! {question}",
        "Please help me. {question}",
        "I have a question. {question}",
        "Can you help me? {question}",
        "{question} Thank you.",
        "{question} Please answer.",
        "Hi, I need your help. {question}",
    ],
    zh: &[
        "你好！{question}",
        "请帮帮我。{question}",
        "我有一个问题。{question}",
        "你能帮我吗？{question}",
        "{question}谢谢。",
        "{question}请回答。",
        "请问：{question}",
    ],
};

const LISTENING: Phrases = Phrases {
    en: &["I see.", "All right.", "Good to know."],
    zh: &["我知道了。", "好的。", "明白了。"],
};

/// The messages that ask a lesson; the last one is the user's.
pub(super) fn ask(draw: &mut Draw, lesson: &Lesson) -> Vec<Message> {
    let language = lesson.language;
    let mut messages = Vec::new();
    if draw.chance(0.15) {
        messages.push(Message::new(Role::System, SYSTEM.say(draw, language, &[])));
    }
    if !lesson.given.is_empty() && draw.chance(0.25) {
        // What was told is answered first, and asked about in a turn of its own.
        messages.push(Message::new(Role::User, &*lesson.given));
        messages.push(Message::new(Role::Assistant, LISTENING.say(draw, language, &[])));
        messages.push(Message::new(Role::User, &*lesson.question));
        return messages;
    }
    if draw.chance(0.08) {
        let before = tasks::any(draw, language, Split::Train);
        messages.push(Message::new(Role::User, before.asked()));
        messages.push(Message::new(Role::Assistant, before.key.answer));
    }
    messages.push(Message::new(Role::User, politely(draw, lesson, language)));
    messages
}

fn politely(draw: &mut Draw, lesson: &Lesson, language: Language) -> String {
    let question = lesson.asked();
    if lesson.key.task == Task::Myself || draw.chance(0.7) {
        return question;
    }
    // A question that ends in a row or a term needs a mark before what follows it.
    let ended = question.ends_with(['.', '?', '!', '。', '？', '！', '…']);
    let question = if ended { question } else { question + either(language, ".", "。") };
    POLITE.say(draw, language, &[("question", &question)])
}
