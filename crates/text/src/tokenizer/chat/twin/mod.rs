//! Which characters of what a template wrote are the messages', and which its own.
//!
//! The one idea: the template is applied twice. The first time to the conversation as it is: that text
//! counts, and nothing of ours can be seen in it. The second time to its **twin**, in which characters of the
//! messages are others, one for one, that occur nowhere else. Where one of these comes out, the first text
//! has a message's character.
//!
//! What a template can ask of a text without naming what stands in it (its length, its words, pieces of it)
//! is the same of both. What it looks for it names between quotes; further twins keep these texts. Where no
//! twin goes the same way through the template, the text is that of a twin, with the messages' own characters
//! put back: then the template has seen none of their special tokens.

mod disguise;

use super::is_space;
use super::jinja::Renderer;
use super::layout::Specials;
use anyhow::{Context, Result};
use disguise::Disguise;
use serde_json::Value;
use std::collections::HashMap;
use std::ops::Range;

/// A conversation as a template sees it.
#[derive(Clone)]
pub(super) struct Chat {
    /// The messages, as tables of their fields.
    pub(super) messages: Vec<Value>,
    /// The tools that may be called.
    pub(super) tools: Option<Value>,
}

/// What a template wrote.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// Where characters of messages stand, as far as they matter: places in `text`, ascending.
    pub(super) marks: Vec<usize>,
    /// Whose these are.
    found: Vec<Found>,
    /// The assistant's messages, as far as they are looked for and known.
    pub(super) answers: Vec<Answer>,
    /// Whether an answer is not there as it was said.
    pub(super) torn: bool,
    /// Whether the template looks for special tokens that messages spell, and was kept from seeing them.
    pub(super) blindfolded: bool,
}

/// Where an answer stands.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its text, without white space around it.
    pub(super) place: Range<usize>,
    /// The white space before it.
    pub(super) space: String,
    /// Whether it says more than a text, and all up to its end is the assistant's.
    pub(super) is_open: bool,
}

/// Which of the texts that the template spells stay as they are in a twin.
#[derive(Clone, Copy, PartialEq)]
enum Keeps {
    Nothing,
    /// Those that are no part of the name of a special token, and within no such name that a message spells.
    Harmless,
    /// All.
    Literals,
}

/// Whose a character is.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// The number of the message, of several with one content that of the first; `TOOLS` for what tools say.
    message: usize,
    original: char,
    /// Where it stands in a message's content, if it is the first that was exchanged there, and if it is the
    /// last.
    edges: [Option<usize>; 2],
}

const TOOLS: usize = usize::MAX;

/// A conversation in disguise.
struct Twin {
    chat: Chat,
    marks: HashMap<char, Mark>,
}

/// A character of a message in what the template wrote.
type Found = (usize, Mark);

/// Applies the template, and tells which characters are the messages'.
///
/// # Errors
/// The template refuses the conversation, or every twin of it.
pub(super) fn render(
    renderer: &Renderer,
    specials: &Specials,
    chat: &Chat,
    add_generation_prompt: bool,
) -> Result<Rendered> {
    let apply = |chat: &Chat| renderer.render(&chat.messages, chat.tools.as_ref(), add_generation_prompt);
    let text = apply(chat)?;
    let mut blind = None;
    for keeps in [Keeps::Nothing, Keeps::Harmless] {
        let twin = Twin::new(renderer, specials, chat, keeps)?;
        let Ok(output) = apply(&twin.chat) else { continue };
        match twin.align(&output, &text) {
            Some(found) => return Ok(Rendered::of(text, found)),
            None => blind = Some(twin.put_back(&output)),
        }
    }
    let (blind_text, blind_found) = blind.context(
        "the chat template looks into the messages such that what it says itself cannot be told from what they say",
    )?;
    // What follows may hide a special token that a message spells: just those must be there that are there
    // without seeing any.
    let ids = |text: &str, found: &[Found]| specials.ids(text, &places(found));
    let blind_ids = ids(&blind_text, &blind_found);
    let twin = Twin::new(renderer, specials, chat, Keeps::Literals)?;
    let by_literals = apply(&twin.chat).ok().and_then(|output| twin.align(&output, &text));
    for found in by_literals.into_iter().chain([Vec::new()]) {
        if ids(&text, &found) == blind_ids {
            return Ok(Rendered::of(text, found));
        }
    }
    Ok(Rendered { blindfolded: true, ..Rendered::of(blind_text, blind_found) })
}

