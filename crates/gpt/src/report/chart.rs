//! Line charts as SVG. Colours come from the style sheet by class, so that one drawing serves light and dark;
//! values appear under the pointer by `:hover`, without scripts.

use std::fmt::Write;

use super::axis::{Axis, Scale, number};
use super::html::Element;
use super::text::{Text, both};

/// A drawing of series over steps.
pub(super) struct Chart {
    /// The `id` of the element that names it to whoever does not see it, once on a page.
    pub(super) id: String,
    pub(super) title: Text,
    /// What the horizontal axis counts or measures.
    pub(super) along: Text,
    /// What the vertical one does, with its unit.
    pub(super) unit: Text,
    pub(super) x: Scale,
    pub(super) y: Scale,
    /// What the vertical axis spans.
    pub(super) span: Span,
    pub(super) series: Vec<Series>,
    /// Steps marked at the foot.
    pub(super) marks: Vec<Mark>,
}

/// A step that something is to be said of.
#[derive(Clone)]
pub(super) struct Mark {
    pub(super) step: f64,
    /// Its colour: `bad` or `chosen`.
    pub(super) class: &'static str,
    pub(super) label: Text,
}

/// What the vertical axis of a chart spans.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// All values.
    All,
    /// All values and zero.
    FromZero,
    /// All values except those of the first steps, where a loss falls off a cliff that would flatten the
    /// rest. Logarithmic steps give the cliff its room, and spans everything.
    Late,
}

/// One curve: `(step, value)`, steps rising.
#[derive(Clone)]
pub(super) struct Series {
    /// What it is called beside others.
    pub(super) name: Text,
    /// Its colour: `train`, `val` or `other`.
    pub(super) class: &'static str,
    pub(super) look: Look,
    pub(super) points: Vec<(f64, f64)>,
}

/// How a series is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The whole range of the values, pale: what lies behind a smoothed line. Not told on hovering.
    Range,
    /// A filled area, of which the points are the outline: there along one side, and back along the other.
    Band,
    Line,
    /// A line with a dot at every point, if they are few.
    Dots,
}

/// Where the curves are drawn, in the units of the drawing.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Axis,
    y: Axis,
}

/// Columns of a drawing that tell their values when the pointer is over them.
const HOVER_COLUMNS: f64 = 120.0;
/// A series of more points has no dots: they would run into each other.
const MOST_DOTS: usize = 100;
/// The share of a run in which its loss falls off the cliff, see [`Span::Late`].
pub(super) const CLIFF: f64 = 0.04;

impl Chart {
    /// A chart of one nameless line over steps, with linear axes.
    pub(super) fn of(id: impl Into<String>, title: Text, points: Vec<(f64, f64)>) -> Self {
        let series = Series { name: Text::default(), class: "other", look: Look::Line, points };
        Self {
            id: id.into(),
            title,
            along: both("step", "步"),
            unit: Text::default(),
            x: Scale::Count,
            y: Scale::Linear,
            span: Span::All,
            series: vec![series],
            marks: Vec::new(),
        }
    }

    /// The drawing, `width` by `height` units, to be scaled by the page; none if there is nothing to draw.
    pub(super) fn svg(&self, width: f64, height: f64) -> Option<Element> {
        let frame = self.frame(width, height)?;
        let svg = Element::new("svg")
            .attr("viewBox", format!("0 0 {width} {height}"))
            .attr("role", "img")
            .attr("aria-labelledby", &self.id);
        let middle = f64::midpoint(frame.left, frame.right);
        let svg = svg
            .children(frame.grid())
            .child(place("title end", frame.right, height - 4.0).say(self.along.clone()))
            .child(place("title", 2.0, 11.0).say(self.unit.clone()))
            .children(self.series.iter().flat_map(|series| frame.draw(series)));
        Some(svg.children(self.hover(&frame)).children(frame.marks(&self.marks, middle)))
    }

    fn frame(&self, width: f64, height: f64) -> Option<Frame> {
        let points = || self.series.iter().flat_map(|series| &series.points).copied();
        let (left, right, top, bottom) = (46.0, width - 14.0, 24.0, height - 36.0);
        let late = self.cliff();
        let shown = points().filter(|point| point.0 >= late).map(|point| point.1);
        let zero = (self.span == Span::FromZero).then_some(0.0);
        let x = Axis::new(self.x, points().map(|point| point.0), 0.0, (width / 80.0) as usize)?;
        let y = Axis::new(self.y, shown.chain(zero), 0.04, (height / 45.0) as usize)?;
        Some(Frame { left, right, top, bottom, x, y })
    }

