//! Numbers by size, English words by the alphabet.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either};
use super::super::world::{ANIMALS, FOODS, OBJECTS};

/// Different items and the order that is asked for.
struct Row {
    items: Vec<String>,
    /// The same, in that order.
    sorted: Vec<String>,
    order: Order,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Up,
    Down,
    Alphabet,
}

const NUMBERS: [u32; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 20, 25, 30, 40, 50];

impl Row {
    fn draw(draw: &mut Draw) -> Row {
        match draw.below(8) {
            0 => Row::words(draw),
            1 | 2 => Row::numbers(draw, Order::Down),
            _ => Row::numbers(draw, Order::Up),
        }
    }

    fn numbers(draw: &mut Draw, order: Order) -> Row {
        let numbers = draw.several::<_, 3>(&NUMBERS).to_vec();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        if order == Order::Down {
            sorted.reverse();
        }
        let text = |list: Vec<&u32>| list.into_iter().map(u32::to_string).collect();
        Row { items: text(numbers), sorted: text(sorted), order }
    }

    /// Three words with different first letters.
    fn words(draw: &mut Draw) -> Row {
        loop {
            let words: Vec<&str> = match draw.below(3) {
                0 => draw.several::<_, 3>(ANIMALS).iter().map(|animal| animal.noun.en).collect(),
                1 => draw.several::<_, 3>(FOODS).iter().map(|noun| noun.en).collect(),
                _ => draw.several::<_, 3>(OBJECTS).iter().map(|noun| noun.en).collect(),
            };
            let mut sorted = words.clone();
            sorted.sort_unstable();
            if sorted.windows(2).all(|pair| pair[0].as_bytes()[0] != pair[1].as_bytes()[0]) {
                let text = |list: Vec<&str>| list.into_iter().map(String::from).collect();
                return Row { items: text(words), sorted: text(sorted), order: Order::Alphabet };
            }
        }
    }

    fn text(&self) -> String {
        self.items.join(", ")
    }

    /// All orders of the same items are one instance: knowing one answers the others.
    fn instance(&self) -> String {
        let mut items = self.items.clone();
        items.sort_unstable();
        items.join(", ")
    }
}

const UP: Phrases = Phrases {
    en: &[
        "Sort these numbers: {row}",
        "Sort from small to large: {row}",
        "Put these numbers in order, the smallest first: {row}",
    ],
    zh: &["把这些数从小到大排列：{row}", "从小到大排序：{row}", "请把 {row} 从小到大排好。"],
};

const DOWN: Phrases = Phrases {
    en: &["Sort from large to small: {row}", "Put these numbers in order, the largest first: {row}"],
    zh: &["把这些数从大到小排列：{row}", "从大到小排序：{row}"],
};

const ALPHABET: Phrases = Phrases {
    en: &[
        "Sort these words: {row}",
        "Sort by the alphabet: {row}",
        "Put these words in alphabetical order: {row}",
    ],
    zh: &["按字母顺序排列：{row}", "把这些单词按字母顺序排好：{row}"],
};

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    let row = Row::draw(draw);
    let phrases = match row.order {
        Order::Up => UP,
        Order::Down => DOWN,
        Order::Alphabet => ALPHABET,
    };
    let question = phrases.say(draw, language, &[("row", &row.text())]);
    let mut wrong = row.sorted.clone();
    let at = 1 + draw.below(wrong.len() - 1);
    wrong.swap(at, at - 1);
    let told = |row: &str| either(language, format!("In order: {row}."), format!("排好是 {row}。"));
    let sorted = row.sorted.join(", ");
    let (right, wrong) = (told(&sorted), told(&wrong.join(", ")));
    Lesson::new(Task::Sorting, language, row.instance(), question, right, wrong).accepting(sorted)
}

const TOLD: Phrases = Phrases {
    en: &["{row} in order: {sorted}.", "Sorted, {row} become {sorted}."],
    zh: &["{row} 从小到大是 {sorted}。", "把 {row} 从小到大排好，就是 {sorted}。"],
};

const TOLD_DOWN: Phrases =
    Phrases { en: &["{row} from large to small: {sorted}."], zh: &["{row} 从大到小是 {sorted}。"] };

const TOLD_WORDS: Phrases =
    Phrases { en: &["{row} by the alphabet: {sorted}."], zh: &["{row} 按字母顺序是 {sorted}。"] };

/// Rows told in order.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    let told = |draw: &mut Draw| {
        let row = super::learnable(Task::Sorting, draw, Row::draw, Row::instance);
        let phrases = match row.order {
            Order::Up => TOLD,
            Order::Down => TOLD_DOWN,
            Order::Alphabet => TOLD_WORDS,
        };
        phrases.say(draw, language, &[("row", &row.text()), ("sorted", &row.sorted.join(", "))])
    };
    let lines: Vec<String> = (0..draw.within(2..=5)).map(|_| told(draw)).collect();
    lines.join(either(language, " ", ""))
}
