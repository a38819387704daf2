//! HTTP/2 with prior knowledge, and unary calls as gRPC makes them.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use heddle_runtime::tasks::Tasks;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Target, tcp};
use crate::serve::grpc_message;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `GET`.
    Get,
    /// A unary call.
    Grpc,
}

/// Makes requests on a connection that its clones share, each one at a time.
#[derive(Clone)]
pub struct Stream {
    sender: SendRequest<Full<Bytes>>,
    target: Arc<Target>,
    kind: Kind,
    message: Bytes,
}

/// A new connection.
pub async fn connect(target: &Arc<Target>, kind: Kind, tasks: &Tasks) -> Result<Stream> {
    let stream = tcp::connect(target).await?;
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.context("HTTP/2")?;
    tasks.spawn_quiet(async move {
        // The requests on it tell of its end.
        let _ = connection.await;
    });
    let message = match kind {
        Kind::Get => Bytes::new(),
        Kind::Grpc => grpc_message(target.marker.as_bytes()),
    };
    Ok(Stream { sender, target: Arc::clone(target), kind, message })
}

impl Stream {
    /// One request and its whole answer, which has to be 200, and for gRPC `OK`.
    pub async fn exchange(&mut self) -> Result<u64> {
        self.sender.ready().await.context("the connection")?;
        let answer = self.sender.send_request(self.request()?).await.context("send a request")?;
        ensure!(answer.status() == StatusCode::OK, "the answer is {}", answer.status());
        let body = answer.into_body().collect().await.context("read an answer")?;
        if self.kind == Kind::Grpc {
            let ended_well = body.trailers().is_some_and(is_ok);
            ensure!(ended_well, "the call ended with {:?}", body.trailers());
        }
        let length = body.to_bytes().len();
        ensure!(length > 0, "an answer without a body");
        Ok(u64::try_from(length)?)
    }

    fn request(&self) -> Result<Request<Full<Bytes>>> {
        let Target { host, marker, address } = &*self.target;
        let uri = format!("http://{host}:{}/{marker}", address.port());
        let request = Request::builder().uri(uri).header(header::USER_AGENT, "heddle-bench");
        let request = match self.kind {
            Kind::Get => request.method(Method::GET),
            Kind::Grpc => request
                .method(Method::POST)
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::TE, "trailers"),
        };
        Ok(request.body(Full::new(self.message.clone()))?)
    }
}

fn is_ok(trailers: &HeaderMap) -> bool {
    trailers.get("grpc-status").is_some_and(|status| status.as_bytes() == b"0")
}
