//! Direct preference optimisation (Rafailov et al. 2023) and the losses that came after it: the policy learns from
//! rankings without a reward model.

use super::episodes::Rows;
use super::lanes::{self, Lanes};
use super::learner::Learner;
use super::memory::{Model, Needs};
use super::ranked::{Ranked, RankedRows, Rankings, pairs, rows, tokens};
use super::settings::{Fit, Resolved, StageConfig, at_least_one, described};
use super::training_loop::{
    self, Best, Cancel, Evaluation, Guessing, State, Step, Training, metrics, reading_flops, training_flops,
};
use super::{Ending, Init, Machine, StageSettings};
use crate::data::Prompter;
use crate::model::Targets;
use crate::objective::{AnswerLogprobs, Preference, PreferenceLoss, RankingLoss};
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::train::{Entropies, LaneSums, Reference, Trainer};
use anyhow::{Result, ensure};
use kernels::{Backend, rng};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

described! {
    /// What is DPO's own in its recipe.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct DpoSettings {
        /// How often every ranking is seen.
        pub epochs: u64,
        /// Prompts of a step, with all their answers.
        pub batch_size: usize,
        /// What is learned of a pair: sigmoid (DPO), ipo, hinge, robust, exo_pair, apo_zero, apo_down, sigmoid_norm, simpo or orpo.
        #[serde(default)]
        pub loss: PreferenceLoss,
        /// β, the coefficient of the distance from the reference, or of the difference where there is none.
        pub beta: f64,
        /// Share of pairs that are taken to be the wrong way round, below a half; exo_pair needs some.
        #[serde(default)]
        pub label_smoothing: f64,
        /// γ, the margin of simpo.
        #[serde(default)]
        pub gamma: f64,
        /// Weight of supervised fine-tuning on the best answers beside the loss.
        #[serde(default)]
        pub sft_coef: f64,
        /// Tokens of an answer in samples at most.
        pub max_tokens: usize,
    }
}

impl StageConfig for DpoSettings {
    const KEYS: &[(&str, &str)] = DpoSettings::KEYS;
    const DEFAULTS: &str = include_str!("../../../../presets/stages/dpo.toml");

    fn check(&self) -> Result<()> {
        at_least_one([("epochs", self.epochs), ("batch_size", self.batch_size as u64)])?;
        ensure!(self.beta.is_finite() && self.beta > 0.0, "beta is {}: it must be positive", self.beta);
        ensure!(
            (0.0..0.5).contains(&self.label_smoothing),
            "label_smoothing is {}: it is from 0 to below 0.5, the share of pairs that are the wrong way round",
            self.label_smoothing
        );
        ensure!(
            self.loss != PreferenceLoss::ExoPair || self.label_smoothing > 0.0,
            "exo_pair needs label_smoothing above 0, such as 0.001: the divergence is infinite without"
        );
        for (key, value) in [("gamma", self.gamma), ("sft_coef", self.sft_coef)] {
            ensure!(value.is_finite() && value >= 0.0, "{key} is {value}: it must not be negative");
        }
        Ok(())
    }
}

impl DpoSettings {
    /// What the authors of a loss take where nobody says otherwise, as changes of the defaults.
    pub fn usual_of(loss: PreferenceLoss) -> Vec<String> {
        let changes: &[&str] = match loss {
            // Differences by token are smaller than those by answer (Meng et al. 2024, §4.1).
            PreferenceLoss::Simpo | PreferenceLoss::SigmoidNorm => &["beta=2.0"],
            PreferenceLoss::Orpo => &["sft_coef=1.0"],
            _ => &[],
        };
        changes.iter().map(|change| (*change).to_owned()).collect()
    }

    fn preference(&self) -> Preference {
        let DpoSettings { loss, beta, label_smoothing, gamma, .. } = *self;
        Preference { loss, beta, label_smoothing, gamma }
    }

