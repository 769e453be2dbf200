//! The page of a sweep: how a model's figures rise with the examples that it is shown (Brown et al. 2020,
//! figure 1.2).

use super::chart::{Chart, EXAMPLES, Look, Series, Span};
use super::document;
use super::html::{Element, cell, table};
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

/// A page with a chart and a table for every task.
pub fn sweeps_page(model: &str, sweeps: &[Sweep]) -> String {
    let heading = Element::new("header")
        .child(Element::of("p", "brand").text("mynah"))
        .child(Element::new("h1").text("Learning from the prompt"))
        .child(Element::of("p", "pale").text(format!(
            "{model}: each task with more and more examples before the item. Intervals of 95 %."
        )));
    let main = Element::new("main").child(heading).children(sweeps.iter().map(section));
    document("Learning from the prompt · mynah", main)
}

fn section(sweep: &Sweep) -> Element {
    let mut points = sweep.points.clone();
    points.sort_by_key(|point| point.0);
    let row = |(shots, Interval { value, low, high }): &(usize, Interval)| {
        vec![cell(shots), cell(format!("{value:.4}")), cell(format!("{low:.4} – {high:.4}"))]
    };
    let rows = table(&["examples", &sweep.metric, "95 % interval"], points.iter().map(row));
    let known = [("chance", sweep.chance), ("majority", sweep.majority)];
    let known = known.into_iter().filter_map(|(name, value)| Some(format!("{name} {:.4}", value?)));
    let known: Vec<String> = known.collect();
    let level = if known.is_empty() { String::new() } else { format!("; level lines: {}", known.join(", ")) };
    let note = format!("Dots: the value; pale lines: its interval{level}.");
    Element::new("section")
        .child(Element::new("h2").text(&sweep.task))
        .children(chart(sweep, &points).svg(880.0, 300.0).map(|svg| Element::of("figure", "card").child(svg)))
        .child(Element::of("p", "note").text(note))
        .child(rows)
}

/// The values over the number of examples, with their intervals, beside what needs no model.
fn chart(sweep: &Sweep, points: &[(usize, Interval)]) -> Chart {
    let along = |value: &dyn Fn(&Interval) -> f64| {
        points.iter().map(|(shots, interval)| (*shots as f64, value(interval))).collect::<Vec<_>>()
    };
    let line = |name: &str, class, look, points| Series { name: name.to_owned(), class, look, points };
    let mut series = vec![
        line(&sweep.metric, "val", Look::Dots, along(&|interval| interval.value)),
        line("from", "val", Look::Range, along(&|interval| interval.low)),
        line("to", "val", Look::Range, along(&|interval| interval.high)),
    ];
    for (name, value) in [("chance", sweep.chance), ("majority", sweep.majority)] {
        series.extend(value.map(|value| line(name, "other", Look::Line, along(&|_| value))));
    }
    let title = format!("{} over the number of examples", sweep.metric);
    Chart { along: EXAMPLES, span: Span::FromZero, series, ..Chart::of(&title, Vec::new()) }
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
        let page = sweeps_page("runs/a & b", &[sweep]);
        assert!(page.contains("runs/a &amp; b") && page.contains("copa &lt;b&gt;"), "text is escaped");
        assert!(page.contains("chance 0.2500, majority 0.3750"));
        let rows: Vec<usize> = ["0.4000 – 0.6000", "0.5250 – 0.7250", "0.6500 – 0.8500"]
            .map(|interval| page.find(interval).unwrap_or_else(|| panic!("{interval}")))
            .to_vec();
        assert!(rows.is_sorted(), "the rows are in the order of examples");
        // The value, both ends of its interval, chance, majority; and a dot for each value.
        assert_eq!(page.matches("<path ").count(), 5);
        assert_eq!(page.matches("<circle ").count(), 3);
    }
}
