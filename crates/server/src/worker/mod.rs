//! The one thread that owns the backend and all models. HTTP speaks to it by channels.
//!
//! It goes round: hears commands, drops what nobody waits for any more, and makes a pass through each model
//! that has something to do. It never waits for a client: one that does not read is paused.

mod job;

pub(crate) use job::{Ending, Fault, Job, Token, Update};

use kernels::Backend;
use lm::model::{Engine, Event, RequestId};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::model::{Arriving, Kind, Model, Read, Source};
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

impl Shared {
    /// The name of a loaded model that has the weights of this digest, whole.
    pub(crate) fn holder(&self, base_digest: &str) -> Option<String> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let mut loaded = models.values().filter_map(|entry| match &entry.state {
            State::Loaded(model) => Some(model),
            State::Unloaded | State::Failed(_) => None,
        });
        // What scores has no head that writes.
        let found = loaded.find(|model| model.kind == Kind::Writes && model.base_digest == base_digest);
        found.map(|model| model.name.clone())
    }

    /// Says how a model is.
    pub(crate) fn set_state(&self, source: &Source, state: State) {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        models.insert(source.name.clone(), Entry { source: source.clone(), state });
    }
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

    /// Hands a model over, and hears when it can be asked.
    ///
    /// # Errors
    /// The worker is gone.
    pub(crate) async fn take(&self, read: Read) -> Result<(), String> {
        self.tell(|answer| Command::Take(Box::new(read), answer)).await
    }

    /// Lets a model go. Who still waited for it hears that it is gone.
    ///
    /// # Errors
    /// The worker is gone.
    pub(crate) async fn let_go(&self, source: Source) -> Result<(), String> {
        self.tell(|answer| Command::LetGo(source, answer)).await
    }

    async fn tell(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> Result<(), String> {
        let (answer, heard) = oneshot::channel();
        // Where nobody hears the command, its answer's channel closes.
        let _ = self.commands.send(command(answer));
        heard.await.map_err(|_| "the server is stopping".to_owned())
    }
}

enum Command {
    Run(Box<Job>),
    Take(Box<Read>, oneshot::Sender<()>),
    LetGo(Source, oneshot::Sender<()>),
}

/// Owner of the backend and of all engines.
pub(crate) struct Worker<B: Backend> {
    backend: B,
    models: BTreeMap<String, Served<B>>,
    /// Models on their way, and who waits for them.
    arriving: VecDeque<(Arriving<B>, oneshot::Sender<()>)>,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
}

struct Served<B: Backend> {
    model: Arc<Model>,
    engine: Engine<B>,
    jobs: BTreeMap<RequestId, Running>,
}

impl<B: Backend> Worker<B> {
    pub(crate) fn new(backend: B, shared: Arc<Shared>) -> (Worker<B>, Door) {
        let (sender, commands) = channel();
        let (models, arriving) = (BTreeMap::new(), VecDeque::new());
        let worker = Worker { backend, models, arriving, commands, shared };
        (worker, Door { commands: sender })
    }

    /// Takes a model in.
    pub(crate) fn take(&mut self, read: Read) {
        let Some(mut arriving) = self.arrive(read) else { return };
        while arriving.go_on(&mut self.backend) {}
        self.serve(arriving);
    }

    /// The beginning of a model; none where that is gone whose weights it was to share.
    fn arrive(&mut self, read: Read) -> Option<Arriving<B>> {
        let mut holder = None;
        if let Some(name) = &read.shares {
            holder = self.models.get_mut(name).map(|served| &mut served.engine);
            if holder.is_none() {
                let why = "the model whose weights it was to share was let go meanwhile: load it again";
                self.shared.set_state(&read.source, State::Failed(why.into()));
                return None;
            }
        }
        Some(read.arrive(&mut self.backend, holder))
    }

    /// Takes the next leaf of a model in that is on its way: whether there is one.
    fn welcome(&mut self) -> bool {
        let Some((first, _)) = self.arriving.front_mut() else { return false };
        if !first.go_on(&mut self.backend)
            && let Some((arrived, answer)) = self.arriving.pop_front()
        {
            self.serve(arrived);
            let _ = answer.send(());
        }
        true
    }

    fn serve(&mut self, arrived: Arriving<B>) {
        let source = arrived.source.clone();
        let (model, engine) = arrived.finish(&mut self.backend);
        let model = Arc::new(model);
        self.models
            .insert(source.name.clone(), Served { model: Arc::clone(&model), engine, jobs: BTreeMap::new() });
        self.shared.set_state(&source, State::Loaded(model));
    }

    /// Works until every door is gone.
    pub(crate) fn work(mut self) {
        self.shared.ready.store(true, Ordering::Release);
        loop {
            let has_jobs = self.models.values().any(|served| !served.jobs.is_empty());
            let is_idle = !has_jobs && self.arriving.is_empty();
            if is_idle {
                match self.commands.recv() {
                    Ok(command) => self.obey(command),
                    Err(_) => return,
                }
            }
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            let mut moved = self.welcome();
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
            Command::Take(read, answer) => match self.arrive(*read) {
                Some(arriving) => self.arriving.push_back((arriving, answer)),
                None => drop(answer.send(())),
            },
            Command::LetGo(source, answer) => {
                self.let_go(&source);
                let _ = answer.send(());
            }
        }
    }

    fn let_go(&mut self, source: &Source) {
        if let Some(served) = self.models.remove(&source.name) {
            served.jobs.into_values().for_each(|running| running.fail(Fault::Unloaded));
        }
        self.shared.set_state(source, State::Unloaded);
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
