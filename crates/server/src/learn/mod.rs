//! Learning from what people said of answers: a reward model from the store's rankings, then a model that learns by it. Each
//! stage is a process, the very verb that a person would type; what is to be done stands in a file beside the runs, and
//! whoever finds it goes on.

mod doubts;
mod plan;
mod process;
pub(crate) mod routes;

use anyhow::{Context, Result};
use feedback::statistics::{Votes, WinRate};
use lm::train::run::{CHECKPOINTS, State, state_of};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use text::output::write_rows;

use crate::api::ApiError;
use crate::app::App;
use crate::model::{Kind, Source};
use crate::runs::beside;
use crate::settings::Learning;
use plan::{By, Generation, Stage};
pub(crate) use process::start;
use process::{Process, last_words, lives, terminate};

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(200);

/// A small file is read in small batches, or there would be no more than a few steps: its recipe's batch is that of a large one.
const STEPS_OF_A_PASS: usize = 50;
const LEAST_BATCH: usize = 4;

/// What a generation learns from.
struct Lesson {
    /// Rows of rankings.
    rankings: Vec<Map<String, Value>>,
    /// Rows of prompts.
    prompts: Vec<Value>,
}

/// The generations of a server whose models learn.
pub(crate) struct Learn {
    settings: Learning,
    active: Mutex<Option<Active>>,
}

/// The generation that is being learned.
struct Active {
    name: String,
    pid: Option<u32>,
    /// Whether nobody asked to stop.
    is_wanted: bool,
}

/// How the work at a generation ended.
enum Ended {
    Done,
    Stopped,
    Failed(String),
}

impl Learn {
    pub(crate) fn new(settings: Learning) -> Learn {
        Learn { settings, active: Mutex::default() }
    }

