//! The road to a chat: lessons → corpus → tokenizer → tokens → pretraining → supervised fine-tuning →
//! candidates → rankings → reward model → PPO and DPO → comparison.

mod answers;
mod data;
mod training;

use super::budget::{Budget, Speeds, stages_secs};
use super::dir::{RoadDir, recipe};
use super::scale::{Scale, Stage};
use crate::data::rows::{Fault, MAX_BAD, Record, read_rows};
use crate::model::Config;
use crate::progress::Progress;
use crate::report::{self, ChatResults};
use crate::stage::Machine;
use anyhow::Result;
use kernels::Backend;
use std::path::PathBuf;

/// Where the road goes.
#[derive(Clone, Debug)]
pub struct ChatOptions {
    /// Where everything goes.
    pub out: PathBuf,
    /// How far it goes: one of [`SCALES`](super::SCALES).
    pub scale: String,
    /// What it may cost; none for the scale's own.
    pub budget: Option<Budget>,
    /// Decides everything random.
    pub seed: u64,
    /// Threads for what is not training.
    pub threads: usize,
}

/// How the road ended.
#[derive(Clone, Debug)]
pub struct ChatOutcome {
    /// The figures; none when somebody stopped it on the way.
    pub results: Option<ChatResults>,
    /// The run directory of the model to chat with.
    pub run: PathBuf,
    /// The page about the road.
    pub report: PathBuf,
}

/// Stages of the road.
const STAGES: usize = 12;

/// Walks the road, from where it was left. `backend` makes a backend for each stage that computes.
///
/// # Errors
/// The scale is not known; the directory belongs to something else; a stage fails.
pub fn chat_road<B: Backend>(
    backend: &dyn Fn() -> B,
    machine: &Machine,
    options: &ChatOptions,
    progress: &dyn Progress,
) -> Result<ChatOutcome> {
    let scale = Scale::named(&options.scale)?;
    let budget = options.budget.or(scale.budget());
    let settings = toml::Table::from_iter([("preset".to_owned(), options.scale.clone().into())]);
    let recipe = recipe(report::CHAT_ROAD, settings, budget, options.seed, machine)?;
    let mut road = RoadDir::open(&options.out, &recipe, STAGES, progress)?;
    let scale = paid_by(budget, scale, &mut road, backend)?;
    let config = scale.config()?;
    let walk = Walk { backend, machine, options, scale, budget, config, progress };
    let mut results = ChatResults { scale: options.scale.clone(), ..ChatResults::default() };
    if let Some(Budget::Minutes(minutes)) = budget {
        results.minutes = Some(minutes);
    }

    let mut goes_on = walk.data(&mut road)?;
    for stage in [
        Walk::pretrain,
        Walk::sft,
        Walk::candidates,
        Walk::rankings,
        Walk::reward,
        Walk::ppo,
        Walk::dpo,
        Walk::compare,
    ] {
        goes_on = goes_on && stage(&walk, &mut road, &mut results)?;
    }
    results.stages = walk.counted(road)?;
    let report = report::write_road(&options.out, &results)?;
    Ok(ChatOutcome { results: goes_on.then_some(results), run: walk.at("ppo"), report })
}

/// The scale with the model that a budget is best spent on.
fn paid_by<B: Backend>(
    budget: Option<Budget>,
    scale: Scale,
    road: &mut RoadDir<'_>,
    backend: &dyn Fn() -> B,
) -> Result<Scale> {
    let operations = match budget {
        None => return Ok(scale),
        Some(Budget::Flops(flops)) => flops,
        // What the minutes are worth here decides the shape of all models, so it is kept.
        Some(Budget::Minutes(minutes)) => {
            let config = scale.config()?;
            road.decided_once("budget", || {
                Ok(stages_secs(minutes) * Speeds::measure(backend, &config).passes)
            })?
        }
    };
    Ok(scale.paid_by(operations))
}

/// What all stages know.
struct Walk<'a, B> {
    backend: &'a dyn Fn() -> B,
    machine: &'a Machine,
    options: &'a ChatOptions,
    scale: Scale,
    budget: Option<Budget>,
    /// The shape of the road's models, where the tokenizer comes out as large as it is asked to be.
    config: Config,
    progress: &'a dyn Progress,
}

impl<B: Backend> Walk<'_, B> {
    fn at(&self, name: &str) -> PathBuf {
        self.options.out.join(name)
    }

    fn lesson(&self, name: &str) -> PathBuf {
        self.at("lessons").join(name)
    }

    fn read<T: Send>(&self, name: &str, row: impl Fn(Record) -> Result<T, Fault> + Sync) -> Result<Vec<T>> {
        Ok(read_rows(&self.lesson(name), MAX_BAD, self.progress, row)?.rows)
    }

    /// The size of a stage: that of the road's operations, or the one at which this stage and those behind it
    /// fit the time that is left.
    fn size(&self, road: &mut RoadDir<'_>, stage: Stage) -> Result<f64> {
        let (config, secs) = (&self.config, road.secs());
        road.size(stage.name(), || match self.budget {
            None => Ok(1.0),
            Some(Budget::Flops(flops)) => self.scale.size_of(flops, config),
            Some(Budget::Minutes(minutes)) => {
                let (speeds, left) = (Speeds::measure(self.backend, config), 60.0 * minutes - secs);
                let size = self.scale.size_in(left, stage, config, speeds)?;
                let share = self.scale.secs(stage, size, config, speeds)?;
                let name = stage.name();
                self.progress
                    .line(&format!("{name}: about {share:.0} of the {left:.0} seconds that are left"));
                Ok(size)
            }
        })
    }

    /// The stages that were walked, with the operations of each that has a model compute.
    fn counted(&self, road: RoadDir<'_>) -> Result<Vec<report::Stage>> {
        let sizes = Stage::ALL.map(|stage| (stage, road.decided(stage.name())));
        let mut stages = road.into_stages();
        for (stage, size) in sizes {
            let (Some(size), Some(walked)) =
                (size, stages.iter_mut().find(|walked| walked.name == stage.name()))
            else {
                continue;
            };
            walked.flops = Some(self.scale.operations(stage, size, &self.config)?.total());
        }
        Ok(stages)
    }

    /// Decides how far the road goes, before it begins, and says so. What is written for all stages has the
    /// amounts of this size.
    fn plan(&self, road: &mut RoadDir<'_>) -> Result<f64> {
        let config = &self.config;
        let first = Stage::Pretrain;
        road.size("lessons", || {
            let (size, speeds) = match self.budget {
                None => (1.0, None),
                Some(Budget::Flops(flops)) => (self.scale.size_of(flops, config)?, None),
                Some(Budget::Minutes(minutes)) => {
                    let speeds = Speeds::measure(self.backend, config);
                    let size = self.scale.size_in(stages_secs(minutes), first, config, speeds)?;
                    let secs = self.scale.secs_from(first, size, config, speeds)?;
                    if secs > stages_secs(minutes) {
                        self.progress.line(&format!(
                            "no road is shorter than this one, which takes about {:.1} minutes here and not {minutes}",
                            secs / 60.0
                        ));
                    }
                    (size, Some(speeds))
                }
            };
            self.progress.line(&self.scale.describe(size, config, speeds)?);
            Ok(size)
        })
    }
}