    /// The first step that must be seen whole.
    fn cliff(&self) -> f64 {
        let steps = self.series.iter().flat_map(|series| &series.points).map(|point| point.0);
        match self.x {
            Scale::Log => f64::MIN_POSITIVE,
            _ if self.span == Span::Late => CLIFF * steps.fold(0.0, f64::max),
            _ => f64::NEG_INFINITY,
        }
    }

    /// Whether some values lie outside the frame.
    pub(super) fn is_cropped(&self) -> bool {
        let Some(frame) = self.frame(1000.0, 340.0) else { return false };
        self.series.iter().flat_map(|series| &series.points).any(|point| frame.y.place(point.1).is_none())
    }

    /// For every column with values a strip that, under the pointer, shows a line and says what they are.
    fn hover(&self, frame: &Frame) -> Vec<Element> {
        let mut columns: Vec<(f64, Text)> = Vec::new();
        let told: Vec<&Series> = self.series.iter().filter(|series| series.is_told()).collect();
        let mut steps: Vec<f64> =
            told.iter().flat_map(|series| series.points.iter().map(|point| point.0)).collect();
        steps.sort_by(f64::total_cmp);
        steps.dedup();
        let wide = (frame.right - frame.left) / HOVER_COLUMNS;
        for step in steps.into_iter().rev() {
            let Some(x) = frame.x.place(step).map(|place| frame.left + place * (frame.right - frame.left))
            else {
                continue;
            };
            // A point that is drawn as a dot deserves its own column; of the others one in each is enough.
            let values: Vec<(&Series, f64)> =
                told.iter().filter_map(|series| Some((*series, series.value_at(step)?))).collect();
            let dotted = values.iter().any(|(series, _)| series.is_dotted());
            if !dotted && columns.last().is_some_and(|(last, _)| last - x < wide) {
                continue;
            }
            columns.push((x, self.tell(step, &values)));
        }
        columns.reverse();
        let middle = |i: usize| (columns[i].0 + columns[i + 1].0) / 2.0;
        (0..columns.len())
            .map(|i| {
                let left = if i == 0 { frame.left } else { middle(i - 1) };
                let right = if i + 1 == columns.len() { frame.right } else { middle(i) };
                frame.strip(left, right, columns[i].0, &columns[i].1)
            })
            .collect()
    }

    /// What the values at a place are: `step 12 · training 2.013 · validation 2.112`.
    fn tell(&self, step: f64, values: &[(&Series, f64)]) -> Text {
        let say = |language: &dyn Fn(&Text) -> &str| {
            let mut said = format!("{} {}", language(&self.along), (step * 1e4).round() / 1e4);
            for (series, value) in values {
                let named = format!("{} {}", language(&series.name), number(*value));
                let _ = write!(said, " · {}", named.trim_start());
            }
            said
        };
        both(say(&|text| &text.en), say(&|text| &text.zh))
    }
}

impl Series {
    /// Whether its values are told under the pointer.
    pub(super) fn is_told(&self) -> bool {
        matches!(self.look, Look::Line | Look::Dots)
    }

    fn is_dotted(&self) -> bool {
        self.look == Look::Dots && self.points.len() <= MOST_DOTS
    }

    /// The value at a step, if there is one.
    fn value_at(&self, step: f64) -> Option<f64> {
        let index = self.points.binary_search_by(|point| point.0.total_cmp(&step)).ok()?;
        Some(self.points[index].1)
    }
}

impl Frame {
    fn at(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let x = self.left + self.x.place(x)? * (self.right - self.left);
        Some((x, self.bottom - self.y.place(y)? * (self.bottom - self.top)))
    }

