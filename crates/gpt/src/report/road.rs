//! What the road to a chat ended in: `results.json` and the page about all of its stages.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::axis::number;
use super::chart::Chart;
use super::curves::figure;
use super::html::{Element, cell, table};
use super::record::Record;
use super::results::{RESULTS, Stage, road_list};
use super::{REPORT, document};
use crate::eval::{Interval, Rate};
use crate::train::run::write_atomically;

/// A model of the road, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// `base`, `sft`, `ppo` …
    pub name: String,
    /// The judge's mean score, from 0 to 1.
    pub gold: Interval,
    /// The reward model's.
    pub reward: Interval,
    /// The KL of its answers to the supervised model, in nats.
    pub kl: Option<f64>,
    /// How often its answer is the better one, where the judge prefers one of both.
    pub win_rate: Option<Rate>,
}

/// An answer of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whose.
    pub system: String,
    /// What it says.
    pub text: String,
    /// What the judge gives for it.
    pub gold: f64,
}

/// A held-out prompt, and what the models make of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The prompt.
    pub prompt: String,
    /// The answers.
    pub answers: Vec<Answer>,
}

/// A state of the policy in training, measured on held-out prompts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontierPoint {
    /// Iterations behind it.
    pub step: f64,
    /// KL to the supervised model.
    pub kl: f64,
    /// The reward model's score.
    pub reward: f64,
    /// The judge's.
    pub gold: f64,
}

/// Everything that the road found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatResults {
    /// How far it went: `laptop` …
    pub scale: String,
    /// The minutes that it was given, where these decided its size.
    #[serde(default)]
    pub minutes: Option<f64>,
    /// The stages in order, with the time each took.
    pub stages: Vec<Stage>,
    /// The models beside each other.
    pub systems: Vec<System>,
    /// The reward model on held-out pairs.
    pub pair_accuracy: Option<Rate>,
    /// How much the simulated rankers err, and how often a perfect reward model would be right therefore.
    pub noise: f64,
    /// See `noise`.
    pub ceiling: Option<f64>,
    /// The KL of PPO's policy.
    pub ppo_kl: Option<f64>,
    /// Mean reward before and after PPO.
    pub ppo_reward: Option<(f64, f64)>,
    /// PPO's evaluations.
    pub frontier: Vec<FrontierPoint>,
    /// Prompts with their answers.
    pub tried: Vec<Tried>,
}

impl ChatResults {
    /// Says so where PPO's answers are not better than those of the supervised model by more than chance:
    /// their intervals meet.
    pub fn caveat(&self) -> Option<String> {
        let gold = |name: &str| Some(self.systems.iter().find(|system| system.name == name)?.gold);
        let (sft, ppo) = (gold("sft")?, gold("ppo")?);
        (ppo.low <= sft.high).then(|| {
            let longer = match self.minutes {
                Some(minutes) => format!(
                    "What {minutes} minutes hold on this machine is too little for that: `mynah speedrun --minutes {} --out \
                     runs/longer` gives it more.",
                    3.0 * minutes
                ),
                None => "This road is too short for that.".to_owned(),
            };
            format!(
                "PPO's answers ({:.3} – {:.3}) are not better than those of the supervised model ({:.3} – {:.3}) by more than \
                 chance. {longer}",
                ppo.low, ppo.high, sft.low, sft.high
            )
        })
    }
}

/// The evaluations of a run of PPO, those that measured a gold score.
///
/// # Errors
/// The run cannot be read.
pub fn frontier(run_dir: &Path) -> Result<Vec<FrontierPoint>> {
    let record = Record::read(run_dir)?;
    let [kl, reward, gold] = ["eval/kl", "eval/reward", "eval/gold"].map(|name| record.metric(name));
    let points = kl.iter().zip(&reward).zip(&gold);
    let point = points.map(|((kl, reward), gold)| FrontierPoint {
        step: kl.0,
        kl: kl.1,
        reward: reward.1,
        gold: gold.1,
    });
    Ok(point.collect())
}

/// Writes `results.json` and `report.html` into the road's directory, and returns the path of the page.
///
/// # Errors
/// Writing fails.
pub fn write_road(dir: &Path, results: &ChatResults) -> Result<PathBuf> {
    let text = serde_json::to_string_pretty(results).context("results cannot be written as JSON")?;
    write_atomically(&dir.join(RESULTS), text.as_bytes())?;
    let path = dir.join(REPORT);
    write_atomically(&path, document("The road to a chat · mynah", page(results)).as_bytes())?;
    Ok(path)
}

fn page(results: &ChatResults) -> Element {
    let heading = Element::new("header")
        .child(Element::of("p", "brand").text("mynah"))
        .child(Element::new("h1").text("From text to a chat"))
        .child(Element::of("p", "pale").text(format!(
            "The road of the scale “{}”{}: what each stage did, and what its model is worth on prompts that no stage has seen.",
            results.scale,
            results.minutes.map_or_else(String::new, |minutes| format!(", sized for {minutes} minutes"))
        )));
    Element::new("main")
        .child(heading)
        .child(systems(results))
        .child(frontier_section(results))
        .children(results.tried.iter().enumerate().map(tried))
        .child(Element::new("h2").text("The stages"))
        .child(road_list(&results.stages))
        .child(lineage())
}

