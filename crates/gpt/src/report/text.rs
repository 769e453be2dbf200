//! What a page says, in both of its languages.
//!
//! The one idea: a sentence exists only as a pair. [`Element::say`](super::html::Element::say) writes both halves,
//! the style sheet shows the one whose language the page has, and what belongs to no language (numbers, names,
//! what models write) enters as [`data`](super::html::Element::data). So nothing can be forgotten in one language.

/// A text in English and in Chinese.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The English one.
    pub en: String,
    /// The Chinese one, in simplified characters.
    pub zh: String,
}

/// A text in both languages.
pub(super) fn both(en: impl Into<String>, zh: impl Into<String>) -> Text {
    let text = Text { en: en.into(), zh: zh.into() };
    // Tests refuse halves of one language; what needs no translation is `alike`.
    assert!(!cfg!(test) || text.zh.contains(is_han), "{text:?} has no Chinese half");
    text
}

/// Whether it is a Chinese character.
pub(super) fn is_han(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}')
}

/// A name, symbol or figure that is the same in both.
pub(super) fn alike(name: impl Into<String>) -> Text {
    let en = name.into();
    Text { zh: en.clone(), en }
}

impl Text {
    /// This sentence and another one behind it.
    pub(super) fn then(mut self, next: Text) -> Text {
        if !self.en.is_empty() && !next.en.is_empty() {
            self.en.push(' ');
        }
        self.en += &next.en;
        self.zh += &next.zh;
        self
    }

    /// Whether both languages say the same.
    pub(super) fn is_alike(&self) -> bool {
        self.en == self.zh
    }
}
