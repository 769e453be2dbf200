//! Letters of a short word, or words of a short row, in the opposite order.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either};
use super::super::world::{COLOURS, an_english_word};

/// A row and how its items are written.
struct Row {
    items: Vec<String>,
    separator: &'static str,
}

impl Row {
    fn draw(draw: &mut Draw, language: Language) -> Row {
        match draw.below(10) {
            0..4 => Row { items: letters(short_word(draw)), separator: " " },
            4 => Row { items: letters(short_word(draw)), separator: "" },
            5..8 => {
                let numbers: [_; 3] = draw.several(&NUMBERS);
                Row { items: numbers.iter().map(|n| n.to_string()).collect(), separator: ", " }
            }
            _ => {
                let words: [_; 3] = draw.several(COLOURS).map(|colour| colour.say(language).to_string());
                Row { items: words.into(), separator: either(language, ", ", "、") }
            }
        }
    }

    fn text(&self) -> String {
        self.items.join(self.separator)
    }

    fn backwards(&self) -> String {
        let items: Vec<&str> = self.items.iter().rev().map(String::as_str).collect();
        items.join(self.separator)
    }

    /// Backwards, but for two neighbours.
    fn nearly(&self, draw: &mut Draw) -> String {
        let mut items: Vec<&str> = self.items.iter().rev().map(String::as_str).collect();
        let unlike: Vec<usize> = (1..items.len()).filter(|&i| items[i] != items[i - 1]).collect();
        let at = *draw.pick(&unlike);
        items.swap(at, at - 1);
        items.join(self.separator)
    }
}

const NUMBERS: [u32; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];

fn letters(word: &str) -> Vec<String> {
    word.chars().map(String::from).collect()
}

/// An English word of three to five letters.
fn short_word(draw: &mut Draw) -> &'static str {
    loop {
        let word = an_english_word(draw);
        if (3..=5).contains(&word.len()) {
            return word;
        }
    }
}

const ASK: Phrases = Phrases {
    en: &[
        "Reverse: {row}",
        "Write {row} backwards.",
        "What is {row} backwards?",
        "Put this in the opposite order: {row}",
    ],
    zh: &["把 {row} 倒过来写。", "{row} 倒过来是什么？", "请倒着写：{row}", "反过来写 {row}。"],
};

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    let row = Row::draw(draw, language);
    let question = ASK.say(draw, language, &[("row", &row.text())]);
    let told = |row: &str| either(language, format!("Backwards it is {row}."), format!("倒过来是 {row}。"));
    let (right, wrong) = (told(&row.backwards()), told(&row.nearly(draw)));
    Lesson::new(Task::Reversing, language, row.text(), question, right, wrong).accepting(row.backwards())
}

const SPELLED: Phrases = Phrases {
    en: &["The word {word} is spelled {letters}.", "{word} has the letters {letters}."],
    zh: &["单词 {word} 的拼写是 {letters}。", "{word} 由字母 {letters} 组成。"],
};

const BACKWARDS: Phrases = Phrases {
    en: &["Backwards, {row} is {backwards}.", "{row} backwards is {backwards}."],
    zh: &["{row} 倒过来是 {backwards}。", "把 {row} 反过来，就是 {backwards}。"],
};

/// Words spelled, and rows told forwards and backwards.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    let told = |draw: &mut Draw| {
        if draw.chance(0.4) {
            let word = short_word(draw);
            let slots = [("word", word), ("letters", &*letters(word).join(" "))];
            return SPELLED.say(draw, language, &slots);
        }
        let make = |draw: &mut Draw| Row::draw(draw, language);
        let row = super::learnable(Task::Reversing, draw, make, Row::text);
        BACKWARDS.say(draw, language, &[("row", &row.text()), ("backwards", &row.backwards())])
    };
    let lines: Vec<String> = (0..draw.within(2..=5)).map(|_| told(draw)).collect();
    lines.join(either(language, " ", ""))
}
