//! `mynah eval`: a model on tasks, alone or beside another.

mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use gpt::corpus::{Documents, Report, Split};
use gpt::data::Columns;
use gpt::eval::code;
use gpt::eval::{Candidate, FIELDS, Line, Log, Overlap, Rule, Task, TaskResult, Terms, generated, overlaps};
use gpt::output::{Input, Out, Recipe, digest};
use gpt::report::sweeps_page;
use gpt::sandbox::Sandbox;
use gpt::tools::Toolbox;
use gpt::train::run::refuse_other_recipes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::report::{report, sweeps};
use super::AdapterArg;
use super::complete::{Model, temperature};
use super::grade::Walls;
use super::lines::SharedLines;
use super::out::{Force, RULE, kept, say_finished, shortest};
use super::stages::field;
use super::tools::ToolArgs;
use crate::options::{Usage, WeightsArg, WeightsName, whole};
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::table;

const DETAILS: &str = "\
A task is one of those that --list names, which are made by rule and have no end, or a file:
  {\"context\"?,\"question\"?,\"answers\":[…],\"label\":index}   choices, compared by likelihood under three rules
  {\"prompt\",\"answer\"} or {\"prompt\",\"answers\":[…]}        written to the end of the line, exact match and F1
  {\"input\",\"task\",\"output\"}                             likewise; a task is words after the input (TL;DR:), a form ({input} =) or has special tokens
  {\"text\"}, or any text file                           bits per byte and perplexity
  last-word:FILE                                       the word that ends each text or paragraph
  next-line:FILE or a corpus                           lines of held-out programs, exact match and edit similarity
  {\"task_id\",\"prompt\",\"test\",\"entry_point\"}            functions to write, as HumanEval has them: run in a sandbox, pass@k
Examples before an item are drawn by the seed from NAME.train.jsonl beside NAME.jsonl, or else from the other items.
With --tool a model that chats answers written items in a message, examples being turns before it; it is right where it states an
answer in whole words, and what it called on its way stands in `said`.
Rules: sum, log P(answer | question); per-token, divided by the answer's tokens; normalised, less log P(answer | \"Answer:\").";

const EXAMPLES: &str = "\
Examples:
  mynah eval --model runs/base --tasks add-2-digits,copy --shots 0,1,8
  mynah eval --model runs/base --tasks questions.jsonl --out items.jsonl
  mynah eval --model runs/code --tasks HumanEval.jsonl.gz --programs 10 --out programs.jsonl
  mynah eval --model runs/a --against runs/b --tasks questions.jsonl
  mynah eval --model runs/sft --tasks add-3-digits --tool calculator";

/// Evaluate a model: multiple choice, free answers, last words, texts, with examples before each item or
/// without (GPT-3)
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n\n{RULE}\n\n{EXAMPLES}", DETAILS))]
pub(crate) struct EvalArgs {
    /// The model
    #[arg(long, value_name = "MODEL", required_unless_present = "list")]
    pub(super) model: Option<PathBuf>,
    #[command(flatten)]
    pub(super) adapter: AdapterArg,
    #[command(flatten)]
    weights: WeightsArg,
    /// Tasks, separated by commas; `all` for all that are made by rule
    #[arg(long, value_name = "A,B", value_delimiter = ',', required_unless_present = "list")]
    tasks: Vec<String>,
    /// Examples before each item; several numbers for a sweep
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "0")]
    shots: Vec<usize>,
    /// File that examples come from, instead of NAME.train.jsonl
    #[arg(long, value_name = "FILE")]
    examples: Option<String>,
    /// Items of a task at most, drawn by the seed [default: all of a file, 500 of those made by rule]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..))]
    limit: Option<usize>,
    /// Another model to compare with, on the same items
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Corpus that the model was trained on: count the items that share words in a row with it, and judge the
    /// others apart
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// How the likelihoods of choices are compared: sum, per-token or normalised
    #[arg(long, value_name = "RULE", default_value = "per-token", value_parser = rule)]
    rule: Rule,
    /// Beams of a free answer; 1 takes the likeliest token each time, GPT-3 has 4
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..), default_value_t = 1)]
    beams: usize,
    /// Tokens of an answer at most [default: 32; of a program 512, or half the context]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..))]
    max_tokens: Option<usize>,
    /// File for every item with its exact prompt and what the model said of it, JSON lines
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// File for a page with each task's values over the number of examples, beside chance and majority
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    force: Force,
    /// Name the tasks that are made by rule
    #[arg(long)]
    list: bool,
    /// Programs to write for each problem; pass@k needs at least k
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..), default_value_t = 1, help_heading = "Programs")]
    programs: usize,
    /// By which logits are divided to draw programs [default: 0, the likeliest token each time; 0.8 for
    /// several of a problem]
    #[arg(long, value_name = "F", value_parser = temperature, help_heading = "Programs")]
    temperature: Option<f32>,
    #[command(flatten, next_help_heading = "Programs")]
    walls: Walls,
    #[command(flatten, next_help_heading = "Tools")]
    tools: ToolArgs,
    /// Columns of files that have other names, such as question=query,answers=choices
    #[arg(long, value_name = "FIELD=COLUMN,…", value_delimiter = ',', value_parser = field)]
    fields: Vec<(String, String)>,
}