    fn active(&self) -> MutexGuard<'_, Option<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Generation> {
        Generation::all(&self.settings.folder)
    }

    /// A generation by its name, which never becomes a path.
    fn generation(&self, name: &str) -> Result<Generation, ApiError> {
        let found = self.all().into_iter().find(|generation| generation.name == name);
        found.ok_or_else(|| ApiError::not_found(format!("nothing was learned by the name {name:?}")))
    }

    /// Writes down what is to be learned, with what it is learned from: the store goes on changing.
    fn plan(
        &self,
        parent: &Source,
        by: By,
        steps: Option<u64>,
        lesson: &Lesson,
        is_taken: impl Fn(&str) -> bool,
    ) -> Result<Generation> {
        let folder = &self.settings.folder;
        let before = self.all().iter().map(|generation| generation.number).max().unwrap_or(0);
        let names = (before + 1..).map(|number| (number, format!("{}-{number}", by.name())));
        let mut free = names.filter(|(_, name)| {
            !is_taken(name) && !is_taken(&format!("{name}-reward")) && !folder.join(name).exists()
        });
        let (number, name) = free.next().context("numbers do not end")?;
        let dir = folder.join(&name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let (rankings, prompts) = (dir.join("rankings.jsonl"), dir.join("prompts.jsonl"));
        write_rows(&rankings, &lesson.rankings)?;
        write_rows(&prompts, &lesson.prompts)?;
        // A name of the hub is no path.
        let begins = parent.path.canonicalize().unwrap_or_else(|_| parent.path.clone());
        let stage = |name: &str, more: &[(&str, &Path)]| {
            let out = dir.join(name);
            let given = [("--model", begins.as_path()), ("--out", out.as_path())];
            let flags = given.iter().chain(more);
            let flags = flags.flat_map(|(flag, path)| [(*flag).to_owned(), path.display().to_string()]);
            let arguments = std::iter::once(name.to_owned()).chain(flags);
            let arguments = arguments.chain(self.settings.arguments.iter().cloned()).collect();
            Stage { name: name.to_owned(), arguments }
        };
        let mut reward = stage("reward", &[("--rankings", &rankings)]);
        reward.arguments.extend(batch(lesson.rankings.len(), 64));
        let judge = dir.join("reward");
        let mut last = match by {
            By::Ppo => stage("ppo", &[("--reward", &judge), ("--prompts", &prompts)]),
            By::Dpo => stage("dpo", &[("--rankings", &rankings)]),
        };
        if by == By::Dpo {
            last.arguments.extend(batch(lesson.rankings.len(), 32));
        }
        last.arguments.extend(steps.iter().flat_map(|steps| ["--steps".to_owned(), steps.to_string()]));
        let generation = Generation {
            number,
            name,
            parent: parent.name.clone(),
            by,
            rankings: lesson.rankings.len(),
            stages: vec![reward, last],
            pid: None,
            failed: None,
            dir,
        };
        generation.keep()?;
        Ok(generation)
    }

    /// The place of the one that learns.
    ///
    /// # Errors
    /// It is taken.
    fn place(&self) -> Result<MutexGuard<'_, Option<Active>>, ApiError> {
        let active = self.active();
        let Some(other) = active.as_ref() else { return Ok(active) };
        let message = format!("{} is being learned: stop it first, or wait for it", other.name);
        Err(ApiError::conflict(message))
    }

    /// Takes that place.
    ///
    /// # Errors
    /// Another one has it.
    fn take(&self, generation: &Generation, pid: Option<u32>) -> Result<(), ApiError> {
        let mut active = self.place()?;
        *active = Some(Active { name: generation.name.clone(), pid, is_wanted: true });
        Ok(())
    }

    /// Asks what learns to save and stop, which whoever waits for it will notice.
    fn stop(&self) -> Result<(), ApiError> {
        let mut active = self.active();
        let none = || ApiError::conflict("nothing is being learned");
        let learning = active.as_mut().ok_or_else(none)?;
        // A second signal would end it before it has saved.
        if std::mem::take(&mut learning.is_wanted) {
            learning.pid.into_iter().for_each(terminate);
        }
        Ok(())
    }

    /// The server ends: what learns saves and stops, and the next server can go on.
    pub(crate) fn leave(&self) {
        let _ = self.stop();
    }

    /// The process of the next stage; none where somebody asked to stop, or all is done.
    fn begin(&self, generation: &mut Generation) -> Result<Option<Process>> {
        let Some(stage) = generation.next().cloned() else { return Ok(None) };
        // Held meanwhile, so that nobody asks to stop and is not heard.
        let mut active = self.active();
        let Some(learning) = active.as_mut().filter(|active| active.is_wanted) else { return Ok(None) };
        let child = start(&self.settings.program, &stage.arguments, &generation.log(&stage))?;
        (learning.pid, generation.pid) = (Some(child.id()), Some(child.id()));
        generation.keep()?;
        Ok(Some(Process::Own(child)))
    }

    /// How a stage ended whose process is over: it is done where nothing is told.
    fn ended(&self, generation: &Generation, stage: &Stage) -> Option<Ended> {
        match state_of(&generation.run(stage)) {
            State::Finished => None,
            State::Stopped => Some(Ended::Stopped),
            _ if self.active().as_ref().is_none_or(|active| !active.is_wanted) => Some(Ended::Stopped),
            _ => Some(Ended::Failed(last_words(&generation.log(stage)))),
        }
    }

    /// Writes down how it ended, and lets others learn.
    fn settle(&self, generation: &mut Generation, ended: &Ended) -> Result<()> {
        generation.pid = None;
        generation.failed = match ended {
            Ended::Failed(why) => Some(why.clone()),
            _ => None,
        };
        let kept = generation.keep();
        *self.active() = None;
        kept
    }

    /// What is told of a generation.
    fn told(&self, generation: &Generation, name_of: impl Fn(&Path) -> Option<String>) -> Value {
        let is_active = self.active().as_ref().is_some_and(|active| active.name == generation.name);
        let next = generation.next().map(|stage| stage.name.clone());
        let state = match () {
            _ if is_active => "running",
            _ if next.is_none() => "finished",
            _ if generation.failed.is_some() => "failed",
            _ => "stopped",
        };
        let stage = |stage: &Stage| {
            let dir = generation.run(stage);
            let has_begun = dir.join(CHECKPOINTS).is_dir();
            let state = match () {
                _ if is_active && Some(&stage.name) == next.as_ref() => json!("running"),
                _ if has_begun => json!(state_of(&dir)),
                _ => json!("waiting"),
            };
            let run = if has_begun { name_of(&dir) } else { None };
            json!({ "stage": stage.name, "run": run, "state": state })
        };
        json!({
            "name": generation.name,
            "parent": generation.parent,
            "by": generation.by,
            "rankings": generation.rankings,
            "state": state,
            "why": generation.failed,
            "stages": generation.stages.iter().map(stage).collect::<Vec<_>>(),
        })
    }
}

/// The batch for so many rankings, where it is not the `usual` one.
fn batch(rankings: usize, usual: usize) -> impl Iterator<Item = String> {
    let batch = (rankings / STEPS_OF_A_PASS).max(LEAST_BATCH);
    let set = (batch < usual).then(|| ["--set".to_owned(), format!("batch_size={batch}")]);
    set.into_iter().flatten()
}

/// Works at a generation in place of whoever did, if that one is no more.
fn carry_on(app: &Arc<App>, learn: &Arc<Learn>, mut generation: Generation, found: Option<Process>) {
    let (app, learn) = (Arc::clone(app), Arc::clone(learn));
    tokio::spawn(async move {
        let ended = work(&learn, &mut generation, found).await;
        let is_done = matches!(ended, Ended::Done);
        if is_done {
            welcome(&app, &generation).await;
        }
        let settling = Arc::clone(&learn);
        let settled = beside(move || Ok(settling.settle(&mut generation, &ended)));
        if let Ok(Err(error)) = settled.await {
            (app.log)(json!({ "learning": format!("{error:#}") }).to_string());
        }
    });
}

