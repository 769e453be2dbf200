//! A question about sentences that were just given.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either, fill};
use super::super::world::{CITIES, COLOURS, FOODS, OBJECTS, PEOPLE, PERSON_ADJECTIVES, PERSON_VERBS, PLACES};
use super::super::world::{Pair, Sentence, Thing, What, Who};

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    match draw.below(10) {
        0..3 => about_me(draw, language),
        3 => gift(draw, language),
        _ => about_others(draw, language),
    }
}

/// Up to three people, the same kind of thing told of each, and a question about one of them.
fn about_others(draw: &mut Draw, language: Language) -> Lesson {
    let people: [_; 3] = draw.several(PEOPLE);
    let whats = alike(draw);
    let n = draw.weighted(&[2, 4, 3]) + 1;
    let (at, ask_who) = (draw.below(n), n > 1 && draw.chance(0.4));
    // Of a passage of one sentence, what was not told is wrong.
    let other = if n > 1 { (at + 1) % n } else { 2 };
    let sentence = |who: usize, what: usize| Sentence { who: Who::Person(people[who]), what: whats[what] };
    let passage = |language| {
        let told: Vec<String> = (0..n).map(|i| sentence(i, i).say(language)).collect();
        told.join(either(language, " ", ""))
    };
    let stated = |i: usize| {
        if ask_who { people[i].say(language).to_string() } else { focus(&whats[i], language) }
    };
    let question = if ask_who {
        who(&whats[at], language)
    } else {
        what(people[at].say(language), &whats[at], language)
    };
    let wrong = if ask_who { sentence(other, at) } else { sentence(at, other) };
    // What was told besides makes no other instance.
    let instance =
        format!("{} {}", if ask_who { "who:" } else { "what:" }, sentence(at, at).say(Language::English));
    let right = sentence(at, at);
    Lesson::new(Task::Reading, language, instance, question, right.say(language), wrong.say(language))
        .given(passage(language))
        .accepting(stated(at))
        .rejecting((0..n).filter(|i| *i != at).map(stated))
        .foreign(right.say(language.other()))
}

/// Three different things of one kind.
fn alike(draw: &mut Draw) -> [What; 3] {
    match draw.below(8) {
        0 => draw.several(PERSON_VERBS).map(What::Doing),
        1 => draw.several(PLACES).map(What::At),
        2 => draw.several(PLACES).map(What::Goes),
        3 => draw.several(FOODS).map(What::Likes),
        4 => draw.several(PERSON_VERBS).map(What::Wants),
        5 => draw.several(PERSON_ADJECTIVES).map(What::Is),
        6 => {
            let food = draw.pick(FOODS);
            draw.several(&[2, 3, 4, 5, 6, 7, 8, 9, 10]).map(|n| What::Has(Thing::Counted(*n, food)))
        }
        _ => {
            let object = draw.pick(OBJECTS);
            draw.several(COLOURS).map(|colour| What::Has(Thing::Coloured(colour, object)))
        }
    }
}

/// `Who is in the park?`
fn who(what: &What, language: Language) -> String {
    let what = what.say(language);
    either(language, format!("Who {what}?"), format!("谁{what}？"))
}

/// `Where is Tom?`
fn what(who: &str, what: &What, language: Language) -> String {
    let (en, zh) = match what {
        What::Doing(_) => (format!("What is {who} doing?"), format!("{who}在做什么？")),
        What::At(_) => (format!("Where is {who}?"), format!("{who}在哪里？")),
        What::Goes(_) => (format!("Where does {who} go?"), format!("{who}去哪里？")),
        What::Likes(_) => (format!("What does {who} like?"), format!("{who}喜欢什么？")),
        What::Wants(_) => (format!("What does {who} want to do?"), format!("{who}想做什么？")),
        What::Can(_) => (format!("What can {who} do?"), format!("{who}会做什么？")),
        What::Has(Thing::Counted(_, noun)) => (
            format!("How many {} does {who} have?", noun.plural),
            format!("{who}有几{}{}？", noun.measure, noun.zh),
        ),
        What::Has(Thing::Coloured(_, noun)) => {
            (format!("What colour is the {} of {who}?", noun.en), format!("{who}的{}是什么颜色的？", noun.zh))
        }
        What::Gives(whom, _) => {
            (format!("What does {who} give {}?", whom.en), format!("{who}给{}什么？", whom.zh))
        }
        What::Is(_) => (format!("How is {who}?"), format!("{who}怎么样？")),
        What::Coloured(_) => (format!("What colour is {who}?"), format!("{who}是什么颜色的？")),
    };
    either(language, en, zh)
}

