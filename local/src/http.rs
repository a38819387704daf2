//! One `GET`, from the namespace of the current thread.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::protocol::HttpAnswer;

/// Gets `path` from the server at `address`.
pub async fn get(address: SocketAddr, path: &str) -> Result<HttpAnswer, HttpError> {
    match timeout(ANSWER_WITHIN, exchange(address, path)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(HttpError::Timeout(address)),
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The path is none.
    #[error("{path:?} is no path")]
    Path {
        /// The path.
        path: String,
        /// Why.
        source: http::Error,
    },
    /// Not HTTP, or broken off.
    #[error("{address} gave no answer")]
    Exchange {
        /// The server.
        address: SocketAddr,
        /// Why.
        source: hyper::Error,
    },
    /// A body that is too long, or broken off.
    #[error("{address} gave no body of less than {BODY_LIMIT_BYTES} bytes")]
    Body {
        /// The server.
        address: SocketAddr,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Too slow.
    #[error("{0} did not answer within {ANSWER_WITHIN:?}")]
    Timeout(SocketAddr),
}

async fn exchange(address: SocketAddr, path: &str) -> Result<HttpAnswer, HttpError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| HttpError::Connect { address, source })?;
    let request = Request::get(path)
        .header(http::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|source| HttpError::Path { path: path.to_owned(), source })?;
    let failed = |source| HttpError::Exchange { address, source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY_LIMIT_BYTES)
            .collect()
            .await
            .map_err(|source| HttpError::Body { address, source })?;
        Ok(HttpAnswer { status, body: body.to_bytes().to_vec() })
    };
    // The connection may end before its last bytes were taken; what is wrong with it, the answer says.
    let connection = async {
        let _ = connection.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        answer = answer => answer,
        never = connection => match never {},
    }
}

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const BODY_LIMIT_BYTES: usize = 16 * 1024 * 1024;
