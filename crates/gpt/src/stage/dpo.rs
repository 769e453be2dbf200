//! Direct preference optimisation (Rafailov et al. 2023): the policy learns from rankings without a reward model.

use super::memory;
use super::ranked::{Ranked, Rankings, rows};
use super::settings::{Fit, Own, Resolved, described};
use super::training_loop::{
    self, Best, Evaluation, Guessing, Step, Training, finite, shortest, training_flops,
};
use super::{Init, Machine, StageSettings};
use crate::checkpoint::{About, Checkpoint};
use crate::data::Prompter;
use crate::model::{Engine, Request, Sampling, Targets};
use crate::objective::{RankingLoss, dpo_loss, implicit_rewards};
use crate::progress::Progress;
use crate::stage::episodes::Rows;
use crate::train::{Frozen, Trainer, Update};
use anyhow::{Context, Result, ensure};
use kernels::{Backend, rng};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

described! {
    /// What is DPO's own in its recipe.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct DpoSettings {
        /// How often every ranking is seen.
        pub epochs: u64,
        /// Prompts of a step, with all their answers.
        pub batch_size: usize,
        /// How dear the distance from the reference is.
        pub beta: f64,
        /// Tokens of an answer in samples at most.
        pub max_tokens: usize,
    }
}

impl Own for DpoSettings {
    const KEYS: &[(&str, &str)] = DpoSettings::KEYS;
    const DEFAULTS: &str = include_str!("../../../../presets/stages/dpo.toml");

    fn check(&self) -> Result<()> {
        ensure!(self.epochs > 0 && self.batch_size > 0, "epochs and batch_size must be at least 1");
        ensure!(self.beta.is_finite() && self.beta > 0.0, "beta is {}: it must be positive", self.beta);
        Ok(())
    }
}

/// What to train, on what, and where to.
pub struct Options<'a> {
    /// The model that training begins from and stays close to.
    pub init: &'a Init,
    /// Rankings.
    pub rankings: &'a Rankings,
    /// The run directory.
    pub out: PathBuf,
    /// The recipe.
    pub settings: StageSettings<DpoSettings>,
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
    /// Loss and share of right pairs on held-out rankings.
    pub val_loss: f64,
    /// Share of the held-out pairs of which the policy has come to prefer the better answer.
    pub val_accuracy: f64,
    /// The page about the run.
    pub report: PathBuf,
}

/// Runs the recipe in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// Model and data do not fit together; the directory belongs to another recipe; training diverges.
pub fn dpo<B: Backend>(
    backend: B,
    machine: &Machine,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let fit = Fit { stage: "dpo", init: options.init, examples: options.rankings.counts().0 };
    let settings = options.settings.fit(&fit, &options.out, progress)?;
    let mut recipe = settings.recipe("dpo", options.seed, machine)?;
    options.init.record(&mut recipe, "init")?;
    recipe.inputs.insert("rankings".into(), options.rankings.input());
    let config = options.init.config(0.0);
    memory::check(&[&config], &[&config], settings.regime.micro_batch_tokens, machine)?;
    let mut training = Dpo::new(backend, options, &settings)?;
    let best = Best { metric: "val_loss", highest: false, at_the_end: false };
    let pace = settings.regime.pace(training.steps, training.steps.div_ceil(5), best);
    let ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let (val_loss, val_accuracy) = training.measure();
    finite("validation loss", val_loss)?;
    Ok(Outcome { step: ending.step, stopped: ending.stopped, val_loss, val_accuracy, report: ending.report })
}

/// The stream of random numbers that dropout's seeds come from.
const NOISE: u64 = 0x4450_4f01;

struct Dpo<'a, B: Backend> {
    options: &'a Options<'a>,
    settings: &'a Resolved<DpoSettings>,
    backend: B,
    prompter: Prompter<'a>,
    policy: Trainer<B::Tensor>,
    reference: Frozen<B::Tensor>,
    steps: u64,
}

