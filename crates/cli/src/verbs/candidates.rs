//! `mynah candidates`: answers to be ranked.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use gpt::chat::Chat;
use gpt::complete::Options;
use gpt::data::messages::{self, prompt};
use gpt::data::{Candidates, Prompt, Prompter};
use gpt::dealt::{Listener, agree};
use gpt::model::Sampling;
use gpt::output::{Input, Recipe, digest};
use gpt::progress::{Silent, Stopped};
use gpt::stage::{CandidatesOptions, Scorer, candidates_each};
use gpt::tokenizer::Tokenizer;
use gpt::tools::candidates_with_tools;
use ranks::Ranks;

use crate::device::Compute;
use serde::Serialize;
use serde_json::{Value, json};

use super::AdapterArg;
use super::complete::Model;
use super::lines::SharedLines;
use super::out::{Force, RULE, kept, model, say_finished, shortest};
use super::stages::RowArgs;
use super::tools::ToolArgs;
use crate::options::{WeightsArg, whole};
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::count;

/// Answers that a reward model reads at once, about.
const JUDGED_AT_ONCE: usize = 64;

/// Sample several answers to each prompt, ready to be ranked
#[derive(Debug, Args)]
#[command(after_help = format!("\
A line of the file has the prompt's messages, its completions, and every further field of the prompt. With --best-by only the
answer that a reward model likes most is kept: best of K. With --tool the model may call tools on its way; what it said and
was told before its last message stands in `said`.

{RULE} Answers are written as they come: after Ctrl-C or a crash the same
command goes on and ends with the same file.

Examples:
  mynah candidates --model runs/sft --prompts prompts.jsonl --k 4 --out candidates.jsonl
  mynah candidates --model runs/sft --prompts prompts.jsonl --k 16 --best-by runs/reward --out best.jsonl"))]
pub(crate) struct CandidatesArgs {
    /// The model that answers
    #[arg(long, value_name = "MODEL")]
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) adapter: AdapterArg,
    #[command(flatten)]
    weights: WeightsArg,
    /// Prompts, JSON lines: {"prompt"} or {"messages"}
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Answers to each prompt
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = whole::<u16>(1..))]
    k: u16,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
    /// Tokens of an answer at most
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..), default_value_t = 64)]
    max_tokens: usize,
    /// Logits are divided by it
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = super::complete::temperature)]
    temperature: f32,
    /// Keep only the answer with the highest reward by this model
    #[arg(long, value_name = "MODEL")]
    best_by: Option<PathBuf>,
    #[command(flatten)]
    tools: ToolArgs,
    #[command(flatten)]
    rows: RowArgs,
}

/// What decides the answers besides models and prompts.
#[derive(Serialize)]
struct Settings {
    k: u16,
    max_tokens: usize,
    temperature: f64,
    seed: String,
    precision: &'static str,
    weights: Option<&'static str>,
    judge_precision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<String>,
}

pub(crate) fn run(args: &CandidatesArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let read_here = [Some(&args.model), Some(&args.prompts), args.best_by.as_ref()];
    let read_here: Vec<&Path> = read_here.into_iter().flatten().map(PathBuf::as_path).collect();
    let out = session.out(&args.out, args.force.force, &read_here)?;
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let prompts = rows.read(&args.prompts, prompt)?;
    rows.columns.check()?;
    let mut lines = SharedLines::open(&session.ranks(), &out, &recipe(args, &prompts, session)?)?;
    let mut answered = lines.kept().lines().count();
    if lines.is_finished() {
        say_finished(&out, session);
    } else {
        if answered > 0 {
            session.say(&format!("{} prompts are answered already: going on", count(answered as u64)));
        }
        let stays = lines.stays();
        let sampled = sample(args, &prompts, &mut lines, &mut answered, session);
        sampled.map_err(|error| if stays { kept(error) } else { error })?;
        lines.finish()?;
    }
    let summary = json!({ "prompts": answered, "k": args.k, "out": args.out });
    session.summary(&summary, || {
        format!("{} prompts with {} answers each → {}", count(answered as u64), args.k, args.out.display())
    })?;
    Ok(Ended::Done)
}

fn recipe(args: &CandidatesArgs, prompts: &[Prompt], session: &Session) -> Result<Recipe> {
    let CandidatesArgs { k, max_tokens, temperature, weights, .. } = *args;
    session.stored(weights, &[&args.model])?;
    let (seed, precision) = (session.seed().to_string(), session.precision_name(Purpose::Text)?);
    let judge_precision =
        args.best_by.as_ref().map(|_| session.precision_name(Purpose::Figures)).transpose()?;
    let temperature = shortest(temperature);
    let (weights, tools) = (weights.name(), args.tools.settings());
    let settings = Settings { k, max_tokens, temperature, seed, precision, weights, judge_precision, tools };
    let prompts = Input::new(&args.prompts, digest(&prompts));
    let mut inputs = vec![("model", model(&args.model, session)?), ("prompts", prompts)];
    if let Some(path) = &args.best_by {
        inputs.push(("best_by", model(path, session)?));
    }
    super::out::recipe("candidates", &settings, inputs)
}

