//! Text from tokens that arrive one at a time.

use super::Tokenizer;
use anyhow::Result;

/// Text from bytes that arrive piece by piece, without ever cutting a character: bytes that begin a UTF-8
/// character wait until it is whole, bytes that cannot become one turn into U+FFFD.
#[derive(Debug, Default)]
pub struct Utf8Stream {
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// The text that is complete with these bytes: often empty inside a character of several bytes.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        take_text(&mut self.pending, false)
    }

    /// The end: what still waits, an unfinished character, becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        take_text(&mut self.pending, true)
    }
}

/// Decodes a stream of tokens through a [`Utf8Stream`]. All its text joined is what [`Tokenizer::decode`]
/// gives.
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    text: Utf8Stream,
}

impl<'a> StreamDecoder<'a> {
    /// A decoder at the beginning of a text.
    pub fn new(tokenizer: &'a Tokenizer) -> StreamDecoder<'a> {
        StreamDecoder { tokenizer, text: Utf8Stream::default() }
    }

    /// The text that is complete with this token. Fails when the vocabulary does not have the id; the stream
    /// is then as before.
    pub fn push(&mut self, id: u32) -> Result<String> {
        Ok(self.text.push(self.tokenizer.token_bytes(id)?))
    }

    /// The end of the text.
    pub fn finish(mut self) -> String {
        self.text.finish()
    }
}

/// Removes the decodable beginning of `pending`; at the `end` of the stream that is all of it.
fn take_text(pending: &mut Vec<u8>, end: bool) -> String {
    let (mut text, mut done) = (String::new(), 0);
    for chunk in pending.utf8_chunks() {
        text.push_str(chunk.valid());
        done += chunk.valid().len();
        let invalid = chunk.invalid();
        let is_last = done + invalid.len() == pending.len();
        if invalid.is_empty() || (is_last && !end && begins_a_character(invalid)) {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        done += invalid.len();
    }
    pending.drain(..done);
    text
}

/// Whether more bytes could make a character of these.
fn begins_a_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}
