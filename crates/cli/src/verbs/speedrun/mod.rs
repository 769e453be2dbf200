//! `mynah speedrun`: a whole road in one command.

mod chat;
mod code;
mod tasks;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use gpt::stage::{DEFAULT_SCALE, SCALES, TRAINING_SECS};

use crate::Ended;
use crate::args::Usage;
use crate::session::Session;
use crate::terminal::text::secs;

/// Where the road goes unless somebody says otherwise.
const OUT: &str = "runs/speedrun";

/// The whole road in one command, from text to a chat
#[derive(Debug, Default, Args)]
#[command(after_help = details())]
pub(crate) struct SpeedrunArgs {
    /// How far to go, see below; with --code a preset of `mynah pretrain`
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Directory for everything that is made [default: runs/speedrun, with --code runs/code, with --task-tokens runs/tasks]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Walk the road of code instead: learn from source code that lies on this machine, and complete some
    #[arg(long)]
    code: bool,
    /// Walk the road of task tokens instead: one model of text and of tasks, asked about names and sentences that it has never
    /// seen; --preset tiny is for tests
    #[arg(long, conflicts_with_all = ["code", "source"])]
    task_tokens: bool,
    /// A folder of source code to learn from, instead of those that are looked for; may be repeated
    #[arg(long, value_name = "FOLDER", requires = "code")]
    source: Vec<PathBuf>,
    /// Do not begin to talk at the end
    #[arg(long)]
    no_chat: bool,
}

fn details() -> String {
    let scales = SCALES.map(|(name, what)| {
        let default = if name == DEFAULT_SCALE { " (the default)" } else { "" };
        format!("  {name:<8} {what}{default}\n")
    });
    format!(
        "Every stage has a directory of its own and continues where it was stopped. The road to a chat writes its own lessons, \
         in English and\nChinese, and walks: corpus, tokenizer, pretraining, supervised fine-tuning, ranked answers, reward \
         model, PPO and DPO, and a comparison\nof them all. Presets:\n{}\nThe road of code (--code) collects source code, trains \
         the model that learns most in about {}, and completes code that it has not seen.\nThe road \
         of task tokens (--task-tokens) takes less than five minutes.\n\nExamples:\n  mynah\n  mynah speedrun \
         --preset tiny --out /tmp/quick --no-chat\n  mynah speedrun --task-tokens\n  mynah speedrun --code\n  mynah speedrun --code --source ~/projects --out \
         runs/mine",
        scales.concat(),
        secs(TRAINING_SECS)
    )
}

pub(crate) fn run(args: &SpeedrunArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    if args.code {
        return code::run(args, session);
    }
    if args.task_tokens {
        return tasks::run(args, session);
    }
    let scale = args.preset.as_deref().unwrap_or(DEFAULT_SCALE);
    let names: Vec<&str> = SCALES.iter().map(|(name, _)| *name).collect();
    ensure!(
        names.contains(&scale),
        Usage(format!("there is no preset `{scale}` of the road: choose one of {}", names.join(", ")))
    );
    chat::run(args, scale, session)
}
