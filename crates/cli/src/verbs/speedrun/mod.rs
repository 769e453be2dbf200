//! `mynah speedrun`: a whole road in one command.

mod chat;
mod code;
mod tasks;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use gpt::nearest::did_you_mean;
use gpt::stage::{Budget, DEFAULT_SCALE, SCALES};

use crate::options::{Usage, number};
use crate::session::{Ended, Session};

/// Where the road goes unless somebody says otherwise.
const OUT: &str = "runs/speedrun";

/// The whole road in one command, from text to a chat
#[derive(Debug, Default, Args)]
#[command(after_help = details())]
pub(crate) struct SpeedrunArgs {
    /// How far to go, see below; with --code a preset of `mynah pretrain`
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Directory for everything that is made [default: runs/speedrun, with --code runs/code, with
    /// --task-tokens runs/tasks]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Walk the road of code instead: learn from source code that lies on this machine, and complete some
    #[arg(long)]
    code: bool,
    /// Walk the road of task tokens instead: one model of text and of tasks, asked about names and sentences
    /// that it has never seen; --preset tiny is for tests
    #[arg(long, conflicts_with_all = ["code", "source"])]
    task_tokens: bool,
    /// Minutes that the road may take, on this machine as it is: its stages are sized to end in time
    #[arg(long, value_name = "N", value_parser = number, conflicts_with = "flops")]
    minutes: Option<f64>,
    /// Floating-point operations that its models may cost instead: the same amounts on every machine, such as
    /// 6e13
    #[arg(long, value_name = "F", value_parser = number)]
    flops: Option<f64>,
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
         the model that learns most in about seven minutes, and completes code that it has not seen.\nThe road \
         of task tokens (--task-tokens) takes less than five minutes.\n\nExamples:\n  mynah\n  mynah speedrun --minutes 30 --out runs/longer\n  mynah speedrun \
         --preset tiny --out /tmp/quick --no-chat\n  mynah speedrun --task-tokens\n  mynah speedrun --code\n  mynah speedrun --code --source ~/projects --out \
         runs/mine",
        scales.concat()
    )
}

impl SpeedrunArgs {
    /// What the road may cost, where somebody says so.
    fn budget(&self) -> Result<Option<Budget>> {
        let (name, value) = match (self.minutes, self.flops) {
            (Some(minutes), _) => ("--minutes", minutes),
            (None, Some(flops)) => ("--flops", flops),
            (None, None) => return Ok(None),
        };
        ensure!(
            value.is_finite() && value > 0.0,
            Usage(format!("{name} {value}: give a number above 0, such as --minutes 10 or --flops 6e13"))
        );
        Ok(Some(if name == "--minutes" { Budget::Minutes(value) } else { Budget::Flops(value) }))
    }
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
        Usage(format!(
            "there is no preset `{scale}` of the road{}: choose one of {}",
            did_you_mean(scale, names.iter().copied()),
            names.join(", ")
        ))
    );
    chat::run(args, scale, session)
}
