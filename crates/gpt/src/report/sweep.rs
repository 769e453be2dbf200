//! The page of a sweep: how a model's figures rise with the examples that it is shown (Brown et al. 2020,
//! figure 1.2).

use super::chart::{Chart, Look, Series, Span};
use super::document::document;
use super::html::{Element, note, paragraph};
use super::next::{self, quoted};
use super::table::{Table, cell};
use super::text::{Text, alike, both};
use crate::eval::Interval;

/// A task with several numbers of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The task's name.
    pub task: String,
    /// What is measured: `accuracy`, `exact_match` …
    pub metric: String,
    /// Numbers of examples, and the value with each.
    pub points: Vec<(usize, Interval)>,
    /// The value by chance, if it is known.
    pub chance: Option<f64>,
    /// The value of who always gives the most frequent answer, likewise.
    pub majority: Option<f64>,
}

/// A page with a chart and a table for every task, and the `command` that made it.
pub fn sweeps_page(model: &str, sweeps: &[Sweep], command: &str) -> String {
    let title = both("Learning from the prompt", "从提示中学习");
    let explained = both(
        "Each task with more and more examples before the item. If the model learns from them, the figures rise.",
        "每项任务的题目前面给出越来越多的例子。如果模型能从中学习，数字就会上升。",
    );
    let header = Element::of("div", "opening")
        .child(Element::new("h1").say(title.clone()))
        .child(Element::of("p", "path").data(model))
        .child(paragraph(explained));
    let sections = sweeps.iter().enumerate().map(|(i, sweep)| section_of(i, sweep));
    let tasks: Vec<String> = sweeps.iter().map(|sweep| sweep.task.clone()).collect();
    let next = next::steps([(
        both("See every item with its exact prompt and answer.", "看每个题目原样的提示和回答。"),
        format!(
            "mynah eval --model {} --tasks {} --out items.jsonl",
            quoted(model),
            quoted(&tasks.join(","))
        ),
    )]);
    document(title, header, sections.chain([next]).chain(next::made_by(Some(command))))
}

fn section_of(i: usize, sweep: &Sweep) -> Element {
    let mut points = sweep.points.clone();
    points.sort_by_key(|point| point.0);
    let row = |(shots, Interval { value, low, high }): &(usize, Interval)| {
        vec![cell(shots), cell(format!("{value:.4}")), cell(format!("{low:.4}–{high:.4}"))]
    };
    let heads = [both("examples", "例子数"), metric_name(&sweep.metric), both("95 % interval", "95 % 区间")];
    let caption = both("The figures by number of examples", "各例子数下的数字");
    let rows = Table::new(caption, heads).rows(points.iter().map(row)).build();
    let known = [
        (both("chance", "随机"), sweep.chance),
        (both("always the most frequent answer", "总答最常见的"), sweep.majority),
    ];
    let levels = known.into_iter().filter_map(|(name, value)| {
        let value = format!("{:.4}", value?);
        Some(both(format!("{} {value}", name.en), format!("{} {value}", name.zh)))
    });
    let (en, zh): (Vec<_>, Vec<_>) = levels.map(|Text { en, zh }| (en, zh)).unzip();
    let mut explained = both("The band is the 95 % interval of each value.", "色带是每个值的 95 % 区间。");
    if !en.is_empty() {
        explained = explained
            .then(both(format!("Level lines: {}.", en.join(", ")), format!("横线：{}。", zh.join("，"))));
    }
    let chart = chart(i, sweep, &points);
    let figure = |svg| {
        let title = Element::new("strong").attr("id", &chart.id).say(chart.title.clone());
        Element::of("figure", "card").child(Element::new("figcaption").child(title)).child(svg)
    };
    Element::new("section")
        .child(Element::new("h2").data(&sweep.task))
        .children(chart.svg(880.0, 300.0).map(figure))
        .child(note(explained))
        .child(rows)
}

/// What a figure of an evaluation is called.
fn metric_name(metric: &str) -> Text {
    match metric {
        "accuracy" => both("accuracy", "准确率"),
        "exact_match" => both("exactly right", "完全正确"),
        "stated" => both("answers that state what is right", "说出正确答案的回答"),
        "bits_per_byte" => both("bits per byte", "每字节比特数"),
        other => alike(other),
    }
}

/// The values over the number of examples, with their intervals, beside what needs no model.
fn chart(i: usize, sweep: &Sweep, points: &[(usize, Interval)]) -> Chart {
    let along = |value: &dyn Fn(&Interval) -> f64| {
        points.iter().map(|(shots, interval)| (*shots as f64, value(interval))).collect::<Vec<_>>()
    };
    let line = |name, class, look, points| Series { name, class, look, points };
    let low = along(&|interval| interval.low);
    let outline = low.into_iter().chain(along(&|interval| interval.high).into_iter().rev());
    let name = metric_name(&sweep.metric);
    let mut series = vec![
        line(Text::default(), "val", Look::Band, outline.collect()),
        line(name.clone(), "val", Look::Dots, along(&|interval| interval.value)),
    ];
    for (name, value) in [(both("chance", "随机"), sweep.chance), (both("majority", "多数"), sweep.majority)]
    {
        series.extend(value.map(|value| line(name, "other", Look::Line, along(&|_| value))));
    }
    let title =
        both(format!("{}, over the number of examples", name.en), format!("{}随例子数的变化", name.zh));
    let mut chart = Chart::of(format!("chart-{i}"), title, Vec::new());
    (chart.along, chart.unit) = (both("examples before the item", "题目前的例子数"), name);
    Chart { span: Span::FromZero, series, ..chart }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_values_intervals_chance_and_majority() {
        let interval = |value: f64| Interval { value, low: value - 0.1, high: value + 0.1 };
        let sweep = Sweep {
            task: "copa <b>".into(),
            metric: "accuracy".into(),
            points: vec![(8, interval(0.75)), (0, interval(0.5)), (1, interval(0.625))],
            chance: Some(0.25),
            majority: Some(0.375),
        };
        let page = sweeps_page("runs/a & b", &[sweep], "mynah eval --plot page.html");
        crate::report::tests::check(&page);
        assert!(page.contains("runs/a &amp; b") && page.contains("copa &lt;b&gt;"), "text is escaped");
        assert!(page.contains("chance 0.2500, always the most frequent answer 0.3750"));
        let rows: Vec<usize> = ["0.4000–0.6000", "0.5250–0.7250", "0.6500–0.8500"]
            .map(|interval| page.find(interval).unwrap_or_else(|| panic!("{interval}")))
            .to_vec();
        assert!(rows.is_sorted(), "the rows are in the order of examples");
        // The value, the band of its interval, chance, majority; and a dot for each value.
        assert_eq!(page.matches("<path ").count(), 4);
        let band = page.split("<path class=\"band val\" d=\"").nth(1).and_then(|rest| rest.split('"').next());
        let corners = band
            .map(|path| path.trim_end_matches('Z').split(['M', 'L']).skip(1).collect::<Vec<_>>())
            .unwrap();
        let x = |corner: &str| corner.split(' ').next().unwrap().to_owned();
        assert_eq!(corners.len(), 6, "there along the lower ends, and back along the upper ones");
        assert!((0..3).all(|i| x(corners[i]) == x(corners[5 - i])), "{corners:?}");
        assert_eq!(page.matches("<circle ").count(), 3);
    }
}
