//! What can be typed.

mod hints;

use clap::builder::StyledStr;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches, Parser};

use crate::options::Global;
use crate::terminal::{help_width, text};
use crate::verbs::Verb;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  mynah                                        the whole road, from text to a chat, in about ten minutes
  mynah lessons --out lessons                  from data of its own, or yours …
  mynah corpus lessons/text.jsonl --text-field text --no-dedup --out corpus
  mynah tokenizer train --corpus corpus --vocab-size 2048 --out tokenizer.json
  mynah tokenize --corpus corpus --tokenizer tokenizer.json --out tokens
  mynah pretrain --data tokens --preset nano --out runs/base
  mynah sft --model runs/base --data lessons/demonstrations.jsonl --out runs/sft
  mynah candidates --model runs/sft --prompts lessons/prompts.jsonl --out candidates.jsonl
  mynah rank simulate --candidates candidates.jsonl --judge lessons --out rankings.jsonl
  mynah reward --model runs/sft --rankings rankings.jsonl --out runs/reward
  mynah ppo --model runs/sft --reward runs/reward --prompts lessons/prompts.jsonl --out runs/ppo
  mynah chat --model runs/ppo                  … to a model that answers
  mynah finetune --model runs/base --task classification --train lessons/labelled.jsonl --out runs/tasks

`mynah VERB --help` explains a verb. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C after saving.";

/// From raw text to your own ChatGPT, in one program.
#[derive(Debug, Parser)]
#[command(
    name = "mynah",
    version,
    styles = STYLES,
    after_help = EXAMPLES,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Without one: `speedrun`.
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    /// Its name.
    #[arg(skip)]
    pub(crate) verb_name: String,
}

impl Cli {
    /// What was typed.
    ///
    /// # Errors
    /// It is no command; also where help was asked for.
    pub(crate) fn typed() -> Result<Cli, clap::Error> {
        let mut command = command();
        let typed = command.try_get_matches_from_mut(std::env::args_os());
        let named = |matches: ArgMatches| {
            let verb_name = matches.subcommand_name().unwrap_or("speedrun").to_owned();
            Ok(Cli { verb_name, ..Cli::from_arg_matches(&matches)? })
        };
        typed.and_then(named).map_err(|error| hints::with_hint(error, &command))
    }
}

/// The whole command line, its help fitted to the terminal.
pub(crate) fn command() -> Command {
    of_width(help_width())
}

fn of_width(width: usize) -> Command {
    let mut command = fitted(Cli::command().term_width(width), width);
    // Names of verbs are whole only then.
    command.build();
    wrap_usage(&mut command, width);
    command
}

/// What `clap` does not wrap.
fn wrap_usage(command: &mut Command, width: usize) {
    const HEAD: &str = "Usage: ";
    for verb in command.get_subcommands_mut() {
        let usage = verb.render_usage().to_string();
        if usage.lines().any(|line| line.chars().count() > width) {
            let usage = text::wrapped(&usage.replace(HEAD, ""), width - HEAD.len());
            let usage = usage.replace('\n', &format!("\n{}", " ".repeat(HEAD.len())));
            *verb = std::mem::take(verb).override_usage(usage);
        }
        wrap_usage(verb, width);
    }
}

/// What is alike in all verbs: texts as wide as the terminal, and numbers below zero that are taken for
/// values, so that a message can say what is wrong with them.
fn fitted(mut command: Command, width: usize) -> Command {
    for long in [false, true] {
        let text = if long { command.get_after_long_help() } else { command.get_after_help() };
        if let Some(text) = text.map(StyledStr::to_string) {
            let text = text::wrapped(&text, width);
            command = if long { command.after_long_help(text) } else { command.after_help(text) };
        }
    }
    let takes_value = |arg: &Arg| arg.get_long().is_some() && arg.get_action().takes_values();
    command
        .mut_args(|arg| if takes_value(&arg) { arg.allow_negative_numbers(true) } else { arg })
        .mut_subcommands(|verb| fitted(verb, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn help_is_as_wide_as_the_terminal() {
        fn check(command: &mut Command, width: usize) {
            let help = command.render_long_help().to_string();
            let long = help.lines().filter(|line| line.chars().count() > width);
            // What cannot be broken, such as a list of a flag's values, stays.
            let long: Vec<&str> = long.filter(|line| line.trim().contains(' ')).collect();
            assert!(long.is_empty(), "{}: {long:#?}", command.get_name());
            command.get_subcommands_mut().for_each(|verb| check(verb, width));
        }
        for width in [80, 100, 120] {
            check(&mut of_width(width), width);
        }
    }
}
