//! Why something did not become a document.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why something did not become a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A symbolic link met in a directory; it is not followed.
    SymbolicLink,
    /// A file that matches no `--include`.
    NotIncluded,
    /// A file that matches an `--exclude`.
    Excluded,
    /// A kind of file that cannot be read yet: archives, office documents, images.
    UnsupportedKind,
    /// A file that could not be opened or read.
    Unreadable,
    /// A file with a NUL byte near its start.
    Binary,
    /// A file of records met in a directory without a text column: a configuration, a log, a table of
    /// numbers.
    NotRecords,
    /// A gzip file that is corrupt or ends early; what came before the damage is kept.
    DamagedGzip,
    /// A Zstandard file that is corrupt or ends early; what came before the damage is kept.
    DamagedZstd,
    /// A Parquet file that is corrupt or ends early; what came before the damage is kept.
    DamagedParquet,
    /// A file of records, or a table, without any.
    NoRecords,
    /// A table with a quote that opens and never closes: all that comes after it is in one cell.
    OpenQuote,
    /// A row of a table that is the first one again, which names the columns.
    RepeatedHeader,
    /// A row of a table with more or fewer cells than the first one, which names the columns.
    RaggedRow,
    /// A JSON record that ends early.
    TornJson,
    /// A JSON record that is not JSON, or whose text is a value that JSON has not, such as NaN.
    MalformedJson,
    /// A JSON record nested more than 127 deep.
    DeepJson,
    /// A JSON record that is not an object.
    NotAnObject,
    /// A record without the text column.
    MissingColumn,
    /// A record whose text column is not a string.
    WrongType,
    /// A record whose text is not UTF-8.
    RecordNotUtf8,
    /// A record longer than [`MAX_RECORD_BYTES`](super::MAX_RECORD_BYTES).
    LongRecord,
    /// A line without a JSON record.
    BlankLine,
    /// A text that is not UTF-8.
    NotUtf8,
    /// A text that contains a NUL.
    ContainsNul,
    /// A text of white space only.
    Empty,
    /// A record without a value in the column of a filter.
    NoFilterColumn,
    /// A record that a filter does not want.
    Filtered,
    /// A text with none of the keywords that were asked for.
    NoKeyword,
    /// Longer than 1 MB of source code, or than the whole sample.
    TooLong,
    /// Source code that says in its first lines that a program wrote it.
    Generated,
    /// Source code with a line of more than 1,000 characters.
    LongLine,
    /// Source code whose lines are longer than 100 characters on average.
    Minified,
    /// Less than a quarter of the characters are letters or digits.
    FewAlphanumeric,
    /// The same text came before.
    Duplicate,
    /// A text that resembles one that came before and was kept.
    NearDuplicate,
    /// Not drawn for the sample (`--max-bytes`).
    NotSampled,
}

impl Reason {
    /// Whether it makes a record a bad one, of which only a small share is tolerated.
    pub fn is_bad_record(self) -> bool {
        use Reason::*;
        matches!(
            self,
            DamagedGzip
                | DamagedZstd
                | DamagedParquet
                | OpenQuote
                | RaggedRow
                | TornJson
                | MalformedJson
                | DeepJson
                | NotAnObject
                | MissingColumn
                | WrongType
                | RecordNotUtf8
                | LongRecord
        )
    }

    /// Whether there was nothing that should have been a record.
    pub(super) fn is_no_record(self) -> bool {
        use Reason::*;
        matches!(self, BlankLine | NoRecords | NotRecords | RepeatedHeader)
    }

    /// Whether nothing more comes from a file, though it has not ended.
    pub(super) fn ends_a_file(self) -> bool {
        self.is_damage() || matches!(self, Reason::Unreadable | Reason::UnsupportedKind)
    }

    /// Whether a file was broken off for it, whose documents until then are kept.
    pub(super) fn is_damage(self) -> bool {
        matches!(self, Reason::DamagedGzip | Reason::DamagedZstd | Reason::DamagedParquet | Reason::OpenQuote)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Reason::*;
        f.write_str(match self {
            SymbolicLink => "symbolic link",
            NotIncluded => "matches no --include",
            Excluded => "matches an --exclude",
            UnsupportedKind => "unsupported kind of file",
            Unreadable => "cannot be read",
            Binary => "binary file",
            NotRecords => "no records with a text",
            DamagedGzip => "damaged gzip",
            DamagedZstd => "damaged zstd",
            DamagedParquet => "damaged Parquet",
            NoRecords => "no records in it",
            OpenQuote => "quote that is never closed",
            RepeatedHeader => "names of columns again",
            RaggedRow => "other cells than the first row",
            TornJson => "torn JSON",
            MalformedJson => "malformed JSON",
            DeepJson => "JSON nested too deep",
            NotAnObject => "JSON record is not an object",
            MissingColumn => "no text column",
            WrongType => "text column is not a string",
            RecordNotUtf8 => "record is not UTF-8",
            LongRecord => "record too long",
            BlankLine => "blank line",
            NotUtf8 => "not UTF-8",
            ContainsNul => "contains NUL",
            Empty => "empty",
            NoFilterColumn => "no value for --where",
            Filtered => "not wanted by --where",
            NoKeyword => "none of the keywords",
            TooLong => "too long",
            Generated => "generated by a program",
            LongLine => "over-long line",
            Minified => "minified",
            FewAlphanumeric => "too few letters and digits",
            Duplicate => "duplicate",
            NearDuplicate => "near duplicate",
            NotSampled => "not in the sample",
        })
    }
}

/// A reason and what exactly was wrong.
pub(super) type Verdict = (Reason, String);
