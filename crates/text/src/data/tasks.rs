//! Rows of `{"input","task","output"}`: what a language model is to make of a text, and what comes out
//! (Radford et al. 2019).
//!
//! A row is a document like any other: input, [task](Tokenizer::encode_task), output, end of text, all of it
//! to be predicted. Only `task` may name special tokens; the other two are text, whatever they spell.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::labelled::answer_of;
use super::messages::missing;
use super::rows::{Fault, Record};
use crate::tokenizer::Tokenizer;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRow {
    /// What the task is about; may be empty.
    pub input: String,
    /// What is asked, with names of special tokens.
    pub task: String,
    /// What comes out.
    pub output: String,
}

impl TaskRow {
    /// Its fields, by name.
    pub const FIELDS: &[&str] = &["input", "task", "output"];

    /// Reads one line; further fields do not matter. An output may be a number.
    ///
    /// # Errors
    /// A field is missing or not a string; task or output are empty.
    pub fn read(record: &Record) -> Result<TaskRow, Fault> {
        let field = |name: &str| match record.get(name) {
            Some(Value::String(text)) if text.is_empty() && name != "input" => {
                Err(Fault::bad("empty text", format!("{name} is empty")))
            }
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(Fault::bad("wrong type", format!("{name} is not a string"))),
            None => Err(missing(name, record)),
        };
        let output = record.get("output").ok_or_else(|| missing("output", record))?;
        Ok(TaskRow { input: field("input")?, task: field("task")?, output: answer_of("output", output)? })
    }

    /// The row as a document, without its end of text.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode_task`].
    pub fn tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let mut ids = tokenizer.encode_from_start(&self.input);
        ids.extend(tokenizer.encode_task(&self.task)?);
        ids.extend(tokenizer.encode(&self.output));
        Ok(ids)
    }
}