fn places(found: &[Found]) -> Vec<usize> {
    found.iter().map(|&(place, _)| place).collect()
}

impl Twin {
    fn new(renderer: &Renderer, specials: &Specials, chat: &Chat, keeps: Keeps) -> Result<Twin> {
        let mut disguise = Disguise::new(renderer, specials, chat, keeps);
        let messages = numbers(&chat.messages).into_iter().zip(&chat.messages);
        let messages = messages.map(|(number, message)| disguise.message(number, message));
        let messages = messages.collect::<Result<Vec<Value>>>()?;
        let tools = chat.tools.as_ref().map(|tools| disguise.value(TOOLS, tools)).transpose()?;
        Ok(Twin { chat: Chat { messages, tools }, marks: disguise.marks })
    }

    /// The characters of messages in `text`, if what came of the twin differs from it in nothing else.
    fn align(&self, output: &str, text: &str) -> Option<Vec<Found>> {
        let (mut found, mut rest, mut theirs) = (Vec::new(), text, output);
        while let Some(c) = theirs.chars().next() {
            let escaped = escaped(theirs).filter(|(c, _)| self.marks.contains_key(c));
            let (c, len) = escaped.unwrap_or((c, c.len_utf8()));
            theirs = &theirs[len..];
            let Some(mark) = self.marks.get(&c) else {
                rest = rest.strip_prefix(c)?;
                continue;
            };
            found.push((text.len() - rest.len(), *mark));
            let ours = match escaped {
                Some(_) => self::escaped(rest).map(|(_, len)| len),
                None => None,
            };
            rest = &rest[ours.or_else(|| rest.chars().next().map(char::len_utf8))?..];
        }
        rest.is_empty().then_some(found)
    }

    /// What came of the twin with the messages' own characters.
    fn put_back(&self, output: &str) -> (String, Vec<Found>) {
        let (mut text, mut found) = (String::with_capacity(output.len()), Vec::new());
        for c in output.chars() {
            match self.marks.get(&c) {
                Some(mark) => {
                    found.push((text.len(), *mark));
                    text.push(mark.original);
                }
                None => text.push(c),
            }
        }
        (text, found)
    }
}

/// The character that a text begins with as JSON writes it in ASCII, and the length of that.
fn escaped(text: &str) -> Option<(char, usize)> {
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let first = unit(text)?;
    match char::from_u32(first.into()) {
        Some(c) => Some((c, 6)),
        None => char::decode_utf16([first, unit(&text[6..])?]).next()?.ok().map(|c| (c, 12)),
    }
}

/// The numbers of the messages; those that say the same and no more have the first one's, since a template
/// may compare them.
fn numbers(messages: &[Value]) -> Vec<usize> {
    let mut first = HashMap::new();
    let number = |(number, message): (usize, &Value)| match message["content"].as_str() {
        Some(content) if !is_open(message) => *first.entry(content.to_owned()).or_insert(number),
        _ => number,
    };
    messages.iter().enumerate().map(number).collect()
}

/// Whether a message says more than a text.
fn is_open(message: &Value) -> bool {
    message.as_object().is_some_and(|fields| fields.keys().any(|name| name != "role" && name != "content"))
}

/// Where a text stands in another, if it stands there once.
fn only(text: &str, wanted: &str) -> Option<usize> {
    let mut places = text.match_indices(wanted).map(|(at, _)| at);
    places.next().filter(|_| places.next().is_none())
}

