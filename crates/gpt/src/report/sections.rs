//! The parts of the page, from top to bottom.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::axis::number;
use super::html::{Element, cell, table};
use super::record::Record;
use crate::corpus::{Report, Total};
use crate::numbers::{self, bytes, count};
use crate::output::leaves;
use crate::train::run::{EventKind, Sample};

/// Steps whose samples are shown; of more, these many evenly chosen.
const SAMPLED_STEPS: usize = 24;

/// Name, stage, state and machine.
pub(super) fn header(record: &Record) -> Element {
    let last = record.events.last().map(|timed| timed.event.event);
    let done = record.steps();
    let failed_at = record.events.last().map_or(done, |timed| timed.event.step);
    let state = match (last, record.recipe.settings.get("steps").and_then(toml::Value::as_integer)) {
        (Some(EventKind::Finished), _) => format!("finished after {} steps", count(done)),
        (Some(EventKind::Stopped), _) => format!("stopped after {} steps", count(done)),
        (Some(EventKind::Failed), _) => format!("failed at step {}", count(failed_at)),
        (_, Some(steps)) => format!("at step {} of {}", count(done), count(steps.unsigned_abs())),
        _ => format!("at step {}", count(done)),
    };
    let machine = record.recipe.runtime.get("machine").and_then(toml::Value::as_str);
    Element::new("header")
        .child(Element::of("p", "brand").text(format!("mynah · {}", record.recipe.stage)))
        .child(Element::new("h1").text(&record.name))
        .child(
            Element::of("p", "pale").text(state).children(machine.map(|name| Element::new("br").text(name))),
        )
}

/// The numbers that a person looks for first.
pub(super) fn headline(record: &Record) -> Element {
    let last = |points: Vec<(f64, f64)>| points.last().map(|point| point.1);
    let lowest = |points: Vec<(f64, f64)>| points.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
    // Of equal ones the earliest, as where the best checkpoint is chosen.
    let highest = |points: Vec<(f64, f64)>| points.into_iter().min_by(|a, b| b.1.total_cmp(&a.1));
    let mut tiles = Vec::new();
    let mut tile = |label: &str, value: Option<String>, note: String| {
        tiles.extend(value.map(|value| {
            Element::of("div", "tile")
                .child(Element::of("span", "pale").text(label))
                .child(Element::new("strong").text(value))
                .child(Element::of("span", "note").text(note))
        }));
    };
    let stage = record.recipe.stage.as_str();
    let (accuracy, of_what) = match stage {
        "reward" | "dpo" => ("pairs told right", "held-out pairs"),
        _ => ("told right", "held-out texts"),
    };
    for (label, key, percent) in [
        (accuracy, "val_accuracy", true),
        ("F1, mean of the classes", "val_f1", false),
        ("Pearson's correlation", "val_pearson", false),
    ] {
        let best = highest(record.metric(key));
        let shown =
            best.map(|(_, x)| if percent { format!("{:.1} %", 100.0 * x) } else { format!("{x:.3}") });
        tile(label, shown, best.map_or(String::new(), |(step, _)| format!("{of_what}, step {step}")));
    }
    let val = lowest(record.metric("val_loss"));
    // Of a loss that is not of the next token, it would tell nothing.
    let predicts = matches!(stage, "pretrain" | "sft");
    let note = val.map_or(String::new(), |(step, loss)| match predicts {
        true => format!("perplexity {}, step {step}", number(loss.exp())),
        false => format!("step {step}"),
    });
    tile("validation loss", val.map(|(_, loss)| format!("{loss:.4}")), note);
    let bpb = lowest(record.metric("val_bpb")).map(|(_, bpb)| format!("{bpb:.4}"));
    tile("bits per byte", bpb, "held-out text".into());
    let loss = record.metric("loss");
    let recent = &loss[loss.len() - loss.len().div_ceil(20)..];
    let mean = recent.iter().map(|point| point.1).sum::<f64>() / recent.len() as f64;
    tile("training loss", (!recent.is_empty()).then(|| format!("{mean:.4}")), "last twentieth".into());
    for (label, key) in [("reward", "objective/reward"), ("KL from the start", "objective/kl")] {
        tile(label, last(record.metric(key)).map(number), "last step".into());
    }
    tile("tokens", last(record.metric("tokens")).map(number), format!("{} steps", count(record.steps())));
    let secs: f64 = record.timings.iter().filter_map(|line| line.get("step_secs")?.as_f64()).sum();
    tile("time in steps", (secs > 0.0).then(|| numbers::secs(secs)), String::new());
    let utilisation =
        median(record.timing("mfu")).map_or(String::new(), |mfu| format!("{:.0} % of peak", 100.0 * mfu));
    tile("tokens per second", median(record.timing("tokens_per_sec")).map(number), utilisation);
    let parameters = record.recipe.runtime.get("parameters").and_then(toml::Value::as_integer);
    tile("parameters", parameters.map(|parameters| number(parameters as f64)), String::new());
    let bad = record.bad_steps().len();
    tile("bad steps", (bad > 0).then(|| bad.to_string()), "not finite, or exploded".into());
    if tiles.is_empty() {
        return Element::of("p", "empty").text("No step is done yet.");
    }
    Element::of("section", "tiles").children(tiles)
}

