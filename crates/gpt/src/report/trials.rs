//! The page of a sweep of trainings: the figure of each over the compute that it took, what a power law says of a ladder, and
//! which recipe is the best.

use serde::{Deserialize, Serialize};

use super::axis::{Scale, number};
use super::chart::{Chart, Look, Series};
use super::document::document;
use super::headline::stage_title;
use super::html::{Element, note, paragraph, section};
use super::next;
use super::table::{Table, cell, said};
use super::text::{Text, alike, both};
use crate::eval::{Interval, PowerLaw};
use crate::numbers::{count, scaled};

/// Places along a power law at which it is drawn.
const LAW_POINTS: usize = 40;
/// More curves than this have no names under the pointer.
const MOST_NAMED: usize = 8;

/// The runs of a sweep, and what they say together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trials {
    /// The training: `pretrain` …
    pub verb: String,
    /// What is measured: `val_loss` …
    pub metric: String,
    /// Whether more of it is better.
    pub highest: bool,
    /// The keys that runs differ in.
    pub keys: Vec<String>,
    /// Whether it is a ladder of models, and not a grid.
    pub is_ladder: bool,
    /// The runs, in order.
    pub trials: Vec<TrialResult>,
    /// How the figure of a ladder falls with compute.
    pub law: Option<PowerLaw>,
}

/// A run of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// The name of its directory.
    pub name: String,
    /// Its value of every key; empty where it has none.
    pub values: Vec<String>,
    /// Parameters of the model.
    pub parameters: Option<u64>,
    /// Tokens that it has learned from.
    pub tokens: Option<u64>,
    /// Operations of its training.
    pub flops: Option<f64>,
    /// The best figure.
    pub value: Option<f64>,
    /// The step that it was measured after.
    pub step: Option<u64>,
    /// Whether it came to its end.
    pub finished: bool,
    /// Why it failed.
    pub failed: Option<String>,
    /// The figure over operations (or steps, where nobody counts those).
    pub curve: Vec<(f64, f64)>,
}

impl Trials {
    /// The best of the runs that are finished.
    pub fn best(&self) -> Option<&TrialResult> {
        let finished = self.trials.iter().filter(|trial| trial.finished && trial.value.is_some());
        finished.reduce(|best, trial| {
            let is_better = if self.highest { trial.value > best.value } else { trial.value < best.value };
            if is_better { trial } else { best }
        })
    }

    fn counts_flops(&self) -> bool {
        self.trials.iter().filter(|trial| !trial.curve.is_empty()).all(|trial| trial.flops.is_some())
    }
}

pub(super) fn page(trials: &Trials) -> String {
    let stage = stage_title(&trials.verb);
    let title = both(format!("Sweep · {}", stage.en), format!("扫描 · {}", stage.zh));
    let (all, done) = (trials.trials.len(), trials.trials.iter().filter(|trial| trial.finished).count());
    let state =
        both(format!("{done} of {all} runs are finished"), format!("共 {all} 次运行，完成了 {done} 次"));
    let header = Element::of("div", "opening")
        .child(Element::of("p", "stage").say(stage))
        .child(Element::new("h1").say(both("A sweep", "一次扫描")))
        .child(Element::of("p", "pale").say(state))
        .children(best(trials));
    let parts = [curves(trials), law(trials), Some(table(trials)), next_steps(trials)];
    document(title, header, parts.into_iter().flatten())
}

fn best(trials: &Trials) -> Option<Element> {
    let best = trials.best()?;
    let value = number(best.value?);
    let differs = trials.keys.iter().zip(&best.values).filter(|(_, value)| !value.is_empty());
    let differs: Vec<String> = differs.map(|(key, value)| format!("{key} {value}")).collect();
    let (metric, differs) = (&trials.metric, differs.join(", "));
    let text = both(
        format!("The best run has {differs}: {metric} {value}. Its recipe is in best.toml."),
        format!("最好的一次是 {differs}：{metric} 为 {value}。它的配方在 best.toml 里。"),
    );
    Some(paragraph(text))
}

fn figure(chart: &Chart) -> Option<Element> {
    let title = Element::new("strong").attr("id", &chart.id).say(chart.title.clone());
    let svg = chart.svg(880.0, 320.0)?;
    Some(Element::of("figure", "card").child(Element::new("figcaption").child(title)).child(svg))
}

