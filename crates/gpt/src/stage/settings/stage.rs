//! The recipe of a stage that comes after pretraining: how it is optimised ([`OptimConfig`]), and what is its
//! own.

use super::presets::apply;
use super::rule::{Fit, Rule};
use super::{OptimConfig, Shape, keys};
use crate::model::LEAST_PASS_TOKENS;
use crate::progress::Progress;
use crate::stage::memory::{MOST_PASS_TOKENS, Needs};
use crate::stage::training_loop::Machine;
use crate::train::run::{CONFIG, Recipe};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::path::Path;

/// What is a stage's own in its recipe.
pub trait StageConfig: Serialize + DeserializeOwned + Clone {
    /// Every key and what it is.
    const KEYS: &[(&str, &str)];
    /// All defaults, those of the [`OptimConfig`] included, as TOML.
    const DEFAULTS: &str;

    /// Refuses values that cannot be.
    fn check(&self) -> Result<()>;
}

/// The recipe of a stage as it is asked for: its defaults with changes. What nobody gave and a `Rule` decides
/// is open until the stage has a model and examples.
#[derive(Clone, Debug, PartialEq)]
pub struct StageSettings<S> {
    table: toml::Table,
    /// The keys of the changes.
    given: Vec<String>,
    stage: PhantomData<S>,
}

/// The resolved recipe of a stage.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::stage) struct Resolved<S> {
    /// How it is optimised.
    pub(in crate::stage) optim: OptimConfig,
    /// What is the stage's own.
    pub(in crate::stage) own: S,
    /// The keys that a rule decided, or the run that goes on.
    by_rule: Vec<String>,
    /// Whether a GPU's free memory is to decide how many tokens go through a model at once.
    by_free_memory: bool,
}

impl<S: StageConfig> StageSettings<S> {
    /// The defaults of the stage with `changes` (`key=value`) applied in order.
    ///
    /// # Errors
    /// An unknown key or a value that cannot be is named.
    pub fn resolve(changes: &[String]) -> Result<Self> {
        let mut table: toml::Table = toml::from_str(S::DEFAULTS).context("defaults are a TOML table")?;
        let given = apply(&mut table, changes)?;
        // What the model has decided when it was pretrained.
        let of_the_model =
            |key: &&String| key.as_str() == "seq_len" || Shape::KEYS.iter().any(|(of, _)| of == key);
        let own = |key: &&String| Self::keys().any(|(known, _)| known == key);
        if let Some(key) = given.iter().filter(|key| !own(key)).find(of_the_model) {
            bail!(
                "{key} is the model's, and no key of this recipe: it was decided when the model was pretrained (`mynah \
                 pretrain --set {key}=…`); leave it out"
            );
        }
        keys::check(&given, Self::keys().map(|(key, _)| *key))?;
        let settings = StageSettings { table, given, stage: PhantomData };
        settings.usual()?;
        Ok(settings)
    }

    /// The defaults with what `change` changes; what it leaves as it was stays as if nobody had given it,
    /// open to the rules.
    ///
    /// ```
    /// use gpt::stage::{SftSettings, StageSettings};
    ///
    /// let typed = StageSettings::<SftSettings>::with(|optim, own| (optim.lr, own.epochs) = (1e-4, 2))?;
    /// assert_eq!(typed, StageSettings::resolve(&["epochs=2".into(), "lr=1e-4".into()])?);
    /// # anyhow::Ok(())
    /// ```
    ///
    /// # Errors
    /// A value cannot be.
    pub fn with(change: impl FnOnce(&mut OptimConfig, &mut S)) -> Result<Self> {
        let defaults = Self::resolve(&[])?;
        let usual = defaults.usual()?;
        let mut changed = usual.clone();
        change(&mut changed.optim, &mut changed.own);
        let (usual, changed) = (usual.table()?, changed.table()?);
        let given = changed.iter().filter(|(key, value)| usual.get(*key) != Some(value));
        let given: Vec<(String, toml::Value)> =
            given.map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut settings =
            StageSettings { given: given.iter().map(|(key, _)| key.clone()).collect(), ..defaults };
        settings.table.extend(given);
        settings.usual()?;
        Ok(settings)
    }

