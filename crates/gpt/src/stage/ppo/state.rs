//! The state from which PPO resumes: the four models, how they begin, and what a checkpoint holds of them.

use super::{Options, Ppo, PpoSettings};
use crate::checkpoint::{self, About, Beside, Checkpoint, Contents};
use crate::data::{Mixture, Prompter};
use crate::model::Weights;
use crate::objective::ppo::KlController;
use crate::progress::Progress;
use crate::stage::Machine;
use crate::stage::prompts::{ask, digest, tell_shared};
use crate::stage::score::check_reward;
use crate::stage::settings::Resolved;
use crate::stage::training_loop::State;
use crate::train::run::{Input, Recipe};
use crate::train::{Frozen, Trainer};
use anyhow::{Context, Result, ensure};
use kernels::Backend;
use std::collections::BTreeMap;
use std::path::Path;

/// The value model's file, and the trained policy's where the checkpoint's own is its average.
const VALUE: &str = "value.safetensors";
const POLICY: &str = "policy.safetensors";
/// Prefixes of weights and moments in them.
const TREES: [&str; 3] = ["w.", "m.", "v."];
/// Names of numbers in `mynah.json`.
const VALUE_UPDATES: &str = "value_updates";
const KL_COEF: &str = "kl_coef";

impl<'a, B: Backend> Ppo<'a, B> {
    /// The first state of a run.
    pub(super) fn new(
        mut backend: B,
        machine: &Machine,
        options: &'a Options<'a>,
        settings: &'a Resolved<PpoSettings>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let (Options { policy, reward, .. }, own) = (options, &settings.own);
        let b = &mut backend;
        let prompter = Prompter::new(policy.needed_tokenizer()?)?;
        check_reward(reward, policy)?;
        policy.check_no_dropout(settings.optim.dropout)?;
        if policy.adapter().is_some() {
            ensure!(
                own.ema == 0.0,
                "ema is {}: there is no moving average of an adapter; leave it at 0",
                own.ema
            );
        }
        let config = policy.config(0.0);
        ensure!(config.n_label.is_none(), "{} scores: the policy must be a language model", policy.name());
        let value_config = reward.config(0.0);
        let context = config.seq_len.min(value_config.seq_len);
        // One more for the end that the reward model reads.
        let room = context.checked_sub(own.max_tokens + 1).filter(|room| *room > 0).with_context(|| {
            format!(
                "max_tokens {} leaves no room for a prompt in a context of {context}: take fewer (--set max_tokens=N)",
                own.max_tokens
            )
        })?;
        let prompts = ask("prompts", options.prompts, &prompter, None, room, progress)?;
        let mut held_out = ask("held-out prompts", options.held_out, &prompter, None, room, progress)?;
        held_out.truncate(own.eval_prompts);
        tell_shared(&prompts, &held_out, progress);
        let ptx = (own.ptx_coef > 0.0).then(|| {
            let data = Mixture::open(&options.ptx)
                .context("ptx_coef is above 0, and so asks for pretraining data (--ptx)")?;
            policy.check(data.tokenizer(), data.vocab_size())?;
            let windows = data.windows(config.seq_len, options.seed)?;
            anyhow::Ok((data, windows))
        });
        let trained = policy.weights(b, &config, options.seed)?;
        let reference = policy.reference(b, &config, &trained, options.seed)?;
        let value = reward.weights(b, &value_config, options.seed)?;
        // What the value model learns begins at nothing, and is none of the reward model's.
        let scores = Weights { adapter: None, ..reward.weights(b, &value_config, options.seed)? };
        let mut ppo = Ppo {
            same_bits: machine.device == "cpu",
            policy: Trainer::new(b, config.clone(), trained),
            average: None,
            value: Trainer::new(b, value_config.clone(), value),
            reference,
            reward: Frozen::new(b, value_config, scores),
            kl: KlController::new(own.kl_coef, own.kl_target, own.kl_horizon),
            ptx: ptx.transpose()?,
            steps: settings.optim.steps.context("the recipe of PPO has steps")?,
            options,
            settings,
            backend,
            prompter,
            prompts,
            held_out,
        };
        ppo.average = ppo.first_average();
        for trainer in [&mut ppo.policy, &mut ppo.value] {
            trainer.keep(&mut ppo.backend, settings.optim.keep());
            trainer.join(&mut ppo.backend, &machine.ranks);
        }
        Ok(ppo)
    }

    /// The moving average begins at the policy.
    fn first_average(&mut self) -> Option<Weights<B::Tensor>> {
        let b = &mut self.backend;
        (self.settings.own.ema > 0.0).then(|| {
            self.policy.weights.map(|weight| {
                let mut copy = b.zeros(b.len(weight));
                b.copy(&mut copy, weight);
                copy
            })
        })
    }
}