fn median(points: Vec<(f64, f64)>) -> Option<f64> {
    let mut values: Vec<f64> = points.into_iter().map(|point| point.1).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// What the model wrote at different steps.
pub(super) fn samples(record: &Record) -> Option<Element> {
    let mut steps: BTreeMap<u64, Vec<&Sample>> = BTreeMap::new();
    record.samples.iter().for_each(|sample| steps.entry(sample.step).or_default().push(sample));
    let all = steps.len();
    let shown: Vec<(u64, Vec<&Sample>)> = if all <= SAMPLED_STEPS {
        steps.into_iter().collect()
    } else {
        let steps: Vec<_> = steps.into_iter().collect();
        (0..SAMPLED_STEPS).map(|i| steps[i * (all - 1) / (SAMPLED_STEPS - 1)].clone()).collect()
    };
    let newest = shown.last()?.0;
    let details = shown.iter().map(|(step, samples)| {
        let texts = samples.iter().map(|sample| {
            let prompt = Element::of("span", "given").text(&sample.prompt);
            Element::new("pre").child(prompt).text(&sample.completion)
        });
        let summary = Element::new("summary").text(format!("step {}", count(*step)));
        let summary = match samples.first() {
            Some(first) => summary.child(Element::of("span", "teaser").text(one_line(first))),
            None => summary,
        };
        let details = Element::of("details", "card").child(summary).children(texts);
        if *step == newest { details.attr("open", "open") } else { details }
    });
    let mut section = Element::of("section", "samples").child(Element::new("h2").text("What it writes"));
    if all > SAMPLED_STEPS {
        let note = format!("{SAMPLED_STEPS} of {all} steps are shown; all are in samples.jsonl.");
        section = section.child(Element::of("p", "pale").text(note));
    }
    Some(section.children(details))
}

fn one_line(sample: &Sample) -> String {
    let text = format!("{}{}", sample.prompt, sample.completion);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect()
}

/// What the data was made of, from the `report.json` and `meta.json` of the inputs.
pub(super) fn corpus(record: &mut Record) -> Option<Element> {
    let reports: Vec<(_, Report)> = record.beside_inputs("report.json");
    let metas: Vec<(_, Map<String, Value>)> = record.beside_inputs("meta.json");
    if reports.is_empty() && metas.is_empty() {
        return None;
    }
    let mut section = Element::of("section", "corpus").child(Element::new("h2").text("Data"));
    for (dir, corpus) in &reports {
        section =
            section.child(Element::of("p", "path pale").text(dir.display())).child(corpus_table(corpus));
    }
    for (dir, meta) in metas {
        let leaves = meta.into_iter().filter(|(_, value)| !value.is_object() && !value.is_array());
        let leaves =
            leaves.map(|(key, value)| (key, value.as_str().map_or_else(|| value.to_string(), String::from)));
        section = section.child(Element::of("p", "path pale").text(dir.display())).child(pairs(leaves));
    }
    Some(section)
}

fn corpus_table(corpus: &Report) -> Element {
    let row = |name: &str, documents: u64, size: u64, example: String| {
        let example = Element::of("td", "path").text(example);
        vec![cell(name), cell(count(documents)), cell(bytes(size)), example]
    };
    let total = |name: &str, total: Total| row(name, total.documents, total.bytes, String::new());
    let mut rows = vec![
        total(&format!("read from {} files", count(corpus.files)), corpus.read),
        total("kept", corpus.kept),
        total("· to train on", corpus.train),
        total("· to validate on", corpus.val),
    ];
    let mut dropped: Vec<_> = corpus.dropped.iter().collect();
    dropped.sort_by_key(|(_, dropped)| std::cmp::Reverse(dropped.count));
    rows.extend(dropped.into_iter().map(|(reason, dropped)| {
        let example = dropped.examples.first().map_or(String::new(), ToString::to_string);
        row(&format!("dropped: {reason}"), dropped.count, dropped.bytes, example)
    }));
    table(&["", "documents", "size", "for example"], rows)
}

/// Every setting of the run.
pub(super) fn recipe(record: &Record) -> Element {
    let section = Element::of("section", "recipe").child(Element::new("h2").text("Recipe"));
    let section = section.child(settings(&record.recipe.settings));
    let mut runtime = record.recipe.runtime.clone();
    // These two stand at the top of the page.
    runtime.retain(|key, _| !["machine", "parameters"].contains(&key));
    if runtime.is_empty() {
        return section;
    }
    let note = Element::of("p", "pale").text("Without influence on the results:");
    section.child(note).child(settings(&runtime))
}

fn settings(table: &toml::Table) -> Element {
    pairs(leaves(table).into_iter().map(|(key, value)| (key, value.trim_matches('"').to_string())))
}

/// Keys and values in as many columns as fit.
fn pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Element {
    let pair = |(key, value): (String, String)| {
        Element::new("div").child(Element::new("dt").text(key)).child(Element::new("dd").text(value))
    };
    Element::of("dl", "pairs").children(pairs.into_iter().map(pair))
}

/// What happened, and when.
pub(super) fn events(record: &Record) -> Option<Element> {
    let row = |timed: &super::record::TimedEvent| {
        let kind = match timed.event.event {
            EventKind::Started => "started",
            EventKind::Resumed => "resumed",
            EventKind::SkippedStep => "skipped a step: not finite",
            EventKind::ExplodedStep => "a step exploded: its state is not kept",
            EventKind::Warned => "something looks wrong",
            EventKind::DamagedCheckpoint => "passed over a damaged checkpoint",
            EventKind::Stopped => "stopped",
            EventKind::Finished => "finished",
            EventKind::Failed => "failed",
        };
        vec![cell(utc(timed.unix_secs)), cell(count(timed.event.step)), cell(kind), cell(&timed.event.detail)]
    };
    let rows: Vec<_> = record.events.iter().map(row).collect();
    let section = Element::of("section", "events").child(Element::new("h2").text("Events"));
    (!rows.is_empty()).then(|| section.child(table(&["UTC", "step", "event", ""], rows)))
}

/// What could not be read.
pub(super) fn complaints(record: &Record) -> Option<Element> {
    let items = record.complaints.iter().map(|complaint| Element::new("li").text(complaint));
    let section = Element::of("section", "complaints").child(Element::new("h2").text("Could not be read"));
    (!record.complaints.is_empty()).then(|| section.child(Element::new("ul").children(items)))
}

/// `2025-03-09 14:05`. Days become a date as in Howard Hinnant, "chrono-compatible low-level date algorithms"
/// (2014): years that begin in March have their leap day at the end.
fn utc(unix_secs: u64) -> String {
    let (days, secs) = (unix_secs / 86_400 + 719_468, unix_secs % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", secs / 3600, secs % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_right() {
        let shown = [0, 951_827_696, 1_741_529_100, 4_102_444_799].map(utc);
        assert_eq!(shown, ["1970-01-01 00:00", "2000-02-29 12:34", "2025-03-09 14:05", "2099-12-31 23:59"]);
    }
}