    /// The whole recipe for a model and its examples. A run that is there already in `out` goes on with what
    /// was decided when it began; what is decided now, `progress` hears of.
    ///
    /// # Errors
    /// A value cannot be; the recipe in `out` is damaged.
    pub(in crate::stage) fn fit(
        &self,
        fit: &Fit<'_>,
        out: &Path,
        progress: &dyn Progress,
    ) -> Result<Resolved<S>> {
        let begun = out.join(CONFIG).exists().then(|| Recipe::load(out)).transpose()?;
        // Another stage's directory is refused later, with the difference: its numbers are none of ours.
        let begun = begun.filter(|begun| begun.stage == fit.stage);
        let (mut table, mut by_rule, mut told) = (self.table.clone(), Vec::new(), Vec::new());
        let mut by_free_memory = false;
        for (key, value) in table.iter_mut().filter(|(key, _)| !self.given.contains(key)) {
            *value = match (begun.as_ref().and_then(|begun| kept(begun, key)), Rule::of(value)?) {
                (Some(kept), _) => kept.clone(),
                (None, Some(rule @ Rule::Memory)) if fit.machine.device != "cpu" => {
                    by_free_memory = true;
                    rule.usual()
                }
                (None, Some(rule)) => {
                    let (decided, because) = rule.decide(fit);
                    told.push(format!("{key} {decided} ({because})"));
                    decided
                }
                (None, None) => continue,
            };
            by_rule.push(key.clone());
        }
        if !told.is_empty() {
            progress.line(&format!("recipe: {}", told.join(", ")));
        }
        Ok(Resolved { by_free_memory, ..Resolved::new(table, by_rule)? })
    }

    /// The recipe with a value that each of its rules could give.
    fn usual(&self) -> Result<Resolved<S>> {
        let mut table = self.table.clone();
        for (key, value) in &mut table {
            if let Some(rule) = Rule::of(value).with_context(|| format!("{key} is {value}"))? {
                *value = rule.usual();
            }
        }
        Resolved::new(table, Vec::new())
    }

    /// A value that is given, or a default.
    pub(in crate::stage) fn value(&self, key: &str) -> Option<&toml::Value> {
        self.table.get(key)
    }

    /// Every key of the recipe and what it is: the stage's own first.
    pub fn keys() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        S::KEYS.iter().chain(OptimConfig::KEYS)
    }

    /// Every key for people: its default, or what decides it, or `-` for none; and what it is.
    ///
    /// # Errors
    /// None, for defaults that can be read.
    pub fn described() -> Result<Vec<(&'static str, String, String)>> {
        let settings = Self::resolve(&[])?;
        let usual = settings.usual()?.table()?;
        let describe = |(key, meaning): &(&'static str, &str)| {
            let meaning = meaning.trim();
            if let Some(rule) = settings.table.get(*key).map(Rule::of).transpose()?.flatten() {
                let (by, how) = rule.describe();
                return Ok((*key, by.to_owned(), format!("{meaning} {}: {how}.", sentence(by))));
            }
            let value = usual.get(*key).map_or("-".to_owned(), ToString::to_string);
            Ok((*key, value, meaning.to_owned()))
        };
        Self::keys().map(describe).collect()
    }
}

/// With a capital letter.
fn sentence(text: &str) -> String {
    text[..1].to_uppercase() + &text[1..]
}

/// Among what does not decide results: the keys that rules decided when a run began.
const BY_RULE: &str = "by_rule";

/// What a run that was begun says about a key that nobody gives: what a rule decided then, and not what was
/// given then, which makes another command. Recipes that know of no rules are older, and so are their
/// defaults: all of them stay.
fn kept<'r>(begun: &'r Recipe, key: &str) -> Option<&'r toml::Value> {
    let by_rule = begun.runtime.get(BY_RULE).and_then(toml::Value::as_array);
    let stays = by_rule.is_none_or(|keys| keys.iter().any(|known| known.as_str() == Some(key)));
    begun.settings.get(key).filter(|_| stays)
}