    fn grid(&self) -> Vec<Element> {
        let mut grid = Vec::new();
        for (tick, label) in &self.y.ticks {
            let y = self.bottom - self.y.place(*tick).unwrap_or(0.0) * (self.bottom - self.top);
            grid.push(line("grid", (self.left, y), (self.right, y)));
            grid.push(place("tick end", self.left - 7.0, y + 4.0).data(label));
        }
        for (tick, label) in &self.x.ticks {
            let x = self.left + self.x.place(*tick).unwrap_or(0.0) * (self.right - self.left);
            grid.push(line("axis", (x, self.bottom), (x, self.bottom + 4.0)));
            grid.push(place("tick middle", x, self.bottom + 17.0).data(label));
        }
        grid.push(line("axis", (self.left, self.bottom), (self.right, self.bottom)));
        grid
    }

    fn draw(&self, series: &Series) -> Vec<Element> {
        let points: Vec<(f64, f64)> = series.points.iter().filter_map(|&point| self.at(point)).collect();
        let (look, drawn) = match series.look {
            Look::Band => ("band", points.clone()),
            Look::Range => ("range", thin(&points, true)),
            Look::Line | Look::Dots => ("line", thin(&points, false)),
        };
        let mut path = String::new();
        for (index, (x, y)) in drawn.into_iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
        }
        if series.look == Look::Band {
            path.push('Z');
        }
        let mut drawn = vec![Element::of("path", &format!("{look} {}", series.class)).attr("d", path)];
        if series.is_dotted() || points.len() == 1 {
            drawn.extend(points.iter().map(|(x, y)| {
                let dot = Element::of("circle", &format!("dot {}", series.class)).attr("r", 2.5);
                dot.attr("cx", format!("{x:.1}")).attr("cy", format!("{y:.1}"))
            }));
        }
        drawn
    }

    /// Marks lie above the strips, so that the pointer finds them.
    fn marks(&self, marks: &[Mark], middle: f64) -> Vec<Element> {
        let mark = |Mark { step, class, label }: &Mark| {
            let x = self.left + self.x.place(*step)? * (self.right - self.left);
            let area = area(x - 3.0, 6.0, self.bottom - 12.0, 14.0);
            let stroke = line(&format!("mark {class}"), (x, self.bottom - 9.0), (x, self.bottom + 1.0));
            let told = place("value middle", middle, self.bottom - 14.0).say(label.clone());
            Some(Element::of("g", "hover").child(area).child(stroke).child(told))
        };
        marks.iter().filter_map(mark).collect()
    }

    fn strip(&self, left: f64, right: f64, x: f64, label: &Text) -> Element {
        Element::of("g", "hover")
            .child(area(left, right - left, self.top, self.bottom - self.top))
            .child(line("guide", (x, self.top), (x, self.bottom)))
            .child(place("value end", self.right, 11.0).say(label.clone()))
    }
}

/// Points that fall into one column of the drawing become their mean, or with `range` their extremes.
fn thin(points: &[(f64, f64)], range: bool) -> Vec<(f64, f64)> {
    let mut thinned = Vec::new();
    for column in points.chunk_by(|a, b| (a.0 / 1.5).floor() == (b.0 / 1.5).floor()) {
        let mean = |values: &dyn Fn(&(f64, f64)) -> f64| {
            column.iter().map(values).sum::<f64>() / column.len() as f64
        };
        let x = mean(&|point| point.0);
        if range && column.len() > 1 {
            let ys = column.iter().map(|point| point.1);
            thinned.push((x, ys.clone().fold(f64::INFINITY, f64::min)));
            thinned.push((x, ys.fold(f64::NEG_INFINITY, f64::max)));
        } else {
            thinned.push((x, mean(&|point| point.1)));
        }
    }
    thinned
}

fn line(class: &str, from: (f64, f64), to: (f64, f64)) -> Element {
    let ends = [("x1", from.0), ("y1", from.1), ("x2", to.0), ("y2", to.1)];
    ends.into_iter()
        .fold(Element::of("line", class), |line, (name, value)| line.attr(name, format!("{value:.1}")))
}

fn area(x: f64, width: f64, y: f64, height: f64) -> Element {
    let sides = [("x", x), ("width", width), ("y", y), ("height", height)];
    sides.into_iter().fold(Element::new("rect"), |area, (name, value)| area.attr(name, format!("{value:.1}")))
}

/// A text at a place.
fn place(class: &str, x: f64, y: f64) -> Element {
    Element::of("text", class).attr("x", format!("{x:.1}")).attr("y", format!("{y:.1}"))
}
