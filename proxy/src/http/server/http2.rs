//! Serves HTTP/2 on one connection, in one task: within budgets of frames, and with an eye on streams that
//! stand still.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::tasks::Tasks;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower::Service;
use tracing::warn;

use crate::connect::Dialer;
use crate::http::body::Body;
use crate::http::group::{Group, Spawner, Turn};
use crate::http::meter::{Meter, Metered};
use crate::http::mux::outbox::{News, Outbox};
use crate::http::mux::split::{Entrance, Split};
use crate::http::progress::{Check, Limits, Progress, Side, Waiting};
use crate::http::respond::ProxyError;
use crate::http::server::open::{Open, Openings};
use crate::http::server::{Serving, drained, expired};
use crate::http::stack::Answering;
use crate::listen::{
    HEADERS_LIMIT_BYTES, HTTP2_RESET_LIMIT, HTTP2_SEND_BUFFER_BYTES, HTTP2_STREAM_LIMIT,
    HTTP2_STREAM_WINDOW_BYTES,
};
use crate::metrics::{Direction, Metrics};
use crate::pressure::Pressure;

/// Serves until the connection ends; fails if it breaks.
pub(super) async fn serve<I>(
    io: I,
    Answering { general: service, express }: Answering,
    serving: Serving,
    dialer: &Dialer,
) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (io, meter) = Metered::new(io, serving.budgets);
    let mut group = Group::new();
    let openings = Openings::default();
    let window_bytes = serving.window_bytes;
    let entrance = express.map(|express| {
        let until = serving.until.map(|until| until + GO_AWAY_TIME);
        Entrance { express, openings: openings.clone(), window_bytes, until }
    });
    let (io, lane) = Split::new(io, entrance);
    let streams = Streams::new(serving.direction, dialer, group.spawner(), (openings, lane));
    let opening = streams.clone();
    let until = serving.until;
    let service = service_fn(move |request: Request<Incoming>| {
        let progress = opening.open();
        let mut service = service.clone();
        // A client may ignore that it was told to go away.
        let overdue = until.is_some_and(|until| Instant::now() > until + GO_AWAY_TIME);
        async move {
            if overdue {
                let reason = "the certificate of this connection has expired".to_owned();
                return Err(ProxyError::Refused { reason });
            }
            let watch = progress.watch(Side::Request);
            let response = service.call(request.map(|body| Body::from(body).watched(watch))).await;
            progress.answered();
            let watch = progress.watch(Side::Response);
            response.map(|response| response.map(|body| body.watched(watch)))
        }
    });
    let connection =
        builder(streams.clone(), &serving, dialer).serve_connection(TokioIo::new(io), service);
    let begun = meter.clone();
    let end = async { end(&begun, &serving, &streams, dialer).await };
    // GOAWAY: streams that are open finish, and no request can be lost to it.
    let go_away = |connection: Pin<&mut _>| http2::Connection::graceful_shutdown(connection);
    let ended = drive(&mut group, (connection, go_away), pin!(end), &streams).await;
    if !streams.is_over() {
        count_end(&meter, ended.as_ref().err(), serving.direction, dialer);
    }
    // They learn from h2 that their connection is gone.
    group.finish().await;
    ended
}

/// Runs a connection and its streams to the connection's end.
async fn drive<C>(
    group: &mut Group<Stream>,
    (connection, go_away): (C, impl Fn(Pin<&mut C>)),
    mut end: Pin<&mut impl Future<Output = End>>,
    streams: &Streams,
) -> Result<(), hyper::Error>
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let mut connection = pin!(connection);
    let mut is_going_away = false;
    let mut look_at = Instant::now() + streams.limits.shortest();
    loop {
        let (sleep, ending) = (tokio::time::sleep_until(look_at), end.as_mut());
        let until = async move {
            tokio::select! {
                end = ending, if !is_going_away => Some(end),
                () = sleep => None,
            }
        };
        match group.run(connection.as_mut(), pin!(until)).await {
            Turn::Ended(result) => return result,
            Turn::Happened(None) => look_at = streams.end_overdue(group, Instant::now()),
            Turn::Happened(Some(End::AtOnce)) => return Ok(()),
            Turn::Happened(Some(End::AfterStreams)) => {
                go_away(connection.as_mut());
                is_going_away = true;
            }
        }
    }
}

/// How a connection ends that its client does not end.
enum End {
    AtOnce,
    AfterStreams,
}

/// Completes when the connection is to end, counted if that is a limit.
async fn end(meter: &Meter, serving: &Serving, streams: &Streams, dialer: &Dialer) -> End {
    let limit = tokio::select! {
        () = unbegun(meter, dialer.settings.detection_timeout) => {
            dialer.metrics.count_limit(serving.direction, "http2_preface");
            return End::AtOnce;
        }
        () = drained(serving.drain.clone()) => None,
        () = expired(serving.until) => None,
        () = streams.idle(serving.idle) => Some("http2_idle"),
        () = streams.unaffordable(&dialer.pressure) => Some("memory"),
    };
    if let Some(limit) = limit {
        dialer.metrics.count_limit(serving.direction, limit);
    }
    End::AfterStreams
}