/// Every run's figure as it went on.
fn curves(trials: &Trials) -> Option<Element> {
    let with_curves = || trials.trials.iter().filter(|trial| !trial.curve.is_empty());
    let best = trials.best().map(|best| best.name.clone());
    let is_named = with_curves().count() <= MOST_NAMED;
    let series = with_curves().map(|trial| {
        let is_best = Some(&trial.name) == best.as_ref();
        let class = if is_best { "val" } else { "other" };
        let name = if is_named || is_best { alike(trial.name.clone()) } else { Text::default() };
        Series { name, class, look: Look::Dots, points: trial.curve.clone() }
    });
    let metric = &trials.metric;
    let counts = trials.counts_flops();
    let title = match counts {
        true => both(format!("{metric} over compute"), format!("{metric} 随计算量的变化")),
        false => both(format!("{metric} over steps"), format!("{metric} 随步数的变化")),
    };
    let mut chart = Chart::of("curves", title, Vec::new());
    chart.series = series.collect();
    chart.unit = alike(metric.clone());
    if counts {
        (chart.along, chart.x) = (both("floating-point operations", "浮点运算次数"), Scale::Log);
    }
    let explained = both(
        "A line is a run, a dot a validation; the run that ends best stands out.",
        "每条线是一次运行，每个点是一次验证；结果最好的那次用不同的颜色标出。",
    );
    Some(section(both("The runs", "各次运行")).child(figure(&chart)?).child(note(explained)))
}

