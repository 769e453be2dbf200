//! A conversation in other characters, one for one.

use super::super::is_space;
use super::super::jinja::Renderer;
use super::super::layout::Specials;
use super::{Chat, Keeps, Mark, core};
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Exchanges characters.
pub(super) struct Disguise<'a> {
    specials: &'a Specials,
    /// Texts that stay.
    literals: Vec<&'a str>,
    /// Whether names of special tokens stay where they are such texts.
    keeps_names: bool,
    /// Characters that occur nowhere else.
    letters: Box<dyn Iterator<Item = char> + 'a>,
    others: Box<dyn Iterator<Item = char> + 'a>,
    /// Whose the characters are.
    pub(super) marks: HashMap<char, Mark>,
    /// The characters that stand for those of each message.
    given: HashMap<(usize, char, [Option<usize>; 2]), char>,
}

impl<'a> Disguise<'a> {
    /// Nothing is exchanged yet. What stands in the conversation or in the template stands for nothing else.
    pub(super) fn new(renderer: &'a Renderer, specials: &'a Specials, chat: &Chat, keeps: Keeps) -> Self {
        let kept = |literal: &&String| match keeps {
            Keeps::Nothing => false,
            Keeps::Harmless => !specials.has_within(literal),
            Keeps::Literals => true,
        };
        let literals = renderer.literals().iter().filter(|literal| !literal.is_empty()).filter(kept);
        let mut used: HashSet<char> = renderer.source().chars().collect();
        chat.messages
            .iter()
            .chain(&chat.tools)
            .for_each(|value| each_text(value, &mut |text| used.extend(text.chars())));
        let used = Rc::new(used);
        let also_used = Rc::clone(&used);
        // Rare ideographs, which are letters without cases, for letters; characters of private use for
        // others.
        let letters =
            ('\u{3400}'..='\u{4dbf}').chain('\u{a000}'..='\u{a48c}').chain('\u{20000}'..='\u{2a6df}');
        let private =
            ('\u{e000}'..='\u{f8ff}').chain('\u{f0000}'..='\u{ffffd}').chain('\u{100000}'..='\u{10fffd}');
        Disguise {
            specials,
            literals: literals.map(String::as_str).collect(),
            keeps_names: keeps == Keeps::Literals,
            letters: Box::new(letters.filter(move |c| !used.contains(c))),
            others: Box::new(private.filter(move |c| !also_used.contains(c))),
            marks: HashMap::new(),
            given: HashMap::new(),
        }
    }

    /// The twin of a message.
    pub(super) fn message(&mut self, number: usize, message: &Value) -> Result<Value> {
        let Value::Object(fields) = message else { return self.value(number, message) };
        let mut twin = Map::new();
        for (name, value) in fields {
            let value = match (name.as_str(), value) {
                ("role", _) => value.clone(),
                ("content", Value::String(text)) => self.text(number, text, true)?.into(),
                _ => self.value(number, value)?,
            };
            twin.insert(name.clone(), value);
        }
        Ok(twin.into())
    }

    /// The twin of any value that says something.
    pub(super) fn value(&mut self, number: usize, value: &Value) -> Result<Value> {
        Ok(match value {
            Value::String(text) => self.text(number, text, false)?.into(),
            Value::Array(items) => {
                items.iter().map(|item| self.value(number, item)).collect::<Result<Vec<Value>>>()?.into()
            }
            Value::Object(fields) => {
                let mut twin = Map::new();
                for (name, value) in fields {
                    twin.insert(self.name(number, name)?, self.value(number, value)?);
                }
                twin.into()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        })
    }

    /// The name of a field, by which a template may ask for it: words stay.
    fn name(&mut self, number: usize, name: &str) -> Result<String> {
        let is_named = |at: usize| self.specials.at(&name[at..]).next().is_some();
        if name.chars().all(|c| c.is_alphanumeric() || "_-. $".contains(c))
            && !name.char_indices().any(|(at, _)| is_named(at))
        {
            return Ok(name.to_owned());
        }
        self.text(number, name, false)
    }

    /// A text; `is_content` tells that its first and its last exchanged character are of interest.
    fn text(&mut self, number: usize, text: &str, is_content: bool) -> Result<String> {
        let stays = self.stays(text);
        let core = core(text);
        let exchanged = |at: &usize| !stays[*at] && is_content && core.contains(at);
        let places = || text.char_indices().map(|(at, _)| at);
        let (first, last) = (places().find(exchanged), places().rfind(exchanged));
        let mut twin = String::with_capacity(text.len() * 3);
        for (at, original) in text.char_indices() {
            let edges = [first, last].map(|edge| edge.filter(|&edge| edge == at));
            twin.push(match stays[at] {
                true => original,
                false => self.mark(Mark { message: number, original, edges })?,
            });
        }
        Ok(twin)
    }

    /// For each byte whether its character stays.
    fn stays(&self, text: &str) -> Vec<bool> {
        let mut named = vec![false; text.len()];
        for literal in &self.literals {
            text.match_indices(literal).for_each(|(at, _)| named[at..at + literal.len()].fill(true));
        }
        // White space is what templates strip; the others are written otherwise in JSON.
        let is_plain = |c: char| is_space(c) || c.is_control() || matches!(c, '"' | '\\');
        let mut stays = named.clone();
        text.char_indices().filter(|&(_, c)| is_plain(c)).for_each(|(at, _)| stays[at] = true);
        for (at, _) in text.char_indices() {
            for name in self.specials.at(&text[at..]) {
                let place = at..at + name.len();
                if !(self.keeps_names && named[place.clone()].iter().all(|&named| named)) {
                    stays[place].fill(false);
                }
            }
        }
        stays
    }

    fn mark(&mut self, mark: Mark) -> Result<char> {
        let key = (mark.message, mark.original, mark.edges);
        if let Some(&c) = self.given.get(&key) {
            return Ok(c);
        }
        let letter = if mark.original.is_alphanumeric() { self.letters.next() } else { None };
        let c = letter
            .or_else(|| self.others.next())
            .context("a conversation of more messages than can be told apart")?;
        self.marks.insert(c, mark);
        self.given.insert(key, c);
        Ok(c)
    }
}

fn each_text(value: &Value, hear: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => hear(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, hear)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            hear(name);
            each_text(value, hear);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
