//! Problems and samples, in HumanEval's format (Chen et al. 2021).

use serde_json::Value;

use crate::data::rows::{Fault, Record};

/// A function to write, and its tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its name, such as `HumanEval/0`.
    pub task_id: String,
    /// Python up to where the completion begins: imports, helpers, the function's head and its description.
    pub prompt: String,
    /// A completion that is right.
    pub canonical_solution: Option<String>,
    /// Python that defines `check(candidate)`, which fails if the function is wrong.
    pub test: String,
    /// The function's name.
    pub entry_point: String,
}

/// A completion to be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which problem.
    pub task_id: String,
    /// What comes after the problem's prompt.
    pub completion: String,
}

/// A line `{"task_id","prompt","canonical_solution"?,"test","entry_point"}`.
///
/// # Errors
/// A field is missing, or no text.
pub fn problem(record: Record) -> Result<Problem, Fault> {
    let canonical_solution = match record.get("canonical_solution") {
        None | Some(Value::Null) => None,
        Some(_) => Some(text(&record, "canonical_solution")?),
    };
    Ok(Problem {
        task_id: text(&record, "task_id")?,
        prompt: text(&record, "prompt")?,
        canonical_solution,
        test: text(&record, "test")?,
        entry_point: text(&record, "entry_point")?,
    })
}

/// A line `{"task_id","completion"}`.
///
/// # Errors
/// A field is missing, or no text.
pub fn sample(record: Record) -> Result<Sample, Fault> {
    Ok(Sample { task_id: text(&record, "task_id")?, completion: text(&record, "completion")? })
}

fn text(record: &Record, field: &str) -> Result<String, Fault> {
    match record.get(field) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(Fault::bad(format!("`{field}` is no text"), other.to_string())),
        None => Err(Fault::bad(
            format!("no `{field}`"),
            format!("it has {:?}", record.keys().collect::<Vec<_>>()),
        )),
    }
}
