//! HTML and SVG elements that are well formed and escaped by construction: text enters only through
//! [`Element::say`], [`Element::data`] and [`Element::attr`].

use std::fmt::{self, Display, Write};

use super::text::Text;

/// Elements that have no contents and no end tag; in SVG, those that we never give any.
const VOID: [&str; 6] = ["circle", "input", "line", "meta", "path", "rect"];
/// The page's languages, as `lang` names them.
pub(super) const ENGLISH: &str = "en";
pub(super) const CHINESE: &str = "zh-CN";

/// An element with its attributes and contents.
pub(super) struct Element {
    name: &'static str,
    attributes: String,
    contents: String,
}

impl Element {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, attributes: String::new(), contents: String::new() }
    }

    /// An element of one class.
    pub(super) fn of(name: &'static str, class: &str) -> Self {
        Self::new(name).attr("class", class)
    }

    /// The only contents that are not escaped: our own style sheet and script.
    pub(super) fn verbatim(name: &'static str, contents: &'static str) -> Self {
        Self { name, attributes: String::new(), contents: contents.into() }
    }

    pub(super) fn attr(mut self, name: &str, value: impl Display) -> Self {
        let _ = write!(self.attributes, " {name}=\"");
        escape(&mut self.attributes, &value.to_string());
        self.attributes.push('"');
        self
    }

    /// A text in both languages, of which the style sheet shows one.
    pub(super) fn say(self, text: impl Into<Text>) -> Self {
        let text: Text = text.into();
        let name = if self.name == "text" { "tspan" } else { "span" };
        if text.is_alike() {
            return self.child(Element::new(name).data(text.en));
        }
        let half = |language: &str, half: String| {
            let mut half_of = Element::new(name).attr("lang", language);
            escape(&mut half_of.contents, &half);
            half_of
        };
        self.child(half(ENGLISH, text.en)).child(half(CHINESE, text.zh))
    }

    /// The whole contents, where they belong to no language: a number, a name, what somebody else wrote.
    pub(super) fn data(mut self, data: impl Display) -> Self {
        debug_assert!(self.contents.is_empty(), "data stands alone in its element");
        escape(&mut self.contents, &data.to_string());
        self.attr("translate", "no")
    }

    pub(super) fn child(mut self, child: Element) -> Self {
        let _ = write!(self.contents, "{child}");
        self
    }

    pub(super) fn children(self, children: impl IntoIterator<Item = Element>) -> Self {
        children.into_iter().fold(self, Element::child)
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, attributes, contents } = self;
        if VOID.contains(name) {
            assert!(contents.is_empty(), "<{name}> has no contents");
            write!(f, "<{name}{attributes}/>")
        } else {
            write!(f, "<{name}{attributes}>{contents}</{name}>")
        }
    }
}

/// Text as HTML. Characters that HTML forbids, and those that reorder what follows them, become visible
/// instead.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            // The pictures of the control characters, ␀ and so on, stand in the same order.
            '\0'..='\u{1f}' => out.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}')),
            '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// The page's section under a heading.
pub(super) fn section(heading: Text) -> Element {
    Element::new("section").child(Element::new("h2").say(heading))
}

/// A paragraph.
pub(super) fn paragraph(text: impl Into<Text>) -> Element {
    Element::new("p").say(text)
}

/// A paragraph that explains what stands above it.
pub(super) fn note(text: impl Into<Text>) -> Element {
    Element::of("p", "note").say(text)
}

/// A command, to be copied.
pub(super) fn command(words: impl Display) -> Element {
    Element::of("pre", "command").attr("tabindex", 0).child(Element::new("code").data(words))
}

/// A part of the page that is folded away.
pub(super) fn folded(summary: Text) -> Element {
    Element::of("details", "card").child(Element::new("summary").say(summary))
}
