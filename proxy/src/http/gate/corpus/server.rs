//! A backend of HTTP/2 that keeps every request that came to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::testing::{listen, loopback};

/// As the backend understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) line: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: String,
}

pub(super) struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    open: usize,
    requests: Vec<Request>,
}

impl Server {
    pub(super) async fn new() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let serving = Arc::clone(&state);
        let address = listen(loopback(), move |stream, _number| {
            let state = Arc::clone(&serving);
            state.lock().open += 1;
            async move {
                let keeping = Arc::clone(&state);
                let service = service_fn(move |request| keep(request, Arc::clone(&keeping)));
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                state.lock().open -= 1;
            }
        })
        .await;
        Self { address, state }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for a request, as long as the client's connection lives.
    pub(super) async fn saw(&self, path: &str, client: &mut TcpStream) -> bool {
        let mut buffer = vec![0; 4096];
        loop {
            if self.state.lock().requests.iter().any(|request| request.line.ends_with(path)) {
                return true;
            }
            let read = client.read(&mut buffer);
            if matches!(tokio::time::timeout(POLL, read).await, Ok(Ok(0) | Err(_))) {
                return self.state.lock().requests.iter().any(|found| found.line.ends_with(path));
            }
        }
    }

    /// All that came, once nothing can come any more.
    pub(super) async fn end(&self) -> Vec<Request> {
        while self.state.lock().open > 0 {
            tokio::time::sleep(POLL).await;
        }
        self.state.lock().requests.clone()
    }
}

async fn keep(
    request: http::Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<http::Response<Empty<Bytes>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let mut fields: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
        .collect();
    fields.sort();
    if let Ok(body) = request.into_body().collect().await {
        let body = text(&body.to_bytes());
        state.lock().requests.push(Request { line, fields, body });
    }
    Ok(http::Response::new(Empty::new()))
}

const POLL: Duration = Duration::from_millis(1);
