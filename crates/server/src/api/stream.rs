//! Answers that come as they grow: server-sent events.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::{Either, select};
use futures_util::stream::unfold;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

use super::error::{ApiError, error_event};
use super::submit::Asked;
use super::usage::Usage;
use crate::worker::{Ending, Token, Update};

/// A stream that nobody reads is kept for as long.
const KEPT: Duration = Duration::from_secs(60);
/// Streams that are kept, and bytes of each, at most.
const KEPT_STREAMS: usize = 64;
const KEPT_BYTES: usize = 4 << 20;

/// How a stream's events are written: that of chats, that of completions.
pub(crate) trait Form: Send + 'static {
    /// What introduces every choice.
    fn begin(&mut self, asked: &Asked) -> Vec<String>;
    /// What is new of a choice: text, with the tokens that made it.
    fn piece(&mut self, asked: &Asked, index: usize, text: String, tokens: &[Token]) -> String;
    /// The end of a choice.
    fn end(&mut self, asked: &Asked, index: usize, ending: Ending) -> Vec<String>;
    /// The usage, where it was asked for.
    fn usage(&mut self, asked: &Asked, usage: Usage) -> Option<String>;
    /// What was told of a choice's prompt.
    fn told(&mut self, index: usize, told: lm::model::Told);
    /// Whether tokens are told.
    fn tells_tokens(&self) -> bool;
}

/// The events of a stream.
struct Events<F> {
    asked: Asked,
    form: F,
    ready: VecDeque<String>,
    /// Tokens of each choice whose text is not certain yet.
    held: Vec<Vec<Token>>,
    usage: Usage,
    open: usize,
    has_begun: bool,
    is_over: bool,
}

impl<F: Form> Events<F> {
    fn new(asked: Asked, mut form: F) -> Events<F> {
        let ready = form.begin(&asked).into_iter().map(data).collect();
        let held = (0..asked.choices).map(|_| Vec::new()).collect();
        let open = asked.choices;
        Events { asked, form, ready, held, usage: Usage::default(), open, has_begun: false, is_over: false }
    }

    /// The next event; none after the last.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            match unless_silent(self.asked.app.limits.silence, self.asked.updates.recv()).await {
                Err(_) => return Some(":\n\n".to_owned()),
                Ok(Some(update)) => self.hear(update),
                Ok(None) => self.fail(&ApiError::failed("the engine is gone")),
            }
        }
    }

    /// Clients take an error event for a failure, and the end without `[DONE]`, too.
    fn fail(&mut self, error: &ApiError) {
        self.ready.push_back(error_event(error));
        self.is_over = true;
    }

    fn hear(&mut self, update: Update) {
        match update {
            Update::Token { index, token, text } => {
                if !std::mem::replace(&mut self.has_begun, true) {
                    self.asked.app.shared.metrics.first_token(self.asked.received.elapsed());
                }
                self.held[index].push(token);
                if !text.is_empty() {
                    self.piece(index, text);
                }
            }
            Update::Read { index, told } => self.form.told(index, told),
            Update::Done { index, text, ending, usage } => {
                if !text.is_empty() || (self.form.tells_tokens() && !self.held[index].is_empty()) {
                    self.piece(index, text);
                }
                let end = self.form.end(&self.asked, index, ending);
                self.ready.extend(end.into_iter().map(data));
                self.usage.add(&usage, index % self.asked.n == 0);
                self.open -= 1;
                if self.open == 0 {
                    self.finish();
                }
            }
            Update::Failed(fault) => self.fail(&fault.into()),
        }
    }

    fn piece(&mut self, index: usize, text: String) {
        let tokens = std::mem::take(&mut self.held[index]);
        let piece = self.form.piece(&self.asked, index, text, &tokens);
        self.ready.push_back(data(piece));
    }

    fn finish(&mut self) {
        self.is_over = true;
        let usage = self.form.usage(&self.asked, self.usage);
        self.ready.extend(usage.map(data));
        self.ready.push_back("data: [DONE]\n\n".to_owned());
        self.asked.app.shared.metrics.answered(&self.usage);
    }
}

/// What comes, unless nothing does for as long as `silence`, which is without end where it is zero.
async fn unless_silent<T>(silence: Duration, news: impl Future<Output = T>) -> Result<T, Elapsed> {
    if silence.is_zero() { Ok(news.await) } else { timeout(silence, news).await }
}

fn data(json: String) -> String {
    format!("data: {json}\n\n")
}

/// A response that tells of `asked` as it grows.
///
/// # Errors
/// It shall be kept, and too many are.
pub(crate) fn respond(asked: Asked, form: impl Form, resumable: bool) -> Result<Response, ApiError> {
    if !resumable {
        let events = Events::new(asked, form);
        let stream = unfold(events, |mut events| async {
            let event = events.next().await?;
            Some((Ok::<_, Infallible>(Bytes::from(event)), events))
        });
        return Ok(events_response(Body::from_stream(stream)));
    }
    let (app, id) = (Arc::clone(&asked.app), asked.id.clone());
    let kept = app.kept.begin(&id, asked.owner, app.limits.silence)?;
    let events = Events::new(asked, form);
    let buffer = Arc::clone(&kept);
    tokio::spawn(async move {
        fill(events, &buffer).await;
        buffer.finish();
        buffer.unwanted().await;
        app.kept.end(&id);
    });
    Ok(read(kept, 0))
}

