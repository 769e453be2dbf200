//! The one thread that owns the backend and all models. HTTP speaks to it by channels.
//!
//! It goes round: hears commands, drops what nobody waits for any more, and makes a pass through each model
//! that has something to do. It never waits for a client: one that does not read is paused.

mod job;

pub(crate) use job::{Ending, Fault, Job, Token, Update};

use anyhow::Result;
use kernels::Backend;
use lm::model::{Engine, Event, RequestId};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use text::progress::Silent;
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::model::{Capacity, Model, Source, load};
use job::Running;

/// How long the worker waits for news while every client that it works for has enough to read.
const PATIENCE: Duration = Duration::from_millis(2);

/// What HTTP and the worker both see.
#[derive(Default)]
pub(crate) struct Shared {
    /// The models by name: those that are loaded, and those that can be.
    pub(crate) models: RwLock<BTreeMap<String, Entry>>,
    /// Whether the engines are whole.
    pub(crate) ready: AtomicBool,
    /// Requests that wait for a slot.
    pub(crate) waiting: AtomicUsize,
    /// Requests that have one.
    pub(crate) running: AtomicUsize,
    pub(crate) metrics: Metrics,
}

/// A model that was named at the start.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) source: Source,
    pub(crate) state: State,
}

#[derive(Clone)]
pub(crate) enum State {
    Loaded(Arc<Model>),
    Unloaded,
    /// It could not be loaded: why.
    Failed(String),
}

/// The worker's door.
#[derive(Clone)]
pub(crate) struct Door {
    commands: Sender<Command>,
}

impl Door {
    /// Hands a job over; what comes of it goes through the job's own channel, which closes at once where the
    /// worker is gone.
    pub(crate) fn run(&self, job: Job) {
        let _ = self.commands.send(Command::Run(Box::new(job)));
    }

    /// Loads a model that was named at the start, or lets it go; hears whether that went well.
    pub(crate) async fn set_loaded(&self, name: &str, loaded: bool) -> Result<(), String> {
        let (answer, heard) = oneshot::channel();
        let name = name.to_owned();
        let sent = self.commands.send(Command::SetLoaded { name, loaded, answer });
        let gone = || "the server is stopping".to_owned();
        sent.map_err(|_| gone())?;
        heard.await.unwrap_or_else(|_| Err(gone()))
    }
}

enum Command {
    Run(Box<Job>),
    SetLoaded { name: String, loaded: bool, answer: oneshot::Sender<Result<(), String>> },
}

/// Owner of the backend and of all engines.
pub(crate) struct Worker<B: Backend> {
    backend: B,
    models: BTreeMap<String, Served<B>>,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    capacity: Capacity,
    bytes_per_value: u64,
}

struct Served<B: Backend> {
    model: Arc<Model>,
    engine: Engine<B>,
    jobs: BTreeMap<RequestId, Running>,
}

impl<B: Backend> Worker<B> {
    pub(crate) fn new(
        backend: B,
        shared: Arc<Shared>,
        capacity: Capacity,
        bytes_per_value: u64,
    ) -> (Worker<B>, Door) {
        let (sender, commands) = channel();
        let models = BTreeMap::new();
        let worker = Worker { backend, models, commands, shared, capacity, bytes_per_value };
        (worker, Door { commands: sender })
    }