/// What a power law says of a ladder.
fn law(trials: &Trials) -> Option<Element> {
    if !trials.is_ladder {
        return None;
    }
    let heading = both("Scaling law", "标度律");
    let Some(law) = &trials.law else {
        let text = both(
            "A power law needs three finished runs of different compute.",
            "要拟合幂律，至少需要三次计算量不同且已完成的运行。",
        );
        return Some(section(heading).child(paragraph(text)));
    };
    let finished = trials.trials.iter().filter(|trial| trial.finished);
    let mut points: Vec<(f64, f64)> =
        finished.filter_map(|trial| Some((trial.flops?, trial.value?))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (points.first()?.0, points.last()?.0);
    let place = |i: usize| first * (last * 10.0 / first).powf(i as f64 / (LAW_POINTS - 1) as f64);
    let line: Vec<(f64, Interval)> = (0..LAW_POINTS).map(place).map(|c| (c, law.at(c))).collect();
    let along = |value: fn(&Interval) -> f64| line.iter().map(|(c, at)| (*c, value(at))).collect::<Vec<_>>();
    let band = along(|at| at.low).into_iter().chain(along(|at| at.high).into_iter().rev()).collect();
    let metric = &trials.metric;
    let title = both(
        format!("{metric} of finished runs, and a power law"),
        format!("各次运行最后的 {metric} 与幂律"),
    );
    let mut chart = Chart::of("law", title, Vec::new());
    (chart.along, chart.x) = (both("floating-point operations", "浮点运算次数"), Scale::Log);
    (chart.unit, chart.y) = (alike(metric.clone()), Scale::Log);
    chart.series = vec![
        Series { name: Text::default(), class: "val", look: Look::Band, points: band },
        Series {
            name: both("power law", "幂律"),
            class: "val",
            look: Look::Line,
            points: along(|at| at.value),
        },
        Series { name: alike(metric.clone()), class: "other", look: Look::Dots, points },
    ];
    let Interval { value, low, high } = law.b;
    let b = format!("{value:.4} ({low:.4} … {high:.4})");
    let fitted = both(
        format!(
            "{metric} = {} · operations^(−b) with b = {b}, by least squares of the logarithms over {} runs. Ten times the compute makes it {:.3} times what it was.",
            number(law.a),
            law.n,
            10f64.powf(-value)
        ),
        format!(
            "{metric} = {} · 运算次数^(−b)，b = {b}，由 {} 次运行的对数作最小二乘得出。计算量增加到十倍，它变为原来的 {:.3} 倍。",
            number(law.a),
            law.n,
            10f64.powf(-value)
        ),
    );
    let explained = both(
        "In brackets the 95 % interval, as is the band. The line goes on to ten times the largest run: there it is a guess.",
        "括号内是 95 % 区间，色带也是。曲线延伸到最大一次运行的十倍计算量，那一段只是推测。",
    );
    Some(section(heading).child(figure(&chart)?).child(paragraph(fitted)).child(note(explained)))
}

fn table(trials: &Trials) -> Element {
    let best = trials.best().map(|best| &best.name);
    let row = |trial: &TrialResult| {
        let mut cells = vec![cell(&trial.name)];
        cells.extend(trial.values.iter().map(cell));
        let figures = [trial.parameters.map(count), trial.tokens.map(count), trial.flops.map(scaled)];
        cells.extend(figures.map(|figure| cell(figure.unwrap_or_default())));
        cells.push(cell(trial.value.map(number).unwrap_or_default()));
        cells.push(match (&trial.failed, trial.finished) {
            (Some(why), _) => said(both(format!("failed: {why}"), format!("失败：{why}"))),
            (None, true) if best == Some(&trial.name) => said(both("the best", "最好")),
            (None, true) => said(both("finished", "完成")),
            (None, false) => said(both("not finished", "未完成")),
        });
        cells
    };
    let heads = [both("run", "运行")].into_iter().chain(trials.keys.iter().map(alike)).chain([
        both("parameters", "参数"),
        both("tokens", "词元"),
        both("operations", "运算次数"),
        alike(trials.metric.clone()),
        both("state", "状态"),
    ]);
    let rows = Table::new(both("The runs and their best figures", "各次运行与最好的数字"), heads);
    let explained = both(
        "The figure of a run is the best of its validations. Operations are those of products, forward and backward.",
        "每次运行的数字取其各次验证中最好的。运算次数指前向和反向的矩阵乘法。",
    );
    section(both("All runs", "全部运行"))
        .child(rows.rows(trials.trials.iter().map(row)).build())
        .child(note(explained))
}

fn next_steps(trials: &Trials) -> Option<Element> {
    let best = trials.best()?;
    (trials.verb == "pretrain").then(|| {
        next::steps([
            (
                both("Train with the best recipe, for longer.", "用最好的配方训练更久。"),
                "mynah pretrain --preset best.toml --data tokens --tokens 200M --out runs/best".to_owned(),
            ),
            (
                both("Let the best model go on with a text.", "让最好的模型续写一段文本。"),
                format!("mynah complete --model {} 'Once'", next::quoted(&best.name)),
            ),
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(i: i32, value: f64) -> TrialResult {
        let flops = 10f64.powi(10 + i);
        TrialResult {
            name: format!("{i}-a <b>"),
            values: vec![format!("{i} & more")],
            flops: Some(flops),
            value: Some(value),
            step: Some(3),
            finished: true,
            curve: vec![(flops / 2.0, value + 1.0), (flops, value)],
            ..TrialResult::default()
        }
    }

    fn trials(is_ladder: bool) -> Trials {
        let runs: Vec<TrialResult> =
            [5.0, 4.2, 3.4, 3.1].into_iter().enumerate().map(|(i, value)| trial(i as i32, value)).collect();
        let points: Vec<(f64, f64)> =
            runs.iter().map(|run| (run.flops.unwrap(), run.value.unwrap())).collect();
        let failed = TrialResult {
            name: "4".into(),
            values: vec!["x".into()],
            failed: Some("exploded".into()),
            ..TrialResult::default()
        };
        Trials {
            verb: "pretrain".into(),
            metric: "val_loss".into(),
            highest: false,
            keys: vec!["d_model".into()],
            is_ladder,
            law: if is_ladder { PowerLaw::fit(&points) } else { None },
            trials: runs.into_iter().chain([failed]).collect(),
        }
    }

    #[test]
    fn the_page_has_curves_table_and_best_run() {
        let page = page(&trials(false));
        crate::report::tests::check(&page);
        assert!(page.contains("The best run has d_model 3 &amp; more: val_loss 3.1"), "{page}");
        assert!(page.contains("failed: exploded") && page.contains("4 of 5 runs are finished"));
        assert_eq!(page.matches("<path ").count(), 4, "a line for each run that has a curve");
        assert!(!page.contains("Scaling law"));
    }

    #[test]
    fn a_ladder_has_its_law() {
        let trials = trials(true);
        let page = page(&trials);
        crate::report::tests::check(&page);
        let law = trials.law.unwrap();
        let b = format!("b = {:.4} ({:.4} … {:.4})", law.b.value, law.b.low, law.b.high);
        assert!(page.contains(&b), "{b}");
        let few = super::page(&Trials { law: None, ..super::tests::trials(true) });
        crate::report::tests::check(&few);
        assert!(few.contains("needs three finished runs"));
    }

    #[test]
    fn the_best_is_the_highest_where_more_is_better() {
        let trials = trials(false);
        assert_eq!(trials.best().unwrap().value, Some(3.1));
        let highest = Trials { highest: true, ..trials };
        assert_eq!(highest.best().unwrap().value, Some(5.0));
    }
}