    /// The loss of a model that prefers nothing yet, where that is the same for all pairs.
    fn at_the_reference(&self) -> Option<f64> {
        let same = AnswerLogprobs { policy: 0.0, reference: 0.0, tokens: 1 };
        let is_known = self.loss.has_reference() && self.sft_coef == 0.0;
        is_known.then(|| self.preference().loss(&[same, same], &[(0, 1)]).value)
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
    /// What every stage says of it.
    pub ending: Ending,
    /// How good the policy is on held-out rankings; none of a run that was stopped.
    pub after: Option<Figures>,
}

/// How good a policy is on held-out rankings.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The mean loss of a ranking.
    pub loss: f64,
    /// Share of the pairs of which the policy has come to prefer the better answer.
    pub accuracy: f64,
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
    let fit = Fit { stage: "dpo", init: options.init, examples: options.rankings.counts().0, machine };
    let mut settings = options.settings.fit(&fit, &options.out, progress)?;
    lanes::check(settings.optim.lanes, &machine.ranks)?;
    let config = options.init.config(0.0);
    let optim = &settings.optim;
    // Beside an adapter the reference is the policy without what it learns.
    let is_apart = settings.own.loss.has_reference() && options.init.adapter().is_none();
    let apart = if is_apart { &[Model::whole(&config)][..] } else { &[] };
    let needs = Needs {
        trained: &[Model::of(options.init, &config).by(optim.optimizer)],
        frozen: apart,
        lanes: Lanes::new(optim.lanes).of(&machine.ranks).in_all(false),
        keep: optim.keep(),
    };
    settings.fit_memory(needs, machine, progress)?;
    let mut recipe = settings.recipe("dpo", options.seed, machine)?;
    options.init.record(&mut recipe, "init")?;
    recipe.inputs.insert("rankings".into(), options.rankings.input());
    let mut training = Dpo::new(backend, options, &settings)?;
    training.policy.join(&machine.ranks);
    let best = Best { metric: "val_loss", highest: false, at_the_end: false };
    let pace = settings.optim.pace(training.steps, training.steps.div_ceil(5), best);
    let mut ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let after = ending.evaluated(machine, progress, &mut training)?;
    let figures = |after: Evaluation| {
        Some(Figures { loss: after.figure("val_loss")?, accuracy: after.figure("val_accuracy")? })
    };
    Ok(Outcome { ending, after: after.and_then(figures) })
}

struct Dpo<'a, B: Backend> {
    options: &'a Options<'a>,
    settings: &'a Resolved<DpoSettings>,
    prompter: Prompter<&'a Tokenizer>,
    policy: Learner<'a, B>,
    /// None where the loss has no reference.
    reference: Option<Reference<B>>,
    steps: u64,
}

impl<'a, B: Backend> Dpo<'a, B> {
    fn new(backend: B, options: &'a Options<'a>, settings: &'a Resolved<DpoSettings>) -> Result<Self> {
        let (Options { init, rankings, seed, .. }, optim, own) = (options, &settings.optim, &settings.own);
        let config = init.language_config(optim.dropout as f32)?;
        let digest = rankings.digest().to_owned();
        let mut policy = Learner::new(backend, init, config.clone(), *seed, optim, digest)?;
        let weights = &policy.trainer.weights;
        let reference = match own.loss.has_reference() {
            true => Some(init.reference(&mut policy.backend, &config, weights, *seed)?),
            false => None,
        };
        Ok(Dpo {
            steps: optim.steps.unwrap_or(rankings.epochs(*seed).steps(own.epochs, own.batch_size)),
            reference,
            prompter: Prompter::new(policy.tokenizer)?,
            policy,
            options,
            settings,
        })
    }

    /// Loss and share of right pairs on held-out rankings.
    fn measure(&mut self, cancel: Cancel<'_>) -> Result<Figures> {
        let held_out: Vec<&Ranked> = self.options.rankings.sides.held_out.iter().collect();
        let own = &self.settings.own;
        let Learner { backend: b, trainer: policy, .. } = &mut self.policy;
        let (elements, best) = (elements(&held_out), best_tokens(&held_out));
        let (mut loss, mut right) = (0.0, 0);
        let most = self.settings.optim.micro_batch_tokens;
        for RankedRows { rows, rankings, .. } in rows(&held_out, &Lanes::new(1), most) {
            cancel.check()?;
            let reference = reference_sums(self.reference.as_mut(), b, policy, &rows, &rankings);
            let by_row = policy.evaluate(b, rows.sequences(), &rows.targets);
            let answers = answers(&rows, &rankings, by_row, &reference);
            for (one, (ranked, answers)) in
                losses(&answers, &rankings, own).iter().zip(of_each(&answers, &rankings))
            {
                loss += one.value / elements + own.sft_coef * nll(ranked, answers) / best;
                right += one.right;
            }
        }
        Ok(Figures { loss, accuracy: right as f64 / pairs(&held_out).max(1) as f64 })
    }
}

/// Rankings that say something: a step's loss is their mean.
fn elements(batch: &[&Ranked]) -> f64 {
    batch.iter().filter(|ranked| !ranked.pairs.is_empty()).count().max(1) as f64
}

