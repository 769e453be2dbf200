//! Words and simple sentences in the other language.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either};
use super::super::world::{ANIMALS, COLOURS, DAYS, FOODS, OBJECTS, Pair, Sentence};

const SENTENCE: Phrases = Phrases {
    en: &[
        "Translate into {target}: {text}",
        "Say this in {target}: {text}",
        "How do you say this in {target}? {text}",
        "Write in {target}: {text}",
    ],
    zh: &[
        "翻译成{target}：{text}",
        "用{target}怎么说：{text}",
        "请译成{target}：{text}",
        "把这句话翻译成{target}：{text}",
    ],
};

const WORD: Phrases = Phrases {
    en: &[
        "What is the {target} word for {text}?",
        "How do you say {text} in {target}?",
        "Translate into {target}: {text}",
    ],
    zh: &["{text} 用{target}怎么说？", "“{text}”的{target}是什么？", "翻译成{target}：{text}"],
};

fn name(language: Language, said_in: Language) -> &'static str {
    match (language, said_in) {
        (Language::English, Language::English) => "English",
        (Language::Chinese, Language::English) => "Chinese",
        (Language::English, Language::Chinese) => "英文",
        (Language::Chinese, Language::Chinese) => "中文",
    }
}

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    // Mostly out of the speaker's language, sometimes into it.
    let target = if draw.chance(0.7) { language.other() } else { language };
    let words = draw.chance(0.25);
    let (meaning, other) = if words { word(draw) } else { sentence(draw) };
    let [from, to] = [target.other(), target].map(|language| meaning.in_(language));
    let slots = [("target", name(target, language)), ("text", from)];
    let question = if words { WORD } else { SENTENCE }.say(draw, language, &slots);
    // A word has to be learned: held out is a way of asking for it. A sentence is new whenever it was not
    // seen.
    let instance = if words { question.clone() } else { meaning.en.clone() };
    let told = |text: &str| match (words, target) {
        (false, _) => text.to_string(),
        (true, Language::English) => format!("The word is {text}."),
        (true, Language::Chinese) => format!("是{text}。"),
    };
    let (right, wrong) = (told(to), told(other.in_(target)));
    Lesson::new(Task::Translation, language, instance, question, right, wrong)
        .answered_in(target)
        .accepting(to)
        .foreign(from)
}

/// The same in both languages.
struct Meaning {
    en: String,
    zh: String,
}

impl Meaning {
    fn of(sentence: &Sentence) -> Meaning {
        Meaning { en: sentence.say(Language::English), zh: sentence.say(Language::Chinese) }
    }

    fn in_(&self, language: Language) -> &str {
        either(language, &self.en, &self.zh)
    }
}

/// A sentence, and another one about the same.
fn sentence(draw: &mut Draw) -> (Meaning, Meaning) {
    let right = Sentence::any(draw);
    loop {
        let wrong = Sentence { who: right.who, ..Sentence::any(draw) };
        if wrong != right {
            return (Meaning::of(&right), Meaning::of(&wrong));
        }
    }
}

/// A word, and another one of its kind.
fn word(draw: &mut Draw) -> (Meaning, Meaning) {
    let [right, wrong] = match draw.below(5) {
        0 => draw.several(COLOURS).map(|colour| *colour),
        1 => draw.several(&DAYS).map(|day| *day),
        2 => draw.several(ANIMALS).map(|animal| Pair { en: animal.noun.en, zh: animal.noun.zh }),
        3 => draw.several(FOODS).map(|food| Pair { en: food.en, zh: food.zh }),
        _ => draw.several(OBJECTS).map(|object| Pair { en: object.en, zh: object.zh }),
    };
    let meaning = |pair: Pair| Meaning { en: pair.en.into(), zh: pair.zh.into() };
    (meaning(right), meaning(wrong))
}

const TOLD: Phrases = Phrases {
    en: &["\"{en}\" in Chinese is \"{zh}\"", "In Chinese, \"{en}\" is said as \"{zh}\"", "{en} = {zh}"],
    zh: &["“{zh}”用英文说是“{en}”", "英文的“{en}”就是中文的“{zh}”", "{zh} = {en}"],
};

const TOLD_WORD: Phrases = Phrases {
    en: &["The Chinese word for {en} is {zh}.", "{zh} means {en}."],
    zh: &["{zh}的英文是 {en}。", "{en} 的意思是{zh}。"],
};

/// Words and sentences told in both languages.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    let told = |draw: &mut Draw| {
        let words = draw.chance(0.3);
        let make = |draw: &mut Draw| sentence(draw).0;
        let meaning = if words {
            word(draw).0
        } else {
            super::learnable(Task::Translation, draw, make, |meaning| meaning.en.clone())
        };
        let phrases = if words { TOLD_WORD } else { TOLD };
        phrases.say(draw, language, &[("en", &meaning.en), ("zh", &meaning.zh)])
    };
    let lines: Vec<String> = (0..draw.within(2..=5)).map(|_| told(draw)).collect();
    lines.join("\n")
}
