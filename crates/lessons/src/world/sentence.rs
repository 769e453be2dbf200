//! Simple sentences: one meaning, said in either language.
//!
//! Each meaning has one English and one Chinese form, and each form one meaning: a translation is checked by
//! comparing.

use super::super::draw::Draw;
use super::super::lesson::Language;
use super::super::phrase::either;
use super::animals::{ANIMALS, Animal};
use super::words::{
    COLOURS, FOODS, Noun, OBJECTS, PEOPLE, PLACES, Pair, Place, capital, counted, with_article,
};

/// What one does: `sleep`, `sleeping`, `睡觉`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verb {
    pub(crate) base: &'static str,
    pub(crate) ing: &'static str,
    pub(crate) zh: &'static str,
}

const fn verb(base: &'static str, ing: &'static str, zh: &'static str) -> Verb {
    Verb { base, ing, zh }
}

/// The first four suit animals as well, those after them can be learned.
pub(crate) const PERSON_VERBS: &[Verb] = &[
    verb("sleep", "sleeping", "睡觉"),
    verb("drink water", "drinking water", "喝水"),
    verb("play", "playing", "玩"),
    verb("rest", "resting", "休息"),
    verb("run", "running", "跑步"),
    verb("swim", "swimming", "游泳"),
    verb("sing", "singing", "唱歌"),
    verb("dance", "dancing", "跳舞"),
    verb("cook", "cooking", "做饭"),
    verb("read", "reading", "看书"),
    verb("draw", "drawing", "画画"),
    verb("write", "writing", "写字"),
];

/// How one is.
pub(crate) const PERSON_ADJECTIVES: &[Pair] = &[
    Pair { en: "happy", zh: "高兴" },
    Pair { en: "sad", zh: "难过" },
    Pair { en: "tired", zh: "累" },
    Pair { en: "hungry", zh: "饿" },
    Pair { en: "thirsty", zh: "渴" },
    Pair { en: "busy", zh: "忙" },
];

/// How a thing is.
pub(crate) const THING_ADJECTIVES: &[Pair] = &[
    Pair { en: "big", zh: "大" },
    Pair { en: "small", zh: "小" },
    Pair { en: "new", zh: "新" },
    Pair { en: "old", zh: "旧" },
    Pair { en: "clean", zh: "干净" },
    Pair { en: "dirty", zh: "脏" },
];

/// Somebody or something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Person(&'static Pair),
    /// An animal, told from others of its kind by its colour.
    Animal(Option<&'static Pair>, &'static Animal),
    Thing(&'static Noun),
}

impl Who {
    /// `Tom`, `the black cat`, `the ball`.
    pub(crate) fn say(&self, language: Language) -> String {
        let (en, zh) = match self {
            Who::Person(name) => return name.say(language).into(),
            Who::Animal(None, animal) => (format!("the {}", animal.noun.en), animal.noun.zh.into()),
            Who::Animal(Some(colour), animal) => (
                format!("the {} {}", colour.en, animal.noun.en),
                format!("{}的{}", colour.zh, animal.noun.zh),
            ),
            Who::Thing(noun) => (format!("the {}", noun.en), noun.zh.into()),
        };
        either(language, en, zh)
    }
}

/// What one can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    /// `three apples`; the number is from 1 to 10.
    Counted(u32, &'static Noun),
    /// `a red ball`
    Coloured(&'static Pair, &'static Noun),
}

impl Thing {
    pub(crate) fn counted(draw: &mut Draw) -> Thing {
        Thing::Counted(draw.within(2..=10), draw.pick(FOODS))
    }

    pub(crate) fn coloured(draw: &mut Draw) -> Thing {
        Thing::Coloured(draw.pick(COLOURS), draw.pick(OBJECTS))
    }

    pub(crate) fn say(&self, language: Language) -> String {
        match (self, language) {
            (Thing::Counted(n, noun), _) => counted(*n, noun, language),
            (Thing::Coloured(colour, noun), Language::English) => {
                with_article(&format!("{} {}", colour.en, noun.en))
            }
            (Thing::Coloured(colour, noun), Language::Chinese) => {
                format!("一{}{}的{}", noun.measure, colour.zh, noun.zh)
            }
        }
    }
}

