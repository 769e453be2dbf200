//! Other names for the columns of a file: `--fields prompt=instruction,completion=output`.
//!
//! A record gets the names that its readers know before anything is read from it, so that no reader knows of
//! others.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail, ensure};

use super::rows::{Fault, Lines, Record, read_rows};
use crate::progress::Progress;

/// How many columns are named where one is not there.
const NAMED: usize = 20;

/// Which column is read as which field.
#[derive(Debug, Default)]
pub struct Columns {
    /// Field, column, and whether a record had the column.
    pairs: Vec<(String, String, AtomicBool)>,
    /// Columns that there are.
    there: Mutex<BTreeSet<String>>,
}

impl Columns {
    /// The `pairs` of field and column, for records of the `known` fields.
    ///
    /// # Errors
    /// A field is not known, or has two columns.
    pub fn new(pairs: &[(String, String)], known: &[&str]) -> Result<Columns> {
        for (number, (field, _)) in pairs.iter().enumerate() {
            if !known.contains(&field.as_str()) {
                let turned = pairs
                    .iter()
                    .any(|(field, column)| field == &pairs[number].0 && known.contains(&column.as_str()));
                let column = &pairs[number].1;
                ensure!(!turned, "{field:?} is no field, but {column:?} is: turned round, {column}={field}");
                bail!("there is no field {field:?} to read here: it is one of {}", known.join(", "));
            }
            if pairs[..number].iter().any(|(other, _)| other == field) {
                bail!("two columns for the field {field}");
            }
        }
        let pair =
            |(field, column): &(String, String)| (field.clone(), column.clone(), AtomicBool::new(false));
        Ok(Columns { pairs: pairs.iter().map(pair).collect(), there: Mutex::default() })
    }

    /// The record with the names of the fields. A column takes the place of one that has the field's own
    /// name.
    pub fn named(&self, mut record: Record) -> Record {
        if self.pairs.is_empty() {
            return record;
        }
        let taken: Vec<_> = self.pairs.iter().map(|(_, column, _)| record.get(column).cloned()).collect();
        if taken.contains(&None)
            && let Ok(mut there) = self.there.lock()
        {
            let new = record.keys().filter(|name| !there.contains(*name)).cloned().collect::<Vec<_>>();
            let room = NAMED.saturating_sub(there.len());
            there.extend(new.into_iter().take(room));
        }
        for ((_, column, seen), value) in self.pairs.iter().zip(&taken) {
            if value.is_some() {
                seen.store(true, Ordering::Relaxed);
                record.shift_remove(column);
            }
        }
        for ((field, ..), value) in self.pairs.iter().zip(taken) {
            if let Some(value) = value {
                record.insert(field.clone(), value);
            }
        }
        record
    }

    /// Reads a file as [`read_rows`] does, by these names.
    ///
    /// # Errors
    /// Those of [`read_rows`]; where a column is in no row, that is said instead.
    pub fn read<T: Send>(
        &self,
        path: &Path,
        max_bad: f64,
        progress: &dyn Progress,
        row: impl Fn(Record) -> Result<T, Fault> + Sync,
    ) -> Result<Lines<T>> {
        let lines = read_rows(path, max_bad, progress, |record| row(self.named(record)));
        lines.or_else(|error| self.check().and(Err(error)))
    }

    /// # Errors
    /// A column is in none of the rows that were read so far.
    pub fn check(&self) -> Result<()> {
        let missing = self.pairs.iter().find(|(.., seen)| !seen.load(Ordering::Relaxed));
        let there =
            self.there.lock().map(|there| there.iter().cloned().collect::<Vec<_>>()).unwrap_or_default();
        match missing {
            Some((field, column, _)) if !there.is_empty() => {
                bail!("no row has a column {column:?} to read as {field}: there is {}", there.join(", "))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn columns(pairs: &[(&str, &str)]) -> Result<Columns> {
        let pairs: Vec<_> =
            pairs.iter().map(|&(field, column)| (field.to_owned(), column.to_owned())).collect();
        Columns::new(&pairs, &["prompt", "completion", "chosen", "rejected"])
    }

    fn named(pairs: &[(&str, &str)], record: serde_json::Value) -> serde_json::Value {
        columns(pairs).unwrap().named(record.as_object().unwrap().clone()).into()
    }

    #[test]
    fn columns_become_fields() {
        let row = json!({ "q": 1, "a": 2, "prompt": 3 });
        assert_eq!(named(&[], row.clone()), row);
        assert_eq!(named(&[("prompt", "q")], row.clone()), json!({ "a": 2, "prompt": 1 }));
        assert_eq!(
            named(&[("prompt", "q"), ("completion", "q")], row.clone()),
            json!({ "a": 2, "prompt": 1, "completion": 1 })
        );
        assert_eq!(named(&[("prompt", "missing")], row.clone()), row);
        let swapped =
            named(&[("chosen", "rejected"), ("rejected", "chosen")], json!({ "chosen": 1, "rejected": 2 }));
        assert_eq!(swapped, json!({ "chosen": 2, "rejected": 1 }));
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let unknown = columns(&[("promt", "q")]).unwrap_err().to_string();
        assert!(
            unknown.contains("\"promt\"") && unknown.contains("prompt, completion, chosen, rejected"),
            "{unknown}"
        );
        assert!(
            columns(&[("prompt", "a"), ("prompt", "b")]).unwrap_err().to_string().contains("two columns")
        );
        let some = columns(&[("prompt", "q"), ("completion", "answr")]).unwrap();
        some.named(json!({ "q": 1, "answer": 2 }).as_object().unwrap().clone());
        let error = some.check().unwrap_err().to_string();
        assert!(error.contains("\"answr\" to read as completion: there is answer, q"), "{error}");
        some.named(json!({ "answr": 2 }).as_object().unwrap().clone());
        assert!(some.check().is_ok(), "some row has it");
    }
}
