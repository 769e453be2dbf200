//! What is known about this world: colours, legs, food, opposites, sizes of weeks and years.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either, fill};
use super::super::world::{ANIMALS, Animal, COLOURS, FOODS, OBJECTS, Pair, capital, with_article};

const fn pair(en: &'static str, zh: &'static str) -> Pair {
    Pair { en, zh }
}

/// Things that have one colour, and the number of it in [`COLOURS`].
const COLOURED: [(Pair, usize); 9] = [
    (pair("the sky", "天空"), 1),
    (pair("the sea", "大海"), 1),
    (pair("grass", "草"), 2),
    (pair("a leaf", "树叶"), 2),
    (pair("a banana", "香蕉"), 3),
    (pair("a tomato", "西红柿"), 0),
    (pair("snow", "雪"), 5),
    (pair("coal", "煤"), 4),
    (pair("an elephant", "大象"), 7),
];

const OPPOSITES: [(Pair, Pair); 14] = [
    (pair("big", "大"), pair("small", "小")),
    (pair("long", "长"), pair("short", "短")),
    (pair("hot", "热"), pair("cold", "冷")),
    (pair("new", "新"), pair("old", "旧")),
    (pair("fast", "快"), pair("slow", "慢")),
    (pair("heavy", "重"), pair("light", "轻")),
    (pair("clean", "干净"), pair("dirty", "脏")),
    (pair("happy", "高兴"), pair("sad", "难过")),
    (pair("full", "满"), pair("empty", "空")),
    (pair("strong", "强"), pair("weak", "弱")),
    (pair("hard", "硬"), pair("soft", "软")),
    (pair("early", "早"), pair("late", "晚")),
    (pair("up", "上"), pair("down", "下")),
    (pair("left", "左"), pair("right", "右")),
];

/// Whole, part, and how many of these it has.
const PARTS: [(Pair, Pair, u32); 6] = [
    (pair("a week", "一周"), pair("days", "天"), 7),
    (pair("a year", "一年"), pair("months", "个月"), 12),
    (pair("a day", "一天"), pair("hours", "个小时"), 24),
    (pair("an hour", "一小时"), pair("minutes", "分钟"), 60),
    (pair("a minute", "一分钟"), pair("seconds", "秒"), 60),
    (pair("the alphabet", "英文字母表"), pair("letters", "个字母"), 26),
];

const ASK_COLOUR: Phrases = Phrases {
    en: &["What colour is {x}?", "What is the colour of {x}?"],
    zh: &["{x}是什么颜色的？", "{x}的颜色是什么？"],
};
const ASK_LEGS: Phrases = Phrases {
    en: &["How many legs does {x} have?", "How many legs has {x}?"],
    zh: &["{x}有几条腿？", "{x}的腿有几条？"],
};
const ASK_FOOD: Phrases = Phrases {
    en: &["What does {x} eat?", "What does {x} like to eat?"],
    zh: &["{x}吃什么？", "{x}喜欢吃什么？"],
};
const ASK_OPPOSITE: Phrases = Phrases {
    en: &["What is the opposite of {x}?", "Say the opposite of {x}."],
    zh: &["“{x}”的反义词是什么？", "“{x}”的反面是什么？"],
};
const ASK_PARTS: Phrases = Phrases {
    en: &["How many {y} does {x} have?", "How many {y} are in {x}?"],
    zh: &["{x}有多少{y}？", "{x}一共有多少{y}？"],
};
const ASK_KIND: Phrases = Phrases {
    en: &["Is {x} an animal?", "Is {x} a kind of animal?"],
    zh: &["{x}是动物，对吗？", "{x}是一种动物，对不对？"],
};

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    match draw.weighted(&[3, 4, 4, 5, 2, 5]) {
        0 => colour(draw, language),
        1 => legs(draw, language),
        2 => food(draw, language),
        3 => opposite(draw, language),
        4 => parts(draw, language),
        _ => kind(draw, language),
    }
}

/// A fact in a sentence of each language, with a slot for what was asked; knowledge is held out by its
/// wording.
fn known(question: String, language: Language, form: Pair, right: Pair, wrong: Pair) -> Lesson {
    let put = |value: &Pair, language| fill(form.say(language), &[("a", value.say(language))]);
    let (answer, wrong) = (put(&right, language), put(&wrong, language));
    Lesson::new(Task::Facts, language, question.clone(), question, answer, wrong)
        .accepting(right.say(language))
        .foreign(put(&right, language.other()))
}

const IT_IS: Pair = pair("It is {a}.", "是{a}的。");

fn colour(draw: &mut Draw, language: Language) -> Lesson {
    let (thing, number) = draw.pick(&COLOURED);
    let wrong = COLOURS[(number + 1 + draw.below(COLOURS.len() - 1)) % COLOURS.len()];
    let question = ASK_COLOUR.say(draw, language, &[("x", thing.say(language))]);
    known(question, language, IT_IS, COLOURS[*number], wrong)
}

