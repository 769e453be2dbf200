//! Colour, where it helps: what went wrong, what is noteworthy, where a stage begins. Only where standard
//! error is a terminal that shows it, and nobody set `NO_COLOR`.

use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default();
const HEADING: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const PROMPT: Style = AnsiColor::Green.on_default().bold();

/// Words that lines begin with, and how they look.
const WORDS: [(&str, Style); 2] = [("error:", ERROR), ("note:", NOTE)];

/// A line for people, its first word in the colour of what it says.
pub(crate) fn line(text: &str) -> String {
    match WORDS.iter().find_map(|(word, style)| Some((word, style, text.strip_prefix(word)?))) {
        Some((word, style, rest)) => painted(*style, word) + rest,
        None => text.to_owned(),
    }
}

/// The beginning of something.
pub(crate) fn heading(text: &str) -> String {
    painted(HEADING, text)
}

/// What asks for a line.
pub(crate) fn prompt(text: &str) -> String {
    painted(PROMPT, text)
}

/// What a person wrote, beside what the model makes of it; for standard output.
pub(crate) fn faint(text: &str) -> String {
    match AutoStream::choice(&std::io::stdout()) != ColorChoice::Never {
        true => format!("{FAINT}{text}{FAINT:#}"),
        false => text.to_owned(),
    }
}

fn painted(style: Style, text: &str) -> String {
    static SHOWS: OnceLock<bool> = OnceLock::new();
    let shows = || AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    match SHOWS.get_or_init(shows) {
        true => format!("{style}{text}{style:#}"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_nothing_is_painted() {
        // Tests have none, or their runner captures it.
        if AutoStream::choice(&std::io::stderr()) == ColorChoice::Never {
            assert_eq!(line("note: this"), "note: this");
            assert_eq!(heading("1/12 lessons"), "1/12 lessons");
        }
    }
}
