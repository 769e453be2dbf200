//! The reward model: a model that scores answers, trained on rankings (Ouyang et al. 2022, §3.5).
//!
//! It is the supervised model with a head that gives one number at the last token of an answer. All pairs of
//! a prompt's answers are one element of a batch. Before and after training its scores are moved so that
//! those of demonstrations have mean 0 and variance 1 (Huang et al. 2024, detail 9).

mod evaluate;
mod normalise;

pub use evaluate::{Bin, RewardReport};

use super::episodes::Episode;
use super::lanes::{self, Lanes};
use super::learner::{Learner, question};
use super::memory::{Model, Needs};
use super::ranked::{Ranked, RankedRows, Rankings, pairs, rows, tokens};
use super::score::at_last_tokens;
use super::settings::{Fit, Resolved, StageConfig, at_least_one, described};
use super::training_loop::{
    self, Best, Cancel, Evaluation, Guessing, State, Step, Training, finite, metrics, training_flops,
};
use super::{Ending, Init, Machine, StageSettings};
use crate::objective::{PairTerms, ranking_loss};
use crate::progress::Progress;
use crate::streams;
use crate::train::{LaneSums, Trainer};
use anyhow::{Result, ensure};
use kernels::{Backend, rng};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

described! {
    /// What is the reward model's own in its recipe.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct RewardSettings {
        /// How often every ranking is seen. More than once overfits quickly.
        pub epochs: u64,
        /// Prompts of a step, with all their answers.
        pub batch_size: usize,
        /// Whether the scores of demonstrations get mean 0 and variance 1 before training, too, and not only
        /// after it.
        pub normalise_before: bool,
        /// Weight of the square of the sum of a pair's scores, which keeps scores around 0 while they are learned.
        #[serde(default)]
        pub centre_coef: f64,
    }
}

impl StageConfig for RewardSettings {
    const KEYS: &[(&str, &str)] = RewardSettings::KEYS;
    const DEFAULTS: &str = include_str!("../../../../../presets/stages/reward.toml");

    fn check(&self) -> Result<()> {
        at_least_one([("epochs", self.epochs), ("batch_size", self.batch_size as u64)])?;
        let centre = self.centre_coef;
        ensure!(centre.is_finite() && centre >= 0.0, "centre_coef is {centre}: it must not be negative");
        Ok(())
    }
}

impl RewardSettings {
    fn terms(&self, ranked: &Ranked) -> PairTerms {
        PairTerms { margin: ranked.margin, centre: self.centre_coef }
    }
}

/// What to train, on what, and where to.
pub struct Options<'a> {
    /// The model to begin from: the supervised one.
    pub init: &'a Init,
    /// Rankings.
    pub rankings: &'a Rankings,
    /// Prompts with the answers whose scores shall have mean 0 and variance 1, as tokens; none for all
    /// answers of the rankings.
    pub demonstrations: &'a [(Vec<u32>, Vec<u32>)],
    /// The run directory.
    pub out: PathBuf,
    /// The recipe.
    pub settings: StageSettings<RewardSettings>,
    /// Decides everything random.
    pub seed: u64,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What every stage says of it.
    pub ending: Ending,
    /// How good the model is on held-out rankings; none of a run that was stopped.
    pub evaluation: Option<RewardReport>,
}

/// Runs the recipe in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// Model and data do not fit together; the directory belongs to another recipe; training diverges.
pub fn reward<B: Backend>(
    backend: B,
    machine: &Machine,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let fit = Fit { stage: "reward", init: options.init, examples: options.rankings.counts().0, machine };
    let mut settings = options.settings.fit(&fit, &options.out, progress)?;
    lanes::check(settings.optim.lanes, &machine.ranks)?;
    let optim = &settings.optim;
    let config = options.init.scoring_config(0.0, 1);
    let needs = Needs {
        trained: &[Model::of(options.init, &config).by(optim.optimizer)],
        frozen: &[],
        lanes: Lanes::new(optim.lanes).of(&machine.ranks).in_all(false),
        keep: optim.keep(),
    };
    settings.fit_memory(needs, machine, progress)?;
    let mut recipe = settings.recipe("reward", options.seed, machine)?;
    options.init.record(&mut recipe, "init")?;
    recipe.inputs.insert("rankings".into(), options.rankings.input());
    let mut training = Rewarding::new(backend, options, &settings)?;
    training.learner.join(&machine.ranks);
    let best = Best { metric: "val_accuracy", highest: true, at_the_end: false };
    let pace = settings.optim.pace(training.steps, training.steps.div_ceil(5), best);
    let mut ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let evaluation = ending.measured(machine, progress, |cancel| training.measure(cancel))?;
    evaluation.as_ref().map(|evaluation| finite("validation loss", evaluation.loss)).transpose()?;
    Ok(Outcome { ending, evaluation })
}

