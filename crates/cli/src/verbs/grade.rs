//! `mynah grade`: which generated programs are right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use gpt::data::rows::Fault;
use gpt::eval::code::{self, Kind, Problem, Report, Verdict, grade};
use gpt::output::{Input, Lines, Recipe, digest};
use gpt::sandbox::{Layer, Limits, Sandbox};
use serde_json::{Value, json};

use super::out::{Force, RULE, kept, say_finished};
use super::stages::{RowArgs, RowReader};
use crate::options::whole;
use crate::session::{Ended, Session};
use crate::terminal::eprint_line;

fn details() -> String {
    format!("{DETAILS}\n\n{RULE}\n\n{EXAMPLES}")
}

const DETAILS: &str = "\
Programs are Python, run by the machine's python3, each in a sandbox of its own: own namespaces, Landlock, seccomp, limits. No
root is needed; without one of these layers nothing is run. The tests run in another sandbox, so that no program can tamper
with its verdict: passed, wrong, raised, timed_out, out_of_memory, died, refused (its answer is no plain data), flooded, or
broken (the problem's own code does not run).";

const EXAMPLES: &str = "\
Examples:
  mynah grade --problems HumanEval.jsonl.gz --gold
  mynah grade --problems HumanEval.jsonl.gz --samples samples.jsonl --k 1,10,100 --out verdicts.jsonl";

/// Run generated programs against tests: pass@k
#[derive(Debug, Args)]
#[command(after_help = details())]
pub(crate) struct GradeArgs {
    /// Problems, JSON lines: {"task_id","prompt","test","entry_point","canonical_solution"?}, as HumanEval
    /// has them
    #[arg(long, value_name = "FILE")]
    problems: PathBuf,
    #[command(flatten)]
    programs: Programs,
    /// Which pass@k; every problem needs at least k samples
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "1,10,100", value_parser = whole::<u64>(1..))]
    k: Vec<u64>,
    /// Wall-clock time of one program
    #[arg(long, value_name = "SECS", default_value_t = code::TIMEOUT.as_secs_f64(), value_parser = secs)]
    timeout: f64,
    /// Write one line a sample: {"task_id","completion","passed","result","detail"}
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    walls: Walls,
    #[command(flatten)]
    rows: RowArgs,
}

/// What keeps programs in.
#[derive(Debug, Args)]
pub(crate) struct Walls {
    /// Run programs although this machine lacks a layer of the sandbox: namespaces, landlock, seccomp; may be
    /// repeated
    #[arg(long, value_name = "LAYER")]
    unsafe_without: Vec<Layer>,
}

impl Walls {
    /// The sandbox for programs that may take this long.
    pub(crate) fn sandbox(&self, timeout: Duration) -> Result<Sandbox> {
        for layer in &self.unsafe_without {
            // Said with --quiet, too.
            eprint_line(&format!(
                "WARNING: programs that nobody has read run without {layer}: they may harm this machine"
            ));
        }
        Sandbox::open(Limits::new(timeout), &self.unsafe_without)
    }
}

/// Which programs.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Programs {
    /// Samples, JSON lines: {"task_id","completion"}; a problem may have several
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// The problems' own solutions instead: are the problems sound?
    #[arg(long)]
    gold: bool,
}

fn secs(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|secs| (0.01..=3600.0).contains(secs));
    value.ok_or_else(|| "not a number of seconds from 0.01 to 3600".into())
}

pub(crate) fn run(args: &GradeArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let read_here = [Some(&args.problems), args.programs.samples.as_ref()];
    let read_here: Vec<&Path> = read_here.into_iter().flatten().map(PathBuf::as_path).collect();
    let out = args.out.as_ref().map(|out| session.out(out, args.force.force, &read_here)).transpose()?;
    let rows = args.rows.reader(code::FIELDS, session)?;
    let problems = rows.read(&args.problems, code::problem)?;
    let ids: BTreeSet<&str> = problems.iter().map(|problem| problem.task_id.as_str()).collect();
    ensure!(ids.len() == problems.len(), "{}: two problems have the same task_id", args.problems.display());
    let samples = samples(args, &problems, &rows)?;
    rows.columns.check()?;
    let by_id: BTreeMap<&str, &Problem> =
        problems.iter().map(|problem| (problem.task_id.as_str(), problem)).collect();
    let programs: Vec<(&Problem, &str)> =
        samples.iter().map(|sample| (by_id[sample.task_id.as_str()], sample.completion.as_str())).collect();

    let verdicts = match &out {
        None => judge(args, &programs, Vec::new(), &mut |_| Ok(()), session)?,
        Some(out) => {
            let mut lines = Lines::open(out, &recipe(args, &problems, &samples)?)?;
            let done = lines.kept().lines().map(verdict).collect::<Result<Vec<_>>>()?;
            if lines.is_finished() {
                say_finished(out, session);
                done
            } else {
                if !done.is_empty() {
                    session.say(&format!("{} programs are graded already: going on", done.len()));
                }
                let stays = lines.stays();
                let judged = judge(args, &programs, done, &mut |text| lines.push(text), session);
                let verdicts = judged.map_err(|error| if stays { kept(error) } else { error })?;
                lines.finish()?;
                verdicts
            }
        }
    };
    ensure!(
        verdicts.len() == programs.len(),
        "there are other verdicts than programs: remove the file of --out"
    );
    let mut by_problem: BTreeMap<&str, Vec<Kind>> = ids.into_iter().map(|id| (id, Vec::new())).collect();
    for ((problem, _), verdict) in programs.iter().zip(&verdicts) {
        by_problem.entry(&problem.task_id).or_default().push(verdict.kind);
    }
    let by_problem: Vec<&[Kind]> = by_problem.values().map(Vec::as_slice).collect();
    let report = Report::new(&by_problem, &args.k);
    session.result(&report, || describe(&report, &args.k))?;
    Ok(Ended::Done)
}

