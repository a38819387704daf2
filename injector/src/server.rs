//! Serves the webhook over HTTPS: connections, handshakes, one request after the other, within limits that
//! strangers meet too, since whoever reaches the port may call. What one may hold is in server/places.rs, what
//! is answered in server/answer.rs.

pub(crate) mod answer;
mod body;
mod places;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::logging::Chain;
use heddle_runtime::tasks::Tasks;
use heddle_runtime::throttle::Throttle;
use heddle_tls::https::HttpsAcceptor;
use heddle_tls::stream::TlsStream;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::server::answer::Webhook;
use crate::server::places::Caller;

/// Takes connections until `stop`; those that are open end with the drain of `tasks`, their requests done.
pub(crate) async fn serve(
    listener: TcpListener,
    acceptor: HttpsAcceptor,
    webhook: Webhook,
    tasks: Tasks,
    stop: CancellationToken,
) {
    let warnings = Arc::new(Throttle::default());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let caller = match webhook.places.enter(source.ip()) {
            Ok(caller) => caller,
            Err(error) => {
                webhook.metrics.overloaded.inc();
                if warnings.is_due() {
                    warn!(src = %source, %error, "connection turned away");
                }
                continue;
            }
        };
        let connection = Connection {
            source,
            caller,
            webhook: webhook.clone(),
            warnings: Arc::clone(&warnings),
            drain: tasks.drain().clone(),
        };
        tasks.spawn_quiet(connection.serve(stream, acceptor.clone()));
    }
}

/// One connection.
struct Connection {
    source: SocketAddr,
    caller: Caller,
    webhook: Webhook,
    warnings: Arc<Throttle>,
    drain: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream, acceptor: HttpsAcceptor) {
        // Answers are small, and each is waited for.
        let _ = stream.set_nodelay(true);
        match acceptor.accept(stream, HANDSHAKE_TIMEOUT).await {
            Ok(stream) => self.requests(stream).await,
            Err(error) => {
                self.webhook.metrics.handshakes_failed.inc();
                if self.warnings.is_due() {
                    warn!(src = %self.source, error = %Chain(&error), "handshake failed");
                }
            }
        }
    }

    /// One request after the other, over HTTP/1.1: API servers speak no other version to webhooks that are
    /// Services (k8s.io/apiserver, pkg/util/webhook/client.go).
    async fn requests(self, stream: TlsStream<TcpStream>) {
        let Self { source, caller, webhook, warnings: _, drain } = self;
        let (deadline, mut due) = watch::channel(Instant::now() + FIRST_REQUEST_TIMEOUT);
        let metrics = webhook.metrics.clone();
        let service = service_fn(|request| {
            deadline.send_replace(Instant::now() + REQUEST_TIMEOUT);
            let (webhook, caller, deadline) = (&webhook, &caller, &deadline);
            async move {
                let response = webhook.handle(request, caller).await;
                deadline.send_replace(Instant::now() + IDLE_TIMEOUT);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Its own deadline would end a connection that is idle, and a request that is on its way
            // with it: the one that is kept here knows the difference.
            .header_read_timeout(None)
            .max_buf_size(BUFFER_LIMIT_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut overdue = std::pin::pin!(overdue(&mut due));
        let mut is_draining = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(src = %source, %error, "connection failed");
                    }
                    return;
                }
                () = overdue.as_mut() => {
                    metrics.connections_overdue.inc();
                    debug!(src = %source, "connection closed: nothing was asked, or an answer not taken, in time");
                    return;
                }
                () = drain.cancelled(), if !is_draining => {
                    is_draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Returns when what was due has not come: the deadline moves with what comes.
///
/// Cancel safe: yes.
async fn overdue(due: &mut watch::Receiver<Instant>) {
    loop {
        let now_due = *due.borrow_and_update();
        tokio::select! {
            () = sleep_until(now_due) => return,
            changed = due.changed() => if changed.is_err() {
                // Whoever moves it is gone, and the connection with it.
                std::future::pending::<()>().await;
            },
        }
    }
}

/// API servers begin at once.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first request's head may take, from the handshake.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take: longer than an API server waits, which is 30 seconds at most.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
/// How long the next request may take after the last one, its answer included. An API server closes what
/// is idle for 90 seconds; if we were first, we could do it while it asks, and a pod would go without an
/// answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// What is read of a connection and not taken yet; a head is below a KiB.
const BUFFER_LIMIT_BYTES: usize = 16 << 10;
/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
