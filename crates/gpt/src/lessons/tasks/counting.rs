//! How often a letter, a character or a word occurs.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either};
use super::super::world::{ANIMALS, COLOURS, FOODS, OBJECTS, counted};

/// A short row of few different items, and the one to count.
struct Row {
    items: Vec<&'static str>,
    item: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letters,
    Words,
    /// Characters of a Chinese string.
    Characters,
}

const LETTERS: [&str; 14] = ["a", "b", "c", "d", "e", "g", "k", "m", "n", "o", "p", "r", "s", "t"];
const CHARACTERS: [&str; 8] = ["红", "花", "大", "山", "水", "小", "月", "人"];

impl Row {
    fn draw(draw: &mut Draw, language: Language) -> Row {
        let kind = match draw.below(5) {
            0..3 => Kind::Letters,
            3 => Kind::Words,
            _ => either(language, Kind::Words, Kind::Characters),
        };
        let alphabet: [&'static str; 3] = match kind {
            Kind::Letters => draw.several(&LETTERS).map(|letter| *letter),
            Kind::Words => draw.several(COLOURS).map(|colour| colour.say(language)),
            Kind::Characters => draw.several(&CHARACTERS).map(|character| *character),
        };
        let items: Vec<_> = (0..draw.within(3..=7)).map(|_| *draw.pick(&alphabet)).collect();
        Row { item: draw.pick::<&str>(&alphabet), items, kind }
    }

    fn count(&self) -> usize {
        self.items.iter().filter(|item| **item == self.item).count()
    }

    fn text(&self) -> String {
        self.items.join(if self.kind == Kind::Characters { "" } else { " " })
    }

    fn instance(&self) -> String {
        format!("{} in {}", self.item, self.text())
    }
}

const LETTER: Phrases = Phrases {
    en: &[
        "How many times does the letter {item} occur in {row}?",
        "Count the letter {item} in: {row}",
        "How often is {item} in {row}?",
    ],
    zh: &[
        "{row} 里有几个 {item}？",
        "数一数 {row} 里有几个字母 {item}。",
        "字母 {item} 在 {row} 里出现几次？",
    ],
};

const WORD: Phrases = Phrases {
    en: &[
        "How many times does the word {item} occur in: {row}?",
        "Count the word {item} in: {row}",
        "How often is {item} in: {row}?",
    ],
    zh: &["“{row}”里有几个“{item}”？", "数一数“{row}”里有几个“{item}”。", "“{item}”在“{row}”里出现几次？"],
};

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    let row = Row::draw(draw, language);
    let phrases = if row.kind == Kind::Letters { LETTER } else { WORD };
    let question = phrases.say(draw, language, &[("item", row.item), ("row", &row.text())]);
    let count = row.count();
    let wrong = if count == 0 || draw.chance(0.5) { count + 1 } else { count - 1 };
    Lesson::new(Task::Counting, language, row.instance(), question, count.to_string(), wrong.to_string())
}

const TOLD: Phrases = Phrases {
    en: &["In {row}, the letter {item} occurs {count}.", "{row} has the letter {item} {count}."],
    zh: &["{row} 里有 {n} 个 {item}。", "在 {row} 里，字母 {item} 出现 {n} 次。"],
};

/// Letters counted, or things.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    if draw.chance(0.3) {
        return things(draw, language);
    }
    let told = |draw: &mut Draw| {
        let make = |draw: &mut Draw| loop {
            let row = Row::draw(draw, language);
            if row.kind == Kind::Letters {
                return row;
            }
        };
        let row = super::learnable(Task::Counting, draw, make, Row::instance);
        let n = row.count();
        let count = format!("{n} time{}", if n == 1 { "" } else { "s" });
        let slots = [("row", &*row.text()), ("item", row.item), ("count", &count), ("n", &n.to_string())];
        TOLD.say(draw, language, &slots)
    };
    let lines: Vec<String> = (0..draw.within(2..=5)).map(|_| told(draw)).collect();
    lines.join(either(language, " ", ""))
}

/// `one apple, two apples, three apples …`
fn things(draw: &mut Draw, language: Language) -> String {
    let noun = match draw.below(3) {
        0 => &draw.pick(ANIMALS).noun,
        1 => draw.pick(FOODS),
        _ => draw.pick(OBJECTS),
    };
    let last = draw.within(4..=10);
    let counts: Vec<String> = (1..=last).map(|n| counted(n, noun, language)).collect();
    counts.join(either(language, ", ", "，")) + either(language, ".", "。")
}
