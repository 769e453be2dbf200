//! The parts of the page, from top to bottom.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::html::{Element, note, section};
use super::record::Record;
use super::table::{Table, cell, said};
use super::text::{Text, alike, both};
use crate::corpus::{Report, Total};
use crate::numbers::{bytes, count};
use crate::output::leaves;
use crate::train::run::{EventKind, Sample};

/// Steps whose samples are shown; of more, these many evenly chosen.
const SAMPLED_STEPS: usize = 24;

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
            let prompt = Element::of("span", "given").data(&sample.prompt);
            Element::new("pre").child(prompt).child(Element::new("span").data(&sample.completion))
        });
        let n = count(*step);
        let title = both(format!("step {n}"), format!("第 {n} 步"));
        let teaser = samples.first().map(|first| Element::of("span", "teaser").data(one_line(first)));
        let summary = Element::new("summary").child(Element::new("span").say(title)).children(teaser);
        let details = Element::of("details", "card").child(summary).children(texts);
        if *step == newest { details.attr("open", "open") } else { details }
    });
    let mut section = section(both("What it writes", "它写了什么"));
    if all > SAMPLED_STEPS {
        section = section.child(note(both(
            format!("{SAMPLED_STEPS} of {all} steps are shown; all are in samples.jsonl."),
            format!("这里列出 {all} 步中的 {SAMPLED_STEPS} 步，全部在 samples.jsonl 里。"),
        )));
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
    let mut section = section(both("Data", "数据"));
    let path = |dir: &std::path::Path| Element::of("p", "path pale").data(dir.display());
    for (dir, corpus) in &reports {
        section = section.child(path(dir)).child(corpus_table(corpus));
    }
    for (dir, meta) in metas {
        let leaves = meta.into_iter().filter(|(_, value)| !value.is_object() && !value.is_array());
        let leaves =
            leaves.map(|(key, value)| (key, value.as_str().map_or_else(|| value.to_string(), String::from)));
        section = section.child(path(&dir)).child(pairs(leaves));
    }
    Some(section)
}

fn corpus_table(corpus: &Report) -> Element {
    let row = |name: Text, documents: u64, size: u64, example: String| {
        vec![
            said(name),
            cell(count(documents)),
            cell(bytes(size)),
            Element::of("div", "value path").data(example),
        ]
    };
    let total = |name: Text, total: Total| row(name, total.documents, total.bytes, String::new());
    let files = count(corpus.files);
    let mut rows = vec![
        total(both(format!("read from {files} files"), format!("从 {files} 个文件读入")), corpus.read),
        total(both("kept", "保留"), corpus.kept),
        total(both("· to train on", "· 用于训练"), corpus.train),
        total(both("· to validate on", "· 用于验证"), corpus.val),
    ];
    let mut dropped: Vec<_> = corpus.dropped.iter().collect();
    dropped.sort_by_key(|(_, dropped)| std::cmp::Reverse(dropped.count));
    rows.extend(dropped.into_iter().map(|(reason, dropped)| {
        let example = dropped.examples.first().map_or(String::new(), ToString::to_string);
        let name = both(format!("dropped: {reason}"), format!("去掉：{reason}"));
        row(name, dropped.count, dropped.bytes, example)
    }));
    let heads = [
        both("what became of them", "去向"),
        both("documents", "文档数"),
        both("size", "大小"),
        both("for example", "例如"),
    ];
    Table::new(both("What was read, kept and dropped", "读入、保留和去掉的"), heads).rows(rows).build()
}

/// Every setting of the run.
pub(super) fn recipe(record: &Record) -> Element {
    let section = section(both("Recipe", "配方")).child(settings(&record.recipe.settings));
    let mut runtime = record.recipe.runtime.clone();
    // These have their places elsewhere on the page.
    runtime.retain(|key, _| !["machine", "parameters", "command"].contains(&key));
    if runtime.is_empty() {
        return section;
    }
    section
        .child(Element::of("p", "pale").say(both("Without influence on the results:", "不影响结果的：")))
        .child(settings(&runtime))
}