fn builder(streams: Streams, serving: &Serving, dialer: &Dialer) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(serving.window_bytes)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
        .max_concurrent_streams(HTTP2_STREAM_LIMIT)
        // Whether the backend takes it too is found out with the request.
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(HEADERS_LIMIT_BYTES).unwrap_or(u32::MAX))
        // One client's many cancelled requests must not end the connection that it shares.
        .max_pending_accept_reset_streams(HTTP2_RESET_LIMIT)
        .max_local_error_reset_streams(HTTP2_RESET_LIMIT)
        .keep_alive_interval(dialer.settings.http2_ping_interval)
        .keep_alive_timeout(dialer.settings.http2_ping_timeout);
    builder
}

fn count_end(meter: &Meter, error: Option<&hyper::Error>, direction: Direction, dialer: &Dialer) {
    let Some(error) = error else { return };
    if let Some(excess) = meter.excess() {
        dialer.metrics.count_limit(direction, excess.as_str());
        if dialer.warnings.is_due() {
            let (direction, excess) = (direction.as_str(), excess.as_str());
            warn!(direction, reason = excess, "connection ended: its client sends too many frames");
        }
    } else if error.is_timeout() {
        dialer.metrics.count_limit(direction, "http2_ping_unanswered");
    }
}

/// Completes if the client has not sent its whole preface in time.
async fn unbegun(meter: &Meter, limit: Duration) {
    tokio::time::sleep(limit).await;
    if meter.is_begun() {
        std::future::pending::<()>().await;
    }
}

/// The streams of one connection: hyper has each run in the connection's task, which ends those that
/// stand still.
#[derive(Clone)]
struct Streams {
    spawner: Spawner<Stream>,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    direction: Direction,
    limits: Limits,
    openings: Openings,
    /// Of the stream that is about to be run: hyper calls the service and the executor in turn. A stream
    /// that becomes a tunnel has a second future run, which has none.
    next: Arc<Mutex<Option<Arc<Progress>>>>,
    /// What is sent to the client past h2.
    lane: Option<Arc<Outbox>>,
}

/// What is known of a stream that is open.
struct Stream {
    progress: Arc<Progress>,
    _open: Open,
}

impl Streams {
    fn new(
        direction: Direction,
        dialer: &Dialer,
        spawner: Spawner<Stream>,
        (openings, lane): (Openings, Option<Arc<Outbox>>),
    ) -> Self {
        Self {
            spawner,
            tasks: dialer.tasks.clone(),
            metrics: Arc::clone(&dialer.metrics),
            direction,
            limits: Limits {
                client: dialer.settings.body_idle,
                anybody: dialer.settings.stream_idle,
            },
            openings,
            next: Arc::default(),
            lane,
        }
    }

    fn open(&self) -> Arc<Progress> {
        self.openings.count();
        let progress = Progress::begin();
        *self.next.lock() = Some(Arc::clone(&progress));
        progress
    }

    /// Ends streams that have stood still for too long; says when to look again. Streams that begin before
    /// then are not overdue by then.
    fn end_overdue(&self, group: &mut Group<Stream>, now: Instant) -> Instant {
        let mut again = now + self.limits.shortest();
        group.retain(|stream| match stream.progress.check(self.limits, now) {
            // A stream that is dropped is reset.
            Check::Overdue(waiting) => {
                self.metrics.count_limit(self.direction, limit_label(waiting));
                false
            }
            Check::Again(at) => {
                again = again.min(at);
                true
            }
        });
        if let Some(lane) = &self.lane {
            let (overdue, next) = lane.overdue(self.limits, now);
            for (stream, waiting) in overdue {
                self.metrics.count_limit(self.direction, limit_label(waiting));
                lane.tell(News::Overdue(stream));
            }
            again = again.min(next);
        }
        again
    }

    /// Whether h2 had ended before, and its signs of life with it.
    fn is_over(&self) -> bool {
        self.lane.as_ref().is_some_and(|lane| lane.is_over())
    }

    /// Completes when idle connections are to be closed, and this one is.
    async fn unaffordable(&self, pressure: &Pressure) {
        loop {
            pressure.critical().await;
            if self.openings.open() == 0 {
                return;
            }
        }
    }

    /// Completes after a whole period in which no stream was open.
    async fn idle(&self, period: Duration) {
        let mut before = self.openings.begun();
        loop {
            tokio::time::sleep(period).await;
            let now = self.openings.begun();
            if now == before && self.openings.open() == 0 {
                return;
            }
            before = now;
        }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let open = self.openings.hold();
        match self.next.lock().take() {
            Some(progress) => {
                let stream = async move { drop(stream.await) };
                self.spawner.spawn(stream, Stream { progress, _open: open });
            }
            // A tunnel goes on beside the requests.
            None => self.tasks.spawn_quiet(async move {
                let _open = open;
                drop(stream.await);
            }),
        }
    }
}

fn limit_label(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::Anybody => "stream_idle",
        Waiting::Sender => "body_timeout",
        Waiting::Reader => "response_unread",
    }
}

/// How long requests are still served after an HTTP/2 client was told to go away.
const GO_AWAY_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
