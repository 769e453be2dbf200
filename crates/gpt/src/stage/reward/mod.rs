//! The reward model: a model that scores answers, trained on rankings (Ouyang et al. 2022, §3.5).
//!
//! It is the supervised model with a head that gives one number at the last token of an answer. All pairs of a prompt's answers are
//! one element of a batch. Before and after training its scores are moved so that those of demonstrations have mean 0 and
//! variance 1 (Huang et al. 2024, detail 9).

mod judge;
mod normalise;

pub use judge::{Bin, RewardReport};

use super::episodes::{Episode, Rows, passes};
use super::memory;
use super::ranked::{Rankings, rows};
use super::settings::{Fit, Own, Resolved, described};
use super::training_loop::{
    self, Best, Evaluation, Guessing, Step, Training, finite, shortest, training_flops,
};
use super::{Init, Machine, StageSettings};
use crate::checkpoint::{About, Checkpoint};
use crate::objective::ranking_loss;
use crate::progress::Progress;
use crate::tokenizer::Tokenizer;
use crate::train::{Trainer, Update};
use anyhow::{Context, Result, ensure};
use kernels::{Backend, rng};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::path::{Path, PathBuf};

described! {
    /// What is the reward model's own in its recipe.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct RewardSettings {
        /// How often every ranking is seen. More than once overfits quickly.
        pub epochs: u64,
        /// Prompts of a step, with all their answers.
        pub batch_size: usize,
        /// Whether the scores of demonstrations get mean 0 and variance 1 before training, too, and not only after it.
        pub normalise_before: bool,
    }
}

impl Own for RewardSettings {
    const KEYS: &[(&str, &str)] = RewardSettings::KEYS;
    const DEFAULTS: &str = include_str!("../../../../../presets/stages/reward.toml");

    fn check(&self) -> Result<()> {
        ensure!(self.epochs > 0 && self.batch_size > 0, "epochs and batch_size must be at least 1");
        Ok(())
    }
}

/// What to train, on what, and where to.
pub struct Options<'a> {
    /// The model to begin from: the supervised one.
    pub init: &'a Init,
    /// Rankings.
    pub rankings: &'a Rankings,
    /// Prompts with the answers whose scores shall have mean 0 and variance 1, as tokens; none for all answers of the rankings.
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
    /// Steps done.
    pub step: u64,
    /// Whether somebody stopped it before its end; its state is saved.
    pub stopped: bool,
    /// How good the model is on held-out rankings.
    pub judged: RewardReport,
    /// The page about the run.
    pub report: PathBuf,
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
    let fit = Fit { stage: "reward", init: options.init, examples: options.rankings.counts().0 };
    let settings = options.settings.fit(&fit, &options.out, progress)?;
    let mut recipe = settings.recipe("reward", options.seed, machine)?;
    options.init.record(&mut recipe, "init")?;
    recipe.inputs.insert("rankings".into(), options.rankings.input());
    memory::check(&[&options.init.scoring_config(0.0, 1)], &[], settings.regime.micro_batch_tokens, machine)?;
    let mut training = Rewarding::new(backend, options, &settings)?;
    let best = Best { metric: "val_accuracy", highest: true, at_the_end: false };
    let pace = settings.regime.pace(training.steps, training.steps.div_ceil(5), best);
    let ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let judged = training.judge();
    finite("validation loss", judged.loss)?;
    Ok(Outcome { step: ending.step, stopped: ending.stopped, judged, report: ending.report })
}

/// Standard deviation of the scores of demonstrations, which training begins with at 1, from which on it has exploded. The last step
/// makes it 1 again, so that no held-out figure would tell.
const MAX_SPREAD: f64 = 1000.0;

/// What is left of a head that was drawn: its scores are noise, and training would begin by unlearning them. So it begins at ln 2.
const DRAWN_HEAD: f64 = 0.01;

/// The stream of random numbers that dropout's seeds come from.
const NOISE: u64 = 0x5257_4401;

struct Rewarding<'a, B: Backend> {
    options: &'a Options<'a>,
    settings: &'a Resolved<RewardSettings>,
    backend: B,
    tokenizer: &'a Tokenizer,
    trainer: Trainer<B::Tensor>,
    steps: u64,
}

