//! The values of one column in one row group, a row at a time.

use std::path::Path;

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescriptor;
use serde_json::Value;

use super::pages::Pages;
use crate::corpus::caught::caught;
use crate::corpus::clean::Verdict;
use crate::corpus::read::MAX_RECORD_BYTES;
use crate::corpus::reason::Reason;

/// Whether a column holds one text (or nothing) in each row.
pub(super) fn is_text(column: &ColumnDescriptor) -> bool {
    column.max_rep_level() == 0 && column.physical_type() == Type::BYTE_ARRAY
}

/// Whether a column can be compared with words: texts, integers and truth values, or lists of them.
pub(super) fn is_plain(column: &ColumnDescriptor) -> bool {
    let plain =
        matches!(column.physical_type(), Type::BYTE_ARRAY | Type::INT32 | Type::INT64 | Type::BOOLEAN);
    column.max_rep_level() <= 1 && plain
}

/// Reads values.
pub(super) struct Column {
    pub(super) name: String,
    reader: ColumnReader,
    is_list: bool,
}

impl Column {
    pub(super) fn open(
        name: &str,
        path: &Path,
        file_bytes: u64,
        column: &ColumnChunkMetaData,
    ) -> Result<Column> {
        let least_bytes = match column.column_type() {
            Type::BYTE_ARRAY | Type::INT32 => 4,
            Type::INT64 => 8,
            _ => 1,
        };
        let pages = Box::new(Pages::open(path, file_bytes, column, least_bytes)?);
        let description = column.column_descr_ptr();
        let is_list = description.max_rep_level() > 0;
        Ok(Column { name: name.into(), is_list, reader: get_column_reader(description, pages) })
    }

    /// The value of the next row, or what is wrong with it; `None` after the last one.
    pub(super) fn next(&mut self) -> Result<Option<Judged>> {
        let values = match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => row(reader, |bytes| text(&bytes))?,
            ColumnReader::Int32ColumnReader(reader) => row(reader, |int| Ok(int.into()))?,
            ColumnReader::Int64ColumnReader(reader) => row(reader, |int| Ok(int.into()))?,
            ColumnReader::BoolColumnReader(reader) => row(reader, |truth| Ok(truth.into()))?,
            _ => None,
        };
        let single = |mut values: Vec<Value>| values.pop().unwrap_or(Value::Null);
        Ok(values.map(|values| values.map(if self.is_list { Value::Array } else { single })))
    }
}

/// A value, or why a row has none.
type Judged = std::result::Result<Value, Verdict>;

/// The values of one row: at most one, or those of a list.
fn row<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    convert: impl Fn(T::T) -> Judged,
) -> Result<Option<std::result::Result<Vec<Value>, Verdict>>> {
    let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
    caught(|| {
        let levels = (Some(&mut definition), Some(&mut repetition));
        let (rows, ..) = reader.read_records(1, levels.0, levels.1, &mut values)?;
        Ok((rows == 1).then(|| values.into_iter().map(convert).collect()))
    })
}

fn text(bytes: &ByteArray) -> Judged {
    let bytes = bytes.data();
    if bytes.len() > MAX_RECORD_BYTES {
        return Err((Reason::LongRecord, format!("{} bytes", bytes.len())));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(e) => Err((Reason::RecordNotUtf8, format!("byte {} of the value", e.valid_up_to()))),
    }
}