/// The words that answer [`what`].
fn focus(what: &What, language: Language) -> String {
    let (en, zh) = match what {
        What::Doing(verb) => (verb.ing, verb.zh),
        What::At(place) => (place.at.en, place.at.zh.trim_start_matches('在')),
        What::Goes(place) => (place.to.en, place.to.zh),
        What::Likes(noun) => (noun.plural, noun.zh),
        What::Wants(verb) | What::Can(verb) => (verb.base, verb.zh),
        What::Has(Thing::Coloured(colour, _)) | What::Coloured(colour) => (colour.en, colour.zh),
        What::Is(adjective) => (adjective.en, adjective.zh),
        What::Has(thing @ Thing::Counted(_, noun)) => {
            let counted = thing.say(language);
            let noun = either(language, noun.plural, noun.zh);
            return counted.trim_end_matches(noun).trim_end().into();
        }
        What::Gives(_, thing) => return thing.say(language),
    };
    either(language, en, zh).into()
}

/// `Tom gives Anna a red ball. Who has the ball now?`
fn gift(draw: &mut Draw, language: Language) -> Lesson {
    let [giver, taker] = draw.several(PEOPLE);
    let (colour, object) = (draw.pick(COLOURS), draw.pick(OBJECTS));
    let given =
        Sentence { who: Who::Person(giver), what: What::Gives(taker, Thing::Coloured(colour, object)) };
    let question =
        either(language, format!("Who has the {} now?", object.en), format!("现在谁有{}？", object.zh));
    let has = |who: &Pair, language| {
        either(language, format!("{} has the {}.", who.en, object.en), format!("{}有{}。", who.zh, object.zh))
    };
    let instance = given.say(Language::English);
    Lesson::new(Task::Reading, language, instance, question, has(taker, language), has(giver, language))
        .given(given.say(language))
        .accepting(taker.say(language))
        .rejecting([giver.say(language).to_string()])
        .foreign(has(taker, language.other()))
}

/// What people tell of themselves, ask back, and hear.
struct About {
    told: [Pair; 2],
    asked: Phrases,
    answer: Pair,
}

const ABOUT: [About; 4] = [
    About {
        told: [Pair { en: "I am {x}.", zh: "我是{x}。" }, Pair { en: "My name is {x}.", zh: "我叫{x}。" }],
        asked: Phrases {
            en: &["Who am I?", "What is my name?"], zh: &["我是谁？", "我叫什么名字？"]
        },
        answer: Pair { en: "You are {x}.", zh: "你是{x}。" },
    },
    About {
        told: [
            Pair { en: "I am {x} years old.", zh: "我 {x} 岁了。" },
            Pair { en: "I am {x} this year.", zh: "我今年 {x} 岁。" },
        ],
        asked: Phrases { en: &["How old am I?"], zh: &["我几岁？", "我今年几岁？"] },
        answer: Pair { en: "You are {x} years old.", zh: "你 {x} 岁。" },
    },
    About {
        told: [
            Pair { en: "I live in {x}.", zh: "我住在{x}。" },
            Pair { en: "My home is in {x}.", zh: "我家在{x}。" },
        ],
        asked: Phrases { en: &["Where do I live?"], zh: &["我住在哪里？"] },
        answer: Pair { en: "You live in {x}.", zh: "你住在{x}。" },
    },
    About {
        told: [
            Pair { en: "I like {x}.", zh: "我喜欢{x}。" },
            Pair { en: "I like to eat {x}.", zh: "我喜欢吃{x}。" },
        ],
        asked: Phrases { en: &["What do I like?"], zh: &["我喜欢什么？"] },
        answer: Pair { en: "You like {x}.", zh: "你喜欢{x}。" },
    },
];

const AGES: [Pair; 8] = [
    Pair { en: "5", zh: "5" },
    Pair { en: "6", zh: "6" },
    Pair { en: "7", zh: "7" },
    Pair { en: "8", zh: "8" },
    Pair { en: "9", zh: "9" },
    Pair { en: "10", zh: "10" },
    Pair { en: "11", zh: "11" },
    Pair { en: "12", zh: "12" },
];

/// `I am Tom. I like apples. What do I like?`
fn about_me(draw: &mut Draw, language: Language) -> Lesson {
    let kinds: [_; 2] = draw.several(&[0, 1, 2, 3]);
    let told = kinds.map(|kind: &usize| {
        let [x, other] = match kind {
            0 => draw.several(PEOPLE).map(|name| *name),
            1 => draw.several(&AGES).map(|age| *age),
            2 => draw.several(CITIES).map(|city| *city),
            _ => draw.several(FOODS).map(|food| Pair { en: food.plural, zh: food.zh }),
        };
        (&ABOUT[*kind], draw.below(2), x, other)
    });
    let told = &told[..draw.within(1..=2) as usize];
    let (about, way, x, other) = draw.pick(told);
    let put = |form: &Pair, x: &Pair, language| fill(form.say(language), &[("x", x.say(language))]);
    let passage = |language| {
        let all: Vec<String> =
            told.iter().map(|(about, way, x, _)| put(&about.told[*way], x, language)).collect();
        all.join(either(language, " ", ""))
    };
    let question = about.asked.say(draw, language, &[]);
    let answer = put(&about.answer, x, language);
    let instance = put(&about.told[*way], x, Language::English);
    Lesson::new(Task::Reading, language, instance, question, answer, put(&about.answer, other, language))
        .given(passage(language))
        .accepting(x.say(language))
        .foreign(put(&about.answer, x, language.other()))
}
