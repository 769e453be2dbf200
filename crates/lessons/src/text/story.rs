//! Short stories: a plot whose people, places and things are drawn.

use super::super::draw::Draw;
use super::super::lesson::Language;
use super::super::phrase::either;
use super::super::world::{ANIMALS, COLOURS, DAYS, FOODS, OBJECTS, PEOPLE, PERSON_VERBS, PLACES};
use super::super::world::{Sentence, Thing, counted};
use super::plots::{PLOTS, Step};

/// A story, or a handful of simple sentences.
pub(super) fn story(draw: &mut Draw, language: Language) -> String {
    let space = either(language, " ", "");
    if draw.chance(0.15) {
        let sentences: Vec<String> =
            (0..draw.within(4..=8)).map(|_| Sentence::any(draw).say(language)).collect();
        return sentences.join(space);
    }
    let plot = *draw.pick(PLOTS);
    let cast = cast(draw, language);
    let slots: Vec<(&str, &str)> = cast.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut told = Vec::new();
    for step in plot {
        match step {
            Step::Always(phrases) => told.push(phrases.say(draw, language, &slots)),
            Step::Perhaps(phrases) if draw.chance(0.5) => told.push(phrases.say(draw, language, &slots)),
            Step::Perhaps(_) => {}
        }
    }
    told.join(space)
}

/// Who and what takes part: the values of every slot that plots have.
fn cast(draw: &mut Draw, language: Language) -> Vec<(&'static str, String)> {
    let [a, b, c] = draw.several(PEOPLE).map(|name| name.say(language));
    let places: [_; 3] = draw.several(&PLACES[..7]);
    let [at, at2, _] = places.map(|place| place.at.say(language));
    let [to, to2, to3] = places.map(|place| place.to.say(language));
    let [colour, colour2] = draw.several(COLOURS);
    let [object, object2] = draw.several(OBJECTS);
    let [food, food2] = draw.several(FOODS);
    let animal = draw.pick(ANIMALS);
    let verb = draw.pick(&PERSON_VERBS[4..12]);
    let verb2 = draw.pick(&PERSON_VERBS[..4]);
    let from = draw.below(DAYS.len());
    let day = |steps: usize| DAYS[(from + steps) % DAYS.len()].say(language).to_string();
    let coloured = |object| Thing::Coloured(colour, object).say(language);
    let own: [(&'static str, &'static str); 15] = [
        ("a", a),
        ("b", b),
        ("c", c),
        ("at", at),
        ("at2", at2),
        ("to", to),
        ("to2", to2),
        ("to3", to3),
        ("colour", colour.say(language)),
        ("object", either(language, object.en, object.zh)),
        ("foods", either(language, food.plural, food.zh)),
        ("foods2", either(language, food2.plural, food2.zh)),
        ("animal", either(language, animal.noun.en, animal.noun.zh)),
        ("eats", animal.eats.say(language)),
        ("verb", either(language, verb.base, verb.zh)),
    ];
    let mut cast: Vec<(&str, String)> = own.map(|(name, value)| (name, value.into())).into();
    cast.extend([
        ("verbing", either(language, verb.ing, verb.zh).into()),
        ("verb2ing", either(language, verb2.ing, verb2.zh).into()),
        ("thing", coloured(object)),
        ("thing2", Thing::Coloured(colour2, object2).say(language)),
        ("number", counted(draw.within(3..=10), food, language)),
        ("few", counted(2, food, language)),
        ("day", day(0)),
        ("day2", day(1)),
        ("day3", day(2)),
    ]);
    cast
}
