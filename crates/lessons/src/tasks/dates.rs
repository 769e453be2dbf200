//! Days and months before and after.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either};
use super::super::world::{DAYS, MONTHS, Pair};

/// Ways to ask for what lies `steps` ahead.
struct Ahead {
    steps: i32,
    ask: Phrases,
}

const OF_DAYS: [Ahead; 3] = [
    Ahead {
        steps: 1,
        ask: Phrases {
            en: &[
                "What day comes after {x}?",
                "Which day is after {x}?",
                "What is the day after {x}?",
                "Today is {x}. What day is tomorrow?",
                "If today is {x}, what day is tomorrow?",
                "Yesterday was {x}. What day is today?",
            ],
            zh: &[
                "{x}的后一天是星期几？",
                "{x}之后是星期几？",
                "{x}的下一天是星期几？",
                "今天是{x}，明天是星期几？",
                "如果今天是{x}，那么明天是星期几？",
                "昨天是{x}，今天是星期几？",
            ],
        },
    },
    Ahead {
        steps: -1,
        ask: Phrases {
            en: &[
                "What day comes before {x}?",
                "Which day is before {x}?",
                "What is the day before {x}?",
                "Today is {x}. What day was yesterday?",
                "If today is {x}, what day was yesterday?",
                "Tomorrow is {x}. What day is today?",
            ],
            zh: &[
                "{x}的前一天是星期几？",
                "{x}之前是星期几？",
                "今天是{x}，昨天是星期几？",
                "如果今天是{x}，那么昨天是星期几？",
                "明天是{x}，今天是星期几？",
            ],
        },
    },
    Ahead {
        steps: 2,
        ask: Phrases {
            en: &[
                "Today is {x}. What day is the day after tomorrow?",
                "What day is two days after {x}?",
                "If today is {x}, what day is it in two days?",
            ],
            zh: &["今天是{x}，后天是星期几？", "{x}的两天后是星期几？", "如果今天是{x}，那么后天是星期几？"],
        },
    },
];

const OF_MONTHS: [Ahead; 2] = [
    Ahead {
        steps: 1,
        ask: Phrases {
            en: &[
                "Which month comes after {x}?",
                "What month is after {x}?",
                "This month is {x}. What is the next month?",
            ],
            zh: &["{x}的下一个月是几月？", "{x}之后是几月？", "现在是{x}，下个月是几月？"],
        },
    },
    Ahead {
        steps: -1,
        ask: Phrases {
            en: &[
                "Which month comes before {x}?",
                "What month is before {x}?",
                "This month is {x}. What was the last month?",
            ],
            zh: &["{x}的上一个月是几月？", "{x}之前是几月？", "现在是{x}，上个月是几月？"],
        },
    },
];

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    if draw.chance(0.7) {
        ask(&DAYS, &OF_DAYS, draw, language)
    } else {
        ask(&MONTHS, &OF_MONTHS, draw, language)
    }
}

fn ask(round: &[Pair], ways: &[Ahead], draw: &mut Draw, language: Language) -> Lesson {
    let (from, ahead) = (draw.below(round.len()), draw.pick(ways));
    let at = |steps: i32| &round[(from as i32 + steps).rem_euclid(round.len() as i32) as usize];
    let question = ahead.ask.say(draw, language, &[("x", round[from].say(language))]);
    let (right, wrong) = (at(ahead.steps), at(ahead.steps + *draw.pick(&[-2, -1, 1, 2])));
    // 一月 stands in 十一月 too.
    let longer = round
        .iter()
        .map(|name| name.say(language))
        .filter(|name| *name != right.say(language) && name.contains(right.say(language)));
    let told =
        |name: &Pair, language| either(language, format!("It is {}.", name.en), format!("是{}。", name.zh));
    let (answer, wrong) = (told(right, language), told(wrong, language));
    Lesson::new(Task::Dates, language, question.clone(), question, answer, wrong)
        .accepting(right.say(language))
        .rejecting(longer.map(String::from))
        .foreign(told(right, language.other()))
}

const TOLD: Phrases = Phrases {
    en: &["After {a} comes {b}.", "{b} is after {a}.", "Before {b} comes {a}.", "{a} is before {b}."],
    zh: &["{a}的后一天是{b}。", "{a}之后是{b}。", "{b}的前一天是{a}。", "{b}之前是{a}。"],
};

const TODAY: Phrases = Phrases {
    en: &[
        "Today is {a}, so tomorrow is {b}.",
        "Yesterday was {a} and today is {b}.",
        "Today is {a}. The day after tomorrow is {c}.",
    ],
    zh: &["今天是{a}，所以明天是{b}。", "昨天是{a}，今天是{b}。", "今天是{a}，后天是{c}。"],
};

const MONTH: Phrases = Phrases {
    en: &["After {a} comes {b}.", "The month before {b} is {a}."],
    zh: &["{a}的下一个月是{b}。", "{b}的上一个月是{a}。"],
};

/// The week, the year, and pieces of them.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    let days = draw.chance(0.65);
    let round: &[Pair] = if days { &DAYS } else { &MONTHS };
    let from = draw.below(round.len());
    let at = |steps: usize| round[(from + steps) % round.len()].say(language);
    if draw.chance(0.3) {
        let names: Vec<&str> = (0..round.len()).map(at).collect();
        return names.join(either(language, ", ", "、")) + either(language, ".", "。");
    }
    let told = |draw: &mut Draw| {
        let from = draw.below(round.len());
        let [a, b, c] = [0, 1, 2].map(|steps| round[(from + steps) % round.len()].say(language));
        let phrases = match (days, draw.chance(0.5)) {
            (true, true) => TODAY,
            (true, false) => TOLD,
            (false, _) => MONTH,
        };
        phrases.say(draw, language, &[("a", a), ("b", b), ("c", c)])
    };
    let lines: Vec<String> = (0..draw.within(2..=4)).map(|_| told(draw)).collect();
    lines.join(either(language, " ", ""))
}
