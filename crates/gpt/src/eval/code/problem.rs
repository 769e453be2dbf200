//! Problems and samples, in HumanEval's format (Chen et al. 2021).

use serde_json::Value;

use crate::data::rows::{Fault, Record};

/// The fields of problems and samples, by name.
pub const FIELDS: &[&str] = &["task_id", "prompt", "canonical_solution", "test", "entry_point", "completion"];

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

/// What tests call that is no function of theirs.
const BUILT_IN: [&str; 31] = [
    "abs",
    "all",
    "and",
    "any",
    "assert",
    "bool",
    "dict",
    "elif",
    "enumerate",
    "float",
    "for",
    "frozenset",
    "if",
    "in",
    "int",
    "isinstance",
    "len",
    "list",
    "map",
    "max",
    "min",
    "not",
    "or",
    "print",
    "range",
    "round",
    "set",
    "sorted",
    "str",
    "sum",
    "tuple",
];

/// Tests that call a function by its name, such as lines of `assert`, as a problem; one that defines
/// `check(candidate)` is taken as it is. None if they call nothing and no `entry_point` says what is to be
/// called.
pub fn problem_of_tests(tests: &str, entry_point: Option<&str>) -> Option<Problem> {
    let entry_point = entry_point.map(str::to_owned).or_else(|| first_call(tests))?;
    let test = if tests.contains("def check(") {
        tests.to_owned()
    } else {
        let source = serde_json::Value::from(tests);
        format!(
            "TESTS = compile({source}, \"tests\", \"exec\")\n\ndef check(candidate):\n    exec(TESTS, globals())\n"
        )
    };
    let (task_id, prompt) = ("tests".to_owned(), String::new());
    Some(Problem { task_id, prompt, canonical_solution: None, test, entry_point })
}

/// The first function that is called and is neither Python's nor the tests' own.
fn first_call(tests: &str) -> Option<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let calls = tests.match_indices('(').filter_map(|(at, _)| {
        let before = tests[..at].trim_end_matches(' ');
        let start = before
            .rfind(|c: char| !is_name(c))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let is_method = before[..start].ends_with('.');
        let is_definition = before[..start].trim_end().ends_with("def");
        (!is_method && !is_definition && start < before.len()).then(|| &before[start..])
    });
    let own = |name: &&str| !tests.contains(&format!("def {name}(")) && BUILT_IN.binary_search(name).is_err();
    calls.filter(own).find(|name| !name.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

/// The program in an answer: its last block between fences, or all of it.
pub fn code_of(answer: &str) -> &str {
    let blocks: Vec<&str> = answer.split("```").collect();
    match blocks.len() {
        0..3 => answer,
        n => {
            let last = blocks[if n % 2 == 1 { n - 2 } else { n - 3 }];
            // The first line names the language.
            last.split_once('\n').map_or(last, |(_, code)| code)
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_of_tests_is_found() {
        assert!(BUILT_IN.is_sorted());
        for (tests, name) in [
            ("assert add(1, 2) == 3", Some("add")),
            ("import math\nassert math.isclose(set(half (3)), {1.5})", Some("half")),
            ("def same(a): return f(a) == a\nassert same(2)", Some("f")),
            ("assert 2 * (3) == 6", None),
            ("x = 1", None),
        ] {
            assert_eq!(
                problem_of_tests(tests, None).map(|problem| problem.entry_point).as_deref(),
                name,
                "{tests}"
            );
        }
        assert_eq!(
            problem_of_tests("x = 1", Some("f")).map(|problem| problem.entry_point).as_deref(),
            Some("f")
        );
    }

    #[test]
    fn programs_stand_between_fences() {
        for (answer, code) in [
            ("def f(): pass", "def f(): pass"),
            ("Here:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
            ("```\na\n```\nor\n```py\nb\n```", "b\n"),
            ("```py\na\n```\nand ```", "a\n"),
            ("it is ``` alone", "it is ``` alone"),
        ] {
            assert_eq!(code_of(answer), code, "{answer}");
        }
    }
}
