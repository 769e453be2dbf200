//! What a JSON schema allows to be drawn next, by llguidance.

use anyhow::{Context, Result, bail, ensure};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory, TokenParser};
use lm::model::Constraint;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use text::tokenizer::Tokenizer;
use text::tokenizer::chat::CallFrame;

/// Bytes of a schema, at most.
const SCHEMA_BYTES: usize = 16 << 10;
/// What may give an object properties, beside `properties`.
const OPENS: [&str; 9] = [
    "additionalProperties",
    "patternProperties",
    "minProperties",
    "$ref",
    "anyOf",
    "oneOf",
    "allOf",
    "enum",
    "const",
];
/// Properties of a schema, at most: each makes every mask slower.
const SCHEMA_PROPERTIES: usize = 256;

/// Makes constraints for one tokenizer.
pub(crate) struct Grammars {
    factory: ParserFactory,
    n_tokens: usize,
    specials: Vec<String>,
}

impl Grammars {
    /// For a model that ends its answers with `end`.
    ///
    /// # Errors
    /// It has no such token.
    pub(crate) fn new(tokenizer: &Tokenizer, end: Option<u32>) -> Result<Grammars> {
        let end = end.context("the model has no token that ends an answer")?;
        let n_tokens = tokenizer.vocab_size();
        let mut words: Vec<Vec<u8>> =
            (0..n_tokens as u32).map(|id| tokenizer.token_bytes(id).unwrap_or_default().to_vec()).collect();
        for (_, id) in tokenizer.specials() {
            words[*id as usize].insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
        }
        let trie = TokTrie::from(&TokRxInfo::new(n_tokens as u32, end), &words);
        let env: llguidance::toktrie::TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        let specials = tokenizer.specials().iter().map(|(name, _)| name.clone()).collect();
        Ok(Grammars { factory, n_tokens, specials })
    }

    /// What follows the schema, with at most one white space between tokens: small models love spaces.
    ///
    /// # Errors
    /// The schema is too large, refers to other documents, or cannot be followed.
    pub(crate) fn of_schema(&self, schema: &Value) -> Result<JsonConstraint> {
        let parser = self.factory.create_parser(TopLevelGrammar::from_json_schema(read(schema)?));
        JsonConstraint::new(parser, self.n_tokens)
    }

    /// A call of one of these functions, by their names and the schemas of their arguments, as a chat template writes
    /// calls. Where a schema does not say whether there may be other arguments than those it names, be it none, there are
    /// no others: a model that has to write something would make them up.
    ///
    /// # Errors
    /// Those of [`of_schema`](Self::of_schema).
    pub(crate) fn of_call(&self, frame: CallFrame, functions: &[(String, Value)]) -> Result<JsonConstraint> {
        // A special token is no text, and JSON's strings are those of the grammar.
        let word = |word: &&str| match self.specials.iter().any(|special| special == word) {
            true => (*word).to_owned(),
            false => json!(word).to_string(),
        };
        let words = |words: &[&str]| words.iter().map(word).collect::<Vec<_>>().join(" ");
        let calls: Vec<String> = (0..functions.len()).map(|i| format!("call{i}")).collect();
        let mut grammar =
            format!("start: {} ({}) {}\n", words(frame.open), calls.join(" | "), words(frame.close));
        for (call, (name, schema)) in calls.iter().zip(functions) {
            let mut schema = read(schema).with_context(|| format!("the parameters of {name}"))?;
            let is_open = |schema: &Map<String, Value>| {
                let requires =
                    schema.get("required").and_then(Value::as_array).is_some_and(|of| !of.is_empty());
                !schema.contains_key("properties")
                    && (requires || OPENS.iter().any(|key| schema.contains_key(*key)))
            };
            if let Some(schema) = schema.as_object_mut().filter(|schema| !is_open(schema)) {
                schema.entry("type").or_insert("object".into());
                schema.entry("additionalProperties").or_insert(false.into());
            }
            let before = format!("{{\"name\": {}, \"{}\": ", json!(name), frame.arguments);
            grammar += &format!("{call}: {} arguments_of_{call} \"}}\"\n", json!(before));
            grammar += &format!("arguments_of_{call}: %json {schema}\n");
        }
        let parser = self.factory.create_parser(TopLevelGrammar::from_lark(grammar));
        JsonConstraint::new(parser, self.n_tokens).map_err(|error| {
            // The error tells of a grammar that nobody wrote: it is that of a schema, as a rule.
            let of = |(name, schema): &(String, Value)| {
                Some(self.of_schema(schema).err()?.context(format!("the parameters of {name}")))
            };
            functions.iter().find_map(of).unwrap_or(error)
        })
    }

