//! What an evaluation prints and plots.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use gpt::eval::{TaskResult, difference};
use gpt::report::Sweep;
use serde_json::{Map, Value, json};

use crate::session::Session;
use crate::terminal::text::table;

/// The figures of each task, beside those of another model where there is one.
pub(super) fn report(
    results: &[(String, TaskResult)],
    others: Option<&[(String, TaskResult)]>,
    session: &Session,
) -> Result<()> {
    let mut tasks = Map::new();
    let mut rows =
        vec![["task", "shots", "metric", "value", "95 % interval", "n", "chance"].map(String::from)];
    let mut compared = vec![
        ["task", "against", "difference", "95 % interval", "share > 0", "higher", "lower"].map(String::from),
    ];
    for (at, (name, result)) in results.iter().enumerate() {
        let figures = &result.figures;
        let mut json = serde_json::to_value(figures)?;
        let number = |x: f64| format!("{x:.4}");
        let interval = |low: f64, high: f64| format!("{low:.4} – {high:.4}");
        let chance = figures.more.get("chance").and_then(Value::as_f64);
        rows.push([
            name.clone(),
            figures.shown(),
            figures.metric.to_owned(),
            number(figures.interval.value),
            interval(figures.interval.low, figures.interval.high),
            figures.n.to_string(),
            chance.map_or(String::new(), number),
        ]);
        if let Some((_, other)) = others.map(|others| &others[at]) {
            ensure!(
                result.scores.len() == other.scores.len(),
                "{name}: the models cut the texts differently"
            );
            let difference = difference(&result.scores, &other.scores);
            json["against"] = json!({ "value": other.figures.interval.value, "difference": difference });
            compared.push([
                name.clone(),
                number(other.figures.interval.value),
                format!("{:+.4}", difference.interval.value),
                interval(difference.interval.low, difference.interval.high),
                number(difference.share_higher),
                difference.higher.to_string(),
                difference.lower.to_string(),
            ]);
        }
        tasks.insert(name.clone(), json);
    }
    session.result(&json!({ "tasks": tasks }), || {
        let compared = if others.is_some() { table(&compared) } else { String::new() };
        table(&rows) + &compared + &fewer(results) + &contamination(results) + &programs(results)
    })
}

/// Why fewer examples were shown than were asked for, where they were.
fn fewer(results: &[(String, TaskResult)]) -> String {
    let because = results.iter().filter_map(|(name, TaskResult { figures, .. })| {
        let why = figures.more.get("shots_because")?.as_str()?;
        Some(format!("{name}: {} examples were shown: {why}\n", figures.shown()))
    });
    because.collect()
}

/// What became of programs, if any were written.
fn programs(results: &[(String, TaskResult)]) -> String {
    let reports = results.iter().filter_map(|(name, result)| Some((name, result.figures.programs.as_ref()?)));
    reports.map(|(name, report)| format!("{name}: {report}")).collect()
}

/// The tasks that know examples, each with all its numbers of them; `each` results in a row are of one task.
pub(super) fn sweeps(results: &[(String, TaskResult)], each: usize) -> Vec<Sweep> {
    let sweep = |results: &[(String, TaskResult)]| {
        let (name, TaskResult { figures, .. }) = &results[0];
        let task = if each == 1 {
            name.as_str()
        } else {
            name.rsplit_once('@').map_or(name.as_str(), |(task, _)| task)
        };
        let point =
            |(_, TaskResult { figures, .. }): &(String, TaskResult)| (figures.shots, figures.interval);
        let known = |name: &str| figures.more.get(name).and_then(Value::as_f64);
        Sweep {
            task: task.to_owned(),
            metric: figures.metric.to_owned(),
            // More than there are, or than the context has room for, are the same examples again.
            points: results.iter().map(point).collect::<BTreeMap<_, _>>().into_iter().collect(),
            chance: known("chance"),
            majority: known("majority"),
        }
    };
    // Texts and lines of programs are asked without examples, however many are wanted.
    let varies = |results: &&[(String, TaskResult)]| {
        results.len() == 1 || results.windows(2).any(|two| two[0].1.figures.shots != two[1].1.figures.shots)
    };
    results.chunks(each).filter(varies).map(sweep).collect()
}

/// How many items the corpus shares words with, and the value of the others; nothing if nobody looked.
fn contamination(results: &[(String, TaskResult)]) -> String {
    let mut rows =
        vec![["task", "items that overlap", "words in a row", "value of the others"].map(String::from)];
    for (name, TaskResult { figures, .. }) in results {
        let Some(told) = figures.more.get("contamination") else { continue };
        let number = |value: &Value| value.as_f64().map_or(String::new(), |x| format!("{x:.4}"));
        let overlapping = format!("{} of {}", told["overlapping"], figures.n);
        rows.push([
            name.clone(),
            overlapping,
            told["gram_words"].to_string(),
            number(&told["clean"]["value"]),
        ]);
    }
    if rows.len() > 1 { table(&rows) } else { String::new() }
}
