//! Jinja as `transformers` sets it up for chat templates, with limits: a template comes with somebody else's model.

use anyhow::{Context, Result, anyhow};
use chrono::NaiveDateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::Value as Json;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::fmt::Write as _;
use std::io;

/// What one rendering may cost, in instructions, or in pieces of 64 bytes that it writes: it stops within 50 ms, and within
/// 16 MB.
const FUEL: u64 = 250_000;
const NAME: &str = "chat template";

/// A template, compiled. It can include no other.
pub(super) struct Renderer {
    environment: Environment<'static>,
    source: String,
}

impl Renderer {
    /// Compiles `source`, for which `tokens` have names and the time is `now`.
    pub(super) fn new(source: &str, tokens: &[(String, String)], now: NaiveDateTime) -> Result<Renderer> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the usual delimiters"));
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_filter("tojson", to_json);
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
        // What a template may ask for and this program does not have.
        environment.add_global("documents", ());
        for (name, token) in tokens {
            environment.add_global(name.clone(), token.clone());
        }
        let compiled = environment.add_template_owned(NAME, without_generation_tags(source));
        compiled.context("the chat template is not Jinja")?;
        Ok(Renderer { environment, source: source.to_owned() })
    }

    /// The template as it was given.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// What the template makes of `messages`, where the assistant may call `tools`.
    pub(super) fn render(
        &self,
        messages: &[Json],
        tools: Option<&Json>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let template = self.environment.get_template(NAME).expect("added when it was made");
        let (messages, tools) = (Value::from(Serde(messages)), Value::from(Serde(tools)));
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

/// `{% generation %}` tells `transformers` where answers are; for what is written it means nothing.
fn without_generation_tags(source: &str) -> String {
    let mut parts = source.split("{%");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text += "{%";
        let tag = part.trim_start_matches(['-', '+']).trim_start();
        let word = tag.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let instead = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => word,
        };
        text += &part[..part.len() - tag.len()];
        text += instead;
        text += &tag[word.len()..];
    }
    text
}

/// Python's `json.dumps` with `ensure_ascii=False`; Jinja's own filter would escape HTML.
fn to_json(state: &State, value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // The only value that it has in templates.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut json = Vec::new();
    let written = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut json, Spaced)),
        Some(n) => {
            let indent = " ".repeat(n.min(16));
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut json, formatter))
        }
    };
    let bad = |error: &dyn std::fmt::Display| Error::new(ErrorKind::BadSerialization, error.to_string());
    written.map_err(|error| bad(&error))?;
    // As much as Jinja's own filter takes.
    state.consume_fuel(json.len() as u64 / 4)?;
    String::from_utf8(json).map_err(|error| bad(&error))
}

/// One line, a space after `,` and `:`.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}