/// Tokens of the best answers.
fn best_tokens(batch: &[&Ranked]) -> f64 {
    let of = |ranked: &&Ranked| ranked.best().map(|at| ranked.episodes[at].answer_len()).sum::<usize>();
    batch.iter().map(of).sum::<usize>().max(1) as f64
}

/// What the best answers of a ranking cost, in nats.
fn nll(ranked: &Ranked, answers: &[AnswerLogprobs]) -> f64 {
    -ranked.best().map(|at| answers[at].policy).sum::<f64>()
}

/// The log-probability of every answer under the reference; 0 without one.
fn reference_sums<B: Backend>(
    reference: Option<&mut Reference<B>>,
    backend: &mut B,
    policy: &mut Trainer<B>,
    rows: &Rows,
    rankings: &[&Ranked],
) -> Vec<f64> {
    match reference {
        Some(reference) => {
            let by_row = reference.logprobs(backend, policy, rows.sequences(), Targets::new(&rows.targets));
            rows.sums(by_row)
        }
        None => vec![0.0; rankings.iter().map(|ranked| ranked.episodes.len()).sum()],
    }
}

/// Every answer as a loss sees it.
fn answers(rows: &Rows, rankings: &[&Ranked], by_row: &[f64], reference: &[f64]) -> Vec<AnswerLogprobs> {
    let lens = rankings.iter().flat_map(|ranked| &ranked.episodes).map(|episode| episode.answer_len());
    let both = rows.sums(by_row).into_iter().zip(reference).zip(lens);
    both.map(|((policy, &reference), tokens)| AnswerLogprobs { policy, reference, tokens }).collect()
}

/// Rankings with their answers.
fn of_each<'a>(
    answers: &'a [AnswerLogprobs],
    rankings: &'a [&Ranked],
) -> impl Iterator<Item = (&'a Ranked, &'a [AnswerLogprobs])> {
    let mut first = 0;
    rankings.iter().map(move |ranked| {
        first += ranked.episodes.len();
        (*ranked, &answers[first - ranked.episodes.len()..first])
    })
}

/// The loss of every ranking.
fn losses(answers: &[AnswerLogprobs], rankings: &[&Ranked], own: &DpoSettings) -> Vec<RankingLoss> {
    let preference = own.preference();
    of_each(answers, rankings).map(|(ranked, answers)| preference.loss(answers, &ranked.pairs)).collect()
}

/// The share of pairs told right, for people. While policy and reference are the same, both answers of every
/// pair are worth the same: none is right, and none is wrong.
fn right_share(accuracy: f64, loss: f64, own: &DpoSettings) -> String {
    match accuracy == 0.0 && own.at_the_reference().is_some_and(|same| (loss - same).abs() < 1e-9) {
        true => "no pair told apart yet".into(),
        false => format!("{:.1} % of pairs right", 100.0 * accuracy),
    }
}

