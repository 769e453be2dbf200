//! What can be typed.

use clap::Parser;
use clap::builder::styling::{AnsiColor, Styles};

use crate::options::Global;
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
    disable_help_subcommand = true,
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Without one: `speedrun`.
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