/// Keeps events until they are over or nobody wants them: the request goes with them.
async fn fill(mut events: Events<impl Form>, buffer: &Buffer) {
    let mut unwanted = pin!(buffer.unwanted());
    while let Either::Left((Some(event), _)) = select(pin!(events.next()), unwanted.as_mut()).await {
        if !buffer.push(event) {
            buffer.push(error_event(&ApiError::failed("the answer is longer than what is kept of one")));
            return;
        }
    }
}

/// Events on a connection that ends with them, as clients expect of one that failed.
fn events_response(body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Streams that can be read again.
#[derive(Default)]
pub(crate) struct Kept {
    streams: Mutex<BTreeMap<String, Arc<Buffer>>>,
}

/// All events of a stream so far.
pub(crate) struct Buffer {
    /// Who asked, and may read it.
    owner: u64,
    inner: Mutex<Inner>,
    news: Notify,
    /// Wakes who waits for it to be unwanted.
    dropped: Notify,
    silence: Duration,
}

struct Inner {
    events: Vec<String>,
    bytes: usize,
    is_over: bool,
    is_dropped: bool,
    readers: usize,
    /// When its last reader left.
    left: Instant,
}

impl Kept {
    fn begin(&self, id: &str, owner: u64, silence: Duration) -> Result<Arc<Buffer>, ApiError> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() >= KEPT_STREAMS {
            // One that was heard to its end a while ago is the least likely to be asked for again.
            let heard = streams.iter().filter_map(|(id, buffer)| Some((buffer.heard_since()?, id.clone())));
            heard.min().map(|(_, id)| streams.remove(&id));
        }
        if streams.len() >= KEPT_STREAMS {
            return Err(ApiError::busy(format!("{KEPT_STREAMS} resumable streams are kept already"), 10));
        }
        let inner = Mutex::new(Inner {
            events: Vec::new(),
            bytes: 0,
            is_over: false,
            is_dropped: false,
            readers: 0,
            left: Instant::now(),
        });
        let buffer = Arc::new(Buffer { owner, inner, news: Notify::new(), dropped: Notify::new(), silence });
        streams.insert(id.to_owned(), Arc::clone(&buffer));
        Ok(buffer)
    }

    fn end(&self, id: &str) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The events of a stream of `owner`'s from number `from` on.
    ///
    /// # Errors
    /// There is no such stream any more, or it is somebody else's.
    pub(crate) fn response(&self, id: &str, owner: u64, from: usize) -> Result<Response, ApiError> {
        Ok(read(self.get(id, owner)?, from))
    }

    /// Ends a stream of `owner`'s: nobody wants the rest of the answer, nor what there is of it.
    ///
    /// # Errors
    /// As `response`.
    pub(crate) fn forget(&self, id: &str, owner: u64) -> Result<(), ApiError> {
        let buffer = self.get(id, owner)?;
        self.end(id);
        buffer.with(|inner| inner.is_dropped = true);
        buffer.dropped.notify_one();
        Ok(())
    }

    fn get(&self, id: &str, owner: u64) -> Result<Arc<Buffer>, ApiError> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = streams.get(id).filter(|buffer| buffer.owner == owner);
        buffer.cloned().ok_or_else(|| ApiError::not_found(format!("there is no stream {id:?}")))
    }
}

impl Buffer {
    /// Since when nobody hears a stream that is over.
    fn heard_since(&self) -> Option<Instant> {
        self.with(|inner| (inner.is_over && inner.readers == 0).then_some(inner.left))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds an event; not when there are too many. Numbers let a reader go on where it was.
    fn push(&self, event: String) -> bool {
        let fits = self.with(|inner| {
            // A comment says only that the stream lives.
            if !event.starts_with(':') {
                let event = format!("id: {}\n{event}", inner.events.len());
                inner.bytes += event.len();
                inner.events.push(event);
            }
            inner.bytes <= KEPT_BYTES
        });
        self.news.notify_waiters();
        fits
    }

    fn finish(&self) {
        self.with(|inner| inner.is_over = true);
        self.news.notify_waiters();
    }

    /// Waits until somebody drops it, or nobody has read it for long enough.
    async fn unwanted(&self) {
        let is = |inner: &mut Inner| inner.is_dropped || (inner.readers == 0 && inner.left.elapsed() > KEPT);
        while !self.with(is) {
            let _ = timeout(Duration::from_secs(1), self.dropped.notified()).await;
        }
    }

    fn event(&self, number: usize) -> Option<Option<String>> {
        self.with(|inner| match inner.events.get(number) {
            Some(event) => Some(Some(event.clone())),
            None => inner.is_over.then_some(None),
        })
    }
}

/// Somebody who reads a buffer.
struct Reader {
    buffer: Arc<Buffer>,
    next: usize,
}

impl Reader {
    async fn next(&mut self) -> Option<String> {
        loop {
            let news = self.buffer.news.notified();
            let mut news = std::pin::pin!(news);
            // Registered before the look, so that nothing is missed between both.
            news.as_mut().enable();
            if let Some(event) = self.buffer.event(self.next) {
                self.next += 1;
                return event;
            }
            if unless_silent(self.buffer.silence, news).await.is_err() {
                return Some(":\n\n".to_owned());
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.buffer.with(|inner| {
            inner.readers -= 1;
            inner.left = Instant::now();
        });
    }
}

fn read(buffer: Arc<Buffer>, from: usize) -> Response {
    buffer.with(|inner| inner.readers += 1);
    let stream = unfold(Reader { buffer, next: from }, |mut reader| async {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event)), reader))
    });
    events_response(Body::from_stream(stream))
}