fn settings(table: &toml::Table) -> Element {
    pairs(leaves(table).into_iter().map(|(key, value)| (key, value.trim_matches('"').to_string())))
}

/// Keys and values in as many columns as fit.
fn pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Element {
    let pair = |(key, value): (String, String)| {
        Element::new("div").child(Element::new("dt").data(key)).child(value_of(&value))
    };
    Element::of("dl", "pairs").children(pairs.into_iter().map(pair))
}

/// Digests are as good as unique by their beginning, and the whole is under the pointer.
fn value_of(value: &str) -> Element {
    let shown = short_digest(value);
    let element = Element::new("dd");
    let element = if shown == value { element } else { element.attr("title", value) };
    element.data(shown)
}

/// The beginning of a digest, however it is written (`blake3:…`, bare, `… × 0.5`); anything else as it is.
pub(super) fn short_digest(value: &str) -> String {
    const SHOWN: usize = 12;
    const SHORTEST: usize = 32;
    let (scheme, rest) = value.split_once(':').map_or(("", value), |(scheme, rest)| (scheme, rest));
    let digits = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
    let is_scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric());
    if digits < SHORTEST || !is_scheme {
        return value.to_owned();
    }
    format!("{}…{}", &rest[..SHOWN], &rest[digits..])
}

/// What happened, and when.
pub(super) fn events(record: &Record) -> Option<Element> {
    let row = |timed: &super::record::TimedEvent| {
        let kind = match timed.event.event {
            EventKind::Started => both("started", "开始"),
            EventKind::Resumed => both("resumed", "继续"),
            EventKind::SkippedStep => both("skipped a step: not finite", "跳过一步：出现非有限数"),
            EventKind::ExplodedStep => {
                both("a step exploded: its state is not kept", "一步爆炸：不保留它的状态")
            }
            EventKind::Warned => both("something looks wrong", "看起来不对"),
            EventKind::DamagedCheckpoint => both("passed over a damaged checkpoint", "略过损坏的检查点"),
            EventKind::Stopped => both("stopped", "停下"),
            EventKind::Finished => both("finished", "完成"),
            EventKind::Failed => both("failed", "失败"),
        };
        vec![cell(utc(timed.unix_secs)), cell(count(timed.event.step)), said(kind), cell(&timed.event.detail)]
    };
    let rows: Vec<_> = record.events.iter().map(row).collect();
    let heads = [alike("UTC"), both("step", "步"), both("event", "事件"), both("detail", "详情")];
    let table =
        |rows| Table::new(both("What happened, and when", "何时发生了什么"), heads).rows(rows).build();
    (!rows.is_empty()).then(|| section(both("Events", "事件")).child(table(rows)))
}

/// What could not be read.
pub(super) fn complaints(record: &Record) -> Option<Element> {
    let items = record.complaints.iter().map(|complaint| Element::new("li").data(complaint));
    let list = Element::of("ul", "complaints").children(items);
    (!record.complaints.is_empty()).then(|| section(both("Could not be read", "无法读取")).child(list))
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
    use super::{short_digest, utc};

    #[test]
    fn digests_are_shortened_and_nothing_else_is() {
        let digest = "0123456789abcdef".repeat(4);
        let shown = [digest.clone(), format!("blake3:{digest}"), format!("{digest} × 0.5")]
            .map(|text| short_digest(&text));
        assert_eq!(shown, ["0123456789ab…", "0123456789ab…", "0123456789ab… × 0.5"]);
        for kept in ["0123456789ab", "cosine", "/a/path:0123", "", "beef: it is", "2 threads"] {
            assert_eq!(short_digest(kept), kept);
        }
    }

    #[test]
    fn dates_are_right() {
        let shown = [0, 951_827_696, 1_741_529_100, 4_102_444_799].map(utc);
        assert_eq!(shown, ["1970-01-01 00:00", "2000-02-29 12:34", "2025-03-09 14:05", "2099-12-31 23:59"]);
    }
}
