//! Wordings: lists of templates with named slots, one list a language.

use super::draw::Draw;
use super::lesson::Language;

/// Ways to say the same thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phrases {
    pub(super) en: &'static [&'static str],
    pub(super) zh: &'static [&'static str],
}

impl Phrases {
    pub(super) fn of(&self, language: Language) -> &'static [&'static str] {
        match language {
            Language::English => self.en,
            Language::Chinese => self.zh,
        }
    }

    /// One of them at random, its slots `{name}` filled.
    pub(super) fn say(&self, draw: &mut Draw, language: Language, slots: &[(&str, &str)]) -> String {
        let template: &&str = draw.pick(self.of(language));
        fill(template, slots)
    }
}

/// `template` with every `{name}` replaced by the value of its slot, in one pass: values are not templates.
///
/// # Panics
/// A slot of the template has no value.
pub(super) fn fill(template: &str, slots: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').expect("a slot that ends");
        let value = slots.iter().find(|slot| slot.0 == name);
        text += before;
        text += value.unwrap_or_else(|| panic!("`{template}` has no value for {name}")).1;
        rest = after;
    }
    text + rest
}

/// The text of whichever language is spoken.
pub(super) fn either<T>(language: Language, en: T, zh: T) -> T {
    match language {
        Language::English => en,
        Language::Chinese => zh,
    }
}
