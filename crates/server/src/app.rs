//! What every request has at hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use text::progress::Silent;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::api::{ApiError, Kept};
use crate::http::guard::Guard;
use crate::learn::Learn;
use crate::model::{self, Capacity, Model, Source};
use crate::runs::Runs;
use crate::settings::{Limits, Log, Settings};
use crate::station::Station;
use crate::worker::{Door, Entry, Shared, State};

/// The server's state.
pub(crate) struct App {
    pub(crate) door: Door,
    pub(crate) shared: Arc<Shared>,
    pub(crate) kept: Kept,
    pub(crate) guard: Guard,
    pub(crate) station: Option<Station>,
    pub(crate) runs: Option<Arc<Runs>>,
    pub(crate) learn: Option<Arc<Learn>>,
    pub(crate) log: Log,
    pub(crate) limits: Limits,
    /// Whether requests are still taken in.
    pub(crate) is_draining: AtomicBool,
    /// Connections that are open.
    pub(crate) connections: AtomicUsize,
    /// Requests whose answer is not whole yet.
    pub(crate) active: AtomicUsize,
    /// What computes: processor, precision, program.
    pub(crate) arithmetic: String,
    capacity: Capacity,
    bytes_per_value: u64,
    /// Held while a model is read: two at once would take the memory of both.
    loading: Mutex<()>,
    room: Arc<Semaphore>,
    most: usize,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Whose prompts may share keys and values: 0 without a key, else the key's number.
    pub(crate) owner: u64,
    /// The request's name.
    pub(crate) id: String,
    pub(crate) received: Instant,
}

impl App {
    /// For so many models.
    pub(crate) fn new(
        door: Door,
        shared: Arc<Shared>,
        guard: Guard,
        station: Option<Station>,
        runs: Option<Runs>,
        settings: Settings,
        models: usize,
    ) -> App {
        let Settings { limits, log, arithmetic, capacity, bytes_per_value, learning, .. } = settings;
        let most = capacity.slots * models + limits.queue;
        App {
            door,
            shared,
            guard,
            station,
            runs: runs.map(Arc::new),
            learn: learning.map(|learning| Arc::new(Learn::new(learning))),
            log,
            limits,
            arithmetic,
            most,
            kept: Kept::default(),
            is_draining: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            capacity,
            bytes_per_value,
            loading: Mutex::default(),
            room: Arc::new(Semaphore::new(most)),
        }
    }

    /// Lets so many choices in.
    ///
    /// # Errors
    /// There is no room for them now, or never.
    pub(crate) fn admit(&self, choices: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.is_draining.load(Ordering::Acquire) {
            return Err(ApiError::unavailable("the server is stopping", 5));
        }
        if choices > self.most {
            return Err(ApiError::param(
                "n",
                format!("{choices} answers at once, and {} are taken in", self.most),
            ));
        }
        let permits = Arc::clone(&self.room).try_acquire_many_owned(choices as u32);
        permits.map_err(|_| ApiError::busy("too many requests wait for an answer: try again", 1))
    }

    /// The models by name.
    pub(crate) fn entries(&self) -> BTreeMap<String, Entry> {
        self.shared.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A model that is loaded.
    ///
    /// # Errors
    /// There is none of this name, or it is not loaded.
    pub(crate) fn model(&self, name: &str) -> Result<Arc<Model>, ApiError> {
        let models = self.shared.models.read().unwrap_or_else(PoisonError::into_inner);
        match models.get(name).map(|entry| &entry.state) {
            Some(State::Loaded(model)) => Ok(Arc::clone(model)),
            Some(State::Unloaded) => {
                Err(ApiError::out_of_order(format!("the model {name:?} is not loaded: POST /v1/load/{name}")))
            }
            Some(State::Failed(why)) => {
                Err(ApiError::out_of_order(format!("the model {name:?} could not be loaded: {why}")))
            }
            None => {
                drop(models);
                Err(self.no_model(name))
            }
        }
    }

    /// Loads a model that was named at the start. Its files are read and checked on a thread of their own, while
    /// others are answered.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub(crate) async fn load(&self, source: Source) -> Result<(), String> {
        let _alone = self.loading.lock().await;
        if self.model(&source.name).is_ok() {
            return Ok(());
        }
        let (of, capacity, bytes_per_value) = (source.clone(), self.capacity, self.bytes_per_value);
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || {
            let held = |digest: &str| shared.holder(digest);
            model::read(&of, capacity, bytes_per_value, held, &Silent).map_err(|error| format!("{error:#}"))
        });
        match reading.await.unwrap_or_else(|_| Err("reading it failed".to_owned())) {
            Ok(read) => self.door.take(read).await,
            Err(why) => {
                self.shared.set_state(&source, State::Failed(why.clone()));
                Err(why)
            }
        }
    }

    /// Names a model no longer.
    pub(crate) fn forget(&self, name: &str) {
        self.shared.models.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(crate) fn no_model(&self, name: &str) -> ApiError {
        ApiError::no_model(name, &self.entries().into_keys().collect::<Vec<_>>())
    }

    /// What decides a model's answers, besides what is asked.
    pub(crate) fn fingerprint(&self, model: &Model) -> String {
        let what = format!("{} {}", model.digest, self.arithmetic);
        format!("fp_{}", &blake3::hash(what.as_bytes()).to_hex()[..12])
    }
}