/// Standard deviation of the scores of demonstrations, which training begins with at 1, from which on it has
/// exploded. The last step makes it 1 again, so that no held-out figure would tell.
const MAX_SPREAD: f64 = 1000.0;

/// What is left of a head that was drawn: its scores are noise, and training would begin by unlearning them.
/// So it begins at ln 2.
const DRAWN_HEAD: f64 = 0.01;

struct Rewarding<'a, B: Backend> {
    options: &'a Options<'a>,
    settings: &'a Resolved<RewardSettings>,
    learner: Learner<'a, B>,
    steps: u64,
}

impl<'a, B: Backend> Rewarding<'a, B> {
    fn new(backend: B, options: &'a Options<'a>, settings: &'a Resolved<RewardSettings>) -> Result<Self> {
        let (Options { init, rankings, seed, .. }, optim, own) = (options, &settings.optim, &settings.own);
        let config = init.scoring_config(optim.dropout as f32, 1);
        let digest = rankings.digest().to_owned();
        let mut rewarding = Rewarding {
            steps: optim.steps.unwrap_or(rankings.epochs(*seed).steps(own.epochs, own.batch_size)),
            learner: Learner::new(backend, init, config, *seed, optim, digest)?,
            options,
            settings,
        };
        rewarding.prepare_head()?;
        Ok(rewarding)
    }

    /// The score of every episode.
    fn scores<'e>(
        &mut self,
        episodes: impl IntoIterator<Item = &'e Episode>,
        cancel: Cancel<'_>,
    ) -> Result<Vec<f64>> {
        let Learner { backend: b, trainer, .. } = &mut self.learner;
        let most = self.settings.optim.micro_batch_tokens;
        at_last_tokens(episodes, most, cancel, |rows| {
            trainer.scores(b, rows.sequences(), &rows.last).to_vec()
        })
    }

    /// What becomes of a head before training: its scores get variance 1, or what is drawn is made small.
    fn prepare_head(&mut self) -> Result<()> {
        let init = self.options.init;
        if self.settings.own.normalise_before {
            let spread = self.normalise()?;
            ensure!(
                spread.is_finite(),
                "{}, with a new head, gives demonstrations scores that are not finite",
                init.name()
            );
        } else if !init.scores() {
            let Learner { backend, trainer: Trainer { config, weights, .. }, .. } = &mut self.learner;
            normalise::transform(backend, config, weights, DRAWN_HEAD, 0.0);
        }
        Ok(())
    }

    /// Moves the scores so that those of demonstrations have mean 0 and variance 1. Returns their standard
    /// deviation before; where it is not finite, nothing can be moved.
    fn normalise(&mut self) -> Result<f64> {
        let options = self.options;
        let demonstrations: Vec<Episode> = match options.demonstrations {
            [] => options.rankings.sides.train.iter().flat_map(|ranked| ranked.episodes.clone()).collect(),
            some => some.iter().map(|(prompt, answer)| Episode::new(prompt, answer)).collect(),
        };
        let scores = self.scores(&demonstrations, Cancel::never())?;
        let n = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / n;
        let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / n;
        if !variance.is_finite() {
            return Ok(variance);
        }
        // Scores that are all alike cannot be spread.
        let gain = if variance > 1e-12 { 1.0 / variance.sqrt() } else { 1.0 };
        let Learner { backend, trainer: Trainer { config, weights, .. }, .. } = &mut self.learner;
        normalise::transform(backend, config, weights, gain, -gain * mean);
        Ok(variance.sqrt())
    }
}