    /// Any JSON object.
    ///
    /// # Errors
    /// Those of [`of_schema`](Self::of_schema).
    pub(crate) fn of_object(&self) -> Result<JsonConstraint> {
        self.of_schema(&Value::Object(Map::from_iter([("type".to_owned(), "object".into())])))
    }
}

/// A schema as the library takes it: with at most one white space between tokens.
fn read(schema: &Value) -> Result<Value> {
    check(schema)?;
    let mut schema = schema.clone();
    let options = JsonCompileOptions {
        whitespace_flexible: false,
        whitespace_pattern: Some("[ \\n]?".to_owned()),
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    Ok(schema)
}

/// Refuses what would cost others much, or would change how the schema is read.
fn check(schema: &Value) -> Result<()> {
    let bytes = schema.to_string().len();
    ensure!(bytes <= SCHEMA_BYTES, "the schema has {bytes} bytes, and {SCHEMA_BYTES} are allowed");
    ensure!(schema.is_object(), "a schema is an object");
    let (mut properties, mut open) = (0, vec![schema]);
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    ensure!(!key.starts_with("x-guidance"), "the schema must not have {key:?}");
                    if let ("$ref", Value::String(to)) = (key.as_str(), value) {
                        ensure!(
                            to.starts_with('#'),
                            "the schema refers to {to:?}: only its own parts (#…) can be read"
                        );
                    }
                    if let ("properties", Value::Object(of)) = (key.as_str(), value) {
                        properties += of.len();
                    }
                    open.push(value);
                }
            }
            Value::Array(values) => open.extend(values),
            _ => {}
        }
    }
    ensure!(
        properties <= SCHEMA_PROPERTIES,
        "the schema has {properties} properties, and {SCHEMA_PROPERTIES} are allowed"
    );
    Ok(())
}

