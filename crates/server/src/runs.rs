//! The runs under a folder: what their models wrote after which step, and which steps can be asked again. Files are read, and
//! nothing is locked.

use anyhow::{Context, Result, ensure};
use axum::Json;
use axum::extract::State;
use feedback::statistics::WinRate;
use lm::train::run::{
    Curves, Event, METRICS, ROLLOUTS, Recipe, Sample, checkpoint_path, checkpoints, find, read_lines,
    state_of,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use utoipa::ToSchema;

use crate::alarm::Alarm;
use crate::api::ApiError;
use crate::api::body::{JsonBody, fields};
use crate::api::models::Name;
use crate::app::App;
use crate::model::Source;

/// Steps of which something is told, at most, and what is told of each.
const STEPS: usize = 400;
const OF_STEP: usize = 16;

/// Folders of runs.
pub(crate) struct Runs {
    /// Without links, each with what the names of its runs begin with.
    roots: Vec<(String, PathBuf)>,
    /// The checkpoint that was loaded last: another one takes its place.
    loaded: Mutex<Option<Source>>,
    /// The curves of runs that somebody looks at, as far as they were read.
    followed: Mutex<BTreeMap<PathBuf, Followed>>,
}

/// The journals of a run.
#[derive(Default)]
struct Followed {
    metrics: Curves,
    timings: Curves,
}

/// A step of a run.
#[derive(Default, Serialize)]
struct Step {
    step: u64,
    /// Whether its model can be asked.
    checkpoint: bool,
    samples: Vec<Value>,
    rollouts: Vec<Map<String, Value>>,
}

/// A checkpoint that is to be asked.
#[derive(Deserialize, ToSchema)]
struct Asked {
    /// The run's name.
    run: String,
    step: u64,
}

impl Runs {
    /// The runs under `folders` and under `learned`, which need not be there yet; none where there are none of both.
    ///
    /// # Errors
    /// There is no such folder.
    pub(crate) fn new(folders: &[PathBuf], learned: Option<&Path>) -> Result<Option<Runs>> {
        let root = |folder: &PathBuf| {
            let shown = folder.display();
            let found =
                folder.canonicalize().with_context(|| format!("cannot open {shown}: check the path"))?;
            ensure!(found.is_dir(), "{shown} is a file: name the folder that your runs lie in");
            // One folder needs no name.
            let name = found.file_name().filter(|_| folders.len() > 1);
            Ok((name.map(|name| format!("{}/", name.to_string_lossy())).unwrap_or_default(), found))
        };
        let mut roots: Vec<(String, PathBuf)> = folders.iter().map(root).collect::<Result<_>>()?;
        if let Some(learned) =
            learned.filter(|learned| !roots.iter().any(|(_, root)| learned.starts_with(root)))
        {
            roots.push((String::new(), learned.to_owned()));
        }
        let runs = Runs { roots, loaded: Mutex::default(), followed: Mutex::default() };
        Ok(Some(runs).filter(|runs| !runs.roots.is_empty()))
    }

    /// All of them by name, their path from the folder on: directory and recipe.
    fn all(&self) -> BTreeMap<String, (PathBuf, Recipe)> {
        let mut all = BTreeMap::new();
        for (prefix, root) in &self.roots {
            let named = |(dir, recipe): (PathBuf, Recipe)| {
                let name = dir.strip_prefix(root).ok()?.to_string_lossy().into_owned();
                let name = format!("{prefix}{name}");
                Some((if name.is_empty() { ".".to_owned() } else { name }, (dir, recipe)))
            };
            all.extend(find(root).into_iter().filter_map(named));
        }
        all
    }

    /// The name of the run in `dir`, where it is shown.
    pub(crate) fn name_of(&self, dir: &Path) -> Option<String> {
        let name = |(prefix, root): &(String, PathBuf)| {
            let name = dir.strip_prefix(root).ok()?;
            Some(format!("{prefix}{}", name.to_string_lossy()))
        };
        self.roots.iter().find_map(name)
    }

    /// A run that is there: a name is looked up, and never becomes a path.
    fn run(&self, name: &str) -> Result<(PathBuf, Recipe), ApiError> {
        self.all().remove(name).ok_or_else(|| ApiError::not_found(format!("there is no run {name:?}")))
    }

    /// Everything that a page shows of a run that is going on.
    fn progress(&self, name: &str) -> Result<Value, ApiError> {
        let (dir, recipe) = self.run(name)?;
        let told = || -> Result<Value> {
            let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
            let Followed { metrics, timings } = followed.entry(dir.clone()).or_default();
            metrics.follow(&below(&dir, "metrics.jsonl")?)?;
            timings.follow(&below(&dir, "timings.jsonl")?)?;
            let told = metrics.told();
            let steps = recipe.settings.get("steps").and_then(|steps| steps.as_integer());
            let left = steps.map(|steps| (steps as u64).saturating_sub(told.step));
            let seconds_left = left.zip(timings.recent("step_secs")).map(|(left, each)| left as f64 * each);
            let curves = told.curves.into_iter().chain(timings.told().curves);
            let curves: Map<_, _> = curves.map(|(name, points)| (name, json!(points))).collect();
            Ok(json!({
                "state": state_of(&dir),
                "step": told.step,
                "steps": steps,
                "seconds_left": seconds_left,
                "curves": curves,
                "events": read_lines::<Event>(&below(&dir, "events.jsonl")?)?.items,
            }))
        };
        told().map_err(ApiError::failed)
    }

    /// What PPO's run looks like to the alarm.
    fn alarm(&self, name: &str, votes: Option<WinRate>) -> Result<Alarm, ApiError> {
        let (dir, recipe) = self.run(name)?;
        if recipe.stage != "ppo" {
            return Ok(Alarm::default());
        }
        let lines =
            |name: &str| -> Result<Vec<Map<String, Value>>> { Ok(read_lines(&below(&dir, name)?)?.items) };
        let told = || Ok(Alarm::of(&lines(METRICS)?, &lines(ROLLOUTS)?, votes));
        told().map_err(|error: anyhow::Error| ApiError::failed(format!("{error:#}")))
    }

    fn steps(dir: &Path) -> Result<Vec<Step>> {
        let mut steps = BTreeMap::<u64, Step>::new();
        for Sample { step, prompt, completion } in read_lines(&below(dir, "samples.jsonl")?)?.items {
            let samples = &mut steps.entry(step).or_default().samples;
            samples.push(json!({ "prompt": prompt, "completion": completion }));
        }
        for mut rollout in read_lines::<Map<String, Value>>(&below(dir, "rollouts.jsonl")?)?.items {
            let Some(step) = rollout.shift_remove("step").and_then(|step| step.as_u64()) else { continue };
            steps.entry(step).or_default().rollouts.push(rollout);
        }
        for saved in checkpoints(dir)? {
            steps.entry(saved.step).or_default().checkpoint = true;
        }
        let all = steps.len();
        let told = steps.into_iter().enumerate().filter(|(at, (_, step))| {
            step.checkpoint || all <= STEPS || at * STEPS / all != (at + 1) * STEPS / all
        });
        let cut = |(_, (number, mut step)): (usize, (u64, Step))| {
            step.step = number;
            step.samples.truncate(OF_STEP);
            step.rollouts.truncate(OF_STEP);
            step
        };
        Ok(told.map(cut).collect())
    }
}

/// A file of a run, which is no link out of it.
fn below(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    let leads_away = path.canonicalize().is_ok_and(|real| !real.starts_with(dir));
    ensure!(!leads_away, "{name} of this run is a link to another place");
    Ok(path)
}

impl App {
    fn runs(&self) -> Result<&Arc<Runs>, ApiError> {
        let none = || ApiError::not_found("this server shows no runs: start it with --runs DIR");
        self.runs.as_ref().ok_or_else(none)
    }
}

/// Reads or writes files beside the threads that serve.
pub(crate) async fn beside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(read).await.map_err(|_| ApiError::failed("the files could not be read"))?
}

