//! What a run, or any file that a verb writes, is made of: everything that decides it, and apart from it what
//! does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::hub::Name;

/// File name of the recipe in a run directory.
pub const CONFIG: &str = "config.toml";

/// The layout of a run directory. It changes when an older run can no longer be continued.
pub const FORMAT: u32 = 1;

/// The resolved recipe of a run, kept as `config.toml`: what was typed, the preset and the defaults, merged.
///
/// Two recipes that agree in `stage`, `format`, `settings` and the digests of `inputs` give the same numbers,
/// bit for bit; `runtime` and the places of the inputs may change when a run is resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The stage: `pretrain`, `sft`, `reward`, `ppo` …
    pub stage: String,
    /// [`FORMAT`] of the program that made the run.
    pub format: u32,
    /// Every setting that decides results: shape, schedule, seed, precision …
    pub settings: toml::Table,
    /// What does not decide results: threads, how many checkpoints to keep, a line about the machine
    /// (`machine`), the command that was typed (`command`).
    #[serde(default)]
    pub runtime: toml::Table,
    /// What the run reads, by name: `data`, `tokenizer`, `init` …
    #[serde(default)]
    pub inputs: BTreeMap<String, Input>,
}

/// Something that a run reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Where it lay, as an absolute path, free to move; or what it is on the hub, pinned to a commit.
    pub path: PathBuf,
    /// A digest of its contents: this is what must stay.
    pub digest: String,
}

impl Input {
    /// An input by path and digest. A relative path is made absolute, so that the run can be read from
    /// elsewhere; a name of the hub is one already.
    pub fn new(path: &Path, digest: impl Into<String>) -> Self {
        let absolute = if Name::is(path) { Ok(path.to_owned()) } else { std::path::absolute(path) };
        let path = absolute.unwrap_or_else(|_| path.to_path_buf());
        Self { path, digest: digest.into() }
    }

    /// How two inputs of the same name differ, if they do: by their places, or by what lies in the same
    /// place.
    fn difference(&self, other: &Input) -> Option<String> {
        let (old, new) = (self.place(), other.place());
        match () {
            () if self.digest == other.digest => None,
            () if old != new => Some(format!("{old} → {new}")),
            () if self.path.exists() => Some(format!("{old} has other contents now")),
            () => Some("other contents".to_owned()),
        }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

/// What is shown in place of a value that one of two recipes lacks.
const ABSENT: &str = "(absent)";

impl Recipe {
    /// A recipe of this program's [`FORMAT`] without `runtime` and `inputs`.
    pub fn new(stage: impl Into<String>, settings: toml::Table) -> Self {
        Self {
            stage: stage.into(),
            format: FORMAT,
            settings,
            runtime: toml::Table::new(),
            inputs: BTreeMap::new(),
        }
    }

    /// The recipe of a verb that writes a file: its `settings`, which make a table, and what it reads, by
    /// name.
    pub fn of_verb(
        verb: &str,
        settings: &impl Serialize,
        inputs: impl IntoIterator<Item = (String, Input)>,
    ) -> Result<Self> {
        let settings = toml::Table::try_from(settings).context("the options cannot be written as TOML")?;
        Ok(Recipe { inputs: inputs.into_iter().collect(), ..Recipe::new(verb, settings) })
    }

    /// A setting that is a text.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).and_then(toml::Value::as_str)
    }

    /// Reads the recipe of the run in `dir`; needs no lock.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        let text = std::fs::read_to_string(&path).with_context(|| match dir.exists() {
            true => format!(
                "{} is no run directory (it has no {CONFIG}): `mynah runs` lists those that there are",
                dir.display()
            ),
            false => format!("{} does not exist: `mynah runs` lists the runs that there are", dir.display()),
        })?;
        toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Keeps how the input `name` was asked for, where that is a name of the hub: another day it may mean
    /// another commit.
    pub fn note_asked(&mut self, name: &str, asked: &str) {
        if Name::is(Path::new(asked)) {
            self.runtime.insert(name.to_owned(), asked.into());
        }
    }

    /// What `asked` means as the input `name` of the run in `dir`: a name of the hub that the run was begun
    /// with is the commit that it was then.
    pub fn pinned(dir: &Path, name: &str, asked: &Path) -> Result<PathBuf> {
        if !Name::is(asked) || !dir.join(CONFIG).exists() {
            return Ok(asked.to_owned());
        }
        let begun = Recipe::load(dir)?;
        let is_same = begun.runtime.get(name).and_then(toml::Value::as_str) == asked.to_str();
        let pinned = begun.inputs.get(name).filter(|_| is_same);
        Ok(pinned.map_or_else(|| asked.to_owned(), |input| input.path.clone()))
    }

    /// What decides results and differs from `other`, one line a key: `settings.lr: 0.0006 → 0.001`. Inputs
    /// that differ are told by their places.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let inputs = self.inputs.keys().chain(other.inputs.keys()).collect::<BTreeSet<_>>();
        let inputs = inputs.into_iter().filter_map(|name| {
            let difference = match (self.inputs.get(name), other.inputs.get(name)) {
                (Some(old), Some(new)) => old.difference(new)?,
                (old, new) => {
                    let shown = |input: Option<&Input>| input.map_or(ABSENT.into(), Input::place);
                    format!("{} → {}", shown(old), shown(new))
                }
            };
            Some(format!("inputs.{name}: {difference}"))
        });
        let (old, new) = (self.decisive(), other.decisive());
        let keys = old.keys().chain(new.keys()).collect::<BTreeSet<_>>();
        let show = |value: Option<&String>| value.cloned().unwrap_or_else(|| ABSENT.into());
        let settings = keys
            .into_iter()
            .filter(|key| old.get(*key) != new.get(*key))
            .map(|key| format!("{key}: {} → {}", show(old.get(key)), show(new.get(key))));
        inputs.chain(settings).collect()
    }

    /// Every key that decides results but the inputs, with its value as text.
    fn decisive(&self) -> BTreeMap<String, String> {
        let mut keys = BTreeMap::from([
            ("stage".to_string(), self.stage.clone()),
            ("format".to_string(), self.format.to_string()),
        ]);
        let settings = leaves(&self.settings).into_iter();
        keys.extend(settings.map(|(key, value)| (format!("settings.{key}"), value)));
        keys
    }
}

/// The leaves of a table under dotted names, each as TOML writes it.
pub fn leaves(table: &toml::Table) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(inner) => {
                found.extend(leaves(inner).into_iter().map(|(key, leaf)| (format!("{name}.{key}"), leaf)));
            }
            leaf => {
                found.insert(name.clone(), leaf.to_string());
            }
        }
    }
    found
}