fn systems(results: &ChatResults) -> Element {
    let heads = ["Model", "gold score", "95 % interval", "reward", "KL", "wins against sft"];
    let row = |system: &System| {
        let System { name, gold, reward, kl, win_rate } = system;
        let rate = win_rate.map_or(String::new(), |rate| {
            format!(
                "{} % ({} – {})",
                number(100.0 * rate.value),
                number(100.0 * rate.low),
                number(100.0 * rate.high)
            )
        });
        vec![
            Element::new("td").child(Element::new("strong").text(name)),
            cell(format!("{:.3}", gold.value)),
            cell(format!("{:.3} – {:.3}", gold.low, gold.high)),
            cell(format!("{:.3}", reward.value)),
            cell(kl.map_or(String::new(), |kl| format!("{kl:.2}"))),
            cell(rate),
        ]
    };
    let accuracy = results.pair_accuracy.map_or(String::new(), |rate| {
        format!(
            "The reward model orders {:.1} % of {} held-out pairs as the rankers did ({:.1} – {:.1} %).",
            100.0 * rate.value,
            rate.n,
            100.0 * rate.low,
            100.0 * rate.high
        )
    });
    let ceiling = results.ceiling.map_or(String::new(), |ceiling| {
        format!(
            " These err (noise {}), so that a perfect one would order {:.1} %.",
            results.noise,
            100.0 * ceiling
        )
    });
    Element::of("section", "results")
        .child(table(&heads, results.systems.iter().map(row)))
        .children(results.caveat().map(|caveat| Element::of("p", "note").text(caveat)))
        .child(Element::of("p", "note").text(accuracy + &ceiling))
        .child(Element::of("p", "note").text(
            "The gold score, from 0 to 1, is the judge's for correctness, language, form and brevity. No model was \
             trained on it, but the reward model on rankings that follow it with errors. Answers are sampled at \
             temperature 1; the base model is given the bare question and answers one line.",
        ))
}

/// Reward and gold score over the distance from the supervised model (Gao et al. 2023): where the reward
/// rises and the gold score falls, the policy exploits the reward model.
fn frontier_section(results: &ChatResults) -> Element {
    let section = Element::new("section").child(Element::new("h2").text("PPO: score over distance"));
    let curve = |title: &str, value: &dyn Fn(&FrontierPoint) -> f64| {
        let mut points: Vec<(f64, f64)> =
            results.frontier.iter().map(|point| (point.kl.max(0.0).sqrt(), value(point))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        figure(&Chart { along: "√KL", ..Chart::of(title, points) })
    };
    let charts = [
        curve("The reward model's score over √KL", &|point: &FrontierPoint| point.reward),
        curve("The judge's score over √KL", &|point: &FrontierPoint| point.gold),
    ];
    section.child(Element::of("div", "charts").children(charts.into_iter().flatten())).child(
        Element::of("p", "note").text(
            "Each dot is the policy after some iterations, on held-out prompts: its distance from the supervised model, and its score. \
             Where the reward model's score rises and the judge's falls, the policy exploits the reward model.",
        ),
    )
}

fn tried((i, tried): (usize, &Tried)) -> Element {
    let answer = |answer: &Answer| {
        vec![
            Element::new("td").child(Element::new("strong").text(&answer.system)),
            Element::new("td").child(Element::new("pre").text(&answer.text)),
            cell(format!("{:.2}", answer.gold)),
        ]
    };
    let section = Element::new("section");
    let section = if i == 0 {
        section.child(Element::new("h2").text("The same prompts, before and after"))
    } else {
        section
    };
    section.child(
        Element::of("div", "card")
            .child(Element::new("pre").text(&tried.prompt))
            .child(table(&["", "answer", "gold"], tried.answers.iter().map(answer))),
    )
}

/// Where the pages of the stages are.
fn lineage() -> Element {
    let link = |stage: &str| {
        let page = format!("{stage}/{REPORT}");
        Element::new("li").child(Element::new("a").attr("href", page).text(stage))
    };
    Element::new("section")
        .child(Element::new("h2").text("Lineage"))
        .child(Element::of("p", "note").text("pretrain → sft → reward, ppo and dpo; the page of each:"))
        .child(Element::new("ul").children(["pretrain", "sft", "reward", "ppo", "dpo"].map(link)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_that_may_be_chance_is_called_one() {
        let system = |name: &str, low, high| System {
            name: name.into(),
            gold: Interval { value: f64::midpoint(low, high), low, high },
            reward: Interval::default(),
            kl: None,
            win_rate: None,
        };
        let road = |ppo_low| ChatResults {
            minutes: Some(10.0),
            systems: vec![system("sft", 0.5, 0.6), system("ppo", ppo_low, 0.8)],
            ..ChatResults::default()
        };
        assert_eq!(road(0.61).caveat(), None);
        let caveat = road(0.59).caveat().unwrap();
        assert!(caveat.contains("0.590 – 0.800") && caveat.contains("--minutes 30"), "{caveat}");
        assert!(page(&road(0.59)).to_string().contains("by more than chance"));
        assert_eq!(ChatResults::default().caveat(), None, "nothing was compared");
    }
}
