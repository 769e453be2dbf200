//! The small world that every lesson speaks about: people, animals, things, places, in English and Chinese.
//!
//! It is closed on purpose. A model of a few million parameters meets each word often enough to learn it, and
//! a sentence has exactly one translation, which makes answers checkable.

mod animals;
mod sentence;
mod words;

pub(super) use animals::{ANIMALS, Animal};
pub(super) use sentence::{PERSON_ADJECTIVES, PERSON_VERBS};
pub(super) use sentence::{Sentence, Thing, What, Who};
pub(super) use words::{CITIES, COLOURS, DAYS, FOODS, MONTHS, OBJECTS, PEOPLE, PLACES};
pub(super) use words::{Pair, capital, counted, with_article};

use super::draw::Draw;

/// An animal, a food, a thing or a colour.
pub(super) fn an_english_word(draw: &mut Draw) -> &'static str {
    match draw.below(4) {
        0 => draw.pick(ANIMALS).noun.en,
        1 => draw.pick(FOODS).en,
        2 => draw.pick(OBJECTS).en,
        _ => draw.pick(COLOURS).en,
    }
}
