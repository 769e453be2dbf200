//! One file a verb: its arguments, the call of the library, and its result as text and as JSON.

mod bench;
mod candidates;
mod chat;
mod classify;
mod complete;
mod corpus;
mod distil;
mod dpo;
mod eval;
mod finetune;
mod gguf;
mod grade;
mod grpo;
mod kto;
mod lessons;
mod lines;
mod manual;
mod merge;
mod out;
mod plan;
mod ppo;
mod pretrain;
mod rank;
mod report;
mod reward;
mod runs;
mod score;
mod serve;
mod sft;
mod show;
mod speedrun;
mod stages;
mod sweep;
mod tokenize;
mod tokenizer;
mod tools;
mod watch;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use gpt::checkpoint;

use crate::session::{Ended, Session};

/// The verbs, in the order of the road.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Lessons(lessons::LessonsArgs),
    Corpus(corpus::CorpusArgs),
    Tokenizer(tokenizer::TokenizerArgs),
    Tokenize(tokenize::TokenizeArgs),
    Pretrain(Box<pretrain::PretrainArgs>),
    Finetune(Box<finetune::FinetuneArgs>),
    Classify(classify::ClassifyArgs),
    Sft(Box<sft::SftArgs>),
    Distil(Box<distil::DistilArgs>),
    Candidates(candidates::CandidatesArgs),
    Rank(rank::RankArgs),
    Reward(Box<reward::RewardArgs>),
    Score(score::ScoreArgs),
    Ppo(Box<ppo::PpoArgs>),
    Dpo(Box<dpo::DpoArgs>),
    Kto(Box<kto::KtoArgs>),
    Grpo(Box<grpo::GrpoArgs>),
    Eval(eval::EvalArgs),
    Complete(complete::CompleteArgs),
    Chat(chat::ChatArgs),
    Serve(serve::ServeArgs),
    Grade(grade::GradeArgs),
    Show(show::ShowArgs),
    Merge(merge::MergeArgs),
    Gguf(gguf::GgufArgs),
    Report(report::ReportArgs),
    Runs(runs::RunsArgs),
    Watch(watch::WatchArgs),
    Plan(plan::PlanArgs),
    Sweep(sweep::SweepArgs),
    Bench(bench::BenchArgs),
    Speedrun(speedrun::SpeedrunArgs),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

/// The verbs that several processes do together (`mpirun`), by their names.
pub(crate) const SHARED: [&str; 11] =
    ["pretrain", "finetune", "sft", "distil", "candidates", "reward", "ppo", "dpo", "kto", "grpo", "eval"];

/// Runs a verb; none is `speedrun`.
pub(crate) fn run(verb: Option<Verb>, session: &Session) -> Result<Ended> {
    let mut verb = verb.unwrap_or_else(|| Verb::Speedrun(speedrun::SpeedrunArgs::default()));
    if let Some((model, AdapterArg { adapter: Some(adapter) })) = verb.reads() {
        *model = checkpoint::with_adapter_named(model, adapter);
    }
    match verb {
        Verb::Lessons(args) => lessons::run(&args, session),
        Verb::Corpus(args) => corpus::run(&args, session),
        Verb::Tokenizer(args) => tokenizer::run(&args, session),
        Verb::Tokenize(args) => tokenize::run(&args, session),
        Verb::Pretrain(args) => pretrain::run(&args, session),
        Verb::Finetune(args) => finetune::run(&args, session),
        Verb::Classify(args) => classify::run(&args, session),
        Verb::Sft(args) => sft::run(&args, session),
        Verb::Distil(args) => distil::run(&args, session),
        Verb::Candidates(args) => candidates::run(&args, session),
        Verb::Rank(args) => rank::run(&args, session),
        Verb::Reward(args) => reward::run(&args, session),
        Verb::Score(args) => score::run(&args, session),
        Verb::Ppo(args) => ppo::run(&args, session),
        Verb::Dpo(args) => dpo::run(&args, session),
        Verb::Kto(args) => kto::run(&args, session),
        Verb::Grpo(args) => grpo::run(&args, session),
        Verb::Eval(args) => eval::run(&args, session),
        Verb::Chat(args) => chat::run(&args, session),
        Verb::Serve(args) => serve::run(&args, session),
        Verb::Complete(args) => complete::run(&args, session),
        Verb::Show(args) => show::run(&args, session),
        Verb::Merge(args) => merge::run(&args, session),
        Verb::Gguf(args) => gguf::run(&args, session),
        Verb::Report(args) => report::run(&args, session),
        Verb::Runs(args) => runs::run(&args, session),
        Verb::Watch(args) => watch::run(&args, session),
        Verb::Plan(args) => plan::run(&args, session),
        Verb::Sweep(args) => sweep::run(&args, session),
        Verb::Grade(args) => grade::run(&args, session),
        Verb::Bench(args) => bench::run(&args, session),
        Verb::Speedrun(args) => speedrun::run(&args, session),
        Verb::Completions(args) => manual::completions(&args, session),
        Verb::Man(args) => manual::man(&args, session),
    }
}

/// The adapter of a verb that reads a model.
#[derive(Debug, Default, Args)]
pub(crate) struct AdapterArg {
    /// An adapter beside the model: a run that trained it, a checkpoint or the directory of PEFT. BASE+ADAPTER, in
    /// place of the model, means the same
    #[arg(long, value_name = "ADAPTER", requires = "model")]
    adapter: Option<PathBuf>,
}

impl Verb {
    /// The model of a verb that reads one as it is, and what is beside it.
    fn reads(&mut self) -> Option<(&mut PathBuf, &AdapterArg)> {
        Some(match self {
            Verb::Classify(args) => (&mut args.model, &args.adapter),
            Verb::Candidates(args) => (&mut args.model, &args.adapter),
            Verb::Score(args) => (&mut args.model, &args.adapter),
            Verb::Eval(args) => (args.model.as_mut()?, &args.adapter),
            Verb::Complete(args) => (&mut args.model, &args.adapter),
            Verb::Chat(args) => (&mut args.model, &args.adapter),
            Verb::Gguf(args) => (&mut args.model, &args.adapter),
            _ => return None,
        })
    }
}
