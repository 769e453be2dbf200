//! How many letters a word has; how often a letter, a character or a word occurs in a short row.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either};
use super::super::world::{ANIMALS, COLOURS, FOODS, OBJECTS, an_english_word, counted};

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    if draw.chance(0.6) { letters(draw, language) } else { occurrences(draw, language) }
}

const SPELLED: Phrases = Phrases {
    en: &[
        "How many letters are in the word {word}?",
        "How many letters does {word} have?",
        "Count the letters of {word}.",
        "How long is the word {word}?",
    ],
    zh: &[
        "单词 {word} 有几个字母？",
        "{word} 由几个字母组成？",
        "数一数 {word} 的字母。",
        "单词 {word} 有多长？",
    ],
};

/// Tokens hide letters, so the lengths of words are known by heart: held out is a way of asking.
fn letters(draw: &mut Draw, language: Language) -> Lesson {
    let word = an_english_word(draw);
    let question = SPELLED.say(draw, language, &[("word", word)]);
    let n = word.len();
    let wrong = if draw.chance(0.5) { n + 1 } else { n - 1 };
    let told = |n: usize| either(language, format!("It has {n} letters."), format!("有 {n} 个字母。"));
    Lesson::new(Task::Counting, language, question.clone(), question, told(n), told(wrong))
        .accepting(n.to_string())
}

/// A row of two different items, and the one to count.
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
        let [item, other]: [&'static str; 2] = match kind {
            Kind::Letters => draw.several(&LETTERS).map(|letter| *letter),
            Kind::Words => draw.several(COLOURS).map(|colour| colour.say(language)),
            Kind::Characters => draw.several(&CHARACTERS).map(|character| *character),
        };
        // Every count is as likely as any other, so that one has to look.
        let (count, length) = (draw.within(1..=3) as usize, draw.within(3..=4) as usize);
        let mut items = vec![other; length];
        let places: [&usize; 3] = draw.several(&[0, 1, 2, 3][..length]);
        places[..count].iter().for_each(|place| items[**place] = item);
        Row { item, items, kind }
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

fn occurrences(draw: &mut Draw, language: Language) -> Lesson {
    let row = Row::draw(draw, language);
    let phrases = if row.kind == Kind::Letters { LETTER } else { WORD };
    let question = phrases.say(draw, language, &[("item", row.item), ("row", &row.text())]);
    let count = row.count();
    let wrong = if count == 1 || draw.chance(0.5) { count + 1 } else { count - 1 };
    let told = |n: usize| match (language, n) {
        (Language::English, 1) => "It occurs 1 time.".to_string(),
        (Language::English, n) => format!("It occurs {n} times."),
        (Language::Chinese, n) => format!("有 {n} 个。"),
    };
    let (right, wrong) = (told(count), told(wrong));
    Lesson::new(Task::Counting, language, row.instance(), question, right, wrong).accepting(count.to_string())
}

const TOLD: Phrases = Phrases {
    en: &["In {row}, the letter {item} occurs {count}.", "{row} has the letter {item} {count}."],
    zh: &["{row} 里有 {n} 个 {item}。", "在 {row} 里，字母 {item} 出现 {n} 次。"],
};

const TOLD_LENGTH: Phrases = Phrases {
    en: &["The word {word} has {n} letters.", "{word} has {n} letters: {letters}."],
    zh: &["单词 {word} 有 {n} 个字母。", "{word} 有 {n} 个字母：{letters}。"],
};

/// Letters counted, or things.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    if draw.chance(0.15) {
        return things(draw, language);
    }
    let words = draw.chance(0.5);
    let told = |draw: &mut Draw| if words { length(draw, language) } else { occurrence(draw, language) };
    let lines: Vec<String> = (0..draw.within(2..=5)).map(|_| told(draw)).collect();
    lines.join(either(language, " ", ""))
}

fn length(draw: &mut Draw, language: Language) -> String {
    let word = an_english_word(draw);
    let letters: Vec<String> = word.chars().map(String::from).collect();
    let slots = [("word", word), ("n", &*word.len().to_string()), ("letters", &letters.join(" "))];
    TOLD_LENGTH.say(draw, language, &slots)
}

fn occurrence(draw: &mut Draw, language: Language) -> String {
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
