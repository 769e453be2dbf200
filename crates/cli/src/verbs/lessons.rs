//! `mynah lessons`: the data that the program makes itself, as files.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpt::lessons::{Amounts, write_lessons};
use gpt::tools::calculator_tools;
use serde_json::json;

use crate::options::{amount, whole};
use crate::session::{Ended, Session};
use crate::terminal::text::{bytes, count};

/// Write the built-in lessons as files: text, demonstrations, prompts, texts with labels and with tasks,
/// English and Chinese
#[derive(Debug, Args)]
#[command(after_help = "\
The road by hand, from lessons to a chat:
  mynah lessons --out lessons
  mynah corpus lessons/text.jsonl --text-field text --no-dedup --out corpus
  mynah tokenizer train --corpus corpus --vocab-size 2048 --out tokenizer.json
  mynah tokenize --corpus corpus --tokenizer tokenizer.json --out tokens
  mynah pretrain --data tokens --preset nano --out runs/base
  mynah sft --model runs/base --data lessons/demonstrations.jsonl --out runs/sft
  mynah candidates --model runs/sft --prompts lessons/prompts.jsonl --k 4 --out candidates.jsonl
  mynah rank simulate --candidates candidates.jsonl --judge lessons --out rankings.jsonl
  mynah reward --model runs/sft --rankings rankings.jsonl --out runs/reward
  mynah ppo --model runs/sft --reward runs/reward --prompts lessons/prompts.jsonl --val lessons/held-out.jsonl --out runs/ppo
  mynah chat --model runs/ppo")]
pub(crate) struct LessonsArgs {
    /// Directory for the files, new or empty; lessons.json tells what is in it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Bytes of running text
    #[arg(long, value_name = "N", default_value = "16M", value_parser = amount)]
    text_bytes: u64,
    /// Demonstrations
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0..), default_value_t = 8000)]
    demonstrations: usize,
    /// Prompts to answer in training
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0..), default_value_t = 4000)]
    prompts: usize,
    /// Prompts that occur in none of the others
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0..), default_value_t = 400)]
    held_out: usize,
    /// Texts with what is asked of them, for task tokens
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0..), default_value_t = 8000)]
    task_rows: usize,
    /// Demonstrations with a calculator, for sums that are too large to know by heart
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0..), default_value_t = 8000)]
    calculator: usize,
}

pub(crate) fn run(args: &LessonsArgs, session: &Session) -> Result<Ended> {
    let LessonsArgs { ref out, text_bytes, demonstrations, prompts, held_out, task_rows, calculator } = *args;
    let seed = session.seed();
    let amounts = Amounts { seed, text_bytes, demonstrations, prompts, held_out, task_rows, calculator };
    let (documents, is_there) = write_lessons(out, &amounts, &calculator_tools())?;
    if is_there {
        session.say(&format!("{} is complete already: nothing to do", out.display()));
    }
    let summary = json!({
        "documents": documents, "text_bytes": text_bytes, "demonstrations": demonstrations,
        "prompts": prompts, "held_out": held_out, "task_rows": task_rows, "calculator": calculator, "out": out,
    });
    session.summary(&summary, || {
        format!(
            "{} of text, {} demonstrations, {} prompts and {} held out → {}",
            bytes(text_bytes),
            count(demonstrations as u64),
            count(prompts as u64),
            count(held_out as u64),
            out.display()
        )
    })?;
    Ok(Ended::Done)
}