/// What decides the verdicts besides problems and samples.
fn recipe(args: &GradeArgs, problems: &[Problem], programs: &[code::Sample]) -> Result<Recipe> {
    let without: Vec<String> = args.walls.unsafe_without.iter().map(ToString::to_string).collect();
    let settings = json!({ "timeout": args.timeout, "unsafe_without": without, "gold": args.programs.gold });
    let mut inputs = vec![("problems", Input::new(&args.problems, digest(&problems)))];
    if let Some(samples) = &args.programs.samples {
        inputs.push(("samples", Input::new(samples, digest(&programs))));
    }
    super::out::recipe("grade", &settings, inputs)
}

/// The verdicts on all programs, of which some are `done`; `write` gets the lines of the others in order.
fn judge(
    args: &GradeArgs,
    programs: &[(&Problem, &str)],
    done: Vec<Verdict>,
    write: &mut (dyn FnMut(&str) -> Result<()> + Send),
    session: &Session,
) -> Result<Vec<Verdict>> {
    let timeout = Duration::from_secs_f64(args.timeout);
    let sandbox = args.walls.sandbox(timeout)?;
    let left = programs.get(done.len()..).unwrap_or_default();
    let mut verdicts = done;
    let mut hear = |verdict: Verdict| {
        write(&line(programs[verdicts.len()], &verdict))?;
        verdicts.push(verdict);
        Ok(())
    };
    grade(&sandbox, left, timeout, session.watcher(), &mut hear)?;
    Ok(verdicts)
}

/// The samples to grade, each of a known problem.
fn samples(args: &GradeArgs, problems: &[Problem], rows: &RowReader<'_>) -> Result<Vec<code::Sample>> {
    let Some(path) = &args.programs.samples else {
        let solution = |problem: &Problem| {
            let completion = problem.canonical_solution.clone()?;
            Some(code::Sample { task_id: problem.task_id.clone(), completion })
        };
        let found: Vec<_> = problems.iter().filter_map(solution).collect();
        ensure!(!found.is_empty(), "{} has no canonical_solution", args.problems.display());
        return Ok(found);
    };
    let ids: BTreeSet<&str> = problems.iter().map(|problem| problem.task_id.as_str()).collect();
    let known = |record| {
        let sample = code::sample(record)?;
        let unknown = || Fault::bad("a sample of no known problem", sample.task_id.clone());
        if ids.contains(sample.task_id.as_str()) { Ok(sample) } else { Err(unknown()) }
    };
    rows.read(path, known)
}

/// The line of a sample, as HumanEval's own harness writes it.
fn line((problem, completion): (&Problem, &str), verdict: &Verdict) -> String {
    let line = json!({
        "task_id": problem.task_id, "completion": completion, "passed": verdict.passed(), "result": verdict.kind,
        "detail": verdict.detail,
    });
    format!("{line}\n")
}

/// The verdict of such a line.
fn verdict(line: &str) -> Result<Verdict> {
    let mut line: Value = serde_json::from_str(line).context("a line of verdicts is no JSON")?;
    let [kind, detail] = ["result", "detail"].map(|key| line[key].take());
    serde_json::from_value(json!({ "kind": kind, "detail": detail })).context("a line has no verdict")
}

fn describe(report: &Report, ks: &[u64]) -> String {
    let missing = ks.iter().filter(|k| !report.pass_at_k.contains_key(k));
    let missing: Vec<String> = missing.map(|k| format!("pass@{k}")).collect();
    match missing.is_empty() {
        true => report.to_string(),
        false => format!("{report}no {}: a problem has fewer samples\n", missing.join(", ")),
    }
}
