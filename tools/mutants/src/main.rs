//! Mutation testing of mynah: small faults of the source, all of them in one build, each behind a switch that is read when the
//! tests run. A fault that no test notices is *alive*, and says which test is missing.
//!
//! The road: `list` asks `cargo mutants` which faults there are and draws some, `weave` writes them into a copy of the tree, `tree`
//! builds it, `suite` finds out which test reaches which fault, `hunt` runs those tests with the fault on, `report` counts.

mod hunt;
mod list;
mod report;
mod suite;
mod tree;
mod weave;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use hunt::{in_parallel, outcome};
use list::Mutant;
use report::{Fate, Outcome, Results};
use suite::{Runner, Test};
use tree::{Built, Tree};

/// Switches small faults of mynah on, one at a time, and tells which of them no test notices.
#[derive(Parser)]
#[command(name = "tools/mutants.sh")]
struct Args {
    /// Chooses which mutants are drawn, and in which order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many are drawn; those that do not compile are passed over and do not count.
    #[arg(long, default_value_t = 200)]
    sample: usize,
    /// Of which modules.
    #[arg(long, value_delimiter = ',', default_value = "objective,train,stage,data,model/engine,sandbox")]
    modules: Vec<String>,
    /// Only the mutant with this number, or those whose names contain this (a file, a function), of whatever
    /// sample; may be given several times, and runs them again.
    #[arg(long, value_name = "NUMBER|TEXT")]
    only: Vec<String>,
    /// Only tests with names that contain this, such as `ppo::tests`; the results are not kept.
    #[arg(long, value_name = "TEXT")]
    test: Option<String>,
    /// Tests to leave out, such as one that is known to fail; their names contain this.
    #[arg(long, value_name = "TEXT")]
    without: Vec<String>,
    /// Tests that run at once.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    jobs: usize,
    /// Prints the drawn mutants and ends.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let root = std::env::current_dir()?;
    ensure!(root.join("tools/mutants").is_dir(), "run this in the root of the repository");
    let dir = root.join("target/mutants");

    let mut order = list::drawn(&root, &args.modules, args.seed)?;
    println!("{} mutants in {}", order.len(), args.modules.join(", "));
    if !args.only.is_empty() {
        let is = |it: &Mutant, only: &String| match only.parse::<usize>() {
            Ok(number) => it.number == number,
            Err(_) => it.name.contains(only),
        };
        for only in &args.only {
            ensure!(order.iter().any(|it| is(it, only)), "no mutant is {only:?}");
        }
        order.retain(|it| args.only.iter().any(|only| is(it, only)));
    }
    if args.list {
        order.iter().take(args.sample).for_each(|it| println!("{:5} {}", it.number, it.name));
        return Ok(());
    }

    // Two at once would write into each other's tree.
    std::fs::create_dir_all(&dir)?;
    let lock = std::fs::File::create(dir.join("lock"))?;
    lock.try_lock().context("another tools/mutants.sh runs here")?;

    let tree = Tree::of(&root, &dir)?;
    let results = dir.join("results.jsonl");
    let keep = |outcome: &Outcome| suite::append(&results, &outcome.to_line(tree.digest())?);
    let known = Results::read(&results, tree.digest())?;
    let left_out = order.iter().filter_map(|it| match known.get(it)?.fate {
        Fate::LeftOut(reason) => Some((it.number, reason)),
        _ => None,
    });
    let note = |it: &Mutant, reason: &str| keep(&Outcome::new(it, Fate::LeftOut(reason.into())));
    let built = tree.build(&order, args.sample, left_out.collect(), note)?;
    let traced = traced(&built, &tree, &dir, &args)?;

    let again = !args.only.is_empty() || args.test.is_some();
    let known = if again { Results::none() } else { known };
    let left: Vec<&Mutant> = built.mutants.iter().filter(|it| known.get(it).is_none()).collect();
    println!("{} mutants to run, {} known from before", left.len(), built.mutants.len() - left.len());
    let new = in_parallel(&left, args.jobs, |worker, mutant| {
        let runner = Runner { binaries: &built.binaries, dir: scratch(&dir, worker) };
        let outcome = outcome(&runner, &traced, mutant)?;
        println!("{outcome}");
        if args.test.is_none() {
            keep(&outcome)?;
        }
        Ok(outcome)
    })?;

    let mut outcomes: Vec<Outcome> = built.mutants.iter().filter_map(|it| known.get(it)).collect();
    outcomes.extend(new);
    outcomes
        .extend(built.left_out.iter().map(|(it, reason)| Outcome::new(it, Fate::LeftOut(reason.clone()))));
    outcomes.sort_by_key(|outcome| outcome.number);
    report::summarize(&outcomes, &dir.join("summary.json"))
}

/// All tests with what they take and reach; what is known of this very build is not run again.
fn traced(built: &Built, tree: &Tree, dir: &Path, args: &Args) -> Result<Vec<Test>> {
    let numbers: Vec<usize> = built.mutants.iter().map(|mutant| mutant.number).collect();
    let key = list::hash(format!("{:x} {} {numbers:?}", tree.digest(), args.seed).as_bytes());
    let file = dir.join(format!("trace-{key:016x}.jsonl"));
    let lines = std::fs::read_to_string(&file).unwrap_or_default();
    let known: Vec<Test> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();

    let mut tests = suite::list(&built.binaries, args.test.as_deref().unwrap_or_default())?;
    tests.retain(|test| args.without.iter().all(|without| !test.name().contains(without)));
    let known = |test: &Test| known.iter().find(|known| known.name() == test.name());
    println!(
        "{} tests, {} traced before",
        tests.len(),
        tests.iter().filter(|test| known(test).is_some()).count()
    );
    in_parallel(&tests, args.jobs, |worker, test| {
        if let Some(known) = known(test) {
            return Ok(known.clone());
        }
        let mut test = test.clone();
        Runner { binaries: &built.binaries, dir: scratch(dir, worker) }.trace(&mut test)?;
        suite::append(&file, &serde_json::to_string(&test)?)?;
        Ok(test)
    })
    .context("the tests have to pass without a mutant")
}

/// The folder that a worker's tests write to.
fn scratch(dir: &Path, worker: usize) -> PathBuf {
    dir.join(format!("scratch-{worker}"))
}