    /// Loads a model.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn load(&mut self, source: &Source, progress: &dyn text::progress::Progress) -> Result<()> {
        let (model, engine) = load(&mut self.backend, source, self.capacity, self.bytes_per_value, progress)?;
        let model = Arc::new(model);
        self.models
            .insert(source.name.clone(), Served { model: Arc::clone(&model), engine, jobs: BTreeMap::new() });
        self.set_state(source, State::Loaded(model));
        Ok(())
    }

    fn set_state(&self, source: &Source, state: State) {
        let mut models = self.shared.models.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        models.insert(source.name.clone(), Entry { source: source.clone(), state });
    }

    /// Works until every door is gone.
    pub(crate) fn work(mut self) {
        self.shared.ready.store(true, Ordering::Release);
        loop {
            let is_idle = self.models.values().all(|served| served.jobs.is_empty());
            if is_idle {
                match self.commands.recv() {
                    Ok(command) => self.obey(command),
                    Err(_) => return,
                }
            }
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            let mut moved = false;
            for served in self.models.values_mut() {
                moved |= served.round(&mut self.backend, &self.shared);
            }
            self.count();
            if !moved && !is_idle {
                match self.commands.recv_timeout(PATIENCE) {
                    Ok(command) => self.obey(command),
                    Err(RecvTimeoutError::Timeout) => {}
                    // Whoever waits still gets its answer.
                    Err(RecvTimeoutError::Disconnected) => std::thread::sleep(PATIENCE),
                }
            }
        }
    }

    fn count(&self) {
        let sum = |count: fn(&Engine<B>) -> usize| self.models.values().map(|it| count(&it.engine)).sum();
        self.shared.waiting.store(sum(Engine::waiting), Ordering::Relaxed);
        self.shared.running.store(sum(Engine::running), Ordering::Relaxed);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Run(job) => match self.models.get_mut(&job.model) {
                Some(served) => served.take(*job),
                None => job.refuse(),
            },
            Command::SetLoaded { name, loaded, answer } => {
                let done = if loaded { self.load_again(&name) } else { self.unload(&name) };
                let _ = answer.send(done);
            }
        }
    }

    fn load_again(&mut self, name: &str) -> Result<(), String> {
        if self.models.contains_key(name) {
            return Ok(());
        }
        let source = self.source(name)?;
        self.load(&source, &Silent).map_err(|error| {
            let why = format!("{error:#}");
            self.set_state(&source, State::Failed(why.clone()));
            why
        })
    }

    /// Lets a model go. Who still waited for it hears that it is gone.
    fn unload(&mut self, name: &str) -> Result<(), String> {
        let source = self.source(name)?;
        if let Some(served) = self.models.remove(name) {
            served.jobs.into_values().for_each(|running| running.fail(Fault::Unloaded));
        }
        self.set_state(&source, State::Unloaded);
        Ok(())
    }

    fn source(&self, name: &str) -> Result<Source, String> {
        let models = self.shared.models.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        models.get(name).map(|entry| entry.source.clone()).ok_or_else(|| format!("no model {name:?}"))
    }
}

impl<B: Backend> Served<B> {
    fn take(&mut self, job: Job) {
        let (request, constraint, running) = job.into_running();
        let id = self.engine.submit(request, constraint);
        self.jobs.insert(id, running);
    }

    /// Lets go what nobody waits for, makes a pass, and tells what came of it: whether anything did.
    fn round(&mut self, b: &mut B, shared: &Shared) -> bool {
        let engine = &mut self.engine;
        self.jobs.retain(|&id, running| {
            if running.is_left() {
                let generated = engine.cancel(id);
                let drawn = generated.map_or(0, |generated| generated.usage.drawn_tokens);
                shared.metrics.left(drawn);
                return false;
            }
            running.flush();
            engine.pause(id, running.is_behind());
            !running.is_over()
        });
        if !engine.can_step() {
            return false;
        }
        match catch_unwind(AssertUnwindSafe(|| engine.step(b))) {
            Ok(events) => {
                for event in events {
                    self.tell(event);
                }
            }
            Err(_) => {
                shared.ready.store(false, Ordering::Release);
                shared.metrics.panicked();
                for id in engine.recover(b) {
                    if let Some(running) = self.jobs.remove(&id) {
                        running.fail(Fault::Panicked);
                    }
                }
                shared.ready.store(true, Ordering::Release);
            }
        }
        true
    }

    fn tell(&mut self, event: Event) {
        let id = match &event {
            Event::Token { id, .. } | Event::Read { id, .. } | Event::Done { id, .. } => *id,
        };
        let Some(running) = self.jobs.get_mut(&id) else { return };
        match event {
            Event::Token { token, logprobs, .. } => {
                let stopped = running.token(token, self.model.bytes(token), logprobs);
                if stopped && let Some(generated) = self.engine.cancel(id) {
                    running.done(generated);
                }
            }
            Event::Read { told, .. } => running.read(told),
            Event::Done { generated, .. } => running.done(generated),
        }
        if running.is_over() {
            self.jobs.remove(&id);
        }
    }
}