impl<B: Backend> State for Ppo<'_, B> {
    /// The checkpoint's model is the policy, or its moving average where there is one.
    fn save(&mut self, dir: &Path, about: About) -> Result<()> {
        let Self { options, settings, backend, prompter, policy, average, value, kl, .. } = self;
        let about = About {
            updates: policy.updates(backend),
            data_digest: Some(digest(options.prompts, options.held_out)?),
            tokenizer_digest: Some(prompter.tokenizer().digest()),
            state: BTreeMap::from([
                (VALUE_UPDATES.to_owned(), value.updates(backend) as f64),
                (KL_COEF.to_owned(), kl.coefficient()),
            ]),
            ..options.policy.begins(about)
        };
        let mut beside = vec![Beside { name: VALUE, config: &value.config, trees: trees(value) }];
        if average.is_some() {
            beside.push(Beside { name: POLICY, config: &policy.config, trees: trees(policy) });
        }
        let contents = Contents {
            config: &policy.config,
            weights: average.as_ref().unwrap_or(&policy.weights),
            dtype: settings.optim.dtype,
            moments: average.is_none().then_some(policy.moments()),
            beside: &beside,
            read: &mut checkpoint::from_backend(backend),
            eot_token: prompter.tokenizer().end_of_text(),
            eos_token: prompter.tokenizer().eos(),
            end_tokens: &prompter.tokenizer().end_tokens(),
            files: &prompter.tokenizer().files(),
            about,
        };
        let saved = checkpoint::save(dir, contents);
        policy.forget_gathered();
        value.forget_gathered();
        saved
    }

    fn gather(&mut self) {
        self.policy.gather_moments(&mut self.backend);
        self.value.gather_moments(&mut self.backend);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let about = &checkpoint.manifest.as_ref().context("it is not a checkpoint of mynah")?.about;
        let number = |name: &str| about.state.get(name).copied().with_context(|| format!("no {name} in it"));
        let b = &mut self.backend;
        if self.average.is_some() {
            self.average = Some(checkpoint.exact_weights(checkpoint::to_backend(b, &self.policy.config))?);
            restore_beside(b, &mut self.policy, checkpoint, POLICY, about.updates)?;
        } else {
            self.policy.restore(b, checkpoint)?;
        }
        restore_beside(b, &mut self.value, checkpoint, VALUE, number(VALUE_UPDATES)? as u64)?;
        self.kl.set_coefficient(number(KL_COEF)?);
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        let (options, b) = (self.options, &mut self.backend);
        let policy = options.policy.weights(b, &self.policy.config, options.seed)?;
        self.policy.restart(b, policy);
        let value = options.reward.weights(b, &self.value.config, options.seed)?;
        self.value.restart(b, value);
        self.average = self.first_average();
        self.kl.set_coefficient(self.settings.own.kl_coef);
        Ok(())
    }
}

/// Everything that a model's training goes on from, by prefix.
fn trees<B: Backend>(trainer: &Trainer<B>) -> Vec<(&'static str, &Weights<B::Tensor>)> {
    let (first_moment, second_moment) = trainer.moments();
    TREES.into_iter().zip([&trainer.weights, first_moment, second_moment]).collect()
}

fn restore_beside<B: Backend>(
    b: &mut B,
    trainer: &mut Trainer<B>,
    checkpoint: &Checkpoint,
    file: &str,
    updates: u64,
) -> Result<()> {
    if trainer.weights.adapter.is_some() {
        return trainer.restore_learned(b, updates, |spec| {
            let [weights, m, v] = TREES.map(|prefix| checkpoint.leaf_beside(file, prefix, spec));
            Ok([weights?, m?, v?])
        });
    }
    let config = trainer.config.clone();
    let [weights, m, v] = TREES;
    let weights = checkpoint.beside(file, &config, weights, checkpoint::to_backend(b, &config))?;
    let mut moment = |prefix| match trainer.ranks().size() {
        1 => checkpoint.beside(file, &config, prefix, checkpoint::to_backend(b, &config)),
        _ => checkpoint.beside(file, &config, prefix, |spec, values| trainer.own_moment(b, spec, values)),
    };
    let moments = (moment(m)?, moment(v)?);
    trainer.take_over(b, weights, moments, updates);
    Ok(())
}

/// The resolved recipe as it is stored.
pub(super) fn recipe(
    options: &Options<'_>,
    settings: &Resolved<PpoSettings>,
    machine: &Machine,
) -> Result<Recipe> {
    let mut recipe = settings.recipe("ppo", options.seed, machine)?;
    options.policy.record(&mut recipe, "policy")?;
    options.reward.record(&mut recipe, "reward")?;
    recipe.inputs.insert(
        "prompts".into(),
        Input::new(Path::new("prompts"), digest(options.prompts, options.held_out)?),
    );
    for (number, (path, weight)) in (1..).zip(&options.ptx) {
        let digest = crate::data::TokenShards::open(path)?.digest().to_owned();
        recipe.inputs.insert(format!("ptx {number}"), Input::new(path, format!("{digest} × {weight}")));
    }
    Ok(recipe)
}