impl<'a, B: Backend> Dpo<'a, B> {
    fn new(mut backend: B, options: &'a Options<'a>, settings: &'a Resolved<DpoSettings>) -> Result<Self> {
        let (init, regime, own) = (options.init, &settings.regime, &settings.own);
        let tokenizer = init.tokenizer().with_context(|| format!("{} has no tokenizer", init.name()))?;
        let (config, b) = (init.config(regime.dropout as f32), &mut backend);
        ensure!(config.n_label.is_none(), "{} scores: a language model is needed", init.name());
        let [weights, reference] = [(); 2].map(|()| init.weights(b, &config, options.seed));
        Ok(Dpo {
            steps: regime.steps.unwrap_or(options.rankings.steps(own.epochs, own.batch_size)),
            policy: Trainer::new(b, config.clone(), weights?),
            reference: Frozen::new(b, config, reference?),
            prompter: Prompter::new(tokenizer)?,
            options,
            settings,
            backend,
        })
    }

    /// Loss and share of right pairs on held-out rankings.
    fn measure(&mut self) -> (f64, f64) {
        let held_out: Vec<&Ranked> = self.options.rankings.held_out.iter().collect();
        let (beta, b) = (self.settings.own.beta, &mut self.backend);
        let (mut loss, mut right, mut pairs) = (0.0, 0, 0);
        for (rows, rankings) in rows(&held_out, self.settings.regime.micro_batch_tokens) {
            let reference = self.reference.logprobs(b, rows.sequences(), Targets::new(&rows.targets));
            let reference = sums(&rows, &rankings, reference);
            let policy = self.policy.evaluate(b, rows.sequences(), &rows.targets);
            for one in losses(&sums(&rows, &rankings, policy), &reference, &rankings, beta) {
                loss += one.value / held_out.len() as f64;
                right += one.right;
            }
            pairs += rankings.iter().map(|ranked| ranked.pairs.len()).sum::<usize>();
        }
        (loss, right as f64 / pairs.max(1) as f64)
    }
}

/// The log-probability of every answer.
fn sums(rows: &Rows, rankings: &[&Ranked], by_row: &[f64]) -> Vec<f64> {
    let tokens = rows.of_answers(by_row);
    let mut first = 0;
    let episodes = rankings.iter().flat_map(|ranked| &ranked.episodes);
    let sum = |len: usize| {
        first += len;
        tokens[first - len..first].iter().sum()
    };
    episodes.map(|episode| episode.answer_len()).map(sum).collect()
}

/// The loss of every ranking.
fn losses(policy: &[f64], reference: &[f64], rankings: &[&Ranked], beta: f64) -> Vec<RankingLoss> {
    let mut first = 0;
    let one = |ranked: &&Ranked| {
        let place = first..first + ranked.episodes.len();
        first = place.end;
        dpo_loss(&policy[place.clone()], &reference[place], &ranked.pairs, beta)
    };
    rankings.iter().map(one).collect()
}

