//! What the road to a chat ended in: `results.json` and the page about all of its stages.
//!
//! The page is for somebody who has never heard of any of this: what was done, what it cost, and what got
//! better by more than chance.

mod answers;
mod models;
mod page;
mod stages;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::REPORT;
use super::record::Record;
use super::results::{RESULTS, Stage};
use super::text::{Text, alike, both};
use crate::eval::{Interval, Rate};
use crate::train::run::write_atomically;

/// A model of the road, measured on the held-out prompts; or answers that need no model, judged the same way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// `base`, `sft`, `ppo` …; of answers without a model `empty`, `shuffled`, `perfect`.
    pub name: String,
    /// The share of answers that state what is asked for.
    pub right: Rate,
    /// The judge's mean score, from 0 to 1.
    pub gold: Interval,
    /// The reward model's.
    pub reward: Interval,
    /// The KL of its answers to the supervised model, in nats.
    pub kl: Option<f64>,
    /// How often its answer is the better one, where the judge prefers one of both.
    pub win_rate: Option<Rate>,
}

/// Two models on the same prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The later one.
    pub model: String,
    /// The one that it began from.
    pub than: String,
    /// By how much more often it is right, with the interval of the paired difference.
    pub right: Interval,
    /// By how much the judge's score is higher, likewise.
    pub gold: Interval,
}

/// What a difference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of its interval is above zero.
    Better,
    /// All of it is below.
    Worse,
    /// Zero is in it: no difference that is more than chance.
    Even,
}

/// An answer of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whose.
    pub system: String,
    /// What it says.
    pub text: String,
    /// Whether it states what is asked for.
    pub right: bool,
    /// What the judge gives for it.
    pub gold: f64,
}

/// A turn of the conversation before an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// `system`, `user`, `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A held-out prompt, and what the models make of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The conversation that waits for an answer.
    pub messages: Vec<Turn>,
    /// A perfect answer.
    pub expected: String,
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
    /// Held-out prompts that all models answered.
    pub prompts: usize,
    /// The models beside each other.
    pub systems: Vec<System>,
    /// Floor and ceiling: answers that need no model.
    pub references: Vec<System>,
    /// Every model beside the one that it began from.
    pub compared: Vec<Compared>,
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

impl From<Interval> for Outcome {
    fn from(Interval { low, high, .. }: Interval) -> Outcome {
        match (low > 0.0, high < 0.0) {
            (true, _) => Outcome::Better,
            (_, true) => Outcome::Worse,
            _ => Outcome::Even,
        }
    }
}

impl Outcome {
    /// In a few words.
    pub fn text(self) -> Text {
        match self {
            Outcome::Better => both("better", "更好"),
            Outcome::Worse => both("worse", "更差"),
            Outcome::Even => both("no difference that is more than chance", "没有超出偶然的差别"),
        }
    }
}

impl ChatResults {
    /// Says so where PPO's answers are not right more often than those of the supervised model by more than
    /// chance.
    pub fn caveat(&self) -> Option<Text> {
        let ppo = self.compared.iter().find(|compared| compared.model == "ppo")?;
        if Outcome::from(ppo.right) == Outcome::Better {
            return None;
        }
        let said = both(
            "PPO's answers are not right more often than those of the supervised model by more than chance.",
            "PPO 的回答并不比监督模型的更常正确，至少没有超出偶然。",
        );
        Some(said.then(match self.minutes {
            Some(minutes) => both(
                format!("What {minutes} minutes hold on this machine is too little for that."),
                format!("这台机器上的 {minutes} 分钟不够做到这一点。"),
            ),
            None => both("This road is too short for that.", "这条路太短，做不到这一点。"),
        }))
    }

    /// The command of a longer road.
    pub fn longer(&self) -> Option<String> {
        self.minutes.map(|minutes| format!("mynah speedrun --minutes {} --out runs/longer", 3.0 * minutes))
    }
}

/// What a model of the road is called.
pub fn system_name(name: &str) -> Text {
    match (name, name.strip_prefix("best of ")) {
        ("base", _) => both("base", "基础模型"),
        ("sft", _) => alike("SFT"),
        ("ppo", _) => alike("PPO"),
        ("dpo", _) => alike("DPO"),
        ("empty", _) => both("empty answers", "空回答"),
        ("shuffled", _) => both("answers to other prompts", "别的提示的答案"),
        ("perfect", _) => both("perfect answers", "标准答案"),
        (_, Some(k)) => both(format!("best of {k}"), format!("{k} 选 1")),
        _ => alike(name),
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
    write_atomically(&path, page(dir, results).as_bytes())?;
    Ok(path)
}

pub(super) use page::page;
