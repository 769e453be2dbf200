//! Sums and differences of numbers below 100, bare or in a story.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either};
use super::super::world::{FOODS, PEOPLE};

#[derive(Clone, Copy)]
struct Sum {
    a: u32,
    b: u32,
    minus: bool,
}

impl Sum {
    fn draw(draw: &mut Draw) -> Sum {
        let (a, b) = match draw.below(5) {
            0..3 => (draw.within(0..=10), draw.within(0..=10)),
            3 => (draw.within(11..=30), draw.within(1..=5)),
            _ => (10 * draw.within(1..=5), 10 * draw.within(1..=5)),
        };
        Sum { a, b, minus: false }.signed(draw.chance(0.45))
    }

    /// One that a story can tell: the numbers are small, and things are more than one.
    fn of_story(draw: &mut Draw) -> Sum {
        let (a, b) = (draw.within(2..=10), draw.within(1..=9));
        Sum { a, b, minus: false }.signed(draw.chance(0.5))
    }

    /// A difference is never negative.
    fn signed(self, minus: bool) -> Sum {
        if minus { Sum { a: self.a.max(self.b), b: self.a.min(self.b), minus } } else { self }
    }

    fn result(self) -> u32 {
        if self.minus { self.a - self.b } else { self.a + self.b }
    }

    fn term(self) -> String {
        format!("{} {} {}", self.a, if self.minus { '-' } else { '+' }, self.b)
    }

    fn equation(self) -> String {
        format!("{} = {}", self.term(), self.result())
    }

    fn spoken(self, language: Language) -> String {
        let sign = match (self.minus, language) {
            (false, Language::English) => "plus",
            (true, Language::English) => "minus",
            (false, Language::Chinese) => "加",
            (true, Language::Chinese) => "减",
        };
        format!("{} {sign} {}", self.a, self.b)
    }
}

const ASK: Phrases = Phrases {
    en: &[
        "What is {term}?",
        "What is {spoken}?",
        "How much is {term}?",
        "How much is {spoken}?",
        "Calculate {term}.",
        "Work out {term}.",
        "{term} = ?",
    ],
    zh: &[
        "{term} 等于几？",
        "{spoken} 等于几？",
        "{spoken} 等于多少？",
        "{term} 是多少？",
        "计算 {term}。",
        "算一算 {term}。",
        "{term} = ?",
    ],
};

const GETS: Phrases = Phrases {
    en: &[
        "{who} has {a} {food}. {whom} gives {who} {b} more. How many {food} does {who} have now?",
        "{who} has {a} {food} and buys {b} more. How many {food} does {who} have now?",
        "{who} has {a} {food} and {whom} has {b}. How many {food} do they have together?",
    ],
    zh: &[
        "{who}有 {a} 个{food}，{whom}又给了{who} {b} 个。{who}现在有几个{food}？",
        "{who}有 {a} 个{food}，又买了 {b} 个。{who}现在有几个{food}？",
        "{who}有 {a} 个{food}，{whom}有 {b} 个。他们一共有几个{food}？",
    ],
};

const LOSES: Phrases = Phrases {
    en: &[
        "{who} has {a} {food} and gives {whom} {b} of them. How many {food} does {who} have now?",
        "{who} has {a} {food} and eats {b} of them. How many {food} are left?",
        "There are {a} {food}. {who} takes {b} of them. How many {food} are left?",
    ],
    zh: &[
        "{who}有 {a} 个{food}，给了{whom} {b} 个。{who}现在有几个{food}？",
        "{who}有 {a} 个{food}，吃了 {b} 个。还剩几个{food}？",
        "这里有 {a} 个{food}，{who}拿走了 {b} 个。还剩几个{food}？",
    ],
};

const TOLD: Phrases = Phrases {
    en: &["{spoken} is {result}.", "{term} = {result}.", "{spoken} makes {result}."],
    zh: &["{spoken} 等于 {result}。", "{term} = {result}。", "{spoken} 是 {result}。"],
};

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    let (sum, question) = if draw.chance(0.3) {
        let sum = Sum::of_story(draw);
        (sum, story(draw, language, sum))
    } else {
        let sum = Sum::draw(draw);
        (sum, ask(draw, language, &sum.term(), &sum.spoken(language)))
    };
    let off = draw.within(1..=3);
    let wrong = if draw.chance(0.5) { sum.result() + off } else { sum.result().saturating_sub(off) };
    // Nothing is below zero.
    let wrong = if wrong == sum.result() { wrong + 1 } else { wrong };
    let wrong = format!("{} = {wrong}", sum.term());
    let result = sum.result().to_string();
    // Small models know sums by heart: held out is a way of asking.
    Lesson::new(Task::Arithmetic, language, question.clone(), question, sum.equation(), wrong)
        .accepting(result)
}

/// The question for a bare sum.
pub(super) fn ask(draw: &mut Draw, language: Language, term: &str, spoken: &str) -> String {
    ASK.say(draw, language, &[("term", term), ("spoken", spoken)])
}

/// Things that Chinese counts with 个.
fn story(draw: &mut Draw, language: Language, sum: Sum) -> String {
    let [who, whom] = draw.several(PEOPLE).map(|person| person.say(language));
    let food = draw.pick(&FOODS[2..7]);
    let food = either(language, food.plural, food.zh);
    let (a, b) = (sum.a.to_string(), sum.b.to_string());
    let slots = [("who", who), ("whom", whom), ("food", food), ("a", &a), ("b", &b)];
    let phrases = if sum.minus { LOSES } else { GETS };
    phrases.say(draw, language, &slots)
}

/// A short table, a story with its sum, or a few sums told.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    match draw.below(10) {
        0 => return table(draw),
        1..3 => {
            let make = |draw: &mut Draw| {
                let sum = Sum::of_story(draw);
                (story(draw, language, sum), sum)
            };
            let (told, sum) = super::learnable(Task::Arithmetic, draw, make, |made| made.0.clone());
            let end = either(language, [" ", "."], ["", "。"]);
            return told + end[0] + &sum.equation() + end[1];
        }
        _ => {}
    }
    let told = |draw: &mut Draw| {
        let sum = Sum::draw(draw);
        let result = sum.result().to_string();
        let slots = [("term", &*sum.term()), ("spoken", &sum.spoken(language)), ("result", &result)];
        TOLD.say(draw, language, &slots)
    };
    let sums: Vec<String> = (0..draw.within(3..=8)).map(|_| told(draw)).collect();
    sums.join(either(language, " ", ""))
}

/// Sums that differ by one, line by line.
fn table(draw: &mut Draw) -> String {
    let Sum { a, b, minus } = Sum::draw(draw);
    let lines: Vec<String> = (a..a + 8).map(|a| Sum { a, b, minus }.equation()).collect();
    lines.join("\n")
}
