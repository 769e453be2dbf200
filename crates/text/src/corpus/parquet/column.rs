//! The values of one column in one row group, a row at a time, each with the levels that say where in nested
//! groups and lists it stands (Melnik et al. 2010, §4).

use std::path::Path;

use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescriptor;
use serde_json::{Number, Value};

use super::pages::Pages;
use crate::corpus::catch::catch_decoder_panic;
use crate::corpus::odd::odd;
use crate::corpus::raw::MAX_RECORD_BYTES;
use crate::corpus::reason::Reason;

/// Whether a column holds one text (or nothing) in each row.
pub(super) fn is_text(column: &ColumnDescriptor) -> bool {
    column.max_rep_level() == 0 && column.physical_type() == Type::BYTE_ARRAY
}

/// Reads values.
pub(super) struct Column {
    reader: ColumnReader,
    meaning: Meaning,
    /// Definition of what is not null, and repeated by nothing.
    full: i16,
    /// The values of the row at hand, last first.
    row: Vec<Level>,
    /// Bytes of the texts of that row.
    pub(super) text_bytes: usize,
}

/// What numbers and bytes stand for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Plain,
    Unsigned,
    Time,
    Decimal,
}

impl Meaning {
    /// Files say it in an older way, a newer one or both.
    fn of(column: &ColumnDescriptor) -> Meaning {
        use ConvertedType as Old;
        use LogicalType as New;
        match (column.logical_type_ref(), column.converted_type()) {
            (Some(New::Date | New::Time(_) | New::Timestamp(_)), _) => Meaning::Time,
            (_, Old::DATE | Old::TIME_MILLIS | Old::TIME_MICROS) => Meaning::Time,
            (_, Old::TIMESTAMP_MILLIS | Old::TIMESTAMP_MICROS) => Meaning::Time,
            (Some(New::Decimal(_)), _) | (_, Old::DECIMAL) => Meaning::Decimal,
            (Some(New::Integer(int)), _) if !int.is_signed => Meaning::Unsigned,
            (_, Old::UINT_8 | Old::UINT_16 | Old::UINT_32 | Old::UINT_64) => Meaning::Unsigned,
            _ => Meaning::Plain,
        }
    }
}

/// A value, or that there is none, and where.
pub(super) struct Level {
    /// How many of the lists around it go on from the value before.
    pub(super) repetition: i16,
    /// How many of what may be missing around it is there.
    pub(super) definition: i16,
    value: Value,
}

impl Column {
    pub(super) fn open(path: &Path, file_bytes: u64, column: &ColumnChunkMetaData) -> Result<Column> {
        let description = column.column_descr_ptr();
        let least_bytes = match column.column_type() {
            Type::BYTE_ARRAY | Type::INT32 | Type::FLOAT => 4,
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::FIXED_LEN_BYTE_ARRAY => description.type_length().max(1) as usize,
            Type::BOOLEAN => 1,
        };
        let pages = Box::new(Pages::open(path, file_bytes, column, least_bytes)?);
        Ok(Column {
            meaning: Meaning::of(&description),
            full: description.max_def_level(),
            reader: get_column_reader(description, pages),
            row: Vec::new(),
            text_bytes: 0,
        })
    }

    /// Goes on to the next row; `false` after the last one.
    pub(super) fn next_row(&mut self) -> Result<bool> {
        let (meaning, full) = (self.meaning, self.full);
        let row = &mut self.row;
        row.clear();
        let more = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => read(reader, full, row, Value::from),
            ColumnReader::Int32ColumnReader(reader) => read(reader, full, row, |int| match meaning {
                Meaning::Unsigned => Value::from(int as u32),
                _ => whole(meaning, int.into()),
            }),
            ColumnReader::Int64ColumnReader(reader) => read(reader, full, row, |int| match meaning {
                Meaning::Unsigned => Value::from(int as u64),
                _ => whole(meaning, int),
            }),
            // The shortest digits that mean this number, rather than those of the `f64` beside it.
            ColumnReader::FloatColumnReader(reader) => {
                read(reader, full, row, |float| real(float.to_string().parse().unwrap_or(f64::from(float))))
            }
            ColumnReader::DoubleColumnReader(reader) => read(reader, full, row, real),
            ColumnReader::ByteArrayColumnReader(reader) => {
                let mut bytes = 0;
                let more = read(reader, full, row, |value: ByteArray| {
                    bytes += value.len();
                    text(meaning, value.data())
                });
                self.text_bytes = bytes;
                more
            }
            ColumnReader::Int96ColumnReader(reader) => read(reader, full, row, |_| unread("a time")),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                read(reader, full, row, |_| unread("bytes of a fixed number"))
            }
        }?;
        row.reverse();
        Ok(more)
    }

    /// The levels of the next value of the row at hand.
    pub(super) fn peek(&self) -> Option<&Level> {
        self.row.last()
    }

    /// The next value of the row at hand.
    pub(super) fn take(&mut self) -> Option<Value> {
        self.row.pop().map(|level| level.value)
    }
}

/// Reads one row; `false` after the last one.
fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    full: i16,
    row: &mut Vec<Level>,
    mut convert: impl FnMut(T::T) -> Value,
) -> Result<bool> {
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    catch_decoder_panic(|| {
        let levels = (Some(&mut definitions), Some(&mut repetitions));
        let (rows, ..) = reader.read_records(1, levels.0, levels.1, &mut values)?;
        // What is never missing has no levels.
        let count = if full == 0 { values.len() } else { definitions.len() };
        let mut values = values.into_iter();
        for i in 0..count {
            let definition = definitions.get(i).copied().unwrap_or(full);
            let value = if definition == full { values.next().map(&mut convert) } else { None };
            let repetition = repetitions.get(i).copied().unwrap_or(0);
            row.push(Level { repetition, definition, value: value.unwrap_or(Value::Null) });
        }
        Ok(rows == 1)
    })
}

fn whole(meaning: Meaning, int: i64) -> Value {
    match meaning {
        Meaning::Time => odd(Reason::WrongType, "is a date or a time", int.into()),
        Meaning::Decimal => unread("a decimal number"),
        Meaning::Plain | Meaning::Unsigned => int.into(),
    }
}

fn real(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None => odd(Reason::WrongType, format!("is {number}"), Value::Null),
    }
}

fn text(meaning: Meaning, bytes: &[u8]) -> Value {
    if bytes.len() > MAX_RECORD_BYTES {
        return odd(Reason::LongRecord, format!("has {} bytes", bytes.len()), Value::Null);
    }
    match std::str::from_utf8(bytes) {
        _ if meaning == Meaning::Decimal => unread("a decimal number"),
        Ok(text) => text.into(),
        Err(e) => {
            let what = format!("is not UTF-8 at byte {}", e.valid_up_to());
            odd(Reason::RecordNotUtf8, what, Value::Null)
        }
    }
}

/// A value of a type that no reader of rows has a use for.
fn unread(what: &str) -> Value {
    odd(Reason::WrongType, format!("is {what}"), Value::Null)
}