impl<'a, B: Backend> Rewarding<'a, B> {
    fn new(mut backend: B, options: &'a Options<'a>, settings: &'a Resolved<RewardSettings>) -> Result<Self> {
        let (init, regime, own) = (options.init, &settings.regime, &settings.own);
        let tokenizer = init.tokenizer().with_context(|| format!("{} has no tokenizer", init.name()))?;
        let config = init.scoring_config(regime.dropout as f32, 1);
        let weights = init.weights(&mut backend, &config, options.seed)?;
        let mut rewarding = Rewarding {
            steps: regime.steps.unwrap_or(options.rankings.steps(own.epochs, own.batch_size)),
            trainer: Trainer::new(&mut backend, config, weights),
            options,
            settings,
            backend,
            tokenizer,
        };
        rewarding.prepare_head()?;
        Ok(rewarding)
    }

    /// The score of every episode.
    fn scores<'e>(&mut self, episodes: impl IntoIterator<Item = &'e Episode>) -> Vec<f64> {
        let episodes: Vec<&Episode> = episodes.into_iter().collect();
        let mut scores = Vec::with_capacity(episodes.len());
        let most = self.settings.regime.micro_batch_tokens;
        for run in passes(episodes.iter().map(|episode| episode.tokens.len()), most) {
            let rows = Rows::of(episodes[run].iter().copied());
            let found = self.trainer.scores(&mut self.backend, rows.sequences(), &rows.last);
            scores.extend(found.iter().map(|&score| f64::from(score)));
        }
        scores
    }

    /// What becomes of a head before training: its scores get variance 1, or what is drawn is made small.
    fn prepare_head(&mut self) -> Result<()> {
        let init = self.options.init;
        if self.settings.own.normalise_before {
            let spread = self.normalise();
            ensure!(
                spread.is_finite(),
                "{}, with a new head, gives demonstrations scores that are not finite",
                init.name()
            );
        } else if init.model().config.n_label.is_none() {
            let Trainer { config, weights, .. } = &mut self.trainer;
            normalise::transform(&mut self.backend, config, weights, DRAWN_HEAD, 0.0);
        }
        Ok(())
    }

    /// Moves the scores so that those of demonstrations have mean 0 and variance 1. Returns their standard deviation before; where it
    /// is not finite, nothing can be moved.
    fn normalise(&mut self) -> f64 {
        let options = self.options;
        let demonstrations: Vec<Episode> = match options.demonstrations {
            [] => options.rankings.train.iter().flat_map(|ranked| ranked.episodes.clone()).collect(),
            some => some.iter().map(|(prompt, answer)| Episode::new(prompt, answer)).collect(),
        };
        let scores = self.scores(&demonstrations);
        let n = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / n;
        let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / n;
        if !variance.is_finite() {
            return variance;
        }
        // Scores that are all alike cannot be spread.
        let gain = if variance > 1e-12 { 1.0 / variance.sqrt() } else { 1.0 };
        let Trainer { config, weights, .. } = &mut self.trainer;
        normalise::transform(&mut self.backend, config, weights, gain, -gain * mean);
        variance.sqrt()
    }
}

