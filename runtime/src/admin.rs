//! The admin server of a process: `/metrics` (Prometheus), `/ready`, `/live`. Holds nothing secret.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::readiness::Readiness;
use crate::tasks::Tasks;

/// What the admin server shows. Clones share it.
#[derive(Clone)]
pub struct Admin {
    /// Behind `/ready`.
    pub readiness: Readiness,
    /// Behind `/metrics`.
    pub registry: Arc<Mutex<Registry>>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// Serves until draining begins: from then on a refused connection says "not ready" by itself.
///
/// Anybody may connect, and a probe must be answered all the same: connections are always accepted,
/// and the oldest goes when there are too many. Who asks when it connects is answered long before
/// its turn comes to go.
pub fn serve(listener: TcpListener, admin: Admin, tasks: &Tasks) {
    let drain = tasks.drain().clone();
    tasks.spawn("admin.server", async move {
        let mut open = Open::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => open.begin(serve_connection(stream, admin.clone())),
                Err(error) => {
                    warn!(%error, "admin connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
}

/// The connections that are open, the oldest first. Dropping it ends none.
#[derive(Default)]
struct Open {
    tracker: TaskTracker,
    all: VecDeque<AbortHandle>,
}

impl Open {
    fn begin(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.all.retain(|connection| !connection.is_finished());
        while self.all.len() >= CONNECTION_LIMIT {
            let Some(oldest) = self.all.pop_front() else { break };
            oldest.abort();
        }
        self.all.push_back(self.tracker.spawn(connection).abort_handle());
    }
}

async fn serve_connection(stream: TcpStream, admin: Admin) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &admin);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_LIFETIME, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => debug!(%error, "admin connection failed"),
    }
}

fn answer(method: &Method, path: &str, admin: &Admin) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match path {
        "/metrics" => metrics(admin),
        "/live" => plain(StatusCode::OK, "live\n".to_owned()),
        "/ready" => match admin.readiness.missing() {
            missing if missing.is_empty() => plain(StatusCode::OK, "ready\n".to_owned()),
            missing => {
                let text = format!("not ready: {}\n", missing.join(", "));
                plain(StatusCode::SERVICE_UNAVAILABLE, text)
            }
        },
        _ => plain(StatusCode::NOT_FOUND, "there is /metrics, /ready and /live\n".to_owned()),
    }
}

fn metrics(admin: &Admin) -> Response<Full<Bytes>> {
    let mut text = String::new();
    let registry = admin.registry.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
    }
    with_type(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", text)
}

fn with_type(
    status: StatusCode,
    content_type: &'static str,
    text: String,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// Scrapers and probes are few; more is a mistake or an attack.
const CONNECTION_LIMIT: usize = 64;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection, which is one request, may take. The metrics of a large mesh are megabytes.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(10);
/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn admin() -> Admin {
        let readiness = Readiness::new(&["identity"]);
        Admin { readiness, registry: Arc::new(Mutex::new(Registry::default())) }
    }

    #[test]
    fn readiness_names_what_is_missing() {
        let admin = admin();
        let status = |path: &str| answer(&Method::GET, path, &admin).status();
        assert_eq!(status("/ready"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("/live"), StatusCode::OK);
        admin.readiness.set_ready("identity");
        assert_eq!(status("/ready"), StatusCode::OK);
        assert_eq!(status("/metrics"), StatusCode::OK);
        assert_eq!(status("/quit"), StatusCode::NOT_FOUND);
    }

    #[test]
    fn nothing_can_be_changed_through_it() {
        let response = answer(&Method::POST, "/ready", &admin());
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn connections_that_ask_nothing_keep_no_probe_out() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, admin(), &Tasks::new());
        let mut idle = Vec::new();
        for _connection in 0..100 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut probe = TcpStream::connect(address).await.unwrap();
        probe.write_all(b"GET /live HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let read = probe.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(2), read).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("live\n"), "{answer}");
    }
}