impl<B: Backend> Training for Rewarding<'_, B> {
    fn step(&mut self, step: u64, _: Cancel<'_>) -> Result<Step> {
        let (own, optim) = (&self.settings.own, &self.settings.optim);
        let batch = self.options.rankings.batch(step, own.batch_size, self.options.seed);
        let elements = batch.iter().filter(|ranked| !ranked.pairs.is_empty()).count().max(1) as f64;
        let (mut sums, mut right) = (LaneSums::default(), 0);
        let (pairs, tokens) = (pairs(&batch), tokens(&batch));
        let seed = rng::bits(self.options.seed, streams::REWARD_DROPOUT, step);
        let Learner { backend, trainer, .. } = &mut self.learner;
        let ranks = trainer.ranks().clone();
        let lanes = Lanes::new(optim.lanes).of(&ranks);
        for RankedRows { lane, first_row, rows, rankings } in rows(&batch, &lanes, optim.micro_batch_tokens) {
            let noised = rows.noised(seed, first_row);
            trainer.accumulate_scores(backend, noised, &rows.last, lane, |scores, derivatives| {
                let mut first = 0;
                for ranked in rankings {
                    let place = first..first + ranked.episodes.len();
                    first = place.end;
                    let rewards: Vec<f64> = scores[place.clone()].iter().map(|&s| f64::from(s)).collect();
                    let one = ranking_loss(&rewards, &ranked.pairs, own.terms(ranked));
                    sums.add(lane, [one.value / elements]);
                    right += one.right;
                    for (out, derivative) in derivatives[place].iter_mut().zip(one.derivatives) {
                        *out = (derivative / elements) as f32;
                    }
                }
            });
        }
        let [loss] = sums.total(&ranks);
        let accuracy = ranks.count(right) as f64 / pairs.max(1) as f64;
        let sequences = batch.iter().map(|ranked| ranked.episodes.len()).sum();
        let done = Step {
            metrics: metrics([("loss", loss.into()), ("accuracy", accuracy.into()), ("pairs", pairs.into())]),
            columns: vec![format!("loss {loss:.4}"), format!("{:.1} % of pairs right", 100.0 * accuracy)],
            loss: Some(loss),
            tokens,
            flops: training_flops(trainer, tokens, sequences),
            ..Step::default()
        };
        let lr = optim.schedule(self.steps).at(step);
        let mut done = self.learner.update(&optim.optimizer(), lr, Some(loss), |_| done);
        if step == self.steps {
            let spread = self.normalise()?;
            done.exploded = (spread.is_nan() || spread >= MAX_SPREAD).then(|| {
                format!("before it was made 1, the standard deviation of its scores is {spread:.2e}")
            });
        }
        Ok(done)
    }

    fn evaluate(&mut self, cancel: Cancel<'_>) -> Result<Evaluation> {
        let evaluation = self.measure(cancel)?;
        let (accuracy, loss) = (evaluation.pair_accuracy.value, evaluation.loss);
        Ok(Evaluation {
            metrics: vec![("val_loss", loss), ("val_accuracy", accuracy)],
            line: format!("loss {loss:.4}, {:.1} % of pairs right", 100.0 * accuracy),
        })
    }

    /// The answers to a few held-out prompts that it likes best and least, with their scores.
    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        const SHOWN: usize = 2;
        let mut samples = Vec::new();
        for ranked in self.options.rankings.sides.held_out.iter().take(SHOWN) {
            let scores = self.scores(&ranked.episodes, Cancel::never())?;
            let by_score = |a: &usize, b: &usize| scores[*a].total_cmp(&scores[*b]);
            let (best, worst) = ((0..scores.len()).max_by(by_score), (0..scores.len()).min_by(by_score));
            for i in best.into_iter().chain(worst.filter(|&worst| Some(worst) != best)) {
                let (episode, tokenizer) = (&ranked.episodes[i], self.learner.tokenizer);
                let asked = question(tokenizer, &episode.tokens[..episode.prompt_len])?;
                let answer = tokenizer.spoken(episode.answer())?;
                samples.push((asked, format!("{answer} (score {:.2}, rank {})", scores[i], ranked.ranks[i])));
            }
        }
        Ok(samples)
    }

    fn state(&mut self) -> &mut dyn State {
        &mut self.learner
    }

    fn restart(&mut self) -> Result<()> {
        self.learner.restart()?;
        self.prepare_head()
    }

    fn begin(&mut self, progress: &dyn Progress, cancel: Cancel<'_>) -> Result<Option<Evaluation>> {
        let (train, held_out) = self.options.rankings.counts();
        progress.line(&format!(
            "{} parameters; {train} rankings to learn from, {held_out} held out",
            self.learner.trainer.config.parameters()
        ));
        self.evaluate(cancel).map(Some)
    }

    fn guessing(&self) -> Option<Guessing> {
        Some(Guessing::Nats(std::f64::consts::LN_2))
    }
}
