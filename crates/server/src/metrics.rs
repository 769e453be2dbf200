//! What programs that watch servers read, in Prometheus' text format.

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

use crate::api::Usage;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    route: String,
    status: u16,
}

/// Counters, gauges and histograms.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    seconds: Histogram,
    first_token_seconds: Histogram,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    completion_tokens: Counter,
    left: Counter,
    left_tokens: Counter,
    panics: Counter,
    connections: Gauge,
    running: Gauge,
    waiting: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        // From a millisecond to nine minutes.
        let histogram = || Histogram::new(exponential_buckets(0.001, 3.0, 13));
        let metrics = Metrics {
            registry: Registry::with_prefix("mynah"),
            requests: Family::default(),
            seconds: histogram(),
            first_token_seconds: histogram(),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            completion_tokens: Counter::default(),
            left: Counter::default(),
            left_tokens: Counter::default(),
            panics: Counter::default(),
            connections: Gauge::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Metrics {
        let mut registry = std::mem::take(&mut self.registry);
        let r = &mut registry;
        r.register("requests", "Requests that were answered", self.requests.clone());
        let seconds = "From a request's head to the end of its answer";
        r.register_with_unit("request", seconds, Unit::Seconds, self.seconds.clone());
        let first = "From a request's head to its first token";
        r.register_with_unit("first_token", first, Unit::Seconds, self.first_token_seconds.clone());
        r.register("prompt_tokens", "Tokens of prompts, as usage tells them", self.prompt_tokens.clone());
        let cached = "Tokens of prompts that were in the cache";
        r.register("cached_tokens", cached, self.cached_tokens.clone());
        let completion = "Tokens of answers, as usage tells them";
        r.register("completion_tokens", completion, self.completion_tokens.clone());
        r.register("left", "Choices whose client went away", self.left.clone());
        r.register("left_tokens", "Tokens drawn for clients that went away", self.left_tokens.clone());
        r.register("engine_panics", "Panics of the engine", self.panics.clone());
        r.register("connections", "Connections that are open", self.connections.clone());
        r.register("running", "Sequences that have a slot", self.running.clone());
        r.register("waiting", "Sequences that wait for a slot", self.waiting.clone());
        Metrics { registry, ..self }
    }

    /// An answer was given, with this usage.
    pub(crate) fn answered(&self, usage: &Usage) {
        self.prompt_tokens.inc_by(usage.prompt_tokens);
        self.cached_tokens.inc_by(usage.prompt_tokens_details.cached_tokens);
        self.completion_tokens.inc_by(usage.completion_tokens);
    }

    /// A response began.
    pub(crate) fn responded(&self, route: &str, status: u16) {
        self.requests.get_or_create(&Request { route: route.to_owned(), status }).inc();
    }

    /// A response ended, so long after its request came.
    pub(crate) fn ended(&self, after: Duration) {
        self.seconds.observe(after.as_secs_f64());
    }

    /// A first token came.
    pub(crate) fn first_token(&self, after: Duration) {
        self.first_token_seconds.observe(after.as_secs_f64());
    }

    /// A client went away, for whom so many tokens were drawn.
    pub(crate) fn left(&self, drawn: usize) {
        self.left.inc();
        self.left_tokens.inc_by(drawn as u64);
    }

    /// The engine panicked.
    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    /// All of it as text.
    pub(crate) fn text(&self, connections: usize, running: usize, waiting: usize) -> String {
        self.connections.set(connections as i64);
        self.running.set(running as i64);
        self.waiting.set(waiting as i64);
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}
