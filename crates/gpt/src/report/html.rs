//! HTML and SVG elements that are well formed and escaped by construction: text enters only through
//! [`Element::text`] and [`Element::attr`].

use std::fmt::{self, Display, Write};

/// Elements that have no contents and no end tag; in SVG, those that we never give any.
const VOID: [&str; 6] = ["circle", "input", "line", "meta", "path", "rect"];

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

    /// The only contents that are not escaped: our own style sheet.
    pub(super) fn style(css: &'static str) -> Self {
        Self { name: "style", attributes: String::new(), contents: css.into() }
    }

    pub(super) fn attr(mut self, name: &str, value: impl Display) -> Self {
        let _ = write!(self.attributes, " {name}=\"");
        escape(&mut self.attributes, &value.to_string());
        self.attributes.push('"');
        self
    }

    pub(super) fn text(mut self, text: impl Display) -> Self {
        escape(&mut self.contents, &text.to_string());
        self
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

/// A table: the heads of the columns and the cells of each row. Columns from the second on are numbers.
pub(super) fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<Element>>) -> Element {
    let head = Element::new("tr").children(heads.iter().map(|head| Element::new("th").text(head)));
    let rows = rows.into_iter().map(|cells| Element::new("tr").children(cells));
    let table = Element::new("table")
        .child(Element::new("thead").child(head))
        .child(Element::new("tbody").children(rows));
    Element::of("div", "scroll").child(table)
}

/// A cell of plain text.
pub(super) fn cell(text: impl Display) -> Element {
    Element::new("td").text(text)
}
