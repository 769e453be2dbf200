//! What every request has at hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::{ApiError, Kept};
use crate::http::guard::Guard;
use crate::model::Model;
use crate::settings::{Limits, Log, Settings};
use crate::worker::{Door, Entry, Shared, State};

/// The server's state.
pub(crate) struct App {
    pub(crate) door: Door,
    pub(crate) shared: Arc<Shared>,
    pub(crate) kept: Kept,
    pub(crate) guard: Guard,
    pub(crate) log: Log,
    pub(crate) limits: Limits,
    /// Whether requests are still taken in.
    pub(crate) is_draining: AtomicBool,
    /// Connections that are open.
    pub(crate) connections: AtomicUsize,
    /// Requests whose answer is not whole yet.
    pub(crate) active: AtomicUsize,
    /// What computes: processor, precision, program.
    arithmetic: String,
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
        settings: Settings,
        models: usize,
    ) -> App {
        let Settings { limits, log, arithmetic, capacity, .. } = settings;
        let most = capacity.slots * models + limits.queue;
        App {
            door,
            shared,
            guard,
            log,
            limits,
            arithmetic,
            most,
            kept: Kept::default(),
            is_draining: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
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

    pub(crate) fn no_model(&self, name: &str) -> ApiError {
        ApiError::no_model(name, &self.entries().into_keys().collect::<Vec<_>>())
    }

    /// What decides a model's answers, besides what is asked.
    pub(crate) fn fingerprint(&self, model: &Model) -> String {
        let what = format!("{} {}", model.digest, self.arithmetic);
        format!("fp_{}", &blake3::hash(what.as_bytes()).to_hex()[..12])
    }
}
