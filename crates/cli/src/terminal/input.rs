//! Lines that a person types: in an editor where there is a terminal to draw it on, as they come elsewhere.

use std::borrow::Cow;
use std::io::{BufRead, IsTerminal, StdinLock, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Editor, Helper};

use super::{eprint_line, style};

/// Lines that are kept from one session to the next.
const KEPT: usize = 1000;
/// Names the file of kept lines; empty, nothing is kept.
const FILE: &str = "MYNAH_HISTORY";

/// How lines are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asking {
    /// What stands before a line.
    pub(crate) prompt: &'static str,
    /// Whether lines are kept for other sessions, and a line that ends with a `\` goes on with the next.
    pub(crate) is_chat: bool,
    /// What can be completed where a line begins with a `/`.
    pub(crate) commands: &'static [&'static str],
}

/// What somebody did when a line was asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Typed {
    /// They typed it.
    Line(String),
    /// They threw it away, with Ctrl-C.
    Nothing,
    /// They have enough: Ctrl-D, or the input is over.
    End,
}

/// Where lines come from.
pub(crate) enum Input {
    /// From a person, who may edit them.
    Edited(Box<Edited>),
    /// From standard input, to which a person may be connected all the same.
    Plain(StdinLock<'static>, Asking),
}

/// A line editor and the file that its lines are kept in.
pub(crate) struct Edited {
    editor: Editor<Asking, DefaultHistory>,
    prompt: &'static str,
    history: Option<PathBuf>,
}

impl Input {
    /// Whatever standard input and standard output are good for.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub(crate) fn open(asking: Asking) -> Result<Input> {
        let (input, output) = (std::io::stdin(), std::io::stdout());
        if !input.is_terminal() || !output.is_terminal() {
            return Ok(Input::Plain(input.lock(), asking));
        }
        let config = Config::builder().completion_type(CompletionType::List).max_history_size(KEPT);
        let config = config.context("history has a size")?.bracketed_paste(true).build();
        let mut editor = Editor::with_config(config).context("cannot use the terminal")?;
        editor.set_helper(Some(asking));
        let history = if asking.is_chat { history_file() } else { None };
        if let Some(file) = &history {
            // There is none before the first line was kept.
            let _ = editor.load_history(file);
        }
        Ok(Input::Edited(Box::new(Edited { editor, prompt: asking.prompt, history })))
    }

    /// The next line.
    ///
    /// # Errors
    /// Standard input or the terminal cannot be read.
    pub(crate) fn next(&mut self) -> Result<Typed> {
        match self {
            Input::Edited(edited) => edited.next(),
            Input::Plain(input, asking) => {
                if std::io::stdin().is_terminal() {
                    // Nobody may be looking.
                    let _ = write!(std::io::stderr(), "{}", asking.prompt);
                }
                let mut line = Vec::new();
                let read = input.read_until(b'\n', &mut line).context("cannot read standard input")?;
                Ok(match read {
                    0 => Typed::End,
                    _ => Typed::Line(String::from_utf8_lossy(&line).into_owned()),
                })
            }
        }
    }
}

impl Edited {
    fn next(&mut self) -> Result<Typed> {
        let line = match self.editor.readline(self.prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => return Ok(Typed::Nothing),
            Err(ReadlineError::Eof) => return Ok(Typed::End),
            Err(error) => return Err(error).context("cannot read from the terminal"),
        };
        if !line.trim().is_empty() && self.editor.add_history_entry(line.as_str()).unwrap_or(false) {
            self.keep();
        }
        Ok(Typed::Line(joined(&line)))
    }

    /// Adds the last line to the file. Where that cannot be, nothing is kept from then on.
    fn keep(&mut self) {
        let Some(file) = &self.history else { return };
        let folder = file.parent().unwrap_or(Path::new("."));
        let kept = std::fs::create_dir_all(folder).map_err(ReadlineError::Io);
        if let Err(error) = kept.and_then(|()| self.editor.append_history(file)) {
            let shown = file.display();
            eprint_line(&style::line(&format!(
                "note: lines are not kept in {shown}: {error}; {FILE}= names another file"
            )));
            self.history = None;
        }
    }
}

/// The file of kept lines: what [`FILE`] says, else where XDG wants a program's state.
fn history_file() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    history_of(named(FILE), named("XDG_STATE_HOME"), std::env::home_dir())
}

fn history_of(asked: Option<PathBuf>, state: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    match asked {
        Some(asked) => Some(asked).filter(|asked| !asked.as_os_str().is_empty()),
        None => {
            let state = state.filter(|state| state.is_absolute());
            Some(state.or_else(|| Some(home?.join(".local/state")))?.join("mynah").join("chat-history"))
        }
    }
}

/// A line without the marks of going on.
fn joined(line: &str) -> String {
    line.replace("\\\n", "\n")
}

impl Helper for Asking {}

impl Hinter for Asking {
    type Hint = String;
}

impl Highlighter for Asking {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, is_default: bool) -> Cow<'b, str> {
        match is_default {
            true => Cow::Owned(style::prompt(prompt)),
            false => Cow::Borrowed(prompt),
        }
    }
}

impl Validator for Asking {
    fn validate(&self, line: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match self.is_chat && line.input().ends_with('\\') {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for Asking {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..at).unwrap_or(line);
        let fitting =
            self.commands.iter().filter(|command| typed.starts_with('/') && command.starts_with(typed));
        Ok((0, fitting.map(|command| (*command).to_owned()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_where_somebody_says_or_xdg_wants_it() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(history_of(path("here"), path("/state"), path("/home")), path("here"));
        assert_eq!(history_of(path(""), path("/state"), path("/home")), None, "nothing is kept");
        assert_eq!(history_of(None, path("/state"), path("/home")), path("/state/mynah/chat-history"));
        let at_home = path("/home/.local/state/mynah/chat-history");
        assert_eq!(history_of(None, path("relative"), path("/home")), at_home);
        assert_eq!(history_of(None, None, None), None);
    }

    #[test]
    fn lines_that_go_on_are_one() {
        assert_eq!(joined("first\\\nsecond\nthird"), "first\nsecond\nthird");
        assert_eq!(joined("a \\ b"), "a \\ b");
    }
}
