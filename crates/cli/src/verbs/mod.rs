//! One file a verb: its arguments, the call of the library, and its result as text and as JSON.

pub(crate) mod bench;
pub(crate) mod candidates;
pub(crate) mod chat;
pub(crate) mod classify;
pub(crate) mod complete;
pub(crate) mod corpus;
pub(crate) mod dpo;
pub(crate) mod eval;
pub(crate) mod finetune;
pub(crate) mod gguf;
pub(crate) mod grade;
pub(crate) mod lessons;
mod out;
pub(crate) mod plan;
pub(crate) mod ppo;
pub(crate) mod pretrain;
pub(crate) mod rank;
pub(crate) mod report;
pub(crate) mod reward;
pub(crate) mod score;
pub(crate) mod sft;
pub(crate) mod show;
pub(crate) mod speedrun;
mod stages;
pub(crate) mod tokenize;
pub(crate) mod tokenizer;

use anyhow::Result;

use crate::Ended;
use crate::args::Verb;
use crate::session::Session;

/// Runs a verb; none is `speedrun`.
pub(crate) fn run(verb: Option<Verb>, session: &Session) -> Result<Ended> {
    match verb.unwrap_or_else(|| Verb::Speedrun(speedrun::SpeedrunArgs::default())) {
        Verb::Lessons(args) => lessons::run(&args, session),
        Verb::Corpus(args) => corpus::run(&args, session),
        Verb::Tokenizer(args) => tokenizer::run(&args, session),
        Verb::Tokenize(args) => tokenize::run(&args, session),
        Verb::Pretrain(args) => pretrain::run(&args, session),
        Verb::Finetune(args) => finetune::run(&args, session),
        Verb::Classify(args) => classify::run(&args, session),
        Verb::Sft(args) => sft::run(&args, session),
        Verb::Candidates(args) => candidates::run(&args, session),
        Verb::Rank(args) => rank::run(&args, session),
        Verb::Reward(args) => reward::run(&args, session),
        Verb::Score(args) => score::run(&args, session),
        Verb::Ppo(args) => ppo::run(&args, session),
        Verb::Dpo(args) => dpo::run(&args, session),
        Verb::Eval(args) => eval::run(&args, session),
        Verb::Chat(args) => chat::run(&args, session),
        Verb::Complete(args) => complete::run(&args, session),
        Verb::Show(args) => show::run(&args, session),
        Verb::Gguf(args) => gguf::run(&args, session),
        Verb::Report(args) => report::run(&args, session),
        Verb::Plan(args) => plan::run(&args, session),
        Verb::Grade(args) => grade::run(&args, session),
        Verb::Bench(args) => bench::run(&args, session),
        Verb::Speedrun(args) => speedrun::run(&args, session),
    }
}
