//! The values of one column in one row group, a row at a time, each with the levels that say where in nested groups and
//! lists it stands (Melnik et al. 2010, §4).

use std::path::Path;

use parquet::basic::{ConvertedType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescriptor;
use serde_json::{Number, Value};

use super::pages::Pages;
use crate::corpus::caught::caught;
use crate::corpus::odd::odd;
use crate::corpus::read::MAX_RECORD_BYTES;
use crate::corpus::reason::Reason;

/// Whether a column holds one text (or nothing) in each row.
pub(super) fn is_text(column: &ColumnDescriptor) -> bool {
    column.max_rep_level() == 0 && column.physical_type() == Type::BYTE_ARRAY
}

/// Reads values.
pub(super) struct Column {
    reader: ColumnReader,
    converted: ConvertedType,
    /// Definition of what is not null, and repeated by nothing.
    full: i16,
    /// The values of the row at hand, last first.
    row: Vec<Level>,
    /// Bytes of the texts of that row.
    pub(super) text_bytes: usize,
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
            converted: description.converted_type(),
            full: description.max_def_level(),
            reader: get_column_reader(description, pages),
            row: Vec::new(),
            text_bytes: 0,
        })
    }

    /// Goes on to the next row; `false` after the last one.
    pub(super) fn next_row(&mut self) -> Result<bool> {
        let (converted, full) = (self.converted, self.full);
        let row = &mut self.row;
        row.clear();
        let more = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => read(reader, full, row, Value::from),
            ColumnReader::Int32ColumnReader(reader) => read(reader, full, row, |int| match converted {
                ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 => {
                    Value::from(int as u32)
                }
                _ => whole(converted, int.into()),
            }),
            ColumnReader::Int64ColumnReader(reader) => read(reader, full, row, |int| match converted {
                ConvertedType::UINT_64 => Value::from(int as u64),
                _ => whole(converted, int),
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
                    text(converted, value.data())
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
    caught(|| {
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

fn whole(converted: ConvertedType, int: i64) -> Value {
    use ConvertedType::{DATE, DECIMAL, TIME_MICROS, TIME_MILLIS, TIMESTAMP_MICROS, TIMESTAMP_MILLIS};
    match converted {
        DATE | TIME_MICROS | TIME_MILLIS | TIMESTAMP_MICROS | TIMESTAMP_MILLIS => {
            odd(Reason::WrongType, "is a date or a time", int.into())
        }
        DECIMAL => unread("a decimal number"),
        _ => int.into(),
    }
}

fn real(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None => odd(Reason::WrongType, format!("is {number}"), Value::Null),
    }
}

fn text(converted: ConvertedType, bytes: &[u8]) -> Value {
    if bytes.len() > MAX_RECORD_BYTES {
        return odd(Reason::LongRecord, format!("has {} bytes", bytes.len()), Value::Null);
    }
    match std::str::from_utf8(bytes) {
        _ if converted == ConvertedType::DECIMAL => unread("a decimal number"),
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
