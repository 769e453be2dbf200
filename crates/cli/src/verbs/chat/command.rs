//! What a line of a chat asks for.

use gpt::nearest::nearest;

use crate::verbs::complete::temperature;

/// What can be typed, as `/help` tells it.
pub(super) const HELP: &str = "\
  /system TEXT      what holds for the whole conversation; without TEXT nothing does
  /reset            forget the conversation, but not what /system said
  /retry            another answer to the last message
  /save FILE        append the conversation to FILE, a line as `mynah sft` reads it
  /temperature F    0 for the most likely answer, 1 for any
  /help             this list
  /quit             leave, as Ctrl-D does
Ctrl-C stops an answer or clears the line. A line that ends with a \\ goes on with the next. One that begins with a space is said as it is, even if a / follows.";

/// The commands, by the names that `/help` tells.
pub(super) const COMMANDS: &[&str] =
    &["/system ", "/reset", "/retry", "/save ", "/temperature ", "/help", "/quit"];

/// What a line asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Command<'a> {
    Say(&'a str),
    System(&'a str),
    Reset,
    Retry,
    Save(&'a str),
    Temperature(f32),
    Help,
    Quit,
    /// Nothing: why not, in words, if there is something to say.
    Nothing(Option<String>),
}

impl Command<'_> {
    pub(super) fn of(line: &str) -> Command<'_> {
        let text = line.trim();
        if text.is_empty() {
            return Command::Nothing(None);
        }
        let Some(words) = line.strip_prefix('/') else { return Command::Say(text) };
        let (name, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
        let rest = rest.trim();
        match name.trim() {
            "system" => Command::System(rest),
            "save" if rest.is_empty() => Command::Nothing(Some("where to? /save FILE".into())),
            "save" => Command::Save(rest),
            "temperature" => match temperature(rest) {
                Ok(value) => Command::Temperature(value),
                Err(why) => Command::Nothing(Some(format!("/temperature F: {why}"))),
            },
            "reset" => Command::Reset,
            "retry" => Command::Retry,
            "help" => Command::Help,
            "quit" | "exit" => Command::Quit,
            other => {
                let names = COMMANDS.iter().map(|command| command[1..].trim_end());
                let meant = nearest(other, names)
                    .map_or_else(String::new, |name| format!(" (did you mean /{name}?)"));
                Command::Nothing(Some(format!("there is no /{other}{meant}; /help tells what there is")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_can_be_completed_is_one() {
        for command in COMMANDS {
            assert!(HELP.contains(command.trim_end()), "{command}");
            let is_unknown =
                matches!(Command::of(command), Command::Nothing(Some(why)) if why.contains("there is no"));
            assert!(!is_unknown, "{command}");
        }
        let Command::Nothing(Some(why)) = Command::of("/quti") else { panic!() };
        assert!(why.contains("did you mean /quit?"), "{why}");
    }

    #[test]
    fn lines_are_said_or_obeyed() {
        for (line, expected) in [
            ("hello there\r\n", Command::Say("hello there")),
            (" /quit is a word\n", Command::Say("/quit is a word")),
            ("/system  Be brief. \n", Command::System("Be brief.")),
            ("/system", Command::System("")),
            ("/save my chats.jsonl\n", Command::Save("my chats.jsonl")),
            ("/temperature 0.5\n", Command::Temperature(0.5)),
            ("/retry\n", Command::Retry),
            ("/quit\n", Command::Quit),
            ("\n", Command::Nothing(None)),
        ] {
            assert_eq!(Command::of(line), expected, "{line:?}");
        }
        for (line, said) in [("/save \n", "/save FILE"), ("/temperature -1", "from 0 up"), ("/fly", "/help")]
        {
            let Command::Nothing(Some(why)) = Command::of(line) else { panic!("{line:?}") };
            assert!(why.contains(said), "{why}");
        }
    }
}