impl<B: Backend> Training for Rewarding<'_, B> {
    fn step(&mut self, step: u64) -> Result<Step> {
        let (own, regime) = (&self.settings.own, &self.settings.regime);
        let batch = self.options.rankings.batch(step, own.batch_size, self.options.seed);
        let elements = batch.iter().filter(|ranked| !ranked.pairs.is_empty()).count().max(1) as f64;
        let (mut loss, mut right, mut pairs, mut tokens) = (0.0, 0, 0, 0);
        let seed = rng::bits(self.options.seed, NOISE, step);
        for (rows, rankings) in rows(&batch, regime.micro_batch_tokens) {
            let noised = rows.noised(seed, tokens);
            tokens += noised.tokens.len() as u64;
            let trainer = &mut self.trainer;
            trainer.accumulate_scores(&mut self.backend, noised, &rows.last, |scores, derivatives| {
                let mut first = 0;
                for ranked in rankings {
                    let place = first..first + ranked.episodes.len();
                    first = place.end;
                    let rewards: Vec<f64> = scores[place.clone()].iter().map(|&s| f64::from(s)).collect();
                    let one = ranking_loss(&rewards, &ranked.pairs);
                    loss += one.value / elements;
                    right += one.right;
                    pairs += ranked.pairs.len();
                    for (out, derivative) in derivatives[place].iter_mut().zip(one.derivatives) {
                        *out = (derivative / elements) as f32;
                    }
                }
            });
        }
        let lr = regime.schedule(self.steps).at(step);
        let Update { grad_norm, applied } =
            self.trainer.update(&mut self.backend, &regime.optimizer(), lr, loss);
        let mut exploded = None;
        if step == self.steps {
            let spread = self.normalise();
            exploded = (spread.is_nan() || spread >= MAX_SPREAD).then(|| {
                format!("before it was made 1, the standard deviation of its scores is {spread:.2e}")
            });
        }
        let accuracy = right as f64 / pairs.max(1) as f64;
        let figures = [
            ("loss", loss.into()),
            ("accuracy", accuracy.into()),
            ("pairs", pairs.into()),
            ("lr", shortest(lr)),
            ("grad_norm", grad_norm.into()),
        ];
        Ok(Step {
            metrics: Map::from_iter(figures.map(|(name, value)| (name.to_owned(), value))),
            line: format!("loss {loss:7.4}  right {:5.1} %  norm {grad_norm:6.3}", 100.0 * accuracy),
            loss: Some(loss),
            tokens,
            flops: training_flops(
                &self.trainer.config,
                tokens,
                batch.iter().map(|ranked| ranked.episodes.len()).sum(),
            ),
            skipped: (!applied).then(|| format!("gradient norm {grad_norm}: nothing was changed")),
            exploded,
            ended: None,
            rollouts: Vec::new(),
        })
    }

    fn evaluate(&mut self) -> Result<Evaluation> {
        let judged = self.judge();
        let (accuracy, loss) = (judged.pair_accuracy.value, judged.loss);
        Ok(Evaluation {
            metrics: vec![("val_loss", loss), ("val_accuracy", accuracy)],
            line: format!("loss {loss:.4}, {:.1} % of pairs right", 100.0 * accuracy),
        })
    }

    /// The best and the worst answer of a few held-out prompts, with their scores.
    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        const SHOWN: usize = 3;
        let mut samples = Vec::new();
        for ranked in self.options.rankings.held_out.iter().take(SHOWN) {
            let scores = self.scores(&ranked.episodes);
            for (episode, (score, rank)) in ranked.episodes.iter().zip(scores.iter().zip(&ranked.ranks)) {
                let prompt = self.tokenizer.decode(&episode.tokens[..episode.prompt_len])?;
                let answer = self.tokenizer.decode(episode.answer())?;
                samples.push((prompt, format!("{score:.3} (rank {rank}): {answer}")));
            }
        }
        Ok(samples)
    }

    fn save(&mut self, dir: &Path, about: About) -> Result<()> {
        let about = About {
            data_digest: Some(self.options.rankings.digest().to_owned()),
            ..self.options.init.begins(about)
        };
        let dtype = self.settings.regime.dtype;
        self.trainer.save(&mut self.backend, dir, self.tokenizer, dtype, about)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.trainer.restore(&mut self.backend, checkpoint)
    }

    fn restart(&mut self) -> Result<()> {
        let b = &mut self.backend;
        let weights = self.options.init.weights(b, &self.trainer.config, self.options.seed)?;
        self.trainer.restart(b, weights);
        self.prepare_head()
    }

    fn begin(&mut self, progress: &dyn Progress) -> Result<Option<Evaluation>> {
        let (train, held_out) = self.options.rankings.counts();
        progress.line(&format!(
            "{} parameters; {train} rankings to learn from, {held_out} held out",
            self.trainer.config.parameters()
        ));
        self.evaluate().map(Some)
    }

    fn guessing(&self) -> Option<Guessing> {
        Some(Guessing::Nats(std::f64::consts::LN_2))
    }
}