impl EvalArgs {
    /// Figures are in `f32`, unless weights are asked for that products in bf16 read.
    fn purpose(&self) -> Purpose<'static> {
        if self.weights.weights == Some(WeightsName::Bf16) { Purpose::Text } else { Purpose::Figures }
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    let found = Rule::ALL.into_iter().find(|rule| rule.name() == text);
    found.ok_or_else(|| format!("none of {}", Rule::ALL.map(Rule::name).join(", ")))
}

pub(crate) fn run(args: &EvalArgs, session: &Session) -> Result<Ended> {
    if args.list {
        let names: Vec<[String; 2]> = generated().map(|(name, about)| [name.into(), about.into()]).collect();
        let json: Map<String, Value> =
            names.iter().map(|[name, about]| (name.clone(), json!(about))).collect();
        session.result(&json, || table(&names))?;
        return Ok(Ended::Done);
    }
    let counts = [args.beams, args.programs, args.max_tokens.unwrap_or(1), args.limit.unwrap_or(1)];
    if args.shots.is_empty() || counts.contains(&0) {
        return Err(
            Usage("--shots, --beams, --programs, --max-tokens and --limit need at least one".into()).into()
        );
    }
    if !args.tools.names.is_empty() && args.beams > 1 {
        return Err(Usage(
            "--tool: a model that calls tools writes its likeliest tokens, without --beams".into(),
        )
        .into());
    }
    let columns =
        Columns::new(&args.fields, FIELDS).map_err(|error| Usage(format!("--fields: {error:#}")))?;
    session.start_threads()?;
    let [out, plot] = outs(args, session)?;
    let mut names: Vec<String> = Vec::new();
    for name in &args.tasks {
        match name.as_str() {
            "all" => names.extend(generated().map(|(name, _)| name.to_owned())),
            name => names.push(name.to_owned()),
        }
    }
    let open = |name: &String| Task::open(name, args.limit, session.seed(), &columns, session.watcher());
    let mut tasks: Vec<Task> = names.iter().map(open).collect::<Result<_>>()?;
    if let Some(file) = &args.examples {
        let examples = Task::open(file, None, session.seed(), &columns, session.watcher())?;
        tasks.iter_mut().for_each(|task| task.examples = Some(examples.items.clone()));
    }
    columns.check()?;
    for report in tasks.iter().filter_map(|task| task.lines.as_ref()) {
        if report.used < report.lines {
            session.say(&report.to_string());
        }
    }
    // Before anything is written that could not be run.
    let programs = tasks.iter().any(Task::runs_programs);
    let sandbox = programs.then(|| args.walls.sandbox(code::TIMEOUT)).transpose()?;
    let tools = args.tools.open()?;
    let model = args.model.as_ref().context("--model is needed")?;
    let shared = args.corpus.as_ref().map(|corpus| shared_with(corpus, &tasks, session)).transpose()?;
    let recipe = recipe(args, model, names.iter().zip(&tasks), shared.as_deref(), session)?;
    let ranks = session.ranks();
    refuse_other_recipes(&ranks, &recipe)?;
    let plotted = ranks.lead(|| plot.as_ref().map(|plot| plot.is_finished(&recipe, &[])).transpose())?;
    let (results, others) = {
        let mut file = out.as_ref().map(|out| SharedLines::open(&ranks, out, &recipe)).transpose()?;
        let items = file.as_ref().map_or("", SharedLines::kept);
        let items = items.lines().map(serde_json::from_str).collect::<Result<Vec<Line>, _>>();
        let items = items.context("an item that is there already is no JSON")?;
        let (finished, stays) = (
            file.as_ref().is_some_and(SharedLines::is_finished),
            file.as_ref().is_some_and(SharedLines::stays),
        );
        match &out {
            Some(out) if finished => say_finished(out, session),
            Some(_) if !items.is_empty() => {
                session.say(&format!("{} items are there already: going on", items.len()));
            }
            _ => {}
        }
        let mut hear = |line: &Line| match &mut file {
            Some(_) if finished => bail!("more items than are in the file that was finished: remove it"),
            Some(file) => file.push(&format!("{}\n", json!(line))),
            None => Ok(()),
        };
        let evaluate = |model: &PathBuf, log: &mut Log<'_>| {
            evaluate(model, &tasks, shared.as_deref(), (sandbox.as_ref(), tools.as_ref()), args, log, session)
                .map_err(|error| if stays { kept(error) } else { error })
        };
        let results = evaluate(model, &mut Log::new(items, &mut hear))?;
        file.map(SharedLines::finish).transpose()?;
        let other = |model: &PathBuf| evaluate(model, &mut Log::new(Vec::new(), &mut |_| Ok(())));
        (results, args.against.as_ref().map(other).transpose()?)
    };
    if let Some(plot) = &plot {
        if plotted == Some(true) {
            say_finished(plot, session);
        } else {
            let sweeps = sweeps(&results, args.shots.len());
            let page = sweeps_page(&model.display().to_string(), &sweeps, &Session::command());
            ranks.lead(|| plot.write(&recipe, page.as_bytes(), &[]))?;
        }
    }
    report(&results, others.as_deref(), session)?;
    Ok(Ended::Done)
}