/// What an error of the library says of a schema, without where it stands in the grammar and without that grammar.
fn in_short(error: &str) -> String {
    let listed = |line: &str| {
        let line = line.trim_start();
        line.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(" | ")
            && line.starts_with(|c: char| c.is_ascii_digit())
    };
    let said = error.split_once("failed to compile JSON schema: ").map_or(error, |(_, said)| said);
    let lines: Vec<&str> = said.lines().take_while(|line| !listed(line)).map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

/// An answer that is JSON.
pub(crate) struct JsonConstraint {
    matcher: Matcher,
    /// Tokens that the matcher has heard.
    heard: usize,
    mask: Vec<u32>,
    words: usize,
}

impl JsonConstraint {
    fn new(parser: Result<TokenParser>, n_tokens: usize) -> Result<JsonConstraint> {
        let matcher = Matcher::new(parser);
        if let Some(error) = matcher.get_error() {
            bail!("the schema cannot be followed: {}", in_short(&error));
        }
        Ok(JsonConstraint { matcher, heard: 0, mask: Vec::new(), words: n_tokens.div_ceil(32) })
    }

    /// The same from its beginning, for another answer.
    pub(crate) fn another(&self) -> JsonConstraint {
        JsonConstraint { matcher: self.matcher.deep_clone(), mask: Vec::new(), ..*self }
    }
}

impl Constraint for JsonConstraint {
    fn allowed(&mut self, generated: &[u32]) -> &[u32] {
        let heard = self.matcher.consume_tokens(&generated[self.heard..]);
        self.heard = generated.len();
        let mask = heard.and_then(|()| self.matcher.compute_mask_or_eos());
        self.mask.clear();
        // Where nothing is allowed the answer fails; its error says so.
        if let Ok(mask) = mask {
            self.mask.extend_from_slice(mask.as_slice());
        }
        self.mask.resize(self.words, 0);
        &self.mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use text::progress::Silent;

    fn tokenizer() -> Tokenizer {
        let documents = ["{\"name\": \"value\", \"other\": [1, 2, 3], \"yes\": true}\n"; 4];
        Tokenizer::train(documents.iter().map(|d| Ok(d.to_string())), 300, &[], &Silent).unwrap()
    }

    fn is_allowed(mask: &[u32], token: u32) -> bool {
        mask[token as usize / 32] >> (token % 32) & 1 == 1
    }

    /// Follows the likes of a model that prefers `taste` and else the first token allowed.
    fn follow(constraint: &mut JsonConstraint, tokenizer: &Tokenizer, taste: &[u8], most: usize) -> String {
        let (end, mut tokens) = (tokenizer.end_of_text().unwrap(), Vec::new());
        while tokens.len() < most {
            let mask = constraint.allowed(&tokens).to_vec();
            let liked = (0..tokenizer.vocab_size() as u32)
                .filter(|&id| is_allowed(&mask, id))
                .min_by_key(|&id| (tokenizer.token_bytes(id).unwrap() != taste, id != end, id));
            match liked {
                Some(id) if id != end => tokens.push(id),
                _ => break,
            }
        }
        tokenizer.decode(&tokens).unwrap()
    }

    /// Calls have their template's form, whether its words are special tokens or text.
    #[test]
    fn a_call_is_one_of_the_functions() {
        const TAGGED: CallFrame =
            CallFrame { open: &["<call>", "\n"], arguments: "arguments", close: &["\n", "</call>"] };
        const BARE: CallFrame = CallFrame { open: &[], arguments: "parameters", close: &[] };
        let schema = json!({ "type": "object", "properties": { "yes": { "type": "boolean" } }, "required": ["yes"],
            "additionalProperties": false });
        let functions = [("na\"me".to_owned(), schema)];
        let plain = tokenizer();
        let special = plain.extended(&["<call>".to_owned(), "</call>".to_owned()]).unwrap();
        for tokenizer in [&plain, &special] {
            let grammars = Grammars::new(tokenizer, tokenizer.end_of_text()).unwrap();
            let call =
                |frame| follow(&mut grammars.of_call(frame, &functions).unwrap(), tokenizer, b"t", 200);
            let read = |text: &str, key: &str| {
                let call: Value = serde_json::from_str(text.trim()).unwrap();
                assert!(call["name"] == "na\"me" && call[key]["yes"].is_boolean(), "{text}");
            };
            let tagged = call(TAGGED);
            read(tagged.strip_prefix("<call>\n").unwrap().strip_suffix("\n</call>").unwrap(), "arguments");
            read(&call(BARE), "parameters");
        }
        let grammars = Grammars::new(&plain, plain.end_of_text()).unwrap();
        let remote = json!({ "properties": { "a": { "$ref": "http://elsewhere" } } });
        let error = grammars.of_call(BARE, &[("f".into(), remote)]).err().unwrap();
        assert!(format!("{error:#}").contains("the parameters of f: the schema refers to"), "{error:#}");
    }

    #[test]
    fn a_model_that_loves_spaces_comes_to_an_end() {
        let tokenizer = tokenizer();
        let grammars = Grammars::new(&tokenizer, tokenizer.end_of_text()).unwrap();
        let schema = json!({
            "type": "object",
            "properties": { "yes": { "type": "boolean" }, "n": { "enum": [1, 2] } },
            "required": ["yes", "n"],
            "additionalProperties": false,
        });
        let mut constraint = grammars.of_schema(&schema).unwrap();
        for mut constraint in [constraint.another(), {
            constraint.allowed(&[]);
            constraint
        }] {
            let text = follow(&mut constraint, &tokenizer, b" ", 200);
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert!(value["yes"].is_boolean() && value["n"].is_u64(), "{text}");
            assert!(!text.contains("  "), "{text:?}");
        }
    }

    #[test]
    fn schemas_that_cost_others_much_are_refused() {
        let tokenizer = tokenizer();
        let grammars = Grammars::new(&tokenizer, tokenizer.end_of_text()).unwrap();
        let many: Map<String, Value> =
            (0..300).map(|i| (format!("p{i}"), json!({ "type": "null" }))).collect();
        for (schema, said) in [
            (json!({ "type": "hiccup" }), "hiccup"),
            (json!({ "$ref": "https://example.org/schema" }), "refers to"),
            (json!({ "type": "object", "x-guidance": { "whitespace_flexible": true } }), "x-guidance"),
            (json!({ "type": "object", "properties": many }), "300 properties"),
            (json!({ "enum": ["x".repeat(20_000)] }), "bytes"),
            (json!([1]), "a schema is an object"),
        ] {
            let error = format!("{:#}", grammars.of_schema(&schema).err().expect("it is refused"));
            assert!(error.contains(said), "{error}");
        }
    }
}
