//! OTLP/HTTP over one connection, which is kept from one export to the next and opened anew when it is lost. Nothing runs
//! between exports: what the collector did to the connection meanwhile is found out before it is used again.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message;
use tokio::time::Instant;

use crate::collector::dial::{Dialer, Stream};
use crate::collector::{ANSWER_LIMIT_BYTES, SendError};

/// Posts to one collector. Several exports at once have a connection each, of which the last to end is kept.
pub(super) struct Poster {
    dialer: Dialer,
    kept: Mutex<Option<Idle>>,
}

/// A connection, with what moves its bytes.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: http1::Connection<TokioIo<Stream>, Full<Bytes>>,
    opened: Instant,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// Why an exchange failed.
enum Failure {
    /// Nothing of an answer has come: the collector may have closed the connection before it saw the request.
    Unanswered(hyper::Error),
    /// Any other way.
    Other(SendError),
}

impl Poster {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self { dialer, kept: Mutex::new(None) }
    }

    /// Sends one request and reads the answer. What is lost with a connection that was kept is sent once more, over a new
    /// one: that a collector has ended, or does not wait so long, is no failure of the export. Dropping the future closes
    /// the connection, since an answer may be under way.
    pub(super) async fn post<R: Message + Default>(
        &self,
        request: impl Fn() -> Result<Request<Full<Bytes>>, SendError>,
    ) -> Result<R, SendError> {
        if let Some(connection) = self.take().await {
            match self.exchange(connection, request()?).await {
                Err(Failure::Unanswered(_lost)) => {}
                Err(Failure::Other(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
        let connection = self.open().await?;
        self.exchange(connection, request()?).await.map_err(|failure| match failure {
            Failure::Unanswered(error) => failed(error),
            Failure::Other(error) => error,
        })
    }

    async fn open(&self) -> Result<Connection, SendError> {
        let stream = self.dialer.connect().await.map_err(|source| SendError::Connect { source })?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        Ok(Connection { sender, driver, opened: Instant::now() })
    }

    /// The connection that was kept, if it can still be used.
    async fn take(&self) -> Option<Connection> {
        let Idle { mut connection, since } = self.kept.lock().take()?;
        let is_fresh = since.elapsed() < IDLE_LIMIT;
        (is_fresh && connection.is_ready().await).then_some(connection)
    }

    async fn exchange<R: Message + Default>(
        &self,
        connection: Connection,
        request: Request<Full<Bytes>>,
    ) -> Result<R, Failure> {
        let Connection { mut sender, driver, opened } = connection;
        let mut driver = Some(driver);
        let answer = {
            // A connection that has ended is dropped: whoever waits for something of it hears of that. One that closes
            // after its answer has not failed.
            let mut lost = poll_fn(|context| {
                let Some(running) = driver.as_mut() else { return Poll::Pending };
                let ended = ready!(Pin::new(running).poll(context));
                driver = None;
                ended.map_or_else(Poll::Ready, |()| Poll::Pending)
            });
            let response = tokio::select! {
                biased;
                response = sender.send_request(request) => response.map_err(unanswered)?,
                error = &mut lost => return Err(Failure::Unanswered(error)),
            };
            let answer = tokio::select! {
                biased;
                answer = Answer::read(response) => answer,
                error = &mut lost => Err(failed(error)),
            };
            answer.map_err(Failure::Other)?
        };
        if let Some(driver) = driver
            && opened.elapsed() < AGE_LIMIT
        {
            let connection = Connection { sender, driver, opened };
            *self.kept.lock() = Some(Idle { connection, since: Instant::now() });
        }
        answer.decoded().map_err(Failure::Other)
    }
}

impl Connection {
    /// Whether it takes a request at once: it does not if the other side has closed it, or if a part of the request before
    /// was never read there.
    async fn is_ready(&mut self) -> bool {
        poll_fn(|context| {
            let has_ended = Pin::new(&mut self.driver).poll(context).is_ready();
            let is_ready = matches!(self.sender.poll_ready(context), Poll::Ready(Ok(())));
            Poll::Ready(!has_ended && is_ready)
        })
        .await
    }
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_connected = self.kept.lock().is_some();
        f.debug_struct("Poster").field("is_connected", &is_connected).finish_non_exhaustive()
    }
}

/// What was answered, whole.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Result<Self, SendError> {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(seconds);
        let body = Limited::new(response.into_body(), ANSWER_LIMIT_BYTES).collect().await;
        Ok(Self { status, retry_after, body: body.map_err(SendError::Http)?.to_bytes() })
    }

    fn decoded<R: Message + Default>(self) -> Result<R, SendError> {
        let Self { status, retry_after, body } = self;
        match status.is_success() {
            true => R::decode(body).map_err(SendError::Unreadable),
            false => Err(SendError::Status { status, retry_after }),
        }
    }
}

/// A date is as good as nothing: it is no duration without a clock that is right.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// An answer that cannot be read is one: whoever gave it may have taken the request.
fn unanswered(error: hyper::Error) -> Failure {
    if error.is_parse() { Failure::Other(failed(error)) } else { Failure::Unanswered(error) }
}

fn failed(error: hyper::Error) -> SendError {
    SendError::Http(Box::new(error))
}

/// How long a connection may have lain idle and be used again: what is between may have forgotten it by then without a
/// word, and the request would wait for nobody.
const IDLE_LIMIT: Duration = Duration::from_secs(90);
/// How old a connection may be and be kept, so that a collector that got more replicas, or another address, is found.
const AGE_LIMIT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