/// What is said of somebody or something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// is sleeping
    Doing(&'static Verb),
    /// is in the park
    At(&'static Place),
    /// goes to the park
    Goes(&'static Place),
    /// likes apples
    Likes(&'static Noun),
    /// wants to sleep
    Wants(&'static Verb),
    /// can swim
    Can(&'static Verb),
    /// has three apples
    Has(Thing),
    /// gives Anna a red ball
    Gives(&'static Pair, Thing),
    /// is happy
    Is(&'static Pair),
    /// is red
    Coloured(&'static Pair),
}

impl What {
    fn of_person(draw: &mut Draw) -> What {
        match draw.below(9) {
            0 => What::Doing(draw.pick(PERSON_VERBS)),
            1 => What::At(draw.pick(PLACES)),
            2 => What::Wants(draw.pick(PERSON_VERBS)),
            3 => What::Likes(draw.pick(FOODS)),
            4 => What::Goes(draw.pick(PLACES)),
            5 => What::Can(draw.pick(&PERSON_VERBS[4..12])),
            6 => What::Has(Thing::counted(draw)),
            7 => What::Has(Thing::coloured(draw)),
            _ => What::Is(draw.pick(PERSON_ADJECTIVES)),
        }
    }

    fn of_animal(draw: &mut Draw) -> What {
        match draw.below(3) {
            0 => What::Doing(draw.pick(&PERSON_VERBS[..4])),
            1 => What::Wants(draw.pick(&PERSON_VERBS[..4])),
            _ => What::At(draw.pick(&PLACES[..6])),
        }
    }

    fn of_thing(draw: &mut Draw) -> What {
        if draw.chance(0.5) {
            What::Coloured(draw.pick(COLOURS))
        } else {
            What::Is(draw.pick(THING_ADJECTIVES))
        }
    }

    /// The sentence without its subject.
    pub(crate) fn say(&self, language: Language) -> String {
        let (en, zh) = match self {
            What::Doing(verb) => (format!("is {}", verb.ing), format!("在{}", verb.zh)),
            What::At(place) => (format!("is {}", place.at.en), place.at.zh.into()),
            What::Goes(place) => (format!("goes {}", place.to.en), place.to.zh.into()),
            What::Likes(noun) => (format!("likes {}", noun.plural), format!("喜欢{}", noun.zh)),
            What::Wants(verb) => (format!("wants to {}", verb.base), format!("想{}", verb.zh)),
            What::Can(verb) => (format!("can {}", verb.base), format!("会{}", verb.zh)),
            What::Has(thing) => {
                let thing = thing.say(language);
                (format!("has {thing}"), format!("有{thing}"))
            }
            What::Gives(whom, thing) => {
                let thing = thing.say(language);
                (format!("gives {} {thing}", whom.en), format!("给{}{thing}", whom.zh))
            }
            What::Is(adjective) => (format!("is {}", adjective.en), format!("很{}", adjective.zh)),
            What::Coloured(colour) => (format!("is {}", colour.en), format!("是{}的", colour.zh)),
        };
        either(language, en, zh)
    }
}

/// A meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sentence {
    pub(crate) who: Who,
    pub(crate) what: What,
}

impl Sentence {
    /// Any that makes sense.
    pub(crate) fn any(draw: &mut Draw) -> Sentence {
        match draw.weighted(&[6, 3, 2]) {
            0 => Sentence { who: Who::Person(draw.pick(PEOPLE)), what: What::of_person(draw) },
            1 => {
                let colour = draw.chance(0.5).then(|| draw.pick(&COLOURS[4..8]));
                Sentence { who: Who::Animal(colour, draw.pick(ANIMALS)), what: What::of_animal(draw) }
            }
            _ => Sentence { who: Who::Thing(draw.pick(OBJECTS)), what: What::of_thing(draw) },
        }
    }

    /// The sentence, with its capital letter and full stop.
    pub(crate) fn say(&self, language: Language) -> String {
        let clause = self.clause(language);
        either(language, capital(&clause) + ".", clause + "。")
    }

    /// The sentence as a part of another.
    pub(crate) fn clause(&self, language: Language) -> String {
        let (who, what) = (self.who.say(language), self.what.say(language));
        who + either(language, " ", "") + &what
    }
}