impl<B: Backend> Training for Dpo<'_, B> {
    fn step(&mut self, step: u64, _: Cancel<'_>) -> Result<Step> {
        let (own, optim) = (&self.settings.own, &self.settings.optim);
        let batch = self.options.rankings.batch(step, own.batch_size, self.options.seed);
        let (elements, best) = (elements(&batch), best_tokens(&batch));
        let (mut sums_of_step, mut right) = (LaneSums::default(), 0);
        let (pairs, tokens) = (pairs(&batch), tokens(&batch));
        let ranks = self.policy.trainer.ranks().clone();
        let lanes = Lanes::new(optim.lanes).of(&ranks);
        let seed = rng::bits(self.options.seed, streams::DPO_DROPOUT, step);
        for RankedRows { lane, first_row, rows, rankings } in rows(&batch, &lanes, optim.micro_batch_tokens) {
            let Learner { backend: b, trainer: policy, .. } = &mut self.policy;
            let noised = rows.noised(seed, first_row);
            let reference = reference_sums(self.reference.as_mut(), b, policy, &rows, &rankings);
            policy.accumulate_loss(
                b,
                noised,
                Targets::new(&rows.targets),
                Entropies::Unasked,
                lane,
                |outputs, derivatives| {
                    let answers = answers(&rows, &rankings, outputs.logprobs, &reference);
                    let mut token = 0;
                    for (one, (ranked, answers)) in
                        losses(&answers, &rankings, own).iter().zip(of_each(&answers, &rankings))
                    {
                        let nll = nll(ranked, answers) / best;
                        sums_of_step.add(lane, [one.value / elements + own.sft_coef * nll, 0.0, 0.0]);
                        right += one.right;
                        for &(better, worse) in &ranked.pairs {
                            let [chosen, rejected] =
                                [better, worse].map(|at| own.preference().reward(&answers[at]));
                            sums_of_step.add(lane, [0.0, chosen, rejected]);
                        }
                        for (at, (episode, derivative)) in
                            ranked.episodes.iter().zip(&one.derivatives).enumerate()
                        {
                            let learned = ranked.best().filter(|best| *best == at).count() as f64;
                            let derivative = derivative / elements - own.sft_coef * learned / best;
                            for &row in &rows.before_tokens[token..token + episode.answer_len()] {
                                derivatives.logprobs[row as usize] = derivative;
                            }
                            token += episode.answer_len();
                        }
                    }
                },
            );
        }
        let [loss, chosen, rejected] = sums_of_step.total(&ranks);
        let of_pairs = |sum: f64| sum / pairs.max(1) as f64;
        let accuracy = of_pairs(ranks.count(right) as f64);
        let sequences = batch.iter().map(|ranked| ranked.episodes.len()).sum();
        let trainer = &self.policy.trainer;
        let reading = match own.loss.has_reference() {
            true => reading_flops(&trainer.config, tokens, sequences),
            false => 0.0,
        };
        let done = Step {
            metrics: metrics([
                ("loss", loss.into()),
                ("rewards/chosen", of_pairs(chosen).into()),
                ("rewards/rejected", of_pairs(rejected).into()),
                ("rewards/margins", of_pairs(chosen - rejected).into()),
                ("rewards/accuracies", accuracy.into()),
            ]),
            columns: vec![format!("loss {loss:.4}"), right_share(accuracy, loss, own)],
            loss: Some(loss),
            tokens,
            flops: reading + training_flops(trainer, tokens, sequences),
            ..Step::default()
        };
        let lr = optim.schedule(self.steps).at(step);
        Ok(self.policy.update(&optim.optimizer(), lr, Some(loss), |_| done))
    }

    fn evaluate(&mut self, cancel: Cancel<'_>) -> Result<Evaluation> {
        let Figures { loss, accuracy } = self.measure(cancel)?;
        Ok(Evaluation {
            metrics: vec![("val_loss", loss), ("val_accuracy", accuracy)],
            line: format!("loss {loss:.4}, {}", right_share(accuracy, loss, &self.settings.own)),
        })
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        const SHOWN: usize = 3;
        let prompt = |ranked: &Ranked| ranked.episodes[0].tokens[..ranked.episodes[0].prompt_len].to_vec();
        let prompts = self.options.rankings.sides.held_out.iter().take(SHOWN).map(prompt).collect();
        let (max_tokens, seed) = (self.settings.own.max_tokens, self.options.seed);
        self.policy.answers(prompts, max_tokens, seed, self.prompter.end_tokens())
    }

    fn state(&mut self) -> &mut dyn State {
        &mut self.policy
    }

    fn begin(&mut self, progress: &dyn Progress, cancel: Cancel<'_>) -> Result<Option<Evaluation>> {
        let (train, held_out) = self.options.rankings.counts();
        progress.line(&format!(
            "{} parameters of {}; {train} rankings to learn from, {held_out} held out",
            self.policy.trainer.config.parameters(),
            if self.reference.is_some() { "policy and reference" } else { "the policy" }
        ));
        self.evaluate(cancel).map(Some)
    }

    fn guessing(&self) -> Option<Guessing> {
        self.settings.own.at_the_reference().map(Guessing::Nats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_loss_cannot_take_is_named() {
        let refused = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            format!("{:#}", StageSettings::<DpoSettings>::resolve(&changes).unwrap_err())
        };
        assert!(refused(&["loss=exo_pair"]).contains("exo_pair needs label_smoothing above 0"));
        assert!(refused(&["loss=robust", "label_smoothing=0.5"]).contains("from 0 to below 0.5"));
        assert!(refused(&["gamma=-1"]).contains("gamma is -1"));
        let unknown = refused(&["loss=dpo"]);
        assert!(unknown.contains("apo_down") && unknown.contains("dpo"), "{unknown}");
    }

    #[test]
    fn a_loss_has_the_coefficients_of_its_authors() {
        let of = |changes: &[String]| StageSettings::<DpoSettings>::resolve(changes).unwrap();
        let usual = |loss| of(&DpoSettings::usual_of(loss));
        assert_eq!(usual(PreferenceLoss::Simpo), of(&["beta=2.0".into()]));
        assert_eq!(usual(PreferenceLoss::Orpo), of(&["sft_coef=1.0".into()]));
        assert_eq!(usual(PreferenceLoss::Ipo), of(&[]));
    }
}
