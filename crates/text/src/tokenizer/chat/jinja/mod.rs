//! Jinja as `transformers` sets it up for chat templates, with limits: a template comes with somebody else's
//! model.

mod args;
mod characters;
mod filters;
mod json;
mod methods;
mod printf;
mod source;
#[cfg(test)]
mod tests;

pub(super) use characters::is_space;

use anyhow::{Context, Result, anyhow};
use chrono::NaiveDateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, context};
use serde_json::Value as Json;
use std::fmt::Write as _;

/// What one rendering may cost, in instructions, or in pieces of 64 bytes that it writes: it stops within 50
/// ms, and within 16 MB.
const FUEL: u64 = 250_000;
const NAME: &str = "chat template";

/// A template, compiled. It can include no other.
pub(super) struct Renderer {
    environment: Environment<'static>,
    source: String,
    literals: Vec<String>,
}

impl Renderer {
    /// Compiles `source`, for which `tokens` have names and the time is `now`.
    pub(super) fn new(source: &str, tokens: &[(String, String)], now: NaiveDateTime) -> Result<Renderer> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the usual delimiters"));
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(methods::call);
        filters::add(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: &str| -> Result<String, Error> {
            let mut text = String::new();
            let written = write!(text, "{}", now.format(format));
            written.map_err(|_| {
                Error::new(ErrorKind::InvalidOperation, format!("{format:?} is no format of a time"))
            })?;
            Ok(text)
        });
        // A template may ask for them, and this program has none.
        environment.add_global("documents", ());
        for (name, token) in tokens {
            environment.add_global(name.clone(), token.clone());
        }
        // Every line of a template ends alike.
        let read = source::read(&source.replace("\r\n", "\n").replace('\r', "\n"));
        let compiled = environment.add_template_owned(NAME, read.text);
        compiled.context("the chat template is not Jinja")?;
        Ok(Renderer { environment, source: source.to_owned(), literals: read.literals })
    }

    /// The template as it was given.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// The texts that the template spells between quotes: what it may look for in a message.
    pub(super) fn literals(&self) -> &[String] {
        &self.literals
    }

    /// What the template makes of `messages`, where the assistant may call `tools`.
    pub(super) fn render(
        &self,
        messages: &[Json],
        tools: Option<&Json>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let template = self.environment.get_template(NAME).expect("added when it was made");
        let messages: Vec<Value> = messages.iter().map(value_of).collect();
        let tools = tools.map_or_else(|| Value::from(()), value_of);
        let rendered = template.render(context! { messages, tools, add_generation_prompt });
        rendered.map_err(|error| match error.kind() {
            ErrorKind::OutOfFuel => {
                anyhow!(
                    "the chat template takes too long: it may not come to an end, or a message is very large"
                )
            }
            _ => anyhow::Error::new(error).context("the chat template refuses the conversation"),
        })
    }
}

/// A value of JSON as a template sees it.
fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(is) => (*is).into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => number.into(),
            (_, Some(number), _) => number.into(),
            (_, _, number) => number.into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(value_of).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, value)| (name.as_str(), value_of(value))))
        }
    }
}