/// `a cat`, `猫`.
fn name(animal: &Animal, language: Language) -> String {
    either(language, with_article(animal.noun.en), animal.noun.zh.to_string())
}

fn legs(draw: &mut Draw, language: Language) -> Lesson {
    let animal = draw.pick(ANIMALS);
    let question = ASK_LEGS.say(draw, language, &[("x", &name(animal, language))]);
    let wrong = if animal.legs == 4 { 2 } else { 4 };
    let told = |n: u32| either(language, format!("It has {n} legs."), format!("有 {n} 条腿。"));
    let (answer, wrong) = (told(animal.legs), told(wrong));
    Lesson::new(Task::Facts, language, question.clone(), question, answer, wrong)
        .accepting(animal.legs.to_string())
}

fn food(draw: &mut Draw, language: Language) -> Lesson {
    let animal = draw.pick(ANIMALS);
    let wrong = loop {
        let other = draw.pick(ANIMALS).eats;
        if other != animal.eats {
            break other;
        }
    };
    let question = ASK_FOOD.say(draw, language, &[("x", &name(animal, language))]);
    known(question, language, pair("It eats {a}.", "它吃{a}。"), animal.eats, wrong)
}

fn opposite(draw: &mut Draw, language: Language) -> Lesson {
    let [(a, b), (other, _)] = draw.several(&OPPOSITES);
    let (from, to) = if draw.chance(0.5) { (a, b) } else { (b, a) };
    let question = ASK_OPPOSITE.say(draw, language, &[("x", from.say(language))]);
    known(question, language, pair("It is {a}.", "是{a}。"), *to, *other)
}

fn parts(draw: &mut Draw, language: Language) -> Lesson {
    let (whole, part, n) = draw.pick(&PARTS);
    let slots = [("x", whole.say(language)), ("y", part.say(language))];
    let question = ASK_PARTS.say(draw, language, &slots);
    let wrong = if draw.chance(0.5) { n + 1 } else { n - 1 };
    let told = |n: u32| either(language, format!("There are {n}."), format!("有 {n} {}。", part.zh));
    let (answer, wrong) = (told(*n), told(wrong));
    Lesson::new(Task::Facts, language, question.clone(), question, answer, wrong).accepting(n.to_string())
}

fn kind(draw: &mut Draw, language: Language) -> Lesson {
    let animal = draw.chance(0.5);
    let noun = match (animal, draw.chance(0.5)) {
        (true, _) => &draw.pick(ANIMALS).noun,
        (false, true) => draw.pick(FOODS),
        (false, false) => draw.pick(OBJECTS),
    };
    let x = either(language, with_article(noun.en), noun.zh.to_string());
    let question = ASK_KIND.say(draw, language, &[("x", &x)]);
    super::yes_or_no(Task::Facts, language, question.clone(), question, animal)
}

/// Facts told.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    let lines: Vec<String> = (0..draw.within(3..=6)).map(|_| told(draw, language)).collect();
    lines.join(either(language, " ", ""))
}

fn told(draw: &mut Draw, language: Language) -> String {
    let (en, zh) = match draw.below(7) {
        0 => {
            let (thing, number) = draw.pick(&COLOURED);
            let colour = COLOURS[*number];
            (format!("{} is {}.", capital(thing.en), colour.en), format!("{}是{}的。", thing.zh, colour.zh))
        }
        1 => {
            let animal = draw.pick(ANIMALS);
            let legs = either(language, "legs", "条腿");
            let (n, noun) = (animal.legs, animal.noun);
            (
                format!("{} has {n} {legs}.", capital(&with_article(noun.en))),
                format!("{}有 {n} {legs}。", noun.zh),
            )
        }
        2 | 3 => {
            let Animal { noun, eats, .. } = draw.pick(ANIMALS);
            (
                format!("{} eats {}.", capital(&with_article(noun.en)), eats.en),
                format!("{}吃{}。", noun.zh, eats.zh),
            )
        }
        4 => {
            let (a, b) = draw.pick(&OPPOSITES);
            let (a, b) = if draw.chance(0.5) { (a, b) } else { (b, a) };
            (
                format!("{} is the opposite of {}.", capital(a.en), b.en),
                format!("“{}”的反义词是“{}”。", b.zh, a.zh),
            )
        }
        5 => {
            let (whole, part, n) = draw.pick(&PARTS);
            (
                format!("{} has {n} {}.", capital(whole.en), part.en),
                format!("{}有 {n} {}。", whole.zh, part.zh),
            )
        }
        _ => {
            let (noun, en, zh) = match draw.below(3) {
                0 => (&draw.pick(ANIMALS).noun, "an animal", "动物"),
                1 => (draw.pick(FOODS), "something to eat", "吃的东西"),
                _ => (draw.pick(OBJECTS), "a thing", "东西"),
            };
            (format!("{} is {en}.", capital(&with_article(noun.en))), format!("{}是{zh}。", noun.zh))
        }
    };
    either(language, en, zh)
}
