//! Connections: how many, how long, and whether somebody is still there.

use axum::Router;
use axum::body::Body;
use futures_util::future::{Either, select};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::layer::Peer;
use super::timed::Timed;
use crate::app::App;

/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// The kernel takes little more for a reader who does not read.
const SEND_BUFFER: usize = 64 << 10;
/// Between two looks at whether to stop.
const LOOK: Duration = Duration::from_millis(20);

/// Serves until `should_stop`, and until the answers that are on their way then are whole.
pub(crate) async fn listen(
    listener: TcpListener,
    app: Arc<App>,
    router: Router,
    should_stop: impl Fn() -> bool,
) {
    let (graceful, room) = (GracefulShutdown::new(), Arc::new(Semaphore::new(app.limits.connections)));
    let mut over = pin!(stopped(&app, should_stop));
    loop {
        let next = pin!(accept(&listener, &room));
        let (stream, address, permit) = match select(next, over.as_mut()).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(_) => break,
        };
        let is_reserve = room.available_permits() < app.limits.reserve;
        let peer = Peer { address, is_reserve };
        let connection = connection(stream, peer, Arc::clone(&app), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    // All answers are whole; connections that are kept open for more are told.
    let _ = timeout(Duration::from_secs(1), graceful.shutdown()).await;
}

/// Waits for somebody to ask for the end, and then for the last answer.
async fn stopped(app: &App, should_stop: impl Fn() -> bool) {
    while !should_stop() {
        sleep(LOOK).await;
    }
    app.is_draining.store(true, Ordering::Release);
    let since = Instant::now();
    // Who comes now is told to come back: a look longer than a request takes to arrive.
    sleep(2 * LOOK).await;
    while app.active.load(Ordering::Acquire) > 0 && since.elapsed() < app.limits.drain {
        sleep(LOOK).await;
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // Without room, who comes waits outside.
    let permit = Arc::clone(room).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address, permit),
            // Out of files, or gone before it was accepted: neither ends a server.
            Err(_) => sleep(LOOK).await,
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    app: Arc<App>,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    app.connections.fetch_add(1, Ordering::Relaxed);
    let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    let _ = stream.set_nodelay(true);
    let left = left(&stream);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.limits.head)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(HEAD_BYTES.max(64 << 10))
        .serve_connection(TokioIo::new(Timed::new(stream, app.limits.write)), service);
    // Who goes away takes the handler along, and with it the request's place in the engine.
    select(pin!(watcher.watch(connection)), pin!(left)).await;
    app.connections.fetch_sub(1, Ordering::Relaxed);
}

/// Is over when the other end of `stream` writes no more. Hyper does not see a client leave while bytes of it
/// lie unread, such as a second request's; a duplicate of the socket does.
fn left(stream: &TcpStream) -> impl Future<Output = ()> + use<> {
    let watched = SockRef::from(stream).try_clone().and_then(|socket| TcpStream::from_std(socket.into()));
    async move {
        let Ok(watched) = watched else { return std::future::pending().await };
        while let Ok(ready) = watched.ready(Interest::READABLE).await {
            if ready.is_read_closed() {
                return;
            }
            // Forgets that there is something to read: the next news are others.
            let _ = watched
                .try_io(Interest::READABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
        }
    }
}
