//! One file of JSON records as it is, for readers that make something else than documents of them. Unpacking, cutting and the
//! names of what can be wrong are the corpus's.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

use super::files::Input;
use super::kind::{Form, Kind};
use super::read::{self, Payload};
use super::record::{Wanted, parse};
use super::{Options, Reason};
use crate::progress::Progress;

/// A record, not parsed, or why there is none, and what exactly was wrong.
pub(crate) type JsonRecord = Result<Vec<u8>, (Reason, String)>;

/// Reads the records of `path`, objects line by line or in one array, packed by gzip or zstd or not; `emit` hears each with
/// its line, and ends the reading with `false`. The `progress` advances by bytes on disk.
///
/// # Errors
/// The file cannot be read to its end; it is no file of JSON.
pub(crate) fn json_records(
    path: &Path,
    progress: &dyn Progress,
    emit: &mut dyn FnMut(u64, JsonRecord) -> bool,
) -> Result<()> {
    let metadata = path.metadata();
    let metadata = metadata.with_context(|| format!("cannot read {}: check the path", path.display()))?;
    ensure!(metadata.is_file(), "{} is not a file: give one file of JSON lines", path.display());
    let not_json = || anyhow!("{} is not a file of JSON lines", path.display());
    let mut form = Form::of(path).map_err(|_| not_json())?;
    form.kind = match form.kind {
        Kind::Parquet => bail!(not_json()),
        Kind::Json => Kind::Json,
        // Whatever its name says.
        Kind::Lines | Kind::Code | Kind::Prose => Kind::Lines,
    };
    let input = Input::new(path.to_owned(), path, metadata.len(), true, form);
    let options = Options::default();
    let mut broken = None;
    read::read(&Arc::new(input), &Wanted::new(&options), progress, &mut |raw| match raw.payload {
        Payload::Json(json) => emit(raw.line, Ok(json)),
        Payload::Dropped(reason, detail) if reason.ends_a_file() => {
            broken = Some((raw.line, reason, detail));
            false
        }
        Payload::Dropped(reason, detail) => emit(raw.line, Err((reason, detail))),
        Payload::Record(_) | Payload::Text(_) => unreachable!("the file is read as JSON"),
    });
    match broken {
        None => Ok(()),
        Some((line, reason, detail)) => bail!("{}:{line}: {reason}: {detail}", path.display()),
    }
}

/// Parses a JSON object.
pub(crate) fn parse_record(json: &[u8]) -> Result<Map<String, Value>, (Reason, String)> {
    parse(json)
}
