//! The text of a continuation as it grows.

use text::tokenizer::Utf8Stream;

/// Tells the text of tokens that arrive one at a time: complete characters only, and nothing that may turn
/// out to belong to a stop string.
#[derive(Debug)]
pub struct TextStream {
    decoder: Utf8Stream,
    /// None of them empty.
    stop: Vec<String>,
    text: String,
    /// Bytes of `text` that were told.
    told: usize,
    ended: bool,
}

/// What became certain with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certain<'a> {
    /// The text; often empty.
    pub text: &'a str,
    /// Whether a stop string came. Nothing is told any more.
    pub stopped: bool,
}

impl TextStream {
    /// The beginning of a text that ends before any of `stop`.
    pub fn new(stop: &[String]) -> TextStream {
        let stop = stop.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        TextStream { decoder: Utf8Stream::default(), stop, text: String::new(), told: 0, ended: false }
    }

    /// The same where tokens with these bytes came before, whose text is known: a character that they leave
    /// unfinished is told with what makes it whole.
    pub fn after(mut self, bytes: &[u8]) -> TextStream {
        self.decoder.push(bytes);
        self
    }

    /// Adds the bytes of a token.
    pub fn push(&mut self, bytes: &[u8]) -> Certain<'_> {
        if self.ended {
            return Certain { text: "", stopped: false };
        }
        self.text.push_str(&self.decoder.push(bytes));
        let open = &self.text[self.told..];
        let found = self.stop.iter().filter_map(|stop| open.find(stop.as_str())).min();
        let certain = match found {
            Some(at) => self.told + at,
            None => self.text.len() - held_back(open, &self.stop),
        };
        let before = std::mem::replace(&mut self.told, certain);
        if found.is_some() {
            self.end();
        }
        Certain { text: &self.text[before..certain], stopped: found.is_some() }
    }

    /// Ends the text with what was told of it.
    pub fn end(&mut self) {
        self.text.truncate(self.told);
        self.ended = true;
    }

    /// No token comes any more: what was held back is certain now.
    pub fn finish(&mut self) -> &str {
        if self.ended {
            return "";
        }
        self.text.push_str(&self.decoder.finish());
        self.ended = true;
        let before = std::mem::replace(&mut self.told, self.text.len());
        &self.text[before..]
    }

    /// All that was told.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Length of the longest end of `text` that a stop string begins with.
fn held_back(text: &str, stop: &[String]) -> usize {
    let longest = |stop: &String| {
        let starts = stop.char_indices().map(|(at, _)| at).skip(1);
        starts.filter(|&len| text.ends_with(&stop[..len])).max().unwrap_or(0)
    };
    stop.iter().map(longest).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` byte by byte, as tokens of one byte would: all of it, what was heard, and whether it was
    /// stopped.
    fn stream(text: &str, stop: &[&str]) -> (String, String, bool) {
        let stop: Vec<String> = stop.iter().map(|s| s.to_string()).collect();
        let mut stream = TextStream::new(&stop);
        let (mut heard, mut was_stopped) = (String::new(), false);
        for byte in text.bytes() {
            let Certain { text, stopped } = stream.push(&[byte]);
            heard.push_str(text);
            was_stopped |= stopped;
        }
        heard.push_str(stream.finish());
        (stream.into_text(), heard, was_stopped)
    }

    #[test]
    fn stop_strings_cross_tokens_and_are_never_heard() {
        for (text, stop, want, stops) in [
            ("one\n\ntwo", vec!["\n\n"], "one", true),
            ("one\ntwo\n", vec!["\n\n"], "one\ntwo\n", false),
            ("ababac", vec!["abac"], "ab", true),
            ("日本語🙂 end", vec!["🙂"], "日本語", true),
            ("日本語🙂", vec!["🙃"], "日本語🙂", false),
            ("x def y class", vec!["class", "def"], "x ", true),
            ("abc", vec![""], "abc", false),
        ] {
            let (got, heard, stopped) = stream(text, &stop);
            assert_eq!((got.as_str(), heard.as_str(), stopped), (want, want, stops), "{text:?} {stop:?}");
        }
    }

    #[test]
    fn the_earliest_of_several_stop_strings_ends_a_token_of_many() {
        let stop = ["three".to_owned(), "two".to_owned()];
        let mut stream = TextStream::new(&stop);
        assert_eq!(stream.push(b"one two three four"), Certain { text: "one ", stopped: true });
        assert_eq!(stream.push(b"five"), Certain { text: "", stopped: false });
        assert_eq!(stream.finish(), "");
        assert_eq!(stream.into_text(), "one ");
    }

    #[test]
    fn a_character_that_was_begun_before_is_made_whole() {
        let mut stream = TextStream::new(&[]).after(&"one 🙂".as_bytes()[..6]);
        assert_eq!(stream.push(&"🙂".as_bytes()[2..]).text, "🙂");
        let mut stream = TextStream::new(&[]).after("🙂".as_bytes());
        assert_eq!(stream.push(b" two").text, " two");
    }

    #[test]
    fn text_is_heard_as_soon_as_it_is_certain() {
        let mut stream = TextStream::new(&["end".to_owned()]);
        let mut heard = String::new();
        for bytes in ["x e e".as_bytes(), &"🙂".as_bytes()[..3]] {
            heard.push_str(stream.push(bytes).text);
        }
        assert_eq!(heard, "x e ", "the last e may become `end`");
        assert_eq!(stream.finish(), "e\u{fffd}", "a character that is not whole is told at the end");
    }
}