/// The files that are written, which are none of those that are read.
fn outs(args: &EvalArgs, session: &Session) -> Result<[Option<Out>; 2]> {
    let mut files: Vec<PathBuf> = args.tasks.iter().flat_map(|task| Task::files(task)).collect();
    files.extend(args.examples.iter().map(PathBuf::from));
    let others = [&args.model, &args.against, &args.corpus].into_iter().flatten().map(PathBuf::as_path);
    let inputs: Vec<&Path> = files.iter().map(PathBuf::as_path).chain(others).collect();
    let out = |path: &PathBuf| session.out(path, args.force.force, &inputs);
    let [out, plot] = [&args.out, &args.plot].map(|path| path.as_ref().map(out).transpose());
    let (out, plot) = (out?, plot?);
    if let (Some(out), Some(plot)) = (&out, &plot) {
        ensure!(!out.is_same(plot), Usage("--out and --plot are the same file".into()));
    }
    Ok([out, plot])
}

/// What decides the items.
#[derive(Serialize)]
struct Settings<'a> {
    shots: &'a [usize],
    rule: &'static str,
    beams: usize,
    max_tokens: Option<usize>,
    programs: usize,
    temperature: Option<f64>,
    seed: String,
    precision: &'static str,
    weights: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<String>,
}

fn recipe<'a>(
    args: &EvalArgs,
    model: &Path,
    tasks: impl Iterator<Item = (&'a String, &'a Task)>,
    shared: Option<&[Overlap]>,
    session: &Session,
) -> Result<Recipe> {
    let EvalArgs { ref shots, rule, beams, max_tokens, programs, temperature, weights, .. } = *args;
    session.stored(weights, &[model])?;
    let (seed, precision) = (session.seed().to_string(), session.precision_name(args.purpose())?);
    let (rule, temperature) = (rule.name(), temperature.map(shortest));
    let (weights, tools) = (weights.name(), args.tools.settings());
    let settings =
        Settings { shots, rule, beams, max_tokens, programs, temperature, seed, precision, weights, tools };
    let mut recipe =
        super::out::recipe("eval", &settings, vec![("model", super::out::model(model, session)?)])?;
    for (number, (name, task)) in tasks.enumerate() {
        let input = Input::new(Path::new(name), digest(&(&task.name, &task.items)));
        recipe.inputs.insert(format!("task {}", number + 1), input);
        if let Some(examples) = &task.examples {
            let from = args.examples.as_ref().unwrap_or(name);
            let input = Input::new(Path::new(from), digest(examples));
            recipe.inputs.insert(format!("examples {}", number + 1), input);
        }
    }
    if let (Some(corpus), Some(shared)) = (&args.corpus, shared) {
        let input = Input::new(corpus, digest(&shared));
        recipe.inputs.insert("corpus".into(), input);
    }
    Ok(recipe)
}

/// What the tasks share with the documents of a corpus that are for training.
fn shared_with(corpus: &Path, tasks: &[Task], session: &Session) -> Result<Vec<Overlap>> {
    let count = Report::load(corpus)?.train.documents;
    let documents = Documents::open(corpus, Split::Train)?.map(|document| Ok(document?.text));
    overlaps(tasks, documents, count, session.watcher())
}

/// Every task with every number of examples, by the name it is reported under.
fn evaluate(
    model: &Path,
    tasks: &[Task],
    shared: Option<&[Overlap]>,
    (sandbox, toolbox): (Option<&Sandbox>, Option<&Toolbox>),
    args: &EvalArgs,
    log: &mut Log<'_>,
    session: &Session,
) -> Result<Vec<(String, TaskResult)>> {
    let Model { mut compute, config, weights, tokenizer, .. } =
        Model::load_stored(model, args.weights, args.purpose(), session)?;
    let mut candidate =
        Candidate::new(&mut compute, &config, &weights, &tokenizer, sandbox, &session.ranks())?;
    if let Some(toolbox) = toolbox {
        candidate = candidate.with_tools(toolbox).with_context(|| model.display().to_string())?;
    }
    let tools = toolbox.is_some();
    let mut results = Vec::new();
    for (at, task) in tasks.iter().enumerate() {
        for &shots in &args.shots {
            let EvalArgs { rule, beams, max_tokens, programs, temperature, .. } = *args;
            let terms =
                Terms { shots, rule, seed: session.seed(), beams, max_tokens, programs, temperature, tools };
            let result = candidate
                .evaluate(task, &terms, shared.map(|shared| &shared[at]), log, session.watcher())
                .with_context(|| format!("{} in {}", model.display(), task.name))?;
            let name =
                if args.shots.len() == 1 { task.name.clone() } else { format!("{}@{shots}", task.name) };
            ensure!(results.iter().all(|(other, _)| *other != name), "two tasks have the name {name}");
            results.push((name, result));
        }
    }
    Ok(results)
}