/// A text without its outer white space; of white space only, the empty end.
pub(super) fn core(text: &str) -> Range<usize> {
    let start = text.len() - text.trim_start_matches(is_space).len();
    start..start + text[start..].trim_end_matches(is_space).len()
}

impl Rendered {
    fn of(text: String, found: Vec<Found>) -> Rendered {
        Rendered { marks: places(&found), text, found, ..Rendered::default() }
    }

    /// Looks for the assistant's messages, once whose the characters are is known.
    pub(super) fn find_answers(&mut self, renderer: &Renderer, chat: &Chat) {
        let numbers = numbers(&chat.messages);
        for place in (0..numbers.len()).filter(|&place| chat.messages[place]["role"] == "assistant") {
            match answer(renderer, chat, &numbers, place, &self.text, &self.found) {
                Some(answer) => self.answers.push(answer),
                None => self.torn = true,
            }
        }
    }
}

/// Where an answer stands in `text`: between its edges, or, where no character of it was exchanged, after the
/// text that asks for it.
fn answer(
    renderer: &Renderer,
    chat: &Chat,
    numbers: &[usize],
    which: usize,
    text: &str,
    found: &[Found],
) -> Option<Answer> {
    let (message, number) = (&chat.messages[which], numbers[which]);
    let content = message["content"].as_str().unwrap_or_default();
    let core = core(content);
    let (said, space) = (&content[core.clone()], &content[..core.start]);
    // How much of the text there is without the messages from a place on.
    let up_to = |messages: usize, asks: bool| {
        let before = renderer.render(&chat.messages[..messages], chat.tools.as_ref(), asks).ok()?;
        text.starts_with(&before).then_some(before.len())
    };
    let asked = || up_to(which, true);
    let is_open = is_open(message);
    if is_open {
        let own: Vec<usize> =
            found.iter().filter(|(_, mark)| mark.message == number).map(|&(at, _)| at).collect();
        let (first, last) = (*own.first()?, *own.last()?);
        let end = last + text[last..].chars().next()?.len_utf8();
        return Some(Answer {
            place: asked().unwrap_or(first).min(first)..end,
            space: String::new(),
            is_open,
        });
    }
    // Each message must be there once, those that say the same in their order.
    let is_same = |&&other: &&usize| other == number;
    let (before, all) =
        (numbers[..which].iter().filter(is_same).count(), numbers.iter().filter(is_same).count());
    let edge = |side: usize| {
        let own = found.iter().filter(|(_, mark)| mark.message == number);
        let own: Vec<_> = own.filter_map(|(place, mark)| Some((*place, mark.edges[side]?))).collect();
        if own.len() == all {
            Ok(own.get(before).copied())
        } else if own.is_empty() {
            Ok(None)
        } else {
            Err(())
        }
    };
    let after = |text: &str, at: usize| text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
    let place = match (edge(0).ok()?, edge(1).ok()?) {
        (Some((first, first_said)), Some((last, last_said))) if first <= last => {
            // What stays at the ends must stand there as well.
            let before = &content[core.start..first_said];
            let behind = &content[after(content, last_said)..core.end];
            let end = after(text, last);
            let is_whole = text[..first].ends_with(before) && text[end..].starts_with(behind);
            is_whole.then_some(first - before.len()..end + behind.len())?
        }
        (None, None) => {
            let start = asked()?;
            let spaced = start + if text[start..].starts_with(space) { space.len() } else { 0 };
            let place = match text[spaced..].starts_with(said) {
                true => spaced,
                // The template says something before it: the answer is where its text is, if that is there
                // once.
                false => start + only(text.get(start..up_to(which + 1, false)?)?, said)?,
            };
            place..place + said.len()
        }
        _ => return None,
    };
    Some(Answer { place, space: space.to_owned(), is_open })
}
