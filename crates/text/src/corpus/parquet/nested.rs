//! Values of nested groups and lists, put together from the columns that hold their leaves.
//!
//! (Apache Parquet, `LogicalTypes.md`, lists and maps and their older forms. The library's own assembly of
//! rows reads its pages itself, and a text that is not UTF-8 ends it.)

use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, Repetition};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::column::Column;

/// A part of the schema; columns are counted among those that are read.
pub(super) struct Node {
    columns: Range<usize>,
    shape: Shape,
}

enum Shape {
    Leaf,
    Group(Vec<(String, Node)>),
    /// It is there where the definition is at least this.
    Optional(i16, Box<Node>),
    /// It has elements where the definition is at least this, and goes on where the repetition is just that.
    List(i16, i16, Box<Node>),
}

/// What is read of a schema: its tree with the columns that `is_read` names by their numbers, and these
/// numbers.
pub(super) fn tree(schema: &Type, is_read: impl Fn(usize) -> bool) -> (Node, Vec<usize>) {
    let mut builder = Builder { leaves: 0, read: Vec::new(), is_read };
    let group = builder.group(schema, 0, 0);
    (group, builder.read)
}

struct Builder<F> {
    /// Leaves of the schema that were met.
    leaves: usize,
    /// Those that are read.
    read: Vec<usize>,
    is_read: F,
}

impl<F: Fn(usize) -> bool> Builder<F> {
    /// A field, under so many levels.
    fn field(&mut self, field: &Type, definition: i16, repetition: i16) -> Node {
        match repetition_of(field) {
            Some(Repetition::OPTIONAL) => {
                let inner = self.content(field, definition + 1, repetition);
                node(inner, |inner| Shape::Optional(definition + 1, inner))
            }
            // Outside of a list's or map's own group: a list that is never null.
            Some(Repetition::REPEATED) => {
                let item = self.content(field, definition + 1, repetition + 1);
                node(item, |item| Shape::List(definition + 1, repetition + 1, item))
            }
            Some(Repetition::REQUIRED) | None => self.content(field, definition, repetition),
        }
    }

    /// A field that is there.
    fn content(&mut self, field: &Type, definition: i16, repetition: i16) -> Node {
        if field.is_primitive() {
            let start = self.read.len();
            if (self.is_read)(self.leaves) {
                self.read.push(self.leaves);
            }
            self.leaves += 1;
            return Node { columns: start..self.read.len(), shape: Shape::Leaf };
        }
        let info = field.get_basic_info();
        let is_list = matches!(info.logical_type_ref(), Some(LogicalType::List | LogicalType::Map))
            || matches!(
                info.converted_type(),
                ConvertedType::LIST | ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE
            );
        match field.get_fields() {
            [repeated] if is_list && repetition_of(repeated) == Some(Repetition::REPEATED) => {
                let (definition, repetition) = (definition + 1, repetition + 1);
                let item = match is_element(repeated) {
                    true => self.content(repeated, definition, repetition),
                    false => self.field(&repeated.get_fields()[0], definition, repetition),
                };
                node(item, |item| Shape::List(definition, repetition, item))
            }
            _ => self.group(field, definition, repetition),
        }
    }

    fn group(&mut self, group: &Type, definition: i16, repetition: i16) -> Node {
        let start = self.read.len();
        let mut fields = Vec::new();
        for field in group.get_fields() {
            let node = self.field(field, definition, repetition);
            if !node.columns.is_empty() {
                fields.push((field.name().to_string(), node));
            }
        }
        Node { columns: start..self.read.len(), shape: Shape::Group(fields) }
    }
}

fn repetition_of(field: &Type) -> Option<Repetition> {
    let info = field.get_basic_info();
    info.has_repetition().then(|| info.repetition())
}

fn node(inner: Node, shape: impl FnOnce(Box<Node>) -> Shape) -> Node {
    Node { columns: inner.columns.clone(), shape: shape(Box::new(inner)) }
}

/// Whether the repeated child of a list is its element, rather than a group around the element.
fn is_element(repeated: &Type) -> bool {
    if repeated.is_primitive() {
        return true;
    }
    let name = repeated.name();
    match repeated.get_fields() {
        [only] => {
            let is_repeated = repetition_of(only) == Some(Repetition::REPEATED);
            !is_repeated && (name == "array" || name.ends_with("_tuple"))
        }
        _ => true,
    }
}

impl Node {
    /// The value of the row at hand of all columns.
    pub(super) fn value(&self, columns: &mut [Column]) -> Result<Value> {
        Ok(match &self.shape {
            Shape::Leaf => columns[self.columns.start].take().ok_or_else(unfit)?,
            Shape::Group(fields) => {
                let value = |(name, node): &(String, Node)| Ok((name.clone(), node.value(columns)?));
                Value::Object(fields.iter().map(value).collect::<Result<Map<_, _>>>()?)
            }
            &Shape::Optional(definition, ref inner) => match self.is_defined(definition, columns)? {
                true => inner.value(columns)?,
                false => Value::Null,
            },
            &Shape::List(definition, repetition, ref item) => {
                let mut items = Vec::new();
                if self.is_defined(definition, columns)? {
                    items.push(item.value(columns)?);
                    let goes_on =
                        |columns: &[Column]| columns[self.columns.start].peek().map(|level| level.repetition);
                    while goes_on(columns) == Some(repetition) {
                        items.push(item.value(columns)?);
                    }
                }
                Value::Array(items)
            }
        })
    }

    /// Whether there is something; where there is nothing, the levels that say so are taken.
    fn is_defined(&self, definition: i16, columns: &mut [Column]) -> Result<bool> {
        let first = columns[self.columns.start].peek().ok_or_else(unfit)?;
        if first.definition >= definition {
            return Ok(true);
        }
        columns[self.columns.clone()]
            .iter_mut()
            .try_for_each(|column| column.take().map(drop).ok_or_else(unfit))?;
        Ok(false)
    }
}

fn unfit() -> ParquetError {
    ParquetError::General("the columns of a group have other numbers of values".into())
}