async fn work(learn: &Arc<Learn>, generation: &mut Generation, mut found: Option<Process>) -> Ended {
    while let Some(stage) = generation.next().cloned() {
        let begun = match found.take() {
            Some(found) => Ok(Some(found)),
            None => learn.begin(generation),
        };
        let mut process = match begun {
            Ok(Some(process)) => process,
            Ok(None) => return Ended::Stopped,
            Err(error) => return Ended::Failed(format!("{error:#}")),
        };
        let log = generation.log(&stage);
        while !process.is_over(&log) {
            tokio::time::sleep(LOOK).await;
        }
        if let Some(ended) = learn.ended(generation, &stage) {
            return ended;
        }
    }
    Ended::Done
}

/// Loads the models of a generation that is done, beside those that are there, and lets its reward model look at what it
/// learned from.
async fn welcome(app: &Arc<App>, generation: &Generation) {
    for (name, path) in generation.models() {
        let source = Source { name, path };
        if let Err(why) = app.load(source.clone()).await {
            (app.log)(json!({ "model": source.name, "cannot be loaded": why }).to_string());
            app.forget(&source.name);
        }
    }
    let rewards = generation.models().into_iter().filter_map(|(name, _)| app.model(&name).ok());
    let Some(model) = rewards.into_iter().find(|model| model.kind == Kind::Scores(1)) else { return };
    let (app, generation) = (Arc::clone(app), generation.clone());
    tokio::spawn(async move { doubts::weigh(&app, model, &generation).await });
}

/// Finds what was being learned when the last server ended: a process that still works is waited for. Models that were
/// learned are loaded.
pub(crate) fn wake(app: &Arc<App>) {
    let Some(learn) = app.learn.clone() else { return };
    for generation in learn.all() {
        let Some(stage) = generation.next() else {
            let app = Arc::clone(app);
            tokio::spawn(async move { welcome(&app, &generation).await });
            continue;
        };
        if lives(&generation.log(stage)) && learn.take(&generation, generation.pid).is_ok() {
            carry_on(app, &learn, generation, Some(Process::Found));
        }
    }
}

/// How often people preferred `model` to `other`, whichever of the two a line begins with.
fn rate_of(votes: &[Votes], model: &str, other: &str) -> Option<WinRate> {
    votes.iter().find_map(|line| match (line.model.as_str(), line.other.as_str()) {
        (a, b) if (a, b) == (model, other) => Some(line.rate),
        (a, b) if (a, b) == (other, model) => Some(line.rate.turned()),
        _ => None,
    })
}

impl App {
    /// Blind votes on the model that a run of this name made, and on the one that it began from.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn votes_on(&self, run: &str) -> Result<Option<WinRate>, ApiError> {
        let (Some(learn), Some(runs)) = (self.learn.clone(), self.runs.clone()) else { return Ok(None) };
        let run = run.to_owned();
        let found = beside(move || {
            let makes = |generation: &Generation| {
                let last = generation.stages.last();
                last.and_then(|stage| runs.name_of(&generation.run(stage))) == Some(run.clone())
            };
            Ok(learn.all().into_iter().find(makes))
        });
        let Some(Generation { name, parent, .. }) = found.await? else { return Ok(None) };
        let votes = self.station()?.run(|store, _| Ok(store.report()?.votes)).await?;
        Ok(rate_of(&votes, &name, &parent))
    }

    /// What learns.
    ///
    /// # Errors
    /// Nothing does here.
    fn learn(&self) -> Result<&Arc<Learn>, ApiError> {
        let none = || ApiError::not_found("nothing learns here: start `mynah serve` with --store FILE");
        self.learn.as_ref().ok_or_else(none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rankings_are_read_in_small_batches() {
        let of = |rankings| batch(rankings, 64).collect::<Vec<String>>();
        assert_eq!(of(20), ["--set", "batch_size=4"]);
        assert_eq!(of(600), ["--set", "batch_size=12"]);
        assert_eq!(of(3200), [""; 0], "the recipe's own");
    }

    #[test]
    fn votes_are_read_from_either_side() {
        let votes = [Votes { model: "a".into(), other: "b".into(), rate: WinRate::of(3, 1, 6) }];
        assert_eq!(rate_of(&votes, "a", "b"), Some(WinRate::of(3, 1, 6)));
        assert_eq!(rate_of(&votes, "b", "a"), Some(WinRate::of(6, 1, 3)));
        assert_eq!(rate_of(&votes, "a", "c"), None);
    }
}
