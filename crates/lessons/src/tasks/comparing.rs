//! The larger of two numbers or animals; true or not.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either};
use super::super::world::{ANIMALS, Animal, capital, with_article};

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    match draw.below(6) {
        0..3 => numbers(draw, language),
        3 => claim(draw, language),
        _ => animals(draw, language),
    }
}

/// Two different numbers, up to thirty.
fn two(draw: &mut Draw) -> [u32; 2] {
    let [a, b] = [0; 2].map(|_| draw.within(0..=30));
    if a == b { two(draw) } else { [a, b] }
}

/// In any order and whatever is asked about them: one instance.
fn instance([a, b]: &[u32; 2]) -> String {
    format!("{} and {}", a.min(b), a.max(b))
}

const LARGER: Phrases = Phrases {
    en: &["Which is bigger, {a} or {b}?", "Which number is larger, {a} or {b}?"],
    zh: &["{a} 和 {b}，哪个大？", "{a} 和 {b} 哪个更大？"],
};

const SMALLER: Phrases = Phrases {
    en: &["Which is smaller, {a} or {b}?", "Which number is smaller, {a} or {b}?"],
    zh: &["{a} 和 {b}，哪个小？", "{a} 和 {b} 哪个更小？"],
};

fn numbers(draw: &mut Draw, language: Language) -> Lesson {
    let pair @ [a, b] = two(draw);
    let large = draw.chance(0.6);
    let phrases = if large { LARGER } else { SMALLER };
    let question = phrases.say(draw, language, &[("a", &a.to_string()), ("b", &b.to_string())]);
    let (answer, wrong) = if (a > b) == large { (a, b) } else { (b, a) };
    let told = |n: u32| either(language, format!("It is {n}."), format!("是 {n}。"));
    let (right, wrong) = (told(answer), told(wrong));
    Lesson::new(Task::Comparing, language, instance(&pair), question, right, wrong)
        .accepting(answer.to_string())
}

const CLAIM_LARGER: Phrases = Phrases {
    en: &["Is {a} bigger than {b}?", "Is {a} more than {b}?"],
    zh: &["{a} 比 {b} 大，对吗？", "{a} 大于 {b}，对不对？"],
};

const CLAIM_SMALLER: Phrases = Phrases {
    en: &["Is {a} smaller than {b}?", "Is {a} less than {b}?"],
    zh: &["{a} 比 {b} 小，对吗？", "{a} 小于 {b}，对不对？"],
};

fn claim(draw: &mut Draw, language: Language) -> Lesson {
    let pair @ [a, b] = two(draw);
    let larger = draw.chance(0.5);
    let phrases = if larger { CLAIM_LARGER } else { CLAIM_SMALLER };
    let question = phrases.say(draw, language, &[("a", &a.to_string()), ("b", &b.to_string())]);
    super::yes_or_no(Task::Comparing, language, instance(&pair), question, (a > b) == larger)
}

const WHICH_LARGER: Phrases = Phrases {
    en: &["Which animal is bigger, {a} or {b}?", "Which is bigger, {a} or {b}?"],
    zh: &["{a}和{b}，哪个大？", "哪种动物更大，{a}还是{b}？"],
};

const WHICH_SMALLER: Phrases = Phrases {
    en: &["Which animal is smaller, {a} or {b}?", "Which is smaller, {a} or {b}?"],
    zh: &["{a}和{b}，哪个小？", "哪种动物更小，{a}还是{b}？"],
};

/// Two animals of which nobody doubts which is larger.
fn unlike(draw: &mut Draw) -> [&'static Animal; 2] {
    loop {
        let pair @ [a, b] = draw.several(ANIMALS);
        if a.size > 0 && b.size > 0 && a.size.abs_diff(b.size) >= 2 {
            return pair;
        }
    }
}

fn animals(draw: &mut Draw, language: Language) -> Lesson {
    let [a, b] = unlike(draw);
    let large = draw.chance(0.6);
    let phrases = if large { WHICH_LARGER } else { WHICH_SMALLER };
    let name = |animal: &Animal| either(language, with_article(animal.noun.en), animal.noun.zh.to_string());
    let question = phrases.say(draw, language, &[("a", &name(a)), ("b", &name(b))]);
    let (right, wrong) = if (a.size > b.size) == large { (a, b) } else { (b, a) };
    let answer = |animal: &Animal, language| {
        either(language, format!("The {}.", animal.noun.en), format!("{}。", animal.noun.zh))
    };
    let word = |animal: &Animal| either(language, animal.noun.en, animal.noun.zh).to_string();
    Lesson::new(
        Task::Comparing,
        language,
        question.clone(),
        question,
        answer(right, language),
        answer(wrong, language),
    )
    .accepting(word(right))
    .rejecting([word(wrong)])
    .foreign(answer(right, language.other()))
}

const TOLD: Phrases = Phrases {
    en: &[
        "{large} is bigger than {small}.",
        "{small} is smaller than {large}.",
        "{small} is less than {large}.",
    ],
    zh: &["{large} 比 {small} 大。", "{small} 比 {large} 小。", "{small} 小于 {large}。"],
};

/// Numbers or animals compared.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    let told = |draw: &mut Draw| {
        if draw.chance(0.4) {
            let [a, b] = unlike(draw);
            let (large, small) = if a.size > b.size { (a, b) } else { (b, a) };
            return either(
                language,
                format!(
                    "{} is bigger than {}.",
                    capital(&with_article(large.noun.en)),
                    with_article(small.noun.en)
                ),
                format!("{}比{}大。", large.noun.zh, small.noun.zh),
            );
        }
        let [a, b] = super::learnable(Task::Comparing, draw, two, instance);
        let slots = [("large", &*a.max(b).to_string()), ("small", &a.min(b).to_string())];
        TOLD.say(draw, language, &slots)
    };
    let lines: Vec<String> = (0..draw.within(3..=7)).map(|_| told(draw)).collect();
    lines.join(either(language, " ", ""))
}
