//! What a GGUF file says about its model: entries of a key and a value, which stay where they lie in the
//! file's head and are understood when they are asked for.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    /// In the order of their numbers in the file.
    const ALL: [Kind; 13] = [
        Kind::U8,
        Kind::I8,
        Kind::U16,
        Kind::I16,
        Kind::U32,
        Kind::I32,
        Kind::F32,
        Kind::Bool,
        Kind::String,
        Kind::Array,
        Kind::U64,
        Kind::I64,
        Kind::F64,
    ];

    pub(super) fn of(number: u32) -> Option<Kind> {
        Kind::ALL.get(number as usize).copied()
    }

    pub(super) fn number(self) -> u32 {
        Kind::ALL.iter().position(|kind| *kind == self).expect("all are there") as u32
    }

    fn is_integer(self) -> bool {
        !matches!(self, Kind::F32 | Kind::F64 | Kind::Bool | Kind::String | Kind::Array)
    }

    /// Bytes of a value; none for those whose length stands before them.
    pub(super) fn byte_len(self) -> Option<u64> {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => Some(1),
            Kind::U16 | Kind::I16 => Some(2),
            Kind::U32 | Kind::I32 | Kind::F32 => Some(4),
            Kind::U64 | Kind::I64 | Kind::F64 => Some(8),
            Kind::String | Kind::Array => None,
        }
    }
}

/// Where a value lies in the head.
pub(super) struct Value {
    /// Its type, or that of its elements.
    pub(super) kind: Kind,
    /// Of an array: how many elements.
    pub(super) count: Option<u64>,
    /// The bytes of a number, of a string, or of all elements with their lengths.
    pub(super) bytes: Range<usize>,
}

/// The entries of a file.
pub(in super::super) struct Metadata {
    head: Vec<u8>,
    values: BTreeMap<String, Value>,
}

impl Metadata {
    pub(super) fn new(head: Vec<u8>, values: BTreeMap<String, Value>) -> Self {
        Metadata { head, values }
    }

    /// Every key, sorted.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// A whole number from 0 up.
    pub(super) fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        let Some((kind, bytes)) = self.single(key)? else { return Ok(None) };
        let number =
            integer(kind, bytes).with_context(|| format!("{key} is {kind:?}, not a whole number"))?;
        let number = u64::try_from(number).with_context(|| format!("{key} is {number}"))?;
        Ok(Some(number))
    }

    /// One whole number or a list of them; none where there is no such entry.
    pub(in super::super) fn whole_numbers(&self, key: &str) -> Result<Vec<i128>> {
        match self.values.get(key) {
            None => Ok(Vec::new()),
            Some(value) if value.count.is_some() => Ok(self.integers(key)?.into_iter().flatten().collect()),
            Some(_) => Ok(self.unsigned(key)?.map(i128::from).into_iter().collect()),
        }
    }

    /// A size: a whole number that an index can be.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>> {
        let number = self.unsigned(key)?.map(usize::try_from).transpose();
        number.with_context(|| format!("{key} is beyond any model"))
    }

    /// A number with a fraction. One of 32 bits is the decimal number of fewest digits that it stands for.
    pub(super) fn float(&self, key: &str) -> Result<Option<f64>> {
        let Some((kind, bytes)) = self.single(key)? else { return Ok(None) };
        let value: f64 = match kind {
            Kind::F32 => shortest(bytemuck::pod_read_unaligned(bytes)),
            Kind::F64 => bytemuck::pod_read_unaligned(bytes),
            _ => bail!("{key} is {kind:?}, not a number with a fraction"),
        };
        ensure!(value.is_finite(), "{key} is {value}: the file is damaged");
        Ok(Some(value))
    }

    /// Yes or no.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some((kind, bytes)) = self.single(key)? else { return Ok(None) };
        ensure!(kind == Kind::Bool && bytes[0] <= 1, "{key} is {kind:?} {bytes:?}, neither yes nor no");
        Ok(Some(bytes[0] == 1))
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        let Some((kind, bytes)) = self.single(key)? else { return Ok(None) };
        ensure!(kind == Kind::String, "{key} is {kind:?}, not a text");
        Ok(Some(std::str::from_utf8(bytes).with_context(|| format!("{key} is not UTF-8"))?))
    }

    /// An array of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.array(key, |kind| kind == Kind::String, "texts")? else { return Ok(None) };
        let mut rest = &self.head[value.bytes.clone()];
        let mut texts = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk() {
            let (text, after) = after.split_at(u64::from_le_bytes(*length) as usize);
            let index = texts.len();
            texts.push(
                std::str::from_utf8(text).with_context(|| format!("{key}: number {index} is not UTF-8"))?,
            );
            rest = after;
        }
        Ok(Some(texts))
    }

    /// An array of whole numbers.
    pub(super) fn integers(&self, key: &str) -> Result<Option<impl ExactSizeIterator<Item = i128>>> {
        let Some(value) = self.array(key, Kind::is_integer, "whole numbers")? else { return Ok(None) };
        let each = value.kind.byte_len().expect("a whole number has a length") as usize;
        let elements = self.head[value.bytes.clone()].chunks_exact(each);
        Ok(Some(elements.map(|bytes| integer(value.kind, bytes).expect("its type was checked"))))
    }

    fn single(&self, key: &str) -> Result<Option<(Kind, &[u8])>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        ensure!(value.count.is_none(), "{key} is an array, not a single value");
        Ok(Some((value.kind, &self.head[value.bytes.clone()])))
    }

    fn array(&self, key: &str, fits: impl Fn(Kind) -> bool, what: &str) -> Result<Option<&Value>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        ensure!(
            value.count.is_some() && fits(value.kind),
            "{key} is {:?}, not an array of {what}",
            value.kind
        );
        Ok(Some(value))
    }
}

fn integer(kind: Kind, bytes: &[u8]) -> Option<i128> {
    Some(match kind {
        Kind::U8 => bytemuck::pod_read_unaligned::<u8>(bytes).into(),
        Kind::I8 => bytemuck::pod_read_unaligned::<i8>(bytes).into(),
        Kind::U16 => bytemuck::pod_read_unaligned::<u16>(bytes).into(),
        Kind::I16 => bytemuck::pod_read_unaligned::<i16>(bytes).into(),
        Kind::U32 => bytemuck::pod_read_unaligned::<u32>(bytes).into(),
        Kind::I32 => bytemuck::pod_read_unaligned::<i32>(bytes).into(),
        Kind::U64 => bytemuck::pod_read_unaligned::<u64>(bytes).into(),
        Kind::I64 => bytemuck::pod_read_unaligned::<i64>(bytes).into(),
        Kind::F32 | Kind::F64 | Kind::Bool | Kind::String | Kind::Array => return None,
    })
}

/// 0.00001 and not 0.000009999999747378752.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}
