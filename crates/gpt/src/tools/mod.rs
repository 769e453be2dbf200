//! Tools that a model may call while it answers: what they are, and what they return.
//!
//! What goes wrong in a call is a result like others, `error: …`, which the model reads; only where nothing can be
//! called at all is the caller told.

mod answers;
mod calculator;
mod python;
#[cfg(test)]
#[path = "tests/rigged.rs"]
pub(crate) mod rigged;

pub use answers::candidates_with_tools;

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::chat::{MAX_ROUNDS, Tools};
use crate::sandbox::Sandbox;

/// What models are told of the calculator alone.
pub fn calculator_tools() -> Value {
    json!([calculator::description()])
}

/// What a call may take.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Of a program.
    pub time: Duration,
    /// Characters of what it returns; the model's context is small.
    pub chars: usize,
    /// Rounds of calls before an answer.
    pub rounds: usize,
}

impl Default for CallLimits {
    /// 5 seconds, 2,000 characters, 8 rounds.
    fn default() -> Self {
        CallLimits { time: Duration::from_secs(5), chars: 2000, rounds: MAX_ROUNDS }
    }
}

/// One of them.
#[derive(Debug)]
enum Tool {
    Calculator,
    Python(Box<Sandbox>),
}

impl Tool {
    fn name(&self) -> &'static str {
        match self {
            Tool::Calculator => calculator::NAME,
            Tool::Python(_) => python::NAME,
        }
    }

    fn description(&self) -> Value {
        match self {
            Tool::Calculator => calculator::description(),
            Tool::Python(_) => python::description(),
        }
    }
}

/// The tools of a conversation.
#[derive(Debug)]
pub struct Toolbox {
    tools: Vec<Tool>,
    descriptions: Value,
    limits: CallLimits,
}

impl Toolbox {
    /// An empty one.
    pub fn new(limits: CallLimits) -> Toolbox {
        Toolbox { tools: Vec::new(), descriptions: json!([]), limits }
    }

    /// With `calculator`, which works out sums of decimal numbers.
    #[must_use]
    pub fn with_calculator(self) -> Toolbox {
        self.with(Tool::Calculator)
    }

    /// With `python`, which runs programs in a sandbox and returns what they print.
    #[must_use]
    pub fn with_python(self, sandbox: Sandbox) -> Toolbox {
        self.with(Tool::Python(Box::new(sandbox)))
    }

    /// What decides what comes of calls, as recipes keep it.
    pub fn settings(&self) -> Value {
        let CallLimits { time, chars, rounds } = self.limits;
        let names: Vec<_> = self.tools.iter().map(Tool::name).collect();
        json!({ "names": names, "secs": time.as_secs_f64(), "chars": chars, "rounds": rounds })
    }

    fn with(mut self, tool: Tool) -> Toolbox {
        self.tools.push(tool);
        self.descriptions = self.tools.iter().map(Tool::description).collect();
        self
    }
}

impl Tools for Toolbox {
    fn descriptions(&self) -> &Value {
        &self.descriptions
    }

    fn max_rounds(&self) -> usize {
        self.limits.rounds
    }

    fn call(&self, name: &str, arguments: &Value) -> Result<String> {
        let Some(tool) = self.tools.iter().find(|tool| tool.name() == name) else {
            let names: Vec<_> = self.tools.iter().map(Tool::name).collect();
            return Ok(format!("error: there is no tool {name:?}: {}", names.join(", ")));
        };
        let returned = match tool {
            Tool::Calculator => argument(arguments, calculator::ARGUMENT).and_then(calculator::work_out),
            Tool::Python(sandbox) => match argument(arguments, python::ARGUMENT) {
                Ok(program) => python::run(sandbox, program, self.limits.time)?,
                Err(error) => Err(error),
            },
        };
        Ok(shortened(returned.unwrap_or_else(|error| format!("error: {error}")), self.limits.chars))
    }
}

/// The description of a function of one text, as models are told of it.
fn function(name: &str, description: &str, argument: &str, about: &str) -> Value {
    json!({
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": { argument: { "type": "string", "description": about } },
                "required": [argument],
            },
        },
    })
}

fn argument<'a>(arguments: &'a Value, name: &str) -> Result<&'a str, String> {
    arguments[name].as_str().ok_or_else(|| format!("the argument {name} is missing, a text"))
}

/// A text without what is too much of it, which is said.
fn shortened(mut text: String, chars: usize) -> String {
    if let Some((at, _)) = text.char_indices().nth(chars) {
        let cut = text[at..].chars().count();
        text.truncate(at);
        text.push_str(&format!("… ({cut} characters more)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_in_a_call_is_told_to_the_model() {
        let tools = Toolbox::new(CallLimits::default()).with_calculator();
        let call = |name: &str, arguments: Value| tools.call(name, &arguments).unwrap();
        assert_eq!(call("calculator", json!({ "expression": "17 + 5" })), "22");
        assert_eq!(call("calculator", json!({ "expression": "1 / 0" })), "error: division by zero");
        assert_eq!(call("calculator", json!({})), "error: the argument expression is missing, a text");
        assert_eq!(call("search", json!({})), "error: there is no tool \"search\": calculator");
        assert_eq!(shortened("äöü".into(), 2), "äö… (1 characters more)");
        assert_eq!(shortened("äö".into(), 2), "äö");
    }
}
