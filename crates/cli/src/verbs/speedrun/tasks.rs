//! The road of task tokens.

use anyhow::{Result, ensure};
use gpt::report::{Predicted, TaskAccuracy, TasksResults, Written};
use gpt::stage::{TasksOptions, TasksOutcome, tasks_road};

use super::SpeedrunArgs;
use crate::options::Usage;
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::table;

pub(super) fn run(args: &SpeedrunArgs, session: &Session) -> Result<Ended> {
    let preset = args.preset.as_deref();
    ensure!(
        matches!(preset, None | Some("tiny")),
        Usage("the road of task tokens has one preset besides the usual one: tiny".into())
    );
    let options = TasksOptions {
        out: args.out.clone().unwrap_or_else(|| "runs/tasks".into()),
        tiny: preset.is_some(),
        budget: args.budget()?,
        seed: session.seed(),
        threads: session.threads(),
    };
    let compute = session.computes(Purpose::Training(&options.out))?;
    let machine = session.machine(&mut compute());
    let TasksOutcome { results, run, report } = tasks_road(&compute, &machine, &options, session.watcher())?;
    let Some(results) = results else { return Ok(Ended::Stopped) };
    session.result(&serde_json::to_value(&results)?, || describe(&results))?;
    session.say(&format!("the page about it: {}", report.display()));
    session.say(&format!(
        "go on with: mynah complete --model {} '我是小明' --task '[问题] 我是谁 [答案]'",
        run.display()
    ));
    Ok(Ended::Done)
}

fn describe(results: &TasksResults) -> String {
    let mut page = String::from("\n");
    for Written { input, task, written, .. } in &results.examples {
        page += &format!("  {} → {}\n", [input.as_str(), task.as_str()].join(" ").trim_end(), written.trim());
    }
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut rows = vec![["asked of unseen inputs", "exact", "95 % interval"].map(String::from)];
    rows.extend(results.tasks.iter().map(|TaskAccuracy { task, exact, .. }| {
        let spread = format!("{} – {} of {}", percent(exact.low), percent(exact.high), exact.n);
        [task.clone(), percent(exact.value), spread]
    }));
    page += &format!("\n{}\n", table(&rows));
    let mut rows = vec![["held-out plain text", "bits per byte"].map(String::from)];
    let predicted =
        |Predicted { name, bits_per_byte }: &Predicted| [name.clone(), format!("{bits_per_byte:.4}")];
    rows.extend(results.text.iter().map(predicted));
    page + &table(&rows)
}
