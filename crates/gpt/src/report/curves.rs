//! The curves of a run: the loss large, everything else small.

use super::axis::Scale;
use super::chart::{Chart, Look, Series, Span};
use super::html::Element;
use super::record::{Record, smooth};

/// Charts beyond the well-known ones that a page may hold.
const OTHERS: usize = 48;
/// Metrics that are drawn by name or are no curves.
const KNOWN: [&str; 6] = ["loss", "val_loss", "val_bpb", "lr", "grad_norm", "tokens"];

pub(super) fn section(record: &Record) -> Option<Element> {
    let small = small_charts(record).into_iter().filter_map(|chart| figure(&chart));
    let small: Vec<Element> = small.collect();
    let loss = loss_figure(record);
    if loss.is_none() && small.is_empty() {
        return None;
    }
    let section = Element::new("section").child(Element::new("h2").text("Curves")).children(loss);
    Some(section.child(Element::of("div", "charts").children(small)))
}

/// The loss over steps and over their logarithm, each once for wide and once for narrow pages. Two radio
/// buttons choose, by the style sheet alone.
fn loss_figure(record: &Record) -> Option<Element> {
    let mut chart = loss_chart(record);
    let told = chart.series.iter().filter(|series| series.look != Look::Range);
    let keys = told.map(|series| Element::of("span", &format!("key {}", series.class)).text(&series.name));
    let mut caption = Element::new("figcaption")
        .child(Element::new("strong").text("Loss"))
        .children(keys)
        .child(Element::new("i"));
    let mut figure = Element::of("figure", "card loss");
    for (id, label, checked) in [("x-linear", "steps", true), ("x-log", "log", false)] {
        let radio = Element::new("input").attr("type", "radio").attr("name", "x").attr("id", id);
        figure = figure.child(if checked { radio.attr("checked", "checked") } else { radio });
        caption = caption.child(Element::new("label").attr("for", id).text(label));
    }
    figure = figure.child(caption);
    for (class, scale) in [("over-linear", Scale::Linear), ("over-log", Scale::Log)] {
        chart.x = scale;
        let (wide, narrow) = (chart.svg(1000.0, 340.0)?, chart.svg(440.0, 300.0)?);
        let note = "The first steps lie above the frame; the logarithmic view shows them.";
        let note = chart.is_cropped().then(|| Element::of("p", "note").text(note));
        let wide = Element::of("div", "wide").child(wide);
        let narrow = Element::of("div", "narrow").child(narrow);
        figure = figure.child(Element::of("div", class).child(wide).child(narrow).children(note));
    }
    Some(figure)
}

fn loss_chart(record: &Record) -> Chart {
    let loss = record.metric("loss");
    let series = |name: &str, class, look, points| Series { name: name.into(), class, look, points };
    let mut chart = Chart::of("Loss by step", Vec::new());
    chart.series = vec![
        series("", "train", Look::Range, loss.clone()),
        series("training", "train", Look::Line, smooth(&loss)),
        series("validation", "val", Look::Dots, record.metric("val_loss")),
    ];
    chart.series.retain(|series| !series.points.is_empty());
    chart.span = Span::Late;
    let bad = record.bad_steps().into_iter();
    chart.marks = bad.map(|(step, why)| (step as f64, format!("step {step} was bad: {why}"))).collect();
    chart
}

fn small_charts(record: &Record) -> Vec<Chart> {
    let from_zero = |title, points| Chart { span: Span::FromZero, ..Chart::of(title, points) };
    let mut charts = vec![Chart::of("Validation, bits per byte", record.metric("val_bpb"))];
    let others = record.metric_names().into_iter().filter(|name| !KNOWN.contains(name)).take(OTHERS);
    charts.extend(others.map(|name| Chart::of(name, record.metric(name))));
    charts.push(from_zero("Learning rate", record.metric("lr")));
    charts.push(Chart { y: Scale::Log, ..Chart::of("Gradient norm", record.metric("grad_norm")) });
    charts.push(from_zero("Tokens per second", record.timing("tokens_per_sec")));
    charts.push(from_zero("Utilisation, fraction of peak", record.timing("mfu")));
    charts
}

/// A small chart; points of one curve lie behind its smoothed line unless they are few.
pub(super) fn figure(chart: &Chart) -> Option<Element> {
    let chart = chart.smoothed();
    let caption = Element::new("figcaption").child(Element::new("strong").text(&chart.title));
    Some(Element::of("figure", "card").child(caption).child(chart.svg(440.0, 200.0)?))
}

impl Chart {
    /// The chart of one curve with a smoothed line before it, where there are enough points to smooth.
    fn smoothed(&self) -> Chart {
        let curve = &self.series[0];
        let (range, mut line) = (Series { look: Look::Range, ..curve.clone() }, curve.clone());
        if curve.points.len() < 60 {
            line.look = if curve.points.len() < 30 { Look::Dots } else { Look::Line };
            return Chart { title: self.title.clone(), series: vec![line], marks: Vec::new(), ..*self };
        }
        line.points = smooth(&curve.points);
        Chart { title: self.title.clone(), series: vec![range, line], marks: Vec::new(), ..*self }
    }
}
