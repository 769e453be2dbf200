//! `mynah rank export`, `import` and `report`: a store as files, and what its ratings say.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use feedback::{Imported, Report, Store};
use gpt::data::messages::{self, ranking};
use gpt::output::{Input, digest};
use serde_json::json;

use super::super::out::{Force, RULE, recipe, say_finished};
use super::super::stages::RowArgs;
use crate::session::{Ended, Session};
use crate::terminal::text::{count, plural, table};

/// Write what people said to a file
#[derive(Debug, Args)]
#[command(after_help = RULE)]
pub(crate) struct ExportArgs {
    /// The store
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Rankings, which `mynah reward` and `mynah dpo` read; or answers with a thumb, which `mynah kto` reads
    #[arg(
        long,
        value_enum,
        value_name = "rankings|thumbs",
        default_value = "rankings",
        hide_possible_values = true
    )]
    what: What,
    #[command(flatten)]
    force: Force,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    Rankings,
    Thumbs,
}

/// Add rankings of files to a store
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The store, which is made if it is not there
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
    /// Rankings, such as those that `mynah rank export`, TRL and HH-RLHF write
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    rows: RowArgs,
}

/// Print how far raters agree and which model is better
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The store
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
}

pub(crate) fn export(args: &ExportArgs, session: &Session) -> Result<Ended> {
    let out = session.out(&args.out, args.force.force, &[&args.store])?;
    let store = Store::open_to_read(&args.store)?;
    let (rows, name) = match args.what {
        What::Rankings => (store.rankings()?, "ranking"),
        What::Thumbs => (store.labelled()?, "thumb"),
    };
    let mut text = String::new();
    for row in &rows {
        text += &serde_json::to_string(row).context("a row is JSON")?;
        text.push('\n');
    }
    let input = Input::new(&args.store, digest(&rows));
    let recipe = recipe("rank export", &json!({ "what": name }), vec![("store", input)])?;
    if out.is_finished(&recipe, &[])? {
        say_finished(&out, session);
    } else {
        out.write(&recipe, text.as_bytes(), &[])?;
    }
    let summary = json!({ name: rows.len(), "out": args.out });
    session.summary(&summary, || format!("{} → {}", plural(rows.len() as u64, name), args.out.display()))?;
    Ok(Ended::Done)
}

pub(crate) fn import(args: &ImportArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let mut rankings = Vec::new();
    for file in &args.files {
        rankings.extend(rows.read(file, |row| Ok((ranking(row.clone())?, row)))?);
    }
    rows.columns.check()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64);
    let Imported { new, known } = Store::open(&args.store)?.import(&rankings, now)?;
    session.summary(&json!({ "new": new, "known": known, "store": args.store }), || {
        format!("{} → {}, {} were there", plural(new, "ranking"), args.store.display(), count(known))
    })?;
    Ok(Ended::Done)
}

pub(crate) fn report(args: &ReportArgs, session: &Session) -> Result<Ended> {
    let report = Store::open_to_read(&args.store)?.report()?;
    session.result(&serde_json::to_value(&report)?, || describe(&report))?;
    Ok(Ended::Done)
}

fn describe(report: &Report) -> String {
    let percent = |of: &feedback::statistics::Agreement| {
        format!("{:.1} % ({:.1}–{:.1})", 100.0 * of.value, 100.0 * of.low, 100.0 * of.high)
    };
    let mut text = format!(
        "{} of {}, {} with all answers bad\n",
        plural(report.ratings as u64, "rating"),
        plural(report.items as u64, "item"),
        count(report.all_bad as u64)
    );
    for (why, times) in &report.skipped {
        text += &format!("skipped {}: {why}\n", plural(*times, "time"));
    }
    match &report.agreement {
        Some(agreement) => {
            let alpha = report.alpha.map_or_else(|| "–".to_owned(), |alpha| format!("{alpha:.3}"));
            text += &format!(
                "raters agree on {} of pairs, α = {alpha}, by {} that two ranked; InstructGPT's labellers: 72.6 ± 1.5 %\n",
                percent(agreement),
                plural(agreement.items as u64, "item")
            );
        }
        None => {
            text += &format!(
                "agreement is told from {} more that two raters rank\n",
                plural(report.double_rated_missing as u64, "item")
            );
        }
    }
    let dash =
        |of: &Option<feedback::statistics::Agreement>| of.as_ref().map_or_else(|| "–".to_owned(), percent);
    let rater = |line: &feedback::statistics::RaterLine| {
        let seconds = line.seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.0} s"));
        let (rated, skipped) = (line.rated.to_string(), line.skipped.to_string());
        [line.name.clone(), rated, skipped, seconds, dash(&line.with_others), dash(&line.with_self)]
    };
    let head = ["rater", "ranked", "skipped", "each", "with others", "with themselves"].map(str::to_owned);
    let raters: Vec<_> = std::iter::once(head).chain(report.raters.iter().map(rater)).collect();
    text += &format!("\n{}", table(&raters));
    if let Some(why) = report.no_strengths {
        text += &format!("\nno strengths of models: {why}\n");
    }
    if !report.models.is_empty() {
        let interval = |of: Option<(f64, f64)>| {
            of.map_or_else(|| "–".to_owned(), |(low, high)| format!("{low:.2} … {high:.2}"))
        };
        let model = |line: &feedback::statistics::ModelLine| {
            let controlled = line.length_controlled.map_or_else(|| "–".to_owned(), |x| format!("{x:.2}"));
            let strength = format!("{:.2}", line.strength);
            [line.name.clone(), strength, interval(line.interval), controlled, count(line.comparisons as u64)]
        };
        let head = ["model", "strength", "95 %", "at equal length", "comparisons"].map(str::to_owned);
        let models: Vec<_> = std::iter::once(head).chain(report.models.iter().map(model)).collect();
        text += &format!("\n{}", table(&models));
    }
    for votes in &report.votes {
        let feedback::statistics::WinRate { wins, ties, losses, value, low, high, missing } = votes.rate;
        text += &format!(
            "\n{} is preferred to {} in {:.1} % of {} ({:.1}–{:.1}){}\n",
            votes.model,
            votes.other,
            100.0 * value,
            plural(wins + ties + losses, "blind vote"),
            100.0 * low,
            100.0 * high,
            if missing > 0 { format!(": {} more for ± 5 %", count(missing)) } else { String::new() }
        );
    }
    text
}
