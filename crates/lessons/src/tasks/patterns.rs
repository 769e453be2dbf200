//! What comes next: numbers in steps, words by turns.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either};
use super::super::world::{ANIMALS, COLOURS, FOODS};

/// The beginning of a row, what follows, and something else that does not.
struct Pattern {
    shown: Vec<String>,
    next: String,
    wrong: String,
    /// The items of a pattern of words, all but the next.
    others: Vec<String>,
}

impl Pattern {
    fn draw(draw: &mut Draw, language: Language) -> Pattern {
        if draw.chance(0.6) { Pattern::of_numbers(draw) } else { Pattern::of_words(draw, language) }
    }

    fn of_numbers(draw: &mut Draw) -> Pattern {
        let step = *draw.pick(&[1, 1, 2, 5, 10]);
        let length = draw.within(3..=4);
        let first = draw.within(0..=20);
        let at = |place: u32| first + step * place;
        let (mut shown, mut next) = ((0..length).map(at).collect::<Vec<_>>(), at(length));
        if step == 1 && draw.chance(0.4) {
            shown = (1..=length).rev().map(at).collect();
            next = first;
        }
        let wrong = if next > 0 && draw.chance(0.5) { next - 1 } else { next + 1 };
        Pattern {
            shown: shown.iter().map(u32::to_string).collect(),
            next: next.to_string(),
            wrong: wrong.to_string(),
            others: Vec::new(),
        }
    }

    /// Two or three words by turns, or each twice.
    fn of_words(draw: &mut Draw, language: Language) -> Pattern {
        let words: [&str; 3] = match draw.below(3) {
            0 => draw.several(COLOURS).map(|colour| colour.say(language)),
            1 => draw.several(ANIMALS).map(|animal| either(language, animal.noun.en, animal.noun.zh)),
            _ => draw.several(FOODS).map(|food| either(language, food.en, food.zh)),
        };
        let turns: &[usize] = match draw.below(3) {
            0 => &[0, 1, 0, 1, 0, 1],
            1 => &[0, 1, 2, 0, 1, 2],
            _ => &[0, 0, 1, 1, 0, 0],
        };
        let length = draw.within(4..=turns.len() as u32 - 1) as usize;
        let next = words[turns[length]];
        let others: Vec<String> = words[..=*turns.iter().max().expect("turns")]
            .iter()
            .filter(|word| **word != next)
            .map(|word| word.to_string())
            .collect();
        Pattern {
            shown: turns[..length].iter().map(|&turn| words[turn].to_string()).collect(),
            next: next.into(),
            wrong: draw.pick(&others).clone(),
            others,
        }
    }

    fn text(&self, language: Language) -> String {
        self.shown.join(self.separator(language))
    }

    /// Numbers are written alike in both languages.
    fn separator(&self, language: Language) -> &'static str {
        if self.others.is_empty() { ", " } else { either(language, ", ", "，") }
    }
}

const ASK: Phrases = Phrases {
    en: &[
        "What comes next: {row}, ?",
        "Continue: {row}, ...",
        "{row}, ... What comes next?",
        "Which one is next? {row}, ?",
    ],
    zh: &[
        "下一个是什么：{row}，？",
        "接着写：{row}，……",
        "{row}，接下来是什么？",
        "找规律：{row}，下一个是？",
    ],
};

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    let pattern = Pattern::draw(draw, language);
    let row = pattern.text(language);
    let question = ASK.say(draw, language, &[("row", &row)]);
    let told = |item: &str| match (language, pattern.others.is_empty()) {
        (Language::English, _) => format!("Next comes {item}."),
        (Language::Chinese, true) => format!("下一个是 {item}。"),
        (Language::Chinese, false) => format!("下一个是{item}。"),
    };
    let (right, wrong) = (told(&pattern.next), told(&pattern.wrong));
    Lesson::new(Task::Patterns, language, row, question, right, wrong)
        .accepting(pattern.next)
        .rejecting(pattern.others)
}

/// A row that goes on, after the words that announce it.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    let told = |draw: &mut Draw| {
        let make = |draw: &mut Draw| Pattern::draw(draw, language);
        let pattern = super::learnable(Task::Patterns, draw, make, |pattern| pattern.text(language));
        let row = pattern.text(language);
        let next = &pattern.next;
        match (draw.below(2), language) {
            (0, Language::English) => format!("After {row} comes {next}."),
            (0, Language::Chinese) => format!("{row} 之后是 {next}。"),
            (_, _) => format!("{row}{}{next}", pattern.separator(language)),
        }
    };
    let lines: Vec<String> = (0..draw.within(2..=5)).map(|_| told(draw)).collect();
    lines.join("\n")
}