/// Answers the prompts that are not `answered` yet.
fn sample(
    args: &CandidatesArgs,
    prompts: &[Prompt],
    lines: &mut SharedLines,
    answered: &mut usize,
    session: &Session,
) -> Result<()> {
    let Model { mut compute, config, weights, tokenizer, .. } =
        Model::load_stored(&args.model, args.weights, Purpose::Text, session)?;
    let prompter = Prompter::new(&tokenizer)?;
    let sampling = Sampling { temperature: args.temperature, top_k: 0, top_p: 1.0, seed: session.seed() };
    let options = CandidatesOptions { k: args.k.into(), max_tokens: args.max_tokens, sampling };
    let judge = args.best_by.as_ref().map(|path| Judge::load(path, session)).transpose()?;
    let at_once = if judge.is_some() { JUDGED_AT_ONCE.div_ceil(options.k) } else { 1 };
    let (ranks, done) = (session.ranks(), *answered);
    let mut writer = Writer {
        ranks: ranks.clone(),
        judge,
        at_once,
        waiting: Vec::new(),
        own: Vec::new(),
        lines,
        answered,
    };
    let share = (&ranks, done);
    let sampled = match args.tools.open()? {
        Some(tools) => {
            let mut chat = Chat::new(&mut compute, &config, &weights, &tokenizer)?;
            let each = Options { max_tokens: args.max_tokens, sampling, ..Options::default() };
            let each = (options.k, &each);
            let watcher = session.watcher();
            candidates_with_tools(&mut chat, &tools, prompts, each, share, &mut writer, watcher)
        }
        None => {
            let (of, watcher) = ((&config, &weights), session.watcher());
            candidates_each(&mut compute, of, &prompter, prompts, &options, share, &mut writer, watcher)
        }
    };
    prompter.notes().iter().for_each(|note| session.say(&format!("note: {note}")));
    sampled
}

/// Writes candidates as they come, or the best of them.
struct Writer<'a> {
    ranks: Ranks,
    judge: Option<Judge>,
    /// Prompts whose candidates are written at once.
    at_once: usize,
    waiting: Vec<Candidates>,
    /// Lines of this rank's own prompts, which all hear of at the end of a round.
    own: Vec<Vec<u8>>,
    lines: &'a mut SharedLines,
    answered: &'a mut usize,
}

impl Writer<'_> {
    fn write(&mut self) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let texts: Vec<String> = match &mut self.judge {
            Some(judge) => judge.best(&mut waiting).with_context(|| {
                format!("cannot tell the best answers to the prompts after the first {}", self.answered)
            })?,
            None => waiting.iter().map(|found| format!("{}\n", json!(found))).collect(),
        };
        if self.ranks.size() > 1 {
            self.own.extend(texts.into_iter().map(String::into_bytes));
            return Ok(());
        }
        *self.answered += texts.len();
        self.lines.push(&texts.concat())
    }
}

impl Listener<Candidates> for Writer<'_> {
    fn hear(&mut self, found: Candidates) -> Result<()> {
        self.waiting.push(found);
        if self.waiting.len() < self.at_once { Ok(()) } else { self.write() }
    }

    fn end_round(&mut self, count: usize, outcome: Result<()>) -> Result<()> {
        let keeps = outcome.as_ref().err().is_none_or(|error| error.is::<Stopped>());
        let written = if keeps && !self.waiting.is_empty() { self.write() } else { Ok(()) };
        if self.ranks.size() > 1 {
            // What comes after a prompt that a rank did not come to is made again.
            let all = self.ranks.collect_lists(&std::mem::take(&mut self.own), count);
            let whole: Vec<Vec<u8>> = all.into_iter().take_while(|line| !line.is_empty()).collect();
            *self.answered += whole.len();
            self.lines.push(&String::from_utf8(whole.concat()).context("lines are text")?)?;
        }
        agree(&self.ranks, written.and(outcome))
    }
}

/// A reward model that chooses among answers.
struct Judge {
    compute: Compute,
    scorer: Scorer<Compute>,
    tokenizer: Tokenizer,
}

impl Judge {
    fn load(path: &Path, session: &Session) -> Result<Self> {
        let Model { mut compute, config, weights, tokenizer, .. } =
            Model::load(path, Purpose::Figures, session)?;
        let scorer = Scorer::new(&mut compute, config, weights);
        Ok(Judge { compute, scorer, tokenizer })
    }

    /// The lines of prompts with their best answers alone.
    fn best(&mut self, found: &mut [Candidates]) -> Result<Vec<String>> {
        let prompter = Prompter::new(&self.tokenizer)?;
        let rewards = self.scorer.score(&mut self.compute, &prompter, found, &Silent)?;
        Ok(found
            .iter_mut()
            .zip(rewards)
            .map(|(found, rewards)| format!("{}\n", best(found, &rewards)))
            .collect())
    }
}

/// The line of a prompt with its best answer alone.
fn best(found: &mut Candidates, rewards: &[f64]) -> Value {
    let best = (0..rewards.len()).max_by(|&i, &j| rewards[i].total_cmp(&rewards[j])).unwrap_or(0);
    found.completions = vec![found.completions.swap_remove(best)];
    let mut line = json!(found);
    line["rewards"] = json!([rewards[best]]);
    line
}
