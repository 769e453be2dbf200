//! How a file is packed, and how it is cut into records.

/// How the bytes of a file are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
}

/// How a file is cut into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// JSON, one object a line.
    Lines,
    /// JSON: an array of objects, or objects one after the other.
    Json,
    /// Text with a separator between cells (RFC 4180): the first row names the columns.
    Table(u8),
    /// Parquet: rows with named columns.
    Parquet,
    /// Source code: the file is one document.
    Code,
    /// Text: cut at paragraphs.
    Prose,
}

impl Kind {
    /// Whether it is cut into records with columns.
    pub(super) fn has_records(self) -> bool {
        match self {
            Kind::Lines | Kind::Json | Kind::Table(_) | Kind::Parquet => true,
            Kind::Code | Kind::Prose => false,
        }
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) packing: Packing,
    pub(super) kind: Kind,
}

impl From<Form> for (Packing, Kind) {
    fn from(form: Form) -> Self {
        (form.packing, form.kind)
    }
}