impl<S: StageConfig> Resolved<S> {
    fn new(table: toml::Table, by_rule: Vec<String>) -> Result<Self> {
        let (optim, own): (toml::Table, toml::Table) =
            table.into_iter().partition(|(key, _)| OptimConfig::KEYS.iter().any(|(name, _)| name == key));
        let context = "the recipe made of the defaults and --set is not valid";
        let optim: OptimConfig = optim.try_into().context(context)?;
        let own: S = own.try_into().context(context)?;
        optim.check()?;
        own.check()?;
        Ok(Resolved { optim, own, by_rule, by_free_memory: false })
    }

    /// Refuses what memory lacks for. Where a GPU's free memory is to decide how many tokens go through the models at
    /// once, it does so before.
    ///
    /// # Errors
    /// They need more than there is.
    pub(in crate::stage) fn fit_memory(
        &mut self,
        needs: Needs<'_>,
        machine: &Machine,
        progress: &dyn Progress,
    ) -> Result<()> {
        if self.by_free_memory {
            let whole = Needs { lanes: needs.lanes.max(self.optim.lanes), ..needs };
            let tokens = whole.pass_tokens(LEAST_PASS_TOKENS, MOST_PASS_TOKENS, machine, progress);
            self.optim.micro_batch_tokens = tokens.unwrap_or(self.optim.micro_batch_tokens);
        }
        needs.check(self.optim.micro_batch_tokens, machine)
    }

    /// All keys with their values.
    fn table(&self) -> Result<toml::Table> {
        let mut table = toml::Table::try_from(&self.own).context("settings are a TOML table")?;
        table.extend(toml::Table::try_from(&self.optim).context("settings are a TOML table")?);
        Ok(table)
    }

    /// The recipe of a run as it is stored.
    pub(in crate::stage) fn recipe(&self, stage: &str, seed: u64, machine: &Machine) -> Result<Recipe> {
        let mut settings = self.table()?;
        // With several lanes it changes nothing of what a processor computes.
        let cut = if self.optim.lanes > 1 && machine.device == "cpu" {
            settings.remove("micro_batch_tokens")
        } else {
            None
        };
        let mut recipe = recipe(stage, settings, seed, machine)?;
        recipe.runtime.extend(cut.map(|tokens| ("micro_batch_tokens".to_owned(), tokens)));
        recipe.runtime.insert(BY_RULE.into(), self.by_rule.clone().into());
        Ok(recipe)
    }
}

/// The recipe of a run as it is stored: `settings` and what else decides its numbers.
pub(in crate::stage) fn recipe(
    stage: &str,
    mut settings: toml::Table,
    seed: u64,
    machine: &Machine,
) -> Result<Recipe> {
    // What is kept, and in which format, changes nothing of what is computed, and neither does computing it twice.
    let kept = ["keep_last", "dtype", "recompute"].map(|key| (key, settings.remove(key)));
    let kept = kept.into_iter().filter(|(_, value)| value.as_ref() != Some(&false.into()));
    // As in recipes from before there were lanes, whose runs go on.
    if settings.get("lanes").and_then(toml::Value::as_integer) == Some(1) {
        settings.remove("lanes");
    }
    let seed = i64::try_from(seed).context("--seed is too large")?;
    settings.insert("seed".into(), toml::Value::Integer(seed));
    settings.insert("precision".into(), machine.precision.clone().into());
    // As in recipes from before there were others.
    if machine.device != "cpu" {
        settings.insert("device".into(), machine.device.clone().into());
    }
    let mut recipe = Recipe::new(stage, settings);
    recipe.runtime.extend(kept.filter_map(|(key, value)| Some((key.to_owned(), value?))));
    recipe.runtime.insert("machine".into(), machine.description.clone().into());
    if !machine.command.is_empty() {
        recipe.runtime.insert("command".into(), machine.command.clone().into());
    }
    Ok(recipe)
}
