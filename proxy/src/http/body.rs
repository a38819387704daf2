//! The body of a request or response on its way through: never collected, and holding what its
//! exchange holds (load, connection) until it ends.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use crate::http::pool::Exchange;

/// A body, and what is to be given back when it ends.
pub struct Body {
    kind: Kind,
    exchange: Option<Exchange>,
}

enum Kind {
    Text(Option<Bytes>),
    Incoming(Incoming),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self { kind: Kind::Text(None), exchange: None }
    }

    /// Bytes of our own.
    pub fn text(text: Bytes) -> Self {
        Self { kind: Kind::Text(Some(text).filter(|text| !text.is_empty())), exchange: None }
    }

    /// A response's body, whose exchange ends with it.
    pub fn of_exchange(incoming: Incoming, exchange: Exchange) -> Self {
        Self { kind: Kind::Incoming(incoming), exchange: Some(exchange) }
    }
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        Self { kind: Kind::Incoming(incoming), exchange: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = match &mut self.kind {
            Kind::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Incoming(incoming) => Pin::new(incoming).poll_frame(context),
        };
        match &polled {
            Poll::Ready(None) => {
                if let Some(exchange) = self.exchange.take() {
                    exchange.complete();
                }
            }
            // The connection's task aborts the other side, which sees an error and no short body.
            Poll::Ready(Some(Err(_))) => {
                if let Some(exchange) = self.exchange.take() {
                    exchange.fail();
                }
            }
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.is_none(),
            Kind::Incoming(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(text) => {
                let length = text.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Kind::Incoming(incoming) => incoming.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // Whoever reads a body of known length does not ask for what follows its last byte.
        if let Some(exchange) = self.exchange.take()
            && http_body::Body::is_end_stream(self)
        {
            exchange.complete();
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
