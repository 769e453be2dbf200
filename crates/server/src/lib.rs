#![doc = include_str!("../README.md")]

mod alarm;
mod api;
mod app;
mod grammar;
mod http;
mod learn;
mod metrics;
mod model;
mod runs;
mod settings;
mod station;
#[cfg(test)]
mod tests;
mod worker;

pub use model::{Capacity, Source};
pub use settings::{Learning, Limits, Log, Settings};

use anyhow::{Context, Result, ensure};
use kernels::Backend;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use text::progress::Progress;

/// Loads the models and serves them until [`Progress::should_stop`] says so; then the answers that are on
/// their way come to their end. `on_ready` hears the address once it can be asked.
///
/// # Errors
/// A model cannot be loaded; two have one name; the address cannot be listened at; others could ask and
/// there is no key.
pub fn serve<B>(
    backend: B,
    sources: &[Source],
    settings: Settings,
    progress: &dyn Progress,
    on_ready: impl FnOnce(SocketAddr),
) -> Result<()>
where
    B: Backend + Send + 'static,
    B::Tensor: Send,
    B::Ids: Send,
{
    let Settings { host, port, .. } = settings;
    ensure!(
        settings.is_local() || !settings.keys.is_empty(),
        "{host} can be reached by others: give them a key, with --api-key-file FILE or MYNAH_API_KEY"
    );
    for (i, source) in sources.iter().enumerate() {
        let twice = sources[..i].iter().find(|other| other.name == source.name);
        ensure!(
            twice.is_none(),
            "two models are called {:?}: name one of them, --model NAME=PATH",
            source.name
        );
    }
    // Before the models, which take their time.
    let listener =
        TcpListener::bind((host, port)).with_context(|| format!("cannot listen at {host}:{port}"))?;
    listener.set_nonblocking(true).context("cannot listen without waiting")?;
    let address = listener.local_addr().context("cannot tell the address")?;

    let station =
        settings.store.as_deref().map(feedback::Store::open).transpose()?.map(station::Station::new);
    let learned = settings.learning.as_ref().map(|learning| learning.folder.as_path());
    let runs = runs::Runs::new(&settings.runs, learned)?;
    let shared = Arc::<worker::Shared>::default();
    let (mut worker, door) = worker::Worker::new(backend, Arc::clone(&shared));
    for source in sources {
        let held = |digest: &str| shared.holder(digest);
        let read = model::read(source, settings.capacity, settings.bytes_per_value, held, progress);
        worker.take(read.with_context(|| format!("cannot serve {}", source.path.display()))?);
    }
    let guard = http::guard::Guard::new(&settings, address);
    let app = Arc::new(app::App::new(door, shared, guard, station, runs, settings, sources.len()));
    let thread = std::thread::Builder::new().name("engine".into()).spawn(move || worker.work());
    let thread = thread.context("cannot start the engine's thread")?;

    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let threads = threads.context("cannot start the server's threads")?;
    threads.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).context("cannot listen")?;
        let router = http::routes::router(&app);
        learn::wake(&app);
        on_ready(address);
        http::listen(listener, Arc::clone(&app), router, || progress.should_stop()).await;
        app.learn.iter().for_each(|learn| learn.leave());
        anyhow::Ok(())
    })?;
    // Handlers that are still there keep the engine's door; they end with their runtime.
    threads.shutdown_timeout(std::time::Duration::from_secs(1));
    drop(app);
    drop(thread);
    Ok(())
}