/// Lists the runs.
#[utoipa::path(get, path = "/v1/runs", tag = "runs", responses((status = 200, description = "Name, stage, state")))]
pub(crate) async fn all(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let runs = Arc::clone(app.runs()?);
    let told = beside(move || {
        let told = |(name, (dir, recipe)): (String, (PathBuf, Recipe))| json!({ "name": name, "stage": recipe.stage, "state": state_of(&dir) });
        Ok(runs.all().into_iter().map(told).collect::<Vec<_>>())
    });
    Ok(Json(json!({ "runs": told.await? })))
}

/// What a run's models wrote, step by step.
#[utoipa::path(get, path = "/v1/runs/{run}", tag = "runs", params(("run" = String, Path, description = "Its name")),
    responses((status = 200, description = "Steps with samples, rollouts, and whether the checkpoint is there"), (status = 404, description = "There is no such run")))]
pub(crate) async fn steps(State(app): State<Arc<App>>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let runs = Arc::clone(app.runs()?);
    let steps = beside(move || Runs::steps(&runs.run(&name)?.0).map_err(ApiError::failed)).await?;
    Ok(Json(json!({ "steps": steps })))
}

/// The curves of a run as far as they are written, thinned, with what happened to it.
#[utoipa::path(get, path = "/v1/curves/{run}", tag = "runs", params(("run" = String, Path, description = "Its name")),
    responses((status = 200, description = "Curves by name, events, step, state, seconds left"), (status = 404, description = "There is no such run")))]
