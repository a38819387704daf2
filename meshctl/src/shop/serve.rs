//! Serves HTTP/1 and HTTP/2 without TLS until SIGTERM, then finishes what was begun.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use heddle_runtime::tasks::Tasks;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};

use crate::accept;
use crate::failure::Failure;

/// How many connections are served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests may take to finish after SIGTERM.
pub const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// Answers every request with `answer`, until SIGTERM or SIGINT; then drains.
pub async fn serve_until_terminated<H, F>(
    listener: TcpListener,
    answer: H,
    terminated: impl Future<Output = io::Result<()>>,
) -> Result<(), Failure>
where
    H: Fn(http::Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let tasks = Tasks::new();
    accept(listener, answer, &tasks);
    until_terminated(&tasks, terminated).await
}

/// Waits for SIGTERM or SIGINT, then drains the tasks. The wait begins before anybody is told that
/// there is something to terminate: `terminated` is made before listening.
pub async fn until_terminated(
    tasks: &Tasks,
    terminated: impl Future<Output = io::Result<()>>,
) -> Result<(), Failure> {
    terminated.await.map_err(|error| {
        Failure::new("cannot wait for signals", "raise the limit of open files (`ulimit -n`)")
            .because(&error)
    })?;
    tasks.shutdown(DRAIN_GRACE).await;
    Ok(())
}

/// Accepts connections in a task until the tasks drain.
pub fn accept<H, F>(listener: TcpListener, answer: H, tasks: &Tasks)
where
    H: Fn(http::Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let names = ("shop.accept", "shop.connection");
    accept::accept(listener, MAX_CONNECTIONS, names, tasks, move |stream, tasks| {
        serve_connection(stream, answer.clone(), tasks)
    });
}

async fn serve_connection<H, F>(stream: TcpStream, answer: H, tasks: Tasks)
where
    H: Fn(http::Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, std::convert::Infallible>(answered.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // What a client does wrong, or stops doing, ends its own connection only.
        _ = connection.as_mut() => {}
        () = tasks.drain().cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// A JSON answer.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Full<Bytes>> {
    let (status, body) = match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
