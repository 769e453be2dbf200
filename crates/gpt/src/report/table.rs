//! Tables: on wide pages rows and columns, on narrow ones every row a card whose cells carry the names of
//! their columns, so that no figure is broken over lines and nothing has to be scrolled.

use super::html::Element;
use super::text::Text;

/// A table: what it shows, the heads of its columns, and its rows, whose first cells name them.
pub(super) struct Table {
    caption: Text,
    heads: Vec<Text>,
    bodies: Vec<Element>,
    class: &'static str,
}

impl Table {
    pub(super) fn new(caption: Text, heads: impl IntoIterator<Item = Text>) -> Table {
        Table { caption, heads: heads.into_iter().collect(), bodies: Vec::new(), class: "plain" }
    }

    /// The same with a class for the style sheet.
    pub(super) fn class(self, class: &'static str) -> Table {
        Table { class, ..self }
    }

    /// A group of rows, each with what stands in its cells, one for every column.
    pub(super) fn rows(mut self, rows: impl IntoIterator<Item = Vec<Element>>) -> Table {
        let rows: Vec<Element> = rows.into_iter().map(|cells| self.row(cells)).collect();
        self.bodies.push(Element::new("tbody").children(rows));
        self
    }

    fn row(&self, cells: Vec<Element>) -> Element {
        assert_eq!(cells.len(), self.heads.len(), "a cell for every column");
        let cell = |(i, value): (usize, Element)| {
            let cell = match i {
                0 => return Element::new("th").attr("scope", "row").child(value),
                _ => Element::new("td"),
            };
            // Narrow pages show the head beside the value; whoever listens has it from the head itself.
            let label = Element::of("span", "label").attr("aria-hidden", true).say(self.heads[i].clone());
            cell.child(label).child(value)
        };
        Element::new("tr").children(cells.into_iter().enumerate().map(cell))
    }

    pub(super) fn build(self) -> Element {
        let head = |text: &Text| match text.en.is_empty() {
            true => Element::new("td"),
            false => Element::new("th").attr("scope", "col").say(text.clone()),
        };
        let heads = Element::new("tr").children(self.heads.iter().map(head));
        let table = Element::of("table", self.class)
            .child(Element::new("caption").say(self.caption))
            .child(Element::new("thead").child(heads))
            .children(self.bodies);
        // Whoever has no pointer scrolls with the keyboard.
        Element::of("div", "scroll").attr("tabindex", 0).child(table)
    }
}

/// What stands in a cell of data.
pub(super) fn cell(data: impl std::fmt::Display) -> Element {
    Element::of("div", "value").data(data)
}

/// What stands in a cell that says something.
pub(super) fn said(text: impl Into<Text>) -> Element {
    Element::of("div", "value").say(text)
}