pub(crate) async fn curves(State(app): State<Arc<App>>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let runs = Arc::clone(app.runs()?);
    Ok(Json(beside(move || runs.progress(&name)).await?))
}

/// Whether PPO's reward goes up by what nobody asked for: the figures, the reasons, three answers.
#[utoipa::path(get, path = "/v1/alarm/{run}", tag = "runs", params(("run" = String, Path, description = "Its name")),
    responses((status = 200, description = "Reasons, none where all is well; signs; rollouts"), (status = 404, description = "There is no such run")))]
pub(crate) async fn alarm(State(app): State<Arc<App>>, Name(name): Name) -> Result<Json<Alarm>, ApiError> {
    let runs = Arc::clone(app.runs()?);
    let votes = app.votes_on(&name).await?;
    Ok(Json(beside(move || runs.alarm(&name, votes)).await?))
}

/// Loads the model of a checkpoint, in the place of the one that was loaded so before: its name among the models.
#[utoipa::path(post, path = "/v1/runs", tag = "runs", request_body = inline(Asked),
    responses((status = 200, description = "The model's name"), (status = 404, description = "There is no such checkpoint")))]
pub(crate) async fn ask(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let Asked { run, step } = fields(&body)?;
    let runs = Arc::clone(app.runs()?);
    let (named, of) = (run.clone(), Arc::clone(&runs));
    let none = ApiError::not_found(format!("{run} keeps no checkpoint of step {step}"));
    let found = beside(move || {
        let (dir, _) = of.run(&named)?;
        let path = checkpoint_path(&dir, step);
        Ok(path.canonicalize().ok().filter(|real| real.starts_with(&dir)))
    });
    let path = found.await?.ok_or(none)?;
    let source = Source { name: format!("{run}@{step}"), path };
    let before = {
        let mut loaded = runs.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.replace(source.clone())
    };
    if let Some(before) = before.filter(|before| before.name != source.name) {
        app.door.let_go(before.clone()).await.map_err(ApiError::out_of_order)?;
        app.forget(&before.name);
    }
    let name = source.name.clone();
    app.load(source).await.map_err(ApiError::out_of_order)?;
    Ok(Json(json!({ "model": name })))
}