impl<B: Backend> Training for Dpo<'_, B> {
    fn step(&mut self, step: u64) -> Result<Step> {
        let (own, regime) = (&self.settings.own, &self.settings.regime);
        let batch = self.options.rankings.batch(step, own.batch_size, self.options.seed);
        let elements = batch.iter().filter(|ranked| !ranked.pairs.is_empty()).count().max(1) as f64;
        let (mut loss, mut right, mut pairs, mut tokens) = (0.0, 0, 0, 0);
        let (mut chosen, mut rejected) = (0.0, 0.0);
        let seed = rng::bits(self.options.seed, NOISE, step);
        for (rows, rankings) in rows(&batch, regime.micro_batch_tokens) {
            let (b, targets) = (&mut self.backend, Targets::new(&rows.targets));
            let noised = rows.noised(seed, tokens);
            tokens += noised.tokens.len() as u64;
            let reference = self.reference.logprobs(b, rows.sequences(), targets);
            let reference = sums(&rows, &rankings, reference);
            self.policy.accumulate_loss(b, noised, targets, false, |outputs, derivatives| {
                let policy = sums(&rows, &rankings, outputs.logprobs);
                let rewards = implicit_rewards(&policy, &reference, own.beta);
                let (mut answer, mut token) = (0, 0);
                for (one, ranked) in losses(&policy, &reference, &rankings, own.beta).iter().zip(&rankings) {
                    loss += one.value / elements;
                    right += one.right;
                    pairs += ranked.pairs.len();
                    for &(better, worse) in &ranked.pairs {
                        chosen += rewards[answer + better];
                        rejected += rewards[answer + worse];
                    }
                    for (episode, derivative) in ranked.episodes.iter().zip(&one.derivatives) {
                        for &row in &rows.before_tokens[token..token + episode.answer_len()] {
                            derivatives.logprobs[row as usize] = derivative / elements;
                        }
                        token += episode.answer_len();
                    }
                    answer += ranked.episodes.len();
                }
            });
        }
        let lr = regime.schedule(self.steps).at(step);
        let Update { grad_norm, applied } =
            self.policy.update(&mut self.backend, &regime.optimizer(), lr, loss);
        let of_pairs = |sum: f64| sum / pairs.max(1) as f64;
        let accuracy = of_pairs(right as f64);
        let figures = [
            ("loss", loss.into()),
            ("rewards/chosen", of_pairs(chosen).into()),
            ("rewards/rejected", of_pairs(rejected).into()),
            ("rewards/margins", of_pairs(chosen - rejected).into()),
            ("rewards/accuracies", accuracy.into()),
            ("lr", shortest(lr)),
            ("grad_norm", grad_norm.into()),
        ];
        Ok(Step {
            metrics: Map::from_iter(figures.map(|(name, value)| (name.to_owned(), value))),
            line: format!("loss {loss:7.4}  right {:5.1} %  norm {grad_norm:6.3}", 100.0 * accuracy),
            loss: Some(loss),
            tokens,
            flops: 4.0 / 3.0
                * training_flops(
                    &self.policy.config,
                    tokens,
                    batch.iter().map(|ranked| ranked.episodes.len()).sum(),
                ),
            skipped: (!applied).then(|| format!("gradient norm {grad_norm}: nothing was changed")),
            exploded: None,
            ended: None,
            rollouts: Vec::new(),
        })
    }

    fn evaluate(&mut self) -> Result<Evaluation> {
        let (loss, accuracy) = self.measure();
        Ok(Evaluation {
            metrics: vec![("val_loss", loss), ("val_accuracy", accuracy)],
            line: format!("loss {loss:.4}, {:.1} % of pairs right", 100.0 * accuracy),
        })
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        const SHOWN: usize = 4;
        let request = |(number, ranked): (u64, &Ranked)| Request {
            prompt: ranked.episodes[0].tokens[..ranked.episodes[0].prompt_len].to_vec(),
            max_tokens: self.settings.own.max_tokens,
            sampling: Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: self.options.seed },
            number,
            stop_tokens: self.prompter.end_tokens().to_vec(),
        };
        let shown = self.options.rankings.held_out.iter().take(SHOWN);
        let requests: Vec<Request> = (0..).zip(shown).map(request).collect();
        self.policy.release_pass(&mut self.backend);
        let (b, tokenizer) = (&mut self.backend, self.prompter.tokenizer());
        let mut engine = Engine::new(b, &self.policy.config, &self.policy.weights, requests.len())
            .limited_to(tokenizer.vocab_size());
        let generated = engine.generate(b, &requests, |_, _| ControlFlow::Continue(()))?;
        let texts = requests.iter().zip(generated).map(|(request, generated)| {
            Ok((tokenizer.decode(&request.prompt)?, tokenizer.decode(&generated.tokens)?))
        });
        texts.collect()
    }

    fn save(&mut self, dir: &Path, about: About) -> Result<()> {
        let about = About {
            data_digest: Some(self.options.rankings.digest().to_owned()),
            ..self.options.init.begins(about)
        };
        let dtype = self.settings.regime.dtype;
        self.policy.save(&mut self.backend, dir, self.prompter.tokenizer(), dtype, about)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.policy.restore(&mut self.backend, checkpoint)
    }

    fn restart(&mut self) -> Result<()> {
        let b = &mut self.backend;
        let weights = self.options.init.weights(b, &self.policy.config, self.options.seed)?;
        self.policy.restart(b, weights);
        Ok(())
    }

    fn begin(&mut self, progress: &dyn Progress) -> Result<Option<Evaluation>> {
        let (train, held_out) = self.options.rankings.counts();
        progress.line(&format!(
            "{} parameters of policy and reference; {train} rankings to learn from, {held_out} held out",
            self.policy.config.parameters()
        ));
        self.evaluate().map(Some)
    }

    fn guessing(&self) -> Option<Guessing> {
        Some(Guessing::Nats(std::f64::consts::LN_2))
    }
}
